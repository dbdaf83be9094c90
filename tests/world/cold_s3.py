"""An S3 in cold storage, strict where moto is lenient: restores take their time, run once, cost, and do expire.

All clocks are real. When a test lets time pass, whatever the server has noted moves into the past.
"""

import http.server
import re
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from urllib.parse import parse_qs, unquote, urlsplit

from tests.world.answering import Handler, answering
from tests.world.faulty_s3 import etag_of

HOUR = 3600.0
READY_HOURS = {
    ("GLACIER", "Bulk"): 12,
    ("GLACIER", "Standard"): 5,
    ("GLACIER", "Expedited"): 5 / 60,
    ("DEEP_ARCHIVE", "Bulk"): 48,
    ("DEEP_ARCHIVE", "Standard"): 12,
}


@dataclass
class Cold:
    """An object.

    Attributes:
        ready_on: when its running restore is done.
        until: when its restored copy goes away.
        ends_early: so much of the days that were asked for its next copy stays.
    """

    content: bytes
    storage_class: str = "DEEP_ARCHIVE"
    ready_on: datetime | None = None
    until: datetime | None = None
    days: int = 0
    ends_early: float = 1.0
    heads: int = 0


@dataclass(frozen=True)
class Asked:
    """A restore that S3 took, and takes money for."""

    key: str
    tier: str
    days: int
    size_bytes: int


Announced = Callable[[str, Cold], object]


@dataclass
class ColdS3:
    """The server's world.

    Attributes:
        asked: what was taken, in order.
        refused: what was not, as `key code`.
        fault: status and code with which RestoreObject is refused, by key and how often it was called; or nothing.
        announce: called when a copy is there.
    """

    objects: dict[str, Cold] = field(default_factory=dict)
    asked: list[Asked] = field(default_factory=list)
    refused: list[str] = field(default_factory=list)
    fault: Callable[[str, int], tuple[int, str] | None] = lambda _key, _count: None
    announce: Announced = lambda _key, _object: None
    url: str = ""
    lock: threading.RLock = field(default_factory=threading.RLock)
    _calls: dict[str, int] = field(default_factory=dict)

    def pass_time(self, hours: float) -> None:
        """Let time pass, in which restores end and copies go away."""
        with self.lock:
            for one in self.objects.values():
                one.ready_on = one.ready_on and one.ready_on - timedelta(hours=hours)
                one.until = one.until and one.until - timedelta(hours=hours)
            self.see()

    def see(self) -> None:
        """Bring every object to what it is by now."""
        now = datetime.now(UTC)
        with self.lock:
            for key, one in self.objects.items():
                if one.ready_on and one.ready_on <= now:
                    one.until = one.ready_on + timedelta(days=one.days * one.ends_early)
                    one.ready_on, one.ends_early = None, 1.0
                    self.announce(key, one)
                if one.until and one.until <= now:
                    one.until = None

    def restore(self, key: str, body: str) -> tuple[int, str]:
        """What RestoreObject answers: a status, and a code where it refuses."""
        with self.lock:
            self.see()
            one, count = self.objects.get(key), self._calls.get(key, 0)
            self._calls[key] = count + 1
            status, code = self._refused(key, one, body, count)
            if code or one is None:
                self.refused.append(f"{key} {code}")
                return status, code
            days = int(re.search("<Days>([0-9]+)</Days>", body)[1])  # type: ignore[index]  # seen to be there
            tier = re.search("<Tier>([A-Za-z]+)</Tier>", body)[1]  # type: ignore[index]  # the same
            if one.until:
                one.until = datetime.now(UTC) + timedelta(days=days)
                return 200, ""
            one.days = days
            one.ready_on = datetime.now(UTC) + timedelta(hours=READY_HOURS[one.storage_class, tier])
            self.asked.append(Asked(key, tier, days, len(one.content)))
            return 202, ""

    def _refused(self, key: str, one: Cold | None, body: str, count: int) -> tuple[int, str]:
        if refusal := self.fault(key, count):
            return refusal
        if one is None:
            return 404, "NoSuchKey"
        if one.storage_class not in {"GLACIER", "DEEP_ARCHIVE"}:
            return 403, "InvalidObjectState"
        if one.ready_on:
            return 409, "RestoreAlreadyInProgress"
        told = re.search("<Tier>([A-Za-z]+)</Tier>", body)
        if not re.search("<Days>[1-9][0-9]*</Days>", body) or told is None:
            return 400, "MalformedXML"
        return (0, "") if (one.storage_class, told[1]) in READY_HOURS else (400, "InvalidArgument")


class _Handler(Handler, http.server.BaseHTTPRequestHandler):
    world: ColdS3

    def do_HEAD(self) -> None:
        self._object()

    def do_GET(self) -> None:
        if "list-type" in self.path:
            return self._list()
        return self._object()

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length", "0"))).decode()
        status, code = self.world.restore(self._key, body)
        if code:
            return self._error(status, code)
        return self._answer(status, {}, b"")

    @property
    def _key(self) -> str:
        return unquote(urlsplit(self.path).path).split("/", 2)[2]

    def _object(self) -> None:
        with self.world.lock:
            self.world.see()
            one = self.world.objects.get(self._key)
            if one is None:
                return self._error(404, "NoSuchKey")
            one.heads += self.command == "HEAD"
            frozen = one.storage_class in {"GLACIER", "DEEP_ARCHIVE"}
            headers = {"ETag": f'"{etag_of(one.content)}"'}
            if one.storage_class != "STANDARD":
                headers["x-amz-storage-class"] = one.storage_class
            if one.ready_on:
                headers["x-amz-restore"] = 'ongoing-request="true"'
            elif one.until:
                expiry = format_datetime(one.until, usegmt=True)
                headers["x-amz-restore"] = f'ongoing-request="false", expiry-date="{expiry}"'
            content, until = one.content, one.until
        if self.command == "GET" and frozen and not until:
            return self._error(403, "InvalidObjectState")
        told = re.fullmatch("bytes=([0-9]+)-([0-9]+)", self.headers.get("Range", ""))
        if told:
            start, end = int(told[1]), min(int(told[2]) + 1, len(content))
            headers["Content-Range"] = f"bytes {start}-{end - 1}/{len(content)}"
            return self._answer(206, headers, content[start:end])
        return self._answer(200, headers, content)

    def _list(self) -> None:
        """Three keys a page, so that whoever reads one page alone is found out."""
        asked = {name: values[0] for name, values in parse_qs(urlsplit(self.path).query).items()}
        after = asked.get("continuation-token", "")
        keys = [key for key in sorted(self.world.objects) if key.startswith(asked.get("prefix", "")) and key > after]
        page, more = keys[:3], len(keys) > 3
        token = f"<NextContinuationToken>{page[-1]}</NextContinuationToken>" if more else ""
        listed = "".join(f"<Contents><Key>{key}</Key></Contents>" for key in page)
        truncated = f"<IsTruncated>{str(more).lower()}</IsTruncated>"
        text = f"<ListBucketResult>{truncated}{token}{listed}</ListBucketResult>"
        return self._answer(200, {"Content-Type": "application/xml"}, text.encode())

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in (headers | {"Content-Length": str(len(body))}).items():
            self.send_header(name, value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def _error(self, status: int, code: str) -> None:
        self._answer(
            status,
            {"Content-Type": "application/xml"},
            b"" if self.command == "HEAD" else f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode(),
        )


@contextmanager
def cold_s3() -> Iterator[ColdS3]:
    """A server on loopback; all its buckets hold the same objects."""
    made = ColdS3()
    with answering(_Handler, world=made) as made.url:
        yield made
