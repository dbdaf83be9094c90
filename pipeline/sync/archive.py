"""A work comes home: checked, compared, written by script or copier, made durable, read back; in this order."""

import logging
import time
from collections.abc import Callable, Collection
from dataclasses import replace as changed
from pathlib import Path

from pipeline.foundation import durable
from pipeline.foundation.fixity import Fixity
from pipeline.foundation.work import Pulse, archive_dir, checked_rid, human_count, no_pulse
from pipeline.sync import by_copier, by_script, narrowing, replaced
from pipeline.sync import proof as proofs
from pipeline.sync.call import Call
from pipeline.sync.narrowing import SyncOptions
from pipeline.sync.readback import Comparison, Difference, compare
from pipeline.sync.site import BUILTIN, Synced, SyncSettings
from pipeline.sync.trees import not_kept

logger = logging.getLogger(__name__)


def archive(  # noqa: PLR0913  # the interface that the tasks are written against: each value is its own
    work_dir: Path,
    digests: Path,
    *,
    work_rid: str,
    site: SyncSettings,
    pulse: Pulse = no_pulse,
    threads: int = 0,
    replace: bool = False,
    again: bool = False,
    until: Callable[[], float] | None = None,
) -> Synced:
    """Bring the archive copy of a work to hold every file of its bag, and prove it.

    When this returns, every file was read back from the archive and matched in every algorithm, and all of it is
    durable: only then may the caller commit its row and clear staging. Killed at any instant and called again, it ends
    in the same archive. Nothing in the archive that has other content is ever overwritten, nothing is deleted.
    What an operator's word replaces is moved aside and kept (see `replaced`).

    Args:
        work_dir: the unpacked work, a folder named by its RID.
        digests: the file of its verified digests, as debag left it.
        work_rid: the work.
        site: archive, script and its environment.
        pulse: called several times a second with (bytes proved, bytes in all); it may raise to stop, which is safe.
        threads: how many files are worked on at a time; 0 = as many as suit the machine.
        replace: the operator's word, for this call alone: other content in the archive gives way to the bag's.
        again: the operator's word that script, web copy and audits are run though the archive has the work.
            What is equal is not copied all the same.
        until: until when, by CLOCK_BOOTTIME, what is started here may run if nobody asks again; see `process.run`.

    Raises:
        ArchiveConflict, NotToBeArchived, OptionsNotUnderstood: nothing was written.
        AuditFailed, ReadBackFailed, SyncFailed: the copy may be there, or a part of it.
        ArchiveMissing, LeaseLost, NoRoom, StagingDamaged: the same may succeed later.
    """
    started = time.monotonic()
    folder = archive_dir(site.archive_root.absolute(), checked_rid(work_rid))
    call = _Home(work_rid, work_dir.absolute(), folder, site, pulse, threads, replace, again, until)
    try:
        return call.bring_home(call.staged(digests), started)
    except OSError as error:
        raise call.unusable(error) from error


class _Home(Call):
    """The steps of one call, in running order."""

    def bring_home(self, known: Fixity, started: float) -> Synced:
        """Compare, write where needed, make durable, read back."""
        self.check_place()
        chosen = self.chosen()
        proved = proofs.earlier(self.folder, self.work_rid, brought=self.journal.ours)
        before = self.existing(known, proved, may_write=chosen.archive)
        known = self.joined(known, proved)
        if before.missing and self.moved:
            raise self.staging_changed([f"{name} is missing" for name in before.missing])
        if before.missing and not chosen.archive:
            raise self.kept_out(chosen)
        by = by_copier if self.site.copier == BUILTIN else by_script
        proof, log, audits = by.run(self, known, before, chosen)
        by_copier.sweep(self.folder)
        lost = () if self.moved else not_kept(self.work_dir, self.folder, before.missing)
        if lost:
            logger.warning(
                "%s: home, and every byte proved; the archive did not keep %s", self.work_rid, ", ".join(lost)
            )
        kept = proofs.keep(self.folder, known, proved=proved, extra=proof.extra)
        journal = self.journal
        return Synced(
            path=self.folder,
            files=len(known.files),
            bytes=known.size_bytes,
            written=bool(before.missing),
            added=len(before.missing),
            extra=tuple(name for name in proof.extra if name != kept.name),
            log=log,
            seconds=time.monotonic() - started,
            algorithms=proof.algorithms,
            cache_dropped=proof.cache_dropped,
            options=chosen,
            audits=audits,
            proof=kept,
            replaced=tuple(sorted(journal.replaced)),
            replaced_to=journal.to,
            not_kept=lost,
        )

    def chosen(self) -> SyncOptions:
        """The site's options, narrowed by the work's own file where such files are heeded."""
        site = self.site.options
        return narrowing.of_work(self.source, work_rid=self.work_rid, site=site) if self.site.heed_works else site

    def joined(self, known: Fixity, proved: Fixity | None) -> Fixity:
        """What the copy is measured by: the bag's digests, and what was proved earlier unless it is replaced."""
        return proofs.joined(known, proved, but=self.journal.replaced)

    def existing(self, known: Fixity, proved: Fixity | None, *, may_write: bool) -> Comparison:
        """What the archive has of this work, once nothing in it differs."""
        if not self.folder.exists():
            return Comparison(missing=tuple(known.files))
        durable.make_durable(self.folder)  # it may be there in memory only, from a run that was killed
        found = compare(self.folder, self.joined(known, proved), threads=self.threads, pulse=self.pulse)
        if proved is not None:
            contradicted = self.contradicted(known, proved, found.missing)
            found = changed(found, differing=tuple(sorted({*found.differing, *contradicted})))
        if found.differing:
            if not may_write:
                raise self.conflict(found.differing)
            found = self.made_way(known, found)
        if found.unreadable:
            raise self.not_proved(found, "the existing archive copy cannot be read")
        return found

    def contradicted(self, known: Fixity, proved: Fixity, missing: Collection[str]) -> list[Difference]:
        """Of which files an earlier proof says something else than the bag, though the archive may have lost them.

        What is not there is read in staging, in those algorithms that the bag's manifests do not have.
        """
        names = (proved.files.keys() & known.files.keys()) - self.journal.replaced
        told = proofs.contradicted(known, proved, names)
        lost = {name: proved.files[name] for name in names & set(missing) - told.keys()}
        unread = {name: file for name, file in lost.items() if file.digests.keys() - known.files[name].digests.keys()}
        if unread and not self.moved:
            wanted = changed(proved, files=unread)
            found = compare(self.work_dir, wanted, threads=self.threads, pulse=self.pulse)
            told |= {difference.path: difference.detail for difference in found.differing}
        return [Difference(name, f"{detail} than was proved of it earlier") for name, detail in told.items()]

    def made_way(self, known: Fixity, found: Comparison) -> Comparison:
        """Move aside what differs, where that is allowed: what this pipeline wrote, or what an operator replaces.

        Raises:
            ArchiveConflict: something else differs; then nothing is moved.
        """
        journal = self.journal
        differing = {difference.path for difference in found.differing}
        ours = differing & journal.ours
        others = differing - ours
        if not self.replace and not others <= journal.replaced:
            raise self.conflict(found.differing)
        if others:
            journal.may_replace(others, below=replaced.place(self.folder))
            many = human_count(len(others), "file that differs", "files that differ")
            logger.warning("%s: moving %s to %s", self.work_rid, many, journal.to)
            replaced.move_replaced(self.folder, journal, others)
        if ours:
            to = replaced.move_wrong(self.folder, ours)
            many = human_count(len(ours), "wrong file")
            logger.warning("%s: moved %s of an earlier try to %s", self.work_rid, many, to)
        missing = {*found.missing, *(differing & known.files.keys())}
        return changed(found, differing=(), missing=tuple(sorted(missing)))
