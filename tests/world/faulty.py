"""A proxy in front of the embedded S3 and SQS that misbehaves as it is told, then passes everything on."""

import http.client
import http.server
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from urllib.parse import urlsplit

Fault = Callable[[str, str], str]
"""Given a request's method and path: '' to pass it on, 'reset' to break the connection off, or an error's code."""

_STATUS = {"SlowDown": 503, "ServiceUnavailable": 503, "ExpiredToken": 400, "AccessDenied": 403}


class _Proxy(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    upstream = ""
    fault: Fault

    def _serve(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        wrong = type(self).fault(self.command, self.path)
        if wrong == "reset":
            self.close_connection = True
            return
        if wrong:
            answer = f"<Error><Code>{wrong}</Code><Message>as told</Message></Error>".encode()
            self._answer(_STATUS[wrong], [("Content-Type", "text/xml")], answer)
            return
        split = urlsplit(self.upstream)
        connection = http.client.HTTPConnection(split.hostname or "", split.port, timeout=60)
        try:
            connection.request(self.command, self.path, body=body, headers=dict(self.headers.items()))
            answer_from = connection.getresponse()
            content = answer_from.read()
            headers = [(name, value) for name, value in answer_from.getheaders() if name.lower() not in _HOP]
            length = answer_from.getheader("Content-Length") if self.command == "HEAD" else None
            self._answer(answer_from.status, headers, content, length=length)
        finally:
            connection.close()

    def _answer(self, status: int, headers: list[tuple[str, str]], body: bytes, *, length: str | None = None) -> None:
        self.send_response_only(status)
        for name, value in headers:
            self.send_header(name, value)
        self.send_header("Content-Length", length or str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    do_GET = do_POST = do_PUT = do_HEAD = _serve  # noqa: N815  # the names that http.server looks for

    def log_message(self, *_: object) -> None:
        return


_HOP = {"content-length", "transfer-encoding", "connection"}


@contextmanager
def faulty(upstream: str, fault: Fault) -> Iterator[str]:
    """Yields the URL of a proxy to `upstream` that asks `fault` about every request."""
    handler = type("Handler", (_Proxy,), {"upstream": upstream, "fault": staticmethod(fault)})
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    server.daemon_threads = True
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
