"""The graph, in running order. Tasks declare; steps do; only here are two steps joined.

ProcessMessage ─> (Replicate ─>) Sync ─> Debag ─> Download
"""

import logging
from dataclasses import replace
from functools import partial
from pathlib import Path

from pipeline import debag, download, record, sync
from pipeline.debag import Debagged, DebaggedWork
from pipeline.download import Fetched, Verify
from pipeline.foundation import failpoints
from pipeline.foundation.errors import InvalidBag, ReadBackFailed, StagingDamaged
from pipeline.foundation.work import Bag, Pulse, human_bytes, human_count, mixes_alphabets, written_plainly
from pipeline.record import BagRow, Phase, replicas
from pipeline.tasks import context, refused, second_copies, staging
from pipeline.tasks.context import Site
from pipeline.tasks.lean import luigi
from pipeline.tasks.room import folder_to_unpack_into, make_room
from pipeline.tasks.staging import Place
from pipeline.tasks.step_task import ReplicaRows, StepTask, SyncRows, Vouched

_log = logging.getLogger("pipeline.tasks")
_STEPS = (download.fetch, debag.unpack, sync.archive)  # imported now: lanes are forked afterwards, and share it


class Download(StepTask):
    """The zip on the staging disk."""

    phase = Phase.DOWNLOAD

    def output(self) -> luigi.Target:
        """The zip and its marker."""
        return Vouched(partial(staging.vouched, self.place.download_marker))

    def step(self, here: Site, row: BagRow) -> None:
        """Fetch the zip, or take it back from quarantine, or leave it where a person put it."""
        place, bag = self.place, row.bag
        _look_at_name(here, bag)
        if facts := staging.take_back(place):
            # S3 was paid for these bytes already, and debag verifies every one of them again.
            facts["etag"] = bag.etag
            staging.vouch(place.download_marker, place.bag_zip, facts)
            here.record.finished(Phase.DOWNLOAD, bag, facts, known=row.works)
            return
        if not bag.is_local:
            bag = self._sized(here, bag)
        make_room(here, bag)
        _log.info("%s: downloading %s, %s", self.work_rid, bag.address, human_bytes(bag.size_bytes))
        with self.pulse(self.work_rid, "downloading") as pulse:
            if bag.is_local:
                fetched = download.adopt(bag, pulse=pulse)
            else:
                options = here.download_options()
                fetched = download.fetch(here.s3(bag), bag, to=place.bag_zip, options=options, pulse=pulse)
        failpoints.point("downloaded, not vouched for")
        facts = fetched.facts()
        here.record.finished(Phase.DOWNLOAD, bag, facts, known=row.works)
        staging.vouch(place.download_marker, fetched.path, facts)
        if fetched.compared:
            download.settle(place.bag_zip)
        went_on = f" ({human_bytes(fetched.fetched_bytes)} came now, the rest was here from an earlier try)"
        _say_what_came_wrong(bag, fetched)
        _log.info(
            "%s: downloaded %s in %.1f s, %s%s",
            self.work_rid,
            human_bytes(fetched.size_bytes),
            fetched.seconds,
            f"verified by {fetched.verified}" if fetched.compared else "left to its manifests to prove",
            "" if fetched.fetched_bytes == fetched.size_bytes or bag.is_local else went_on,
        )

    def _sized(self, here: Site, bag: Bag) -> Bag:
        """The bag with the size that S3 tells: by that room is reserved, also from works that ask for theirs later."""
        size = download.identify(here.s3(bag), bag, pulse=here.heartbeat.pulse(self.work_rid, self.phase)).size_bytes
        sized = replace(bag, size_bytes=size)
        here.leases.queue_for_room(sized)
        return sized


class Debag(StepTask):
    """The verified works, unpacked."""

    phase = Phase.DEBAG

    def requires(self) -> Download:
        """The zip."""
        return Download(self.work_rid, self.bag_id)

    def output(self) -> luigi.Target:
        """The published folder with its marker."""
        return Vouched(self.place.unpacked)

    def step(self, here: Site, row: BagRow) -> None:
        """Unpack and verify; once more if the zip turns out to have come wrong, and was mended."""
        place, bag = self.place, row.bag
        if place.debag.exists():
            # Had it been whole, this task would have been complete: something has changed what the marker vouches for.
            _log.warning("%s: %s is not as its marker says, and is made again", self.work_rid, place.debag)
            debag.discard(place.debag)
        try:
            unpacked = self._unpacked(here, bag)
        except _CameWrong:
            unpacked = self._unpacked(here, bag)
        failpoints.point("debag published, not recorded")
        works = tuple(work.rid for work in unpacked.works)
        here.record.finished(Phase.DEBAG, bag, staging.debagged_facts(place, unpacked), works=works)
        _log.info(
            "%s: debagged %s, %s in %.1f s",
            self.work_rid,
            human_count(unpacked.files, "file"),
            human_bytes(unpacked.bytes),
            unpacked.seconds,
        )

    def _unpacked(self, here: Site, bag: Bag) -> Debagged:
        """The works; a bag that breaks the rules is kept in quarantine with its report."""
        place = self.place
        zip_file = Path(staging.vouched(place.download_marker)["zip"])
        into = folder_to_unpack_into(here, place)
        _log.info("%s: debagging %s", self.work_rid, zip_file)
        try:
            with self.pulse(self.work_rid, "debagging") as pulse:
                return debag.unpack(
                    zip_file,
                    into=into,
                    work_rid=bag.work_rid,
                    policy=_policy(here, bag),
                    threads=here.settings.debag.threads,
                    pulse=pulse,
                    prove=lambda why: self._prove(here, bag, pulse, why=why),
                )
        except InvalidBag as error:
            # What debag says of the zip is true until it is moved; the report stays, and says where it then is.
            refused.keep(here, bag, error, zip_name=zip_file.name)
            raise

    def _prove(self, here: Site, bag: Bag, pulse: Pulse, *, why: str) -> None:
        """Compare the zip with S3's digests, unless that was done or is never to be; once it is proved, it stays so.

        Raises:
            _CameWrong: it had come wrong, and was mended.
            PipelineError: it could not be mended.
        """
        place = self.place
        if bag.is_local or staging.proof(place) or here.settings.download.verify is Verify.NEVER:
            return
        _log.info("%s: %s: comparing the zip with what S3 said of it", self.work_rid, why)
        found = download.prove(here.s3(bag), bag, at=place.bag_zip, options=here.download_options(), pulse=pulse)
        if found is None or not found.compared:
            return
        failpoints.point("proved, not vouched for")
        facts = found.facts()
        here.record.note(Phase.DOWNLOAD, "proved", facts, work_rid=bag.work_rid, bag_id=bag.bag_id, held=True)
        staging.vouch(place.download_marker, found.path, facts)
        download.settle(place.bag_zip)
        _say_what_came_wrong(bag, found)
        if found.fetched_bytes:
            raise _CameWrong


class _CameWrong(Exception):
    """The zip had come wrong from S3. It is right now: whatever was found of it does not count."""


class Sync(StepTask):
    """The works in the archive, read back and recorded."""

    phase = Phase.SYNC

    def requires(self) -> Debag:
        """The unpacked works."""
        return Debag(self.work_rid, self.bag_id)

    def output(self) -> luigi.Target:
        """A row in the database for each work in the zip."""
        return SyncRows(context.current().record, self.bag_id)

    def step(self, here: Site, row: BagRow) -> None:
        """Copy each work that is not home yet, read it back, commit its row; then clear the staging disk."""
        place, bag = self.place, row.bag
        unpacked = place.unpacked()
        works = tuple(work.rid for work in unpacked.works)
        if row.works != works:  # killed between publishing the folder and recording it
            here.record.finished(Phase.DEBAG, bag, staging.debagged_facts(place, unpacked), works=works)
        home = here.record.synced(self.bag_id)
        for work in unpacked.works:
            if work.rid not in home:
                with self.leased(here, work.rid):
                    self._bring_home(here, bag, work, place)
        if not here.settings.replicas_for(bag.source):
            finish(here, bag)

    def _bring_home(self, here: Site, bag: Bag, work: DebaggedWork, place: Place) -> None:
        record.take_name(here.engine, work.rid)
        _log.info("%s: syncing %s, %s", work.rid, human_count(work.files, "file"), human_bytes(work.bytes))
        try:
            with self.pulse(work.rid, "syncing") as pulse:
                synced = sync.archive(
                    work.path,
                    work.digests,
                    work_rid=work.rid,
                    site=here.settings.sync,
                    pulse=pulse,
                    replace=here.replace,
                    again=place.sync_again.exists(),
                    until=here.heartbeat.may_run_until,
                )
        except StagingDamaged as error:
            # What the marker vouches for is not what lies there: the step that made it has to be done again.
            debag.discard(place.debag)
            error.kept = "the unpacked work was discarded, the zip is kept"
            raise
        except ReadBackFailed as error:
            if place.debag != place.local and not Path(str(error.facts["archive"])).exists():
                debag.discard(place.debag)  # it was not copied: what came back wrong lies there
            raise
        failpoints.point("sync copied, not committed")
        here.record.commit_sync(
            bag,
            work.rid,
            archive_path=str(synced.path),
            files=work.files,
            size_bytes=work.bytes,
            facts=synced.facts(),
            leases=here.leases,
        )
        _log.info(
            "%s: synced to %s in %.1f s: %s, %d of them new, read back and matched in %s%s",
            *(work.rid, synced.path, synced.seconds, human_count(synced.files, "file"), synced.added),
            ", ".join(synced.algorithms),
            "" if synced.cache_dropped else " (the page cache could not be dropped)",
        )


class Replicate(StepTask):
    """A second copy of each work in every replica that wants one; the work is home whether it can be made or not."""

    phase = replicas.STEP

    def requires(self) -> Sync:
        """The works in the archive."""
        return Sync(self.work_rid, self.bag_id)

    def output(self) -> luigi.Target:
        """A row in the database for each work and replica."""
        return ReplicaRows(context.current(), self.row.bag)

    def step(self, here: Site, row: BagRow) -> None:
        """Clear the staging disk, then send each work to where it is not yet."""
        bag = row.bag
        staging.clear(self.place)
        there = {(one.work_rid, one.replica) for one in replicas.of_bag(here.engine, bag.bag_id)}
        for work_rid in sorted(here.record.synced(bag.bag_id)):
            for replica in here.settings.replicas_for(bag.source):
                if (work_rid, replica.name) not in there:
                    with self.leased(here, work_rid), self.pulse(work_rid, f"copying to {replica.name}") as pulse:
                        held = {self.work_rid, work_rid}
                        second_copies.make(here, replica, work_rid, bag_id=bag.bag_id, held=held, pulse=pulse)
        finish(here, bag)


class ProcessMessage(luigi.WrapperTask):
    """One message: a list of bags."""

    bags = luigi.ListParameter(description="(RID, bag identity) of each bag that the message carries")

    def requires(self) -> list[StepTask]:
        """One sub-pipeline for each bag."""
        last = Replicate if context.current().settings.replicas else Sync
        return [last(work_rid, bag_id) for work_rid, bag_id in self.bags]


def finish(here: Site, bag: Bag) -> None:
    """Everything that a bag holds is home: say so, then clear its staging folder; safe to do again."""
    here.record.done(bag)
    staging.clear(here.place(bag))


def _policy(here: Site, bag: Bag) -> debag.Policy:
    source = here.settings.source(bag.source) or here.settings.folder(bag.source)
    if source is None:  # by hand; what a person names on this host's disk may be a batch
        return replace(here.settings.debag, allow_unbagged=False, several_works=bag.is_local)
    return replace(here.settings.debag, allow_unbagged=source.allow_unbagged, several_works=source.several_works)


def _look_at_name(here: Site, bag: Bag) -> None:
    plain = written_plainly(bag.work_rid)
    other = plain if plain != bag.work_rid else "another" if mixes_alphabets(plain) else ""
    if other:
        _log.warning("%s: this name is easily taken for %s, which it is not", bag.work_rid, other)
        here.record.note("intake", "odd-name", {"looks_like": other}, work_rid=bag.work_rid, bag_id=bag.bag_id)
    record.check_name(here.engine, bag.work_rid)


def _say_what_came_wrong(bag: Bag, fetched: Fetched) -> None:
    for wrong in fetched.refetched:
        _log.warning("%s: %s came wrong, and right the second time", bag.work_rid, wrong)
