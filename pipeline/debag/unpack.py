"""Debag a zip: judge it, unpack and verify it in one pass, publish it whole or not at all."""

import os
import shlex
import time
from collections.abc import Iterator, Sequence
from json.encoder import encode_basestring
from pathlib import Path

from pipeline.debag import report
from pipeline.debag.copying import CopyPass
from pipeline.debag.derived import Derived, derived_tag_files
from pipeline.debag.faults import FaultKind, Findings, UnreadableZip
from pipeline.debag.jobs import Job, WorkPlan, plan
from pipeline.debag.judge import examine
from pipeline.debag.marker import MARKER, load_marker, marker_bytes
from pipeline.debag.policy import Debagged, DebaggedWork, Policy
from pipeline.debag.result import Staging, staged
from pipeline.debag.zip_source import ZipSource, opened, transient
from pipeline.foundation.durable import start_write_back
from pipeline.foundation.errors import InvalidBag, InvalidRid, TransientError
from pipeline.foundation.fixity import digests_name
from pipeline.foundation.machine import available_cpus
from pipeline.foundation.work import Pulse, checked_rid, inert_json, no_pulse

_ENTRIES_A_PIECE = 1000


def unpack(
    bag_zip: Path,
    *,
    into: Path,
    work_rid: str = "",
    policy: Policy | None = None,
    threads: int = 0,
    pulse: Pulse = no_pulse,
    durable: bool = True,
) -> Debagged:
    """Verify a bag zip and unpack it into the new folder `into`, which appears by one rename, complete and durable.

    `into` then holds `{RID}/` and `{RID}.digests.json` for each work, and the marker `debag.json`. If it is there
    already and holds what its marker says, nothing is done again. The zip is only read.

    Args:
        bag_zip: the zip.
        into: the folder to make; its parent is made if need be.
        work_rid: the work that the zip's key promised; empty if unknown.
        policy: limits and switches.
        threads: how many work at once; 0: as many as there are CPUs for this process.
        pulse: called with bytes done and in all; if it raises, everything stops and is cleaned up.
        durable: False only in benchmarks, to compare with tools that do not wait for the disk.

    Raises:
        InvalidRid: `work_rid` is no identifier.
        InvalidBag: the zip or a bag in it breaks the rules; all faults are listed, and nothing was published.
        NoRoom: the disk is full, or would be.
        WorkBusy: another process is making `into`.
        StagingDamaged: the zip is gone or was changed, or `into` is there and does not hold.
        TransientError: reading or writing failed.
    """
    begun = time.monotonic()
    if work_rid:
        checked_rid(work_rid, source="the work that was expected")
    if os.path.lexists(into):
        return load_marker(into, of=bag_zip)
    try:
        with staged(into) as staging:
            if os.path.lexists(into):
                return load_marker(into, of=bag_zip)
            run = _Run(staging, policy or Policy(), threads or available_cpus(), pulse, durable=durable)
            return run.unpack(bag_zip, work_rid, begun)
    except TransientError:
        raise
    except OSError as error:
        raise transient(error, what=f"{bag_zip.name} could not be unpacked", work_rid=work_rid) from error


class _Run:
    """One zip on its way."""

    def __init__(self, staging: Staging, policy: Policy, threads: int, pulse: Pulse, *, durable: bool) -> None:
        self.staging = staging
        self.policy = policy
        self.threads = threads
        self.pulse = pulse
        self.durable = durable
        self.say = Findings(lambda _done, _total: pulse(*self.done))
        self.done = (0, 0)
        self.works: list[str] = []

    def unpack(self, bag_zip: Path, work_rid: str, begun: float) -> Debagged:
        """Everything between the lock and its release."""
        try:
            with opened(bag_zip, self.say) as source:
                try:
                    verdict = examine(source, self.policy, self.say, work_rid=work_rid)
                    works = plan(verdict, self.say)
                    self.works = sorted({work.rid for work in works} - {""})
                    self._copy(source, works, verify_only=bool(self.say.count), readable=verdict.readable)
                finally:
                    source.check_unchanged()
                if not self.say.count:
                    return self._publish(source, works, verdict.members, begun)
        except UnreadableZip:
            pass  # the findings tell why
        raise self._refusal(bag_zip, work_rid)

    def _copy(self, source: ZipSource, works: Sequence[WorkPlan], *, verify_only: bool, readable: bool) -> None:
        """The payload pass; of a zip that is refused already, only for a complete report."""
        jobs = [job for work in works for job in (*work.payload, *work.tag_files)]
        total = sum(job.member.size for job in jobs)
        if verify_only and not (readable and self.policy.full_report):
            return
        root = None
        if not verify_only:
            self._prepare(works, jobs, total)
            root = self.staging.descriptor
        written = start_write_back if self.durable else None
        copy = CopyPass(source.descriptor, root, self.say, written=written)
        copy.run(jobs, threads=self.threads, pulse=self._tell, total=total)

    def _tell(self, done: int, total: int) -> None:
        self.done = (done, total)
        self.pulse(done, total)

    def _prepare(self, works: Sequence[WorkPlan], jobs: Sequence[Job], total: int) -> None:
        """Room and folders."""
        folders = sum(len(work.folders) for work in works)
        self.staging.check_room(total, len(jobs) + folders, reserve_bytes=self.policy.reserve_bytes)
        for work in works:
            self.staging.make_folders(self.say.each(sorted(work.folders)))

    def _publish(self, source: ZipSource, works: Sequence[WorkPlan], members: int, begun: float) -> Debagged:
        into = self.staging.target
        done, kept, digests_bytes = [], {}, {}
        for work in works:
            derived = derived_tag_files(work)
            for tag_file in derived:
                self.staging.write(tag_file.target, [tag_file.content])
            pieces = digests_file(work, derived, self.say)
            digests_bytes[work.rid] = self.staging.write(digests_name(work.rid), pieces)
            files: list[Job | Derived] = [*work.payload, *work.tag_files, *derived]
            kept[work.rid] = len(files), sum(file.size for file in files)
            self.staging.set_folder_times(self.say.each(work.folders.items()))
            done.append(_debagged_work(work, into))
        _, warnings = self.say.in_order()
        algorithms = tuple(sorted({name for work in works for name in work.algorithms}))
        works_done = tuple(sorted(done, key=lambda work: work.rid))
        seconds = round(time.monotonic() - begun, 3)
        result = Debagged(works_done, warnings, algorithms, source.size, seconds, members)
        self.staging.write(MARKER, [marker_bytes(result, source, kept, digests_bytes)])
        self.staging.publish(durable=self.durable)
        return result

    def _refusal(self, bag_zip: Path, work_rid: str) -> InvalidBag:
        faults, warnings = self.say.in_order()
        foreign = any(fault.kind == FaultKind.FOREIGN_WORK for fault in faults)
        error = InvalidBag(
            "",
            faults=faults,
            warnings=warnings,
            unlisted=self.say.unlisted,
            works=[work_rid] if foreign else self.works,  # what may not be touched is not told of in the record either
            work_rid=work_rid,
            kept=f"the zip is untouched: {bag_zip}",
            go_on=f"run_pipeline.py debag {shlex.quote(str(bag_zip))} --into DIR, once the bag is mended",
        )
        error.misnamed = self._misnamed()
        error.what = report.sentence(error)
        return error

    def _misnamed(self) -> str:
        """The work that the zip should be named for, where its name is all that is wrong."""
        (first, *more) = set(self.say.faults)
        try:
            return "" if more or first.kind != FaultKind.RID_MISMATCH else checked_rid(self.say.misnamed)
        except InvalidRid:  # BDRC-RID may say anything
            return ""


def _debagged_work(work: WorkPlan, into: Path) -> DebaggedWork:
    return DebaggedWork(
        rid=work.rid,
        path=into / work.rid,
        files=len(work.payload),
        bytes=sum(job.member.size for job in work.payload),
        digests=into / digests_name(work.rid),
        verified=work.verified,
    )


def digests_file(work: WorkPlan, derived: Sequence[Derived], say: Findings) -> Iterator[bytes]:
    """What `fixity.dumps` makes of a work's digests, byte for byte, in a tenth of the time, piece by piece."""
    base = len(work.rid) + 1
    order = sorted(range(len(work.algorithms)), key=work.algorithms.__getitem__)
    keys = [(index, f',\n"{work.algorithms[index]}": "') for index in order]
    algorithms = ",\n".join(f'"{work.algorithms[index]}"' for index in order)
    yield (
        f'{{\n"work_rid": {encode_basestring(work.rid)},\n"verified": "{work.verified}",\n'
        f'"algorithms": [\n{algorithms}\n],\n"files": {{\n'
    ).encode()
    files: list[Job | Derived] = [*work.payload, *work.tag_files, *derived]
    files.sort(key=lambda file: file.target)
    entries: list[str] = []
    for number, file in enumerate(say.each(files)):
        digests = "".join([f'{key}{file.digests[index]}"' for index, key in keys])
        comma = ",\n" if number else ""
        entries.append(f'{comma}{encode_basestring(file.target[base:])}: {{\n"bytes": {file.size}{digests}\n}}')
        if len(entries) == _ENTRIES_A_PIECE:
            yield inert_json("".join(entries)).encode()
            entries.clear()
    yield inert_json(f"{''.join(entries)}\n}}\n}}\n").encode()
