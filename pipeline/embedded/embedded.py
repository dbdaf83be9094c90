"""The embedded stack: moto's S3 and SQS, and luigid, as child processes on loopback with free ports.

Each child ends when the pipe to it closes, so it ends with its parent however that ends, also by SIGKILL. For the
demo, the tests and the benchmarks; nothing of it is used in production.
"""

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pipeline.foundation.errors import PipelineError

if TYPE_CHECKING:
    from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

LOOPBACK = "127.0.0.1"
CREDENTIALS = {"AWS_ACCESS_KEY_ID": "embedded", "AWS_SECRET_ACCESS_KEY": "embedded", "AWS_DEFAULT_REGION": "us-east-1"}
_GRACE_SECONDS = 5
_ROOT = Path(__file__).resolve().parents[2]


class ChildFailed(PipelineError):
    """A child of the embedded stack did not start."""


@dataclass(frozen=True)
class Child:
    """A running child and where it answers."""

    process: subprocess.Popen[bytes]
    url: str

    def end(self) -> None:
        """End this child, and wait for it."""
        if self.process.stdin is not None:
            self.process.stdin.close()
        if self.process.poll() is None:
            self.process.terminate()
        try:
            self.process.wait(_GRACE_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        if self.process.stdout is not None:
            self.process.stdout.close()


@contextlib.contextmanager
def moto(*, log: Path) -> Iterator[str]:
    """S3 and SQS that forget everything when they end; yields their URL.

    Raises:
        ChildFailed: it did not start; the log says why.
    """
    child = _start("moto", [], log=log)
    try:
        yield child.url
    finally:
        child.end()


@contextlib.contextmanager
def luigid(*, state: Path, log: Path) -> Iterator[str]:
    """A central scheduler with its visualiser, behind its door; yields its URL, with user and password.

    Raises:
        ChildFailed: it did not start; the log says why.
    """
    child = start_luigid(state=state, log=log)
    try:
        yield child.url
    finally:
        child.end()


def start_luigid(*, state: Path, log: Path, port: int = 0) -> Child:
    """As `luigid`, for who ends it himself; on a port of choice, to come back under the same address."""
    return _start("luigid", [str(state), str(port)], log=log)


def password_file(state: Path) -> Path:
    """Where the password of an embedded luigid lies; one that comes back with its state has the same."""
    return state.with_name(f"{state.name}.password")


def _start(what: str, arguments: list[str], *, log: Path) -> Child:
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as sink:
        process = subprocess.Popen(
            [sys.executable, "-m", "pipeline.embedded.embedded", what, *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=sink,
            cwd=_ROOT,
            env={**os.environ, "MOTO_ACCOUNT_ID": "123456789012"},
            start_new_session=True,  # Ctrl-C is for the parent: it ends its children in order
        )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        child = Child(process, "")
        child.end()
        raise ChildFailed(f"{what} did not start", by_hand=f"read {log}")
    return Child(process, json.loads(line)["url"])


def _end_with_parent() -> None:
    def wait() -> None:
        while os.read(0, 1):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _tell(url: str) -> None:
    sys.stdout.write(json.dumps({"url": url}) + "\n")
    sys.stdout.flush()


class OneChangeAtATime:
    """Lets one request after the other change what moto holds; who only reads, or waits for a message, is let through.

    moto's queues are lists that a deletion copies: of two deletions at the same time, one is undone; a message that
    is sent meanwhile is lost. (`Queue.delete_message` of moto 5.2 has no lock.)
    """

    def __init__(self, app: "WSGIApplication") -> None:
        self._app = app
        self._lock = threading.Lock()

    def __call__(self, environ: "WSGIEnvironment", start_response: "StartResponse") -> Iterable[bytes]:
        """One request."""
        action = environ.get("HTTP_X_AMZ_TARGET", "")
        if environ["REQUEST_METHOD"] in {"GET", "HEAD"} or action == "AmazonSQS.ReceiveMessage":
            return self._app(environ, start_response)
        with self._lock:
            return self._app(environ, start_response)


def _serve_moto() -> None:
    try:
        from moto.moto_server import werkzeug_app  # noqa: PLC0415  # not needed in production, not installed there
        from werkzeug.serving import make_server  # noqa: PLC0415  # as above
    except ModuleNotFoundError as missing:
        sys.exit(f"{missing}: pip install -r requirements-demo.txt")

    app = OneChangeAtATime(werkzeug_app.DomainDispatcherApplication(werkzeug_app.create_backend_app))
    server = make_server(LOOPBACK, 0, app, threaded=True, request_handler=werkzeug_app.MotoRequestHandler)
    signal.signal(signal.SIGTERM, lambda *_: threading.Thread(target=server.shutdown).start())
    _end_with_parent()
    port = server.server_address[1]
    _tell(f"http://{LOOPBACK}:{port}")
    server.serve_forever()


def _serve_luigid(state: str, port: int) -> None:
    import luigi.scheduler  # noqa: PLC0415  # only this child needs luigi's server
    import tornado.netutil  # noqa: PLC0415  # as above

    from pipeline.foundation import guarded  # noqa: PLC0415  # as above
    from pipeline.operations import door  # noqa: PLC0415  # as above

    sockets = tornado.netutil.bind_sockets(port, address=LOOPBACK)
    rules = door.Rules(guarded.secret_of(password_file(Path(state))))
    _end_with_parent()
    serving = door.serve(
        luigi.scheduler.Scheduler(
            state_path=state,
            worker_disconnect_delay=3,
            prune_on_get_work=True,
            remove_delay=86400,
            stable_done_cooldown_secs=0,
        ),
        sockets,
        rules,
        ready=lambda: _tell(f"http://{rules.user}:{rules.password}@{LOOPBACK}:{sockets[0].getsockname()[1]}"),
    )
    asyncio.run(serving)


if __name__ == "__main__":
    if sys.argv[1] == "moto":
        _serve_moto()
    else:
        _serve_luigid(sys.argv[2], int(sys.argv[3]))
