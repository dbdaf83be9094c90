"""The graph is in plain sight: what requires what, and what "done" looks like."""

from pathlib import Path

import pytest

from pipeline.foundation.work import Bag
from pipeline.tasks import context as site_module
from pipeline.tasks import staging
from pipeline.tasks.graph import Debag, Download, ProcessMessage, Sync
from pipeline.tasks.step_task import NoLease
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import Site

BAG = Bag("W1", "bucket", "a/W1.bag.zip", etag="e1", size_bytes=7)


def test_each_task_requires_the_one_before_it() -> None:
    assert ProcessMessage(bags=[("W1", "b1"), ("W2", "b2")]).requires() == [Sync("W1", "b1"), Sync("W2", "b2")]
    assert Sync("W1", "b1").requires() == Debag("W1", "b1")
    assert Debag("W1", "b1").requires() == Download("W1", "b1")
    assert Download("W1", "b1").requires() == []


def test_the_names_on_the_scheduler_s_page_begin_with_the_work() -> None:
    assert str(Sync("W1FPL2251", "0123456789ab")) == "Sync(work_rid=W1FPL2251, bag_id=0123456789ab)"


def test_a_download_is_done_while_its_marker_vouches_for_the_zip_that_lies_there(here: site_module.Site) -> None:
    here.record.see(BAG)
    task, place = Download("W1", BAG.bag_id), here.place(BAG)
    assert not task.complete()

    place.download.mkdir(parents=True)
    place.bag_zip.write_bytes(b"zip")
    assert not task.complete()
    staging.vouch(place.download_marker, place.bag_zip, {})
    assert task.complete()
    place.bag_zip.write_bytes(b"piz")
    assert not task.complete()
    place.bag_zip.unlink()
    assert not task.complete()


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b'{"zip": 1}', b"\xff"])
def test_a_marker_that_cannot_be_read_is_not_done(here: site_module.Site, content: bytes) -> None:
    here.record.see(BAG)
    place = here.place(BAG)
    place.download.mkdir(parents=True)
    place.download_marker.write_bytes(content)
    place.debag.mkdir(parents=True)
    (place.debag / "debag.json").write_bytes(content)

    assert not Download("W1", BAG.bag_id).complete()
    assert not Debag("W1", BAG.bag_id).complete()


def test_a_task_started_past_the_lanes_refuses_because_nobody_holds_the_lease(here: site_module.Site) -> None:
    here.record.see(BAG)

    with pytest.raises(NoLease, match=r"run_pipeline\.py work W1"):
        Download("W1", BAG.bag_id).run()


def test_a_work_whose_staging_was_damaged_is_debagged_again(site: Site, tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path, "W1")
    site.announce(bag_zip)
    script = tmp_path / "failing.sh"
    script.write_text("exit 3\n", encoding="utf-8")
    site.call("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(script))
    (folder,) = (site.home / "staging").iterdir()
    next((folder / "debag" / "W1" / "images").rglob("*.jpg")).unlink()

    mended = site.call("work", "W1")

    assert mended.returncode == 0, mended.stderr
    assert site.archived("W1") == SMALL_WORK
