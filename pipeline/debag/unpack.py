"""Debag a zip: judge it, unpack and verify it in one pass, publish it whole or not at all."""

import hashlib
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.debag.copy_pass import CopyPass
from pipeline.debag.faults import FaultKind, Findings, UnreadableZip
from pipeline.debag.jobs import WorkPlan, plan
from pipeline.debag.judge import examine
from pipeline.debag.layout import PAYLOAD
from pipeline.debag.policy import Debagged, DebaggedWork, Policy
from pipeline.debag.refusal import as_line
from pipeline.debag.result import MARKER, Staging, load_marker, marker_bytes, staged
from pipeline.debag.zip_source import ZipSource, opened, transient
from pipeline.foundation import fixity
from pipeline.foundation.durable import start_write_back
from pipeline.foundation.errors import Fault, InvalidBag, InvalidRid, NoRoom
from pipeline.foundation.machine import available_cpus
from pipeline.foundation.work import Pulse, checked_rid, no_pulse


def unpack(
    bag_zip: Path,
    *,
    into: Path,
    work_rid: str = "",
    policy: Policy | None = None,
    threads: int = 0,
    pulse: Pulse = no_pulse,
    prove: Callable[[str], None] = lambda _why: None,
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
        prove: called with the reason before anything is said that wrong bytes in the zip, as of a download, could
            explain, or is published that no manifest proves; if it raises, nothing is said or published.
        durable: False only in benchmarks, to compare with tools that do not wait for the disk.

    Raises:
        InvalidRid: `work_rid` is no identifier.
        InvalidBag: the zip or a bag in it breaks the rules; all faults are listed, and nothing was published.
        NoRoom: the disk is full, or would be; WorkBusy: another process is making `into`.
        StagingDamaged: the zip is gone or changed, or `into` does not hold; TransientError: the disk failed otherwise.
    """
    if work_rid:
        checked_rid(work_rid, source="the work that was expected")
    try:
        if not os.path.lexists(into):
            with staged(into) as staging:
                if not os.path.lexists(into):
                    run = _Unpacking(staging, policy or Policy(), threads, pulse, prove, durable=durable)
                    return run.unpack(bag_zip, work_rid)
        return load_marker(into, of=bag_zip)
    except OSError as error:
        raise transient(error, what=f"{bag_zip.name} could not be unpacked", work_rid=work_rid) from error


class _Unpacking:
    """One zip on its way."""

    def __init__(
        self,
        staging: Staging,
        policy: Policy,
        threads: int,
        pulse: Pulse,
        prove: Callable[[str], None],
        *,
        durable: bool,
    ) -> None:
        self.begun = time.monotonic()
        self.staging = staging
        self.policy = policy
        self.threads = threads or available_cpus()
        self.pulse = pulse
        self.prove = prove
        self.durable = durable
        self.say = Findings(lambda _done, _total: pulse(*self.done))
        self.done = (0, 0)
        self.works: list[WorkPlan] = []

    def unpack(self, bag_zip: Path, work_rid: str) -> Debagged:
        """Everything between the lock and its release."""
        try:
            with opened(bag_zip, self.say) as source:
                try:
                    found = examine(source, self.policy, self.say, work_rid=work_rid)
                    self.works = plan(found.records, self.say)
                    if not self.say.count or found.readable:
                        self._copy(source)
                finally:
                    source.check_unchanged()
                if not self.say.count:
                    if self.say.doubts:
                        self.prove(", ".join(sorted(self.say.doubts)))
                    return self._publish(source, found.members)
        except UnreadableZip:
            pass  # the findings tell why
        refusal = self._refusal(bag_zip, work_rid)
        self.prove(refusal.what)
        raise refusal

    def _copy(self, source: ZipSource) -> None:
        """The payload pass; of a zip that is refused already, only for a complete report."""
        jobs = [job for work in self.works for job in work.jobs]
        root = None
        if not self.say.count:
            root = self.staging.descriptor
            size = sum(job.member.size for job in jobs)
            files = len(jobs) + sum(len(work.folders) for work in self.works)
            try:
                self.staging.check_room(size, files, reserve_bytes=self.policy.reserve_bytes)
            except NoRoom as error:
                if size > source.size:  # than was reserved: the sizes are the word of the zip
                    self.prove(error.what)
                raise
            for work in self.works:
                self.staging.make_folders(self.say.each(sorted(work.folders)))
        written = start_write_back if self.durable else None
        CopyPass(source.descriptor, root, self.say, written=written).run(jobs, threads=self.threads, pulse=self._tell)

    def _tell(self, done: int, total: int) -> None:
        self.done = (done, total)
        self.pulse(done, total)

    def _publish(self, source: ZipSource, members: int) -> Debagged:
        _, warnings = self.say.in_order()
        result = Debagged(
            works=tuple(sorted(map(self._finished, self.works), key=lambda work: work.rid)),
            warnings=warnings,
            algorithms=tuple(sorted({name for work in self.works for name in work.algorithms})),
            zip_bytes=source.size,
            seconds=round(time.monotonic() - self.begun, 3),
            members=members,
        )
        self.staging.write(MARKER, [marker_bytes(result, source)])
        self.staging.publish(durable=self.durable)
        return result

    def _finished(self, work: WorkPlan) -> DebaggedWork:
        """A work whose files are written, with what is made of them."""
        derived = _derived_tag_files(work)
        for target, content, _ in derived:
            self.staging.write(target, [content])
        files = [(job.target, job.member.size, job.digests) for job in work.jobs]
        files += [(target, len(content), digests) for target, content, digests in derived]
        files.sort()
        base = len(work.rid) + 1
        algorithms = sorted(work.algorithms)
        told = (
            (target[base:], size, sorted(zip(work.algorithms, digests, strict=True)))
            for target, size, digests in self.say.each(files)
        )
        digests_bytes = self.staging.write(
            fixity.digests_name(work.rid), fixity.pieces(work.rid, work.verified, algorithms, told)
        )
        self.staging.set_folder_times(self.say.each(work.folders.items()))
        return DebaggedWork(
            rid=work.rid,
            path=self.staging.target / work.rid,
            files=len(work.payload),
            bytes=sum(job.member.size for job in work.payload),
            verified=work.verified,
            files_on_disk=len(files),
            bytes_on_disk=sum(size for _, size, _ in files),
            digests_bytes=digests_bytes,
        )

    def _refusal(self, bag_zip: Path, work_rid: str) -> InvalidBag:
        faults, warnings = self.say.in_order()
        foreign = any(fault.kind == FaultKind.FOREIGN_WORK for fault in faults)
        works = sorted({work.rid for work in self.works} - {""})
        error = InvalidBag(
            "",
            faults=faults,
            warnings=warnings,
            unlisted=self.say.unlisted,
            works=[work_rid] if foreign else works,  # what may not be touched is not told of in the record either
            work_rid=work_rid,
        )
        error.kept, error.by_hand = f"the zip is untouched: {bag_zip}", "mend the bag"
        error.misnamed = self._misnamed(faults)
        error.what = as_line(error)
        return error

    def _misnamed(self, faults: Sequence[Fault]) -> str:
        """The work that the zip should be named for, where its name is all that is wrong."""
        if [fault.kind for fault in faults] != [FaultKind.RID_MISMATCH]:
            return ""
        try:
            return checked_rid(next((name for work in self.works if (name := work.found.named_inside)), ""))
        except InvalidRid:  # BDRC-RID may say anything
            return ""


def _derived_tag_files(work: WorkPlan) -> list[tuple[str, bytes | bytearray, tuple[str, ...]]]:
    """Tag files for a work that has none of its own, so that any later copy of it can be proved.

    A valid set (RFC 8493, 2.2; version 0.97, as BDRC's tools write it) of the bytes as they were unpacked. For a work
    that came without a bag it says that nobody vouched for them before; for one that shared its bag with others it
    holds what that bag's manifests say of it. The same zip gives the same files, to the byte: no date in them.

    Returns:
        Of each where it goes, relative to the staging folder, its bytes and their digests.
    """
    found = work.found
    if (found.bagged and not found.shared) or not work.kept:
        return []
    said = "Internal-Sender-Description: made of what was unpacked; the zip had no bag that vouched for it\n"
    if found.shared:
        said = (
            f"Internal-Sender-Description: made of its bag's manifests; the bag's other files are in {found.shared}\n"
        )
    size = sum(job.member.size for job in work.payload)
    contents: dict[str, bytes | bytearray] = {
        "bagit.txt": b"BagIt-Version: 0.97\nTag-File-Character-Encoding: UTF-8\n",
        "bag-info.txt": f"BDRC-RID: {work.rid}\n{said}Payload-Oxum: {size}.{len(work.payload)}\n".encode(),
        **{f"manifest-{name}.txt": _manifest(work, at) for at, name in enumerate(work.algorithms)},
    }
    listed = sorted(contents.items())  # by each tag manifest: all but tag manifests (2.2.1)
    for name in work.algorithms:
        lines = [f"{_digest(name, content)}  {path}\n" for path, content in listed]
        contents[f"tagmanifest-{name}.txt"] = "".join(lines).encode()
    return [
        (f"{work.kept}/{path}", content, tuple(_digest(name, content) for name in work.algorithms))
        for path, content in contents.items()
    ]


def _manifest(work: WorkPlan, at: int) -> bytearray:
    """A payload manifest: CR and LF in names are percent-encoded, as in BagIt 0.97 nothing else is."""
    text = bytearray()  # grows in place: as a list of lines it would take three times as much memory
    for job in sorted(work.payload, key=lambda job: job.target):
        path = job.target[len(work.rid) + 1 :].replace("\r", "%0D").replace("\n", "%0A")
        text += f"{job.digests[at]}  {PAYLOAD}{path}\n".encode()
    return text


def _digest(algorithm: str, content: bytes | bytearray) -> str:
    return hashlib.new(algorithm, content, usedforsecurity=False).hexdigest()
