"""The journal of a download: which ranges are in the `.part` file, and their digests.

One JSON document a line: first what is downloaded and how, then a line a finished range, `{"chunk", "taken"}`, and
while a range comes, every few MiB and at the end of an attempt, `{"chunk", "upto", "taken"}` with its bytes so far: 20
KB of lines a GiB. Lines are appended and not flushed to the disk one by one: whoever goes on re-hashes what they claim,
so a line that was lost, or stands for bytes that were, costs what it claims and nothing else. The last line of a range
counts. After a mismatch `{"doubted": true}` says that all was fetched a second time already.

Where no digests are taken, lines count until the machine is restarted, and for ever if they say `"flushed"`: their
bytes had reached the disk. `{"flushed": true}` alone says that of all lines before it.
"""

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

from pipeline.download.plan import By, Level, Plan, Remote
from pipeline.foundation import durable


class RangeJournal:
    """The journal of one download.

    Attributes:
        plan: how its ranges were cut and digested.
        claims: the digests of each range that it says is there.
        begun: how many bytes of other ranges are there, and their digests.
        doubted: whether the whole was found wrong before, and fetched again.
    """

    def __init__(self, path: Path, plan: Plan) -> None:
        self.path = path
        self.plan = plan
        self.claims: dict[int, list[str]] = {}
        self.begun: dict[int, tuple[int, list[str]]] = {}
        self.doubted = False
        self._descriptor = -1

    @classmethod
    def begin(cls, path: Path, plan: Plan) -> "RangeJournal":
        """A new journal in the place of any other."""
        made = cls(path, plan)
        made._open(os.O_TRUNC)
        made._append({**asdict(plan), "boot": durable.boot()})
        return made

    @classmethod
    def of(cls, path: Path, plan: Plan, claims: Mapping[int, list[str]], *, doubted: bool) -> "RangeJournal":
        """A new journal in the place of any other, in which every range is claimed already; in one move."""
        made = cls(path, plan)
        made.claims, made.doubted = dict(claims), doubted
        made._renew()
        return made

    @classmethod
    def go_on(cls, path: Path, etag: str) -> "RangeJournal | None":
        """The journal of an earlier try; None: there is none, or nothing that can be relied on.

        Args:
            path: the journal.
            etag: of the object that is wanted; empty: whichever it was.
        """
        with contextlib.suppress(OSError):
            with path.open("rb") as lines:
                documents = (document for line in lines if (document := _parsed(line)) is not None)
                first = next(documents, {})
                plan = _plan(first)
                if plan is None or etag not in {"", plan.remote.etag}:
                    return None
                found = cls(path, plan)
                flushed = found._read(documents)
            if plan.by is By.NOTHING and first.get("boot") != durable.boot():
                found._keep(flushed)
                found._renew()
            else:
                found._open(0)
            return found
        return None

    def claim(self, number: int, taken: list[str], *, flushed: bool = False) -> None:
        """A range is in the file; `flushed`: it has reached the disk, and so does this line."""
        self.claims[number] = taken
        self.begun.pop(number, None)
        self._append({"chunk": number, "taken": taken, **({"flushed": True} if flushed else {})})
        if flushed:
            os.fdatasync(self._descriptor)

    def claim_begun(self, number: int, size_bytes: int, taken: list[str]) -> None:
        """The first bytes of a range are in the file; what was claimed of the whole of it holds no more."""
        self.claims.pop(number, None)
        self.begun[number] = (size_bytes, taken)
        self._append({"chunk": number, "upto": size_bytes, "taken": taken})

    @property
    def claimed_bytes(self) -> int:
        """How much is there, if all is as claimed."""
        whole = sum(end - start for start, end in map(self.plan.span, list(self.claims)))
        return whole + sum(size_bytes for size_bytes, _ in self.begun.values())

    def doubt(self) -> None:
        """Everything that is wrong was fetched a second time: there is no third."""
        self.doubted = True
        self._append({"doubted": True})

    def all_flushed(self) -> None:
        """Everything that is claimed has reached the disk."""
        self._append({"flushed": True})

    def close(self) -> None:
        """Nothing more is written."""
        if self._descriptor >= 0:
            os.close(self._descriptor)
            self._descriptor = -1

    def _open(self, flags: int) -> None:
        flags |= os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_NOFOLLOW | os.O_CLOEXEC
        self._descriptor = os.open(self.path, flags, 0o644)

    def _append(self, document: dict[str, Any]) -> None:
        # With a line's end before it too: what a kill cut short stays a line of its own, which is not understood.
        os.write(self._descriptor, b"\n" + json.dumps(document).encode() + b"\n")

    def _read(self, documents: Iterable[dict[str, Any]]) -> set[int]:
        """Take in what the lines claim; returns the ranges of which that had reached the disk."""
        safe: set[int] = set()
        for document in documents:
            self.doubted = self.doubted or document.get("doubted") is True
            number, taken, upto = document.get("chunk"), document.get("taken"), document.get("upto")
            flushed = document.get("flushed") is True
            if flushed and number is None:
                safe = {*self.claims, *self.begun}
            if not (isinstance(number, int) and 0 <= number < self.plan.chunks and isinstance(taken, list)):
                continue
            start, end = self.plan.span(number)
            (safe.add if flushed else safe.discard)(number)
            if upto is None:
                self.claims[number] = taken
                self.begun.pop(number, None)
            elif isinstance(upto, int) and 0 < upto < end - start:
                self.begun[number] = (upto, taken)
                self.claims.pop(number, None)
        return safe

    def _renew(self) -> None:
        """Write it anew, in one move."""
        documents: list[dict[str, Any]] = [{**asdict(self.plan), "boot": durable.boot()}]
        documents += [{"chunk": number, "taken": taken} for number, taken in self.claims.items()]
        documents += [{"chunk": number, "upto": upto, "taken": taken} for number, (upto, taken) in self.begun.items()]
        documents.append({"flushed": True, "doubted": self.doubted})
        durable.write_file(self.path, b"".join(json.dumps(document).encode() + b"\n" for document in documents))
        self._open(0)

    def _keep(self, numbers: set[int]) -> None:
        self.claims = {number: taken for number, taken in self.claims.items() if number in numbers}
        self.begun = {number: begun for number, begun in self.begun.items() if number in numbers}


class Begun:
    """One range on its way, from its first byte.

    Attributes:
        start: its first byte.
        end: the byte after its last.
        position: up to where it lies in the file.
        digest: of what lies there.
    """

    def __init__(self, journal: RangeJournal, number: int) -> None:
        self._journal = journal
        self._number = number
        self.start, self.end = journal.plan.span(number)
        self.begin_again()

    def begin_again(self) -> None:
        """Nothing has come."""
        self.position = self._claimed = self.start
        self.digest = self._journal.plan.digest()

    def go_on(self, read: Callable[[int, int], Iterable[memoryview]]) -> None:
        """Go on after what the journal claims, if that lies there as claimed; else from the first byte.

        Args:
            read: gives the bytes of the file from one position up to another, as far as there are any.
        """
        claimed = self._journal.begun.get(self._number)
        if claimed is None:
            return
        if self._journal.plan.by is By.NOTHING:
            self.position = self._claimed = self.start + claimed[0]
            return
        for block in read(self.start, self.start + claimed[0]):
            self.digest.update(block)
            self.position += len(block)
        if claimed == (self.position - self.start, self._taken):
            self._claimed = self.position
        else:
            self.begin_again()

    @property
    def unclaimed_bytes(self) -> int:
        """What has come since the journal was told; it ends at `position`."""
        return self.position - self._claimed

    def claim(self) -> None:
        """Let the journal know what has come: all of that has to be in the file, and in the digest."""
        self._journal.claim_begun(self._number, self.position - self.start, self._taken)
        self._claimed = self.position

    @property
    def _taken(self) -> list[str]:
        """The digest so far; of many parts' digests one, so that a range of many parts does not make long lines."""
        values = self.digest.values()
        return (
            values if len(values) <= 1 else [hashlib.md5("".join(values).encode(), usedforsecurity=False).hexdigest()]
        )


def _parsed(line: bytes) -> dict[str, Any] | None:
    with contextlib.suppress(ValueError):
        document = json.loads(line)
        return document if isinstance(document, dict) else None
    return None


def _plan(document: dict[str, Any]) -> Plan | None:
    with contextlib.suppress(KeyError, TypeError, ValueError):
        remote = Remote(**document["remote"])
        plan = Plan(remote, int(document["chunk_bytes"]), Level(document["level"]), By(document["by"]))
        return plan if plan.chunk_bytes > 0 and plan.can_be_taken else None
    return None
