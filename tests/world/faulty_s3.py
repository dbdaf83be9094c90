"""An S3 that serves one bucket from memory, and misbehaves as it is told: for what moto cannot do."""

import base64
import hashlib
import http.server
import re
import socket
import struct
import threading
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import lru_cache
from typing import TYPE_CHECKING

import boto3
from botocore.config import Config

from pipeline.embedded import embedded
from pipeline.foundation.work import Bag
from tests.world.answering import Handler, answering

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_BLOCK = 1 << 16
KMS = {"x-amz-server-side-encryption": "aws:kms"}


@lru_cache
def etag_of(content: bytes, part_bytes: int = 0) -> str:
    """As S3 makes it: of one piece, or of parts."""
    if not part_bytes:
        return hashlib.md5(content).hexdigest()
    parts = [hashlib.md5(content[at : at + part_bytes]).digest() for at in range(0, len(content), part_bytes)]
    return f"{hashlib.md5(b''.join(parts)).hexdigest()}-{len(parts)}"


@dataclass(frozen=True)
class Asked:
    """A request for the object, or for some of it."""

    method: str
    start: int
    end: int
    number: int


@dataclass(frozen=True)
class Fault:
    """How an answer is wrong.

    Attributes:
        error: status and code, instead of the object.
        send: so many bytes of the body, then what `then` says.
        then: `close`, `reset`, `stall`, or `trickle`: the rest comes a byte at a time.
        flip: the position in the object of a byte that comes out wrong.
        shift: the range answered is so many bytes further on.
        ignore_range: the whole object comes.
    """

    error: tuple[int, str] | None = None
    send: int | None = None
    then: str = "close"
    flip: int | None = None
    shift: int = 0
    ignore_range: bool = False


Script = Callable[[Asked], Fault | None]


@dataclass
class S3:
    """The server's world; a test may change it at any time."""

    content: bytes = b""
    part_bytes: int = 0
    claimed_bytes: int = 0
    headers: dict[str, str] = field(default_factory=dict)
    script: Script = lambda _asked: None
    block_seconds: float = 0
    honours_pins: bool = True
    asked: list[Asked] = field(default_factory=list)
    sent_bytes: int = 0
    url: str = ""
    over: threading.Event = field(default_factory=threading.Event)
    lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def etag(self) -> str:
        return etag_of(self.content, self.part_bytes)

    @property
    def bag(self) -> Bag:
        """The bag as an event announces it, its size left out."""
        return Bag("W1", "bucket", "W1.bag.zip", etag=self.etag)

    def gets(self) -> list[Asked]:
        return [asked for asked in self.asked if asked.method == "GET"]

    def client(self, *, attempts: int = 3) -> "S3Client":
        config = Config(
            retries={"mode": "standard", "max_attempts": attempts},
            response_checksum_validation="when_required",
            max_pool_connections=64,
            read_timeout=30,
        )
        keys = {
            "aws_access_key_id": embedded.CREDENTIALS["AWS_ACCESS_KEY_ID"],
            "aws_secret_access_key": embedded.CREDENTIALS["AWS_SECRET_ACCESS_KEY"],
        }
        return boto3.client("s3", endpoint_url=self.url, region_name="us-east-1", config=config, **keys)  # type: ignore[no-any-return]  # boto3 has no types

    def with_crc32(self) -> None:
        """As an upload by boto3 through KMS: the ETag is no digest, and there is a CRC-32 of the whole."""
        value = base64.b64encode(struct.pack(">I", zlib.crc32(self.content))).decode()
        self.headers = {"x-amz-checksum-crc32": value, "x-amz-checksum-type": "FULL_OBJECT", **KMS}


class _Handler(Handler, http.server.BaseHTTPRequestHandler):
    world: S3

    def do_HEAD(self) -> None:
        self._answer()

    def do_GET(self) -> None:
        self._answer()

    def _answer(self) -> None:
        world = self.world
        with world.lock:
            content, etag = world.content, world.etag
            start, end = self._range(len(content))
            asked = Asked(self.command, start, end, len(world.asked))
            world.asked.append(asked)
        fault = world.script(asked) or Fault()
        with world.lock:  # the script may have changed the world
            content, etag = world.content, world.etag
        pinned = self.headers.get("If-Match", "").strip('"')
        if fault.error is not None:
            return self._error(*fault.error)
        if pinned and pinned != etag and world.honours_pins:
            return self._error(412, "PreconditionFailed")
        if "partNumber=1" in self.path:
            end = min(world.part_bytes or len(content), len(content))
        return self._body(content, etag, start, end, fault)

    def _range(self, size: int) -> tuple[int, int]:
        told = re.fullmatch(r"bytes=([0-9]+)-([0-9]+)", self.headers.get("Range", ""))
        return (int(told[1]), int(told[2]) + 1) if told else (0, size)

    def _body(self, content: bytes, etag: str, start: int, end: int, fault: Fault) -> None:
        ranged = "Range" in self.headers and not fault.ignore_range
        if fault.ignore_range:
            start, end = 0, len(content)
        start, end = start + fault.shift, min(len(content), end + fault.shift)
        if fault.flip is not None:
            content = content[: fault.flip] + bytes([content[fault.flip] ^ 1]) + content[fault.flip + 1 :]
        self.send_response_only(206 if ranged else 200)
        self.send_header("ETag", f'"{etag}"')
        self.send_header("Content-Length", str(self.world.claimed_bytes or end - start))
        if ranged:
            self.send_header("Content-Range", f"bytes {start}-{end - 1}/{len(content)}")
        for name, value in self.world.headers.items():
            self.send_header(name, value)
        self.end_headers()
        if self.command == "HEAD":
            return
        stop = end if fault.send is None else min(end, start + fault.send)
        for at in range(start, stop, _BLOCK):
            block = content[at : min(stop, at + _BLOCK)]
            self.wfile.write(block)
            with self.world.lock:
                self.world.sent_bytes += len(block)
            if self.world.block_seconds:
                self.world.over.wait(self.world.block_seconds)
        if stop < end:
            self._break_off(fault.then)

    def _break_off(self, how: str) -> None:
        self.close_connection = True
        if how == "stall":
            self.world.over.wait(60)
        while how == "trickle" and not self.world.over.wait(0.05):
            self.wfile.write(b"x")
        if how == "reset":
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    def _error(self, status: int, code: str) -> None:
        body = f"<Error><Code>{code}</Code><Message>as told</Message></Error>".encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "text/xml")
        self.send_header("Content-Length", str(len(body) if self.command == "GET" else 0))
        self.end_headers()
        if self.command == "GET":
            self.wfile.write(body)

    def handle(self) -> None:
        self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BLOCK)
        super().handle()


@contextmanager
def faulty_s3(content: bytes, **world: object) -> Iterator[S3]:
    """A server on loopback that holds one object, whatever its key."""
    made = S3(content, **world)  # type: ignore[arg-type]  # its own fields, by name
    with answering(_Handler, world=made) as made.url:
        try:
            yield made
        finally:
            made.over.set()
