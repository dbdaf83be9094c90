"""A message in, the work in the archive, the row written, the queue empty: over real HTTP, real luigid, real bash."""

from pathlib import Path

from tests.bags import SMALL_WORK, make_bag_zip
from tests.stack import Site, lines


def test_a_message_in_the_work_in_the_archive_the_row_written_the_queue_empty(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1FPL2251"))

    ended = site.call("run", "--lanes", "2")

    assert ended.returncode == 0, ended.stderr
    assert site.archived("W1FPL2251") == SMALL_WORK
    assert site.works()["W1FPL2251"].stage == "done"
    assert [row["work_rid"] for row in site.rows("syncs")] == ["W1FPL2251"]
    assert site.depth() == 0
    assert site.staged() == []
