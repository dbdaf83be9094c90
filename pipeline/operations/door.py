"""luigid behind a door: `python -m pipeline.operations.door`. luigid itself does what anybody tells it, web pages too.

Each request is looked at before luigid sees it:

- Its `Host` is a name that this server has: a page elsewhere whose own name was pointed here gets nowhere.
- It brings user and password (HTTP Basic, RFC 7617), as Luigi's client takes them from the scheduler's URL.
- What changes something comes by POST; from a browser, from this server's own page alone (Fetch Metadata, `Origin`).

The visualiser is Luigi's own, but for what is replaced in `_REPLACED`. A content security policy keeps anything that
might be written into its page from being run.
"""

import argparse
import asyncio
import base64
import hashlib
import hmac
import http
import os
import re
import signal
import socket
import sys
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import tornado.httpserver
import tornado.httputil
import tornado.ioloop
import tornado.netutil
import tornado.routing
import tornado.web

from pipeline.foundation import guarded, owners, start
from pipeline.foundation.work import DOOR_KEY_FILE, SCHEDULER_USER

if TYPE_CHECKING:
    import luigi.scheduler

_LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})
# What the API tells without changing anything: may be asked by GET.
_READING = {
    "dep_graph", "fetch_error", "get_scheduler_message_response", "get_task_progress_percentage",
    "get_task_status_message", "has_task_history", "inverse_dep_graph", "is_pause_enabled", "is_paused",
    "resource_list", "task_list", "task_search", "worker_list",
}  # fmt: skip
_API = "/api/"
# Luigi's page asks for changes by GET, and puts words of tasks into the page as if they were HTML.
_REPLACED = {
    "js/luigi.js": [('method: "GET"', 'method: "POST"')],
    "js/visualiserApp.js": [
        (".html(data.statusMessage)", ".text(data.statusMessage)"),
        (".html(response)", ".text(response)"),
        ("+ row.resources +", "+ escapeHtml(row.resources) +"),
    ],
}


@dataclass(frozen=True)
class Rules:
    """Who may ask, and how.

    Attributes:
        user, password: what each request has to bring.
        hosts: the names by which this server is asked, without a port: a tunnel ends at any.
    """

    password: str = field(repr=False)
    user: str = SCHEDULER_USER
    hosts: frozenset[str] = _LOOPBACK

    def refusal(self, method: str, path: str, headers: Mapping[str, str]) -> tuple[int, str] | None:
        """The status and the reason with which a request is refused; None: it is let in."""
        if _name(headers.get("Host", "")) not in self.hosts:
            return 421, "this server is not called that"
        if not self._knows(headers.get("Authorization", "")):
            return 401, "user and password are needed"
        if method not in {"GET", "HEAD", "POST"}:
            return 405, "GET, HEAD and POST alone are understood"
        changes = method == "POST" or (path.startswith(_API) and path.removeprefix(_API) not in _READING)
        if changes and method != "POST":
            return 405, "what changes something is asked for by POST"
        if not _is_own_page(headers, method):
            return 403, "another site's page asks for this"
        return None

    def _knows(self, authorization: str) -> bool:
        scheme, _, given = authorization.partition(" ")
        try:
            told = base64.b64decode(given, validate=True)
        except ValueError:
            return False
        wanted = f"{self.user}:{self.password}".encode()
        return scheme.lower() == "basic" and bool(self.password) and hmac.compare_digest(told, wanted)


def _name(host: str) -> str:
    """The name of a `Host`, without its port."""
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _is_own_page(headers: Mapping[str, str], method: str) -> bool:
    """Whether a page of this server asks, or a person who typed the address, or a program."""
    site = headers.get("Sec-Fetch-Site")
    if site is not None:
        # Links to the page may stand anywhere: only what is asked for by typing or following them has no page yet.
        navigates = method != "POST" and headers.get("Sec-Fetch-Mode") == "navigate"
        return site == "same-origin" or navigates
    origin = headers.get("Origin")
    return origin is None or (bool(origin) and urlsplit(origin).netloc == headers.get("Host"))


class _Refused(tornado.web.RequestHandler):
    """The answer to what is not let in."""

    def initialize(self, status: int, reason: str) -> None:
        """What it says."""
        self._refusal = (status, reason)

    def prepare(self) -> None:
        """Say it, whatever the method is."""
        status, reason = self._refusal
        self.set_status(status)
        self.set_header("Content-Type", "text/plain; charset=utf-8")
        if status == http.HTTPStatus.UNAUTHORIZED:
            self.set_header("WWW-Authenticate", 'Basic realm="scheduler", charset="UTF-8"')
        self.finish(f"{reason}\n")


class _Script(tornado.web.RequestHandler):
    """A script of the page, as it is after what was replaced in it."""

    def initialize(self, text: str) -> None:
        """Its text."""
        self._text = text

    def get(self) -> None:
        """Tell it."""
        self.set_header("Content-Type", "text/javascript; charset=utf-8")
        self.finish(self._text)


class _Guard(tornado.routing.Router):
    """What luigid answers, for those whom the rules let in."""

    def __init__(self, app: tornado.web.Application, rules: Rules) -> None:
        self._app = app
        self._rules = rules
        static = Path(app.settings["static_path"]) / "visualiser"
        self._scripts = {f"/static/visualiser/{name}": _replaced(static / name) for name in _REPLACED}
        policy = _policy((static / "index.html").read_text(encoding="utf-8"))

        class Headers(tornado.web.OutputTransform):
            """What a browser is told with each answer."""

            def transform_first_chunk(
                self,
                status_code: int,
                headers: tornado.httputil.HTTPHeaders,
                chunk: bytes,
                finishing: bool,  # noqa: ARG002, FBT001  # as tornado calls it
            ) -> tuple[int, tornado.httputil.HTTPHeaders, bytes]:
                headers["Content-Security-Policy"] = policy
                headers["X-Content-Type-Options"] = "nosniff"
                headers["Referrer-Policy"] = "no-referrer"
                headers["Cross-Origin-Resource-Policy"] = "same-origin"
                return status_code, headers, chunk

        app.add_transform(Headers)

    def find_handler(
        self, request: tornado.httputil.HTTPServerRequest, **kwargs: Any
    ) -> tornado.httputil.HTTPMessageDelegate | None:
        """Who answers this request."""
        refusal = self._rules.refusal(request.method or "", request.path, request.headers)
        if refusal is not None:
            status, reason = refusal
            return self._app.get_handler_delegate(request, _Refused, {"status": status, "reason": reason})
        if request.path in self._scripts:
            return self._app.get_handler_delegate(request, _Script, {"text": self._scripts[request.path]})
        return self._app.find_handler(request, **kwargs)


def _replaced(file: Path) -> str:
    text = file.read_text(encoding="utf-8")
    for old, new in _REPLACED[f"js/{file.name}"]:
        if text.count(old) != 1:
            raise AssertionError(f"{file} is not that of the Luigi that this was written for: no {old!r}")
        text = text.replace(old, new)
    return text


def _policy(page: str) -> str:
    """Nothing is run but the scripts of this server, and the lines that Luigi's page itself has."""
    lines = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    known = " ".join(f"'sha256-{base64.b64encode(hashlib.sha256(one.encode()).digest()).decode()}'" for one in lines)
    return (
        f"default-src 'none'; script-src 'self' {known}; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
        "font-src 'self' data:; connect-src 'self'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'"
    )


async def serve(
    scheduler: "luigi.scheduler.Scheduler",
    sockets: Sequence[socket.socket],
    rules: Rules,
    *,
    ready: Callable[[], None] = lambda: None,
) -> None:
    """Be the scheduler until SIGTERM, SIGINT or SIGQUIT; it then keeps its state, as luigid does."""
    import luigi.server  # noqa: PLC0415  # reads luigi.cfg, whose place has to be known first

    over = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGQUIT):
        asyncio.get_running_loop().add_signal_handler(number, over.set)
    scheduler.load()
    server = tornado.httpserver.HTTPServer(_Guard(luigi.server.app(scheduler), rules))
    server.add_sockets(sockets)
    pruner = tornado.ioloop.PeriodicCallback(scheduler.prune, 60_000)  # as luigid does
    pruner.start()
    ready()
    try:
        await over.wait()
    finally:
        server.stop()
        pruner.stop()
        scheduler.dump()


def main(arguments: Sequence[str]) -> int:
    """luigid, as its own command is, but behind the door; 2 where it cannot be."""
    options = _parser().parse_args(arguments)
    try:
        if not (password := guarded.secret_of(options.password_file)):
            raise OSError(0, "it is empty", str(options.password_file))  # noqa: TRY301  # told as the others
        if options.make_password:
            return 0
        sockets = [] if options.ask else tornado.netutil.bind_sockets(options.port, address=options.address)
    except OSError as error:
        where = "" if isinstance(error, owners.NotOurs) else f"{error.filename or f'port {options.port}'}: "
        sys.stderr.write(f"scheduler: {where}{error.strerror}\n")
        return 2
    if options.ask:
        return _ask(options.port, f"{options.user}:{password}")
    os.umask(0o077)  # for what it keeps
    start.begin()
    import luigi.configuration  # noqa: PLC0415  # reads luigi.cfg, whose place is known now
    import luigi.scheduler  # noqa: PLC0415  # as above

    if options.state_path:
        luigi.configuration.get_config().set("scheduler", "state_path", str(options.state_path))
    rules = Rules(password, user=options.user, hosts=_LOOPBACK | {name.lower() for name in options.host})
    asyncio.run(serve(luigi.scheduler.Scheduler(), sockets, rules))
    return 0


def _ask(port: int, user_and_password: str) -> int:
    """For health checks: 0 when the scheduler of this host answers who knows the password, else 1."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/api/is_paused")
    request.add_header("Authorization", f"Basic {base64.b64encode(user_and_password.encode()).decode()}")
    try:
        with urllib.request.urlopen(request, timeout=4):  # noqa: S310  # as above
            return 0
    except OSError as error:
        sys.exit(f"scheduler: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m pipeline.operations.door",
        description="Luigi's central scheduler, behind a password: its settings are those of [scheduler] in luigi.cfg.",
    )
    parser.add_argument("--address", default="127.0.0.1", help="where it listens (%(default)s)")
    parser.add_argument("--port", type=int, default=8082, help="on which port (%(default)s)")
    parser.add_argument("--state-path", type=Path, help="what it keeps while it does not run")
    parser.add_argument("--user", default=SCHEDULER_USER, help="who may ask (%(default)s)")
    parser.add_argument(
        "--password-file",
        type=Path,
        default=start.ROOT / DOOR_KEY_FILE,
        metavar="FILE",
        help="made where it is not there yet (%(default)s)",
    )
    parser.add_argument(
        "--host", action="append", default=[], metavar="NAME", help="it is asked by this name too, besides localhost"
    )
    parser.add_argument("--make-password", action="store_true", help="only make that file, where it is not there yet")
    parser.add_argument("--ask", action="store_true", help="only see whether it answers here")
    return parser


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
