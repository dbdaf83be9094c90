"""Where notifications arrive: a mail server and a webhook, on loopback, which a site's settings name."""

import email
import email.policy
import json
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Any

import pytest
from aiosmtpd.controller import Controller

from tests.world import servers
from tests.world.answering import Handler
from tests.world.stack import Site


class Mailbox:
    """Keeps what it is sent."""

    def __init__(self) -> None:
        self.letters: list[str] = []

    async def handle_DATA(self, _server: Any, _session: Any, envelope: Any) -> str:  # noqa: N802  # aiosmtpd's name
        letter = email.message_from_bytes(envelope.content, policy=email.policy.default)
        self.letters.append(
            "\n".join(f"{name}: {value}" for name, value in letter.items()) + "\n" + letter.get_content()
        )
        return "250 kept"


class Receiver(Handler):
    """Of callbacks: keeps what it is sent, headers and body, and answers as it is told to."""

    posts: list[tuple[dict[str, str], bytes]]
    answer: Callable[["Receiver"], None]

    def do_POST(self) -> None:  # noqa: N802  # http.server's name
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.posts.append(({name.lower(): value for name, value in self.headers.items()}, body))
        self.close_connection = True
        type(self).answer(self)


@pytest.fixture
def mailbox(site: Site) -> Iterator[Mailbox]:
    """A mail server that the site's settings name."""
    kept = Mailbox()
    port = servers.free_port()
    server = Controller(kept, hostname="127.0.0.1", port=port)
    server.start()
    site.settings |= {
        "PIPELINE_NOTIFY_SMTP_HOST": "127.0.0.1",
        "PIPELINE_NOTIFY_SMTP_PORT": str(port),
        "PIPELINE_NOTIFY_SMTP_SECURITY": "none",
        "PIPELINE_NOTIFY_MAIL_FROM": "pipeline@example.org",
        "PIPELINE_NOTIFY_MAIL_TO": "archivist@example.org, it@example.org",
        "PIPELINE_NOTIFY_DIGEST_HOUR": "-1",
    }
    yield kept
    server.stop()


@pytest.fixture
def webhook(site: Site) -> Iterator[list[dict[str, Any]]]:
    """A webhook that the site's settings name, under an address that is a secret."""
    posts: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            posts.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200 if self.path == "/hush-hush" else 404)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Not to stderr."""

    server = HTTPServer(("127.0.0.1", 0), Receiver)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    address = site.home / "webhook"
    address.write_text(f"http://127.0.0.1:{server.server_port}/hush-hush", encoding="utf-8")
    site.settings |= {"PIPELINE_NOTIFY_WEBHOOK_URL_FILE": str(address), "PIPELINE_NOTIFY_DIGEST_HOUR": "-1"}
    yield posts
    server.shutdown()
    thread.join()
    server.server_close()
