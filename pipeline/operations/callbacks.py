"""Callbacks: receivers are told of works by HTTP, signed as Standard Webhooks 1.0.0 has it, until they take it.

Each receiver has a thread, so one that is slow holds up no other; lanes only write what is to be told into the record.
"""

import base64
import contextlib
import hmac
import http.client
import json
import logging
import socket
import ssl
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from pipeline.foundation import failpoints
from pipeline.foundation.errors import PipelineError
from pipeline.foundation.work import human_count, rfc3339
from pipeline.operations.channels import NotDelivered
from pipeline.record import failure_facts, outbox
from pipeline.record.outbox import CallbackRow
from pipeline.settings import Callback
from pipeline.tasks.context import Site

VERSION = 1
"""Of the document; docs/callback.schema.json tells what is in it."""
_GONE = 410
_LOOK_SECONDS, _REST_SECONDS, _TURN_SECONDS = 5, 60, 50
_MOST_NOT_TAKEN = 3
_DAY_SECONDS = 86400
_log = logging.getLogger("pipeline.callbacks")


def send_due(here: Site, callback: Callback) -> str:
    """Send a receiver what is due, one after the other, for most of a minute; returns what was sent, for a person.

    It ends when the receiver has not taken three: it may be down, and what was never tried comes first the next time.

    Raises:
        NotDelivered: it has not taken all; that is sent again later, or given up.
        SettingsError: its keys cannot be used; nothing was sent.
        DatabaseUnavailable: the database is out of reach.
    """
    keys, over, sent, wrong = callback.keys(), time.monotonic() + _TURN_SECONDS, 0, list[str]()
    limits = {"seconds": 2 * callback.timeout_seconds + 60, "give_up_seconds": callback.give_up_days * _DAY_SECONDS}
    while len(wrong) < _MOST_NOT_TAKEN and time.monotonic() < over and not here.stopping.is_set():
        row = outbox.claim(here.engine, callback.name, **limits)
        if row is None:
            break
        try:
            _post(callback, keys, row.message_id, _document(row.message_id, row.event, row.made_on, row.data))
        except NotDelivered as error:
            wrong.append(_not_taken(here, row, error))
            continue
        failpoints.point("callback sent, not marked")
        outbox.sent(here.engine, row)
        sent += 1
        _log.info("%s: callback %s was told: %s", row.work_rid, callback.name, row.event)
    if wrong:
        raise NotDelivered(f"{sent} sent; not taken: {'; '.join(wrong)}")
    return f"{sent} sent" if sent else ""


def see(callback: Callback) -> str:
    """Whether a receiver's settings are in order, for a person; nothing is sent to it.

    Raises:
        SettingsError: its keys cannot be used.
    """
    keys, sources = human_count(len(callback.keys()), "key"), ", ".join(callback.sources) or "all sources"
    told = f"{urlsplit(callback.url).hostname} is told of {', '.join(callback.events)}, from {sources}"
    return f"{told}; signed with {keys}; nothing was sent"


def send_sample(callback: Callback) -> str:
    """Send a receiver a document of the type `test`; returns that, for a person.

    Raises:
        NotDelivered: it did not take it.
        SettingsError: its keys cannot be used.
    """
    message_id = str(uuid.uuid4())
    _post(callback, callback.keys(), message_id, _document(message_id, "", datetime.now(UTC), {}))
    return "sent a test"


@contextlib.contextmanager
def sending(here: Site, *, watch: bool) -> Iterator[dict[str, "Future[str]"]]:
    """Send each receiver what is due while the block runs; what comes of it, as of `send_due`, by name.

    Args:
        here: the site.
        watch: go on until it is stopping.
    """
    send, receivers = _send_on if watch else send_due, here.settings.callbacks
    here.engine.dispose()  # opened here: the threads share it
    with ThreadPoolExecutor(max(1, len(receivers))) as pool:
        try:
            yield {f"callback {one.name}": pool.submit(send, here, one) for one in receivers}
        except BaseException:
            here.stopping.set()
            raise


def _send_on(here: Site, callback: Callback) -> str:
    rest = 0
    while not here.stopping.wait(rest):
        rest = _LOOK_SECONDS
        try:
            send_due(here, callback)
        except PipelineError as error:
            _log.error("callback %s: %s", callback.name, error)
            rest = _REST_SECONDS
    return ""


def _not_taken(here: Site, row: CallbackRow, error: NotDelivered) -> str:
    """Put it off, or give it up; returns what to say of that."""
    given_up = None
    if row.is_late or error.facts.get("status") == _GONE:
        what = f"callback {row.callback} could not be told ({row.event}), and is no longer tried: {error.what}"
        given_up = NotDelivered(what, work_rid=row.work_rid, go_on=("callbacks", "resend", row.callback))
    outbox.not_taken(
        here.engine,
        row,
        error.what,
        seconds=here.backoff_seconds(row.attempts),
        dead=failure_facts(given_up) if given_up else None,
        agent=here.agent,
    )
    return str(given_up or f"{row.work_rid}: {error.what}")


def _document(message_id: str, event: str, moment: datetime, data: dict[str, Any]) -> bytes:
    kind = f"work.{event}" if event else "test"
    told = {"version": VERSION, "id": message_id, "type": kind, "timestamp": rfc3339(moment), "data": data}
    return json.dumps(told).encode()


def _post(callback: Callback, keys: Sequence[bytes], message_id: str, body: bytes) -> None:
    """Sign it, and send it once.

    Raises:
        NotDelivered: it was not taken.
    """
    stamp = f"{int(time.time())}"
    signed = b".".join((message_id.encode(), stamp.encode(), body))
    signatures = [base64.b64encode(hmac.digest(key, signed, "sha256")).decode() for key in keys]
    headers = {
        "Content-Type": "application/json",
        "User-Agent": "bag-pipeline",
        "webhook-id": message_id,
        "webhook-timestamp": stamp,
        "webhook-signature": " ".join(f"v1,{one}" for one in signatures),
    }
    host, begun = urlsplit(callback.url).hostname, time.monotonic()
    try:
        status = _status(callback, body, headers)
    except (OSError, ValueError, http.client.HTTPException) as error:
        # Neither the rest of the address nor what came is shown: one may be a password, the other is untrusted.
        late = time.monotonic() - begun >= callback.timeout_seconds
        why = getattr(error, "strerror", "") or type(error).__name__
        within = f"no answer within {callback.timeout_seconds:g} s"
        raise NotDelivered(f"{host}: {within if late else why}") from None
    if not 200 <= status < 300:  # RFC 9110, Successful; a redirect is not followed
        raise NotDelivered(f"{host} answered {status}", facts={"status": status})


def _status(callback: Callback, body: bytes, headers: dict[str, str]) -> int:
    """What is answered; its body is nobody's, and not read."""
    place = urlsplit(callback.url)
    secure, host = place.scheme == "https", place.hostname or ""
    kind = http.client.HTTPSConnection if secure else http.client.HTTPConnection
    connection = kind(host, place.port)
    limit = callback.timeout_seconds
    with socket.create_connection((host, connection.port), timeout=limit) as plain, plain.dup() as plug:
        # A timeout of sockets is of each byte: whoever sends one now and then would hold on for ever.
        late = threading.Event()
        pulled = threading.Timer(limit, _pull, [plug, late])
        pulled.start()
        try:
            trust = ssl.create_default_context() if secure else None
            connection.sock = trust.wrap_socket(plain, server_hostname=host) if trust else plain
            path = f"{place.path or '/'}{'?' if place.query else ''}{place.query}"
            connection.request("POST", path, body, headers)
            with connection.getresponse() as answer:
                if late.is_set():  # what was pulled looks as if it had come to its end
                    raise TimeoutError
                return answer.status
        finally:
            pulled.cancel()
            connection.close()


def _pull(plug: socket.socket, late: threading.Event) -> None:
    late.set()
    with contextlib.suppress(OSError):  # it is over already
        plug.shutdown(socket.SHUT_RDWR)
