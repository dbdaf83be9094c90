"""Half a download: what is there is not needed twice, and it goes when nothing can come of it any more."""

from dataclasses import replace
from pathlib import Path

import pytest

from pipeline.foundation.errors import InvalidBag, NoRoom, NotRestored
from pipeline.foundation.work import Bag
from pipeline.record import Leases
from pipeline.tasks import context as site_module
from pipeline.tasks.room import make_room, sweep
from tests.line.test_full_disk import small_disk

MIB = 1 << 20
BAG = Bag("W1", "bucket", "a/W1.bag.zip", etag="e1", size_bytes=4 * MIB)


def half_a_download(here: site_module.Site, bag: Bag) -> Path:
    place = here.place(bag)
    place.download.mkdir(parents=True)
    part = place.bag_zip.with_name(f"{place.bag_zip.name}.part")
    part.write_bytes(bytes(bag.size_bytes))
    return part


def test_bytes_that_are_there_already_are_not_needed_twice(here: site_module.Site, tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 9 * MIB) as disk:
        here.settings = replace(here.settings, staging=disk, margin_bytes=MIB // 2)
        here.record.see(BAG)
        assert here.leases.take(BAG.work_rid, BAG.bag_id)
        make_room(here, BAG)
        half_a_download(here, BAG)

        make_room(here, BAG)
        with pytest.raises(NoRoom):
            make_room(here, replace(BAG, etag="another"))


def test_what_is_unpacked_in_the_archive_needs_room_there_and_none_in_staging(
    here: site_module.Site, tmp_path: Path
) -> None:
    with small_disk(tmp_path / "disk", 5 * MIB) as disk, small_disk(tmp_path / "archive", 9 * MIB) as archive:
        chosen = replace(here.settings.sync, copier="builtin", archive_root=archive)
        here.settings = replace(here.settings, staging=disk, sync=chosen, margin_bytes=MIB // 2)
        other = replace(BAG, work_rid="W2", key="a/W2.bag.zip")
        for bag in (BAG, other):
            here.record.see(bag)
            assert here.leases.take(bag.work_rid, bag.bag_id)
        make_room(here, BAG)
        with pytest.raises(NoRoom, match=rf"{disk}, of which .* needed \(zip and margin\)"):
            make_room(here, other)
        here.settings = replace(here.settings, staging=tmp_path)
        with pytest.raises(NoRoom, match=rf"{archive}, of which .* needed \(payload and margin\)"):
            make_room(here, replace(other, size_bytes=5 * MIB))
        here.settings = replace(here.settings, staging=archive / "staging")  # one disk for both
        with pytest.raises(NoRoom, match=r"needed \(zip, payload and margin\)"):
            make_room(here, replace(BAG, size_bytes=5 * MIB))


@pytest.mark.parametrize("newer_is_home", [True, False])
def test_half_a_download_waits_for_the_next_restore_unless_a_newer_bag_is_home(
    here: site_module.Site, *, newer_is_home: bool
) -> None:
    newer = replace(BAG, etag="e2")
    with here.leased("W1", BAG.bag_id):
        here.record.see(BAG)
        here.record.failed(BAG, "download", NotRestored("frozen again"))
        part = half_a_download(here, BAG)
        if newer_is_home:
            here.record.see(newer)
            here.record.done(newer)

    sweep(here)

    assert part.exists() is not newer_is_home


@pytest.mark.parametrize("kept", [True, False])
def test_what_another_host_refused_goes_here_once_its_zip_is_kept(here: site_module.Site, *, kept: bool) -> None:
    with here.leased("W1", BAG.bag_id):
        here.record.see(BAG)
        here.record.failed(BAG, "debag", InvalidBag("the bag is refused", faults=[]))
        part = half_a_download(here, BAG)
    if kept:
        place = here.place(BAG)
        place.quarantine.mkdir(parents=True)
        place.quarantined_zip.write_bytes(b"the zip")

    sweep(here)

    assert part.exists() is not kept
    assert here.place(BAG).quarantined_zip.exists() is kept


def test_who_learns_its_size_later_lines_up_behind_who_has_begun(here: site_module.Site) -> None:
    """A lane that waits for S3 to tell the size reserves nothing yet, so it has to see what others took meanwhile."""
    mine, theirs = replace(BAG, size_bytes=0), replace(BAG, work_rid="W2", key="a/W2.bag.zip", size_bytes=0)
    others = Leases(here.engine, owner=f"{here.host}/other", seconds=60)
    here.record.see(mine)
    here.record.see(theirs)
    assert here.leases.take("W1", mine.bag_id)
    assert others.take("W2", theirs.bag_id)

    others.queue_for_room(replace(theirs, size_bytes=MIB))
    before = here.leases.before_mine("W1", host=here.host)
    here.leases.queue_for_room(replace(mine, size_bytes=2 * MIB))

    assert before == []
    assert here.leases.before_mine("W1", host=here.host) == [("W2", theirs.bag_id, MIB)]
    assert others.before_mine("W2", host=here.host) == []
