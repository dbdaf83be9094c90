"""The evening of docs/backups.md: a site begins on SQLite, and goes on with PostgreSQL."""

from pathlib import Path

import pytest

from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.servers import empty_database
from tests.world.stack import Site, lines

RUN = ("run", "--lanes", "1")


def test_a_site_moves_to_another_database_with_a_work_before_and_one_after(
    site: Site, tmp_path: Path, postgresql_url: str | None
) -> None:
    if postgresql_url is None:
        pytest.skip("the postgresql server is not installed; .ci/run installs it")
    before, after, file = make_bag_zip(tmp_path, "W1"), make_bag_zip(tmp_path, "W2"), str(tmp_path / "record.gz")
    site.announce(before)
    site.call(*RUN)
    site.call("pause", "--reason", "to PostgreSQL")
    site.announce(after)
    exported = site.call("db", "export", file)
    old = site.database_url

    with empty_database(postgresql_url) as url:
        site.database_url = url
        site.write_settings()
        imported = site.call("db", "import", file)
        site.announce(before)  # SQS delivers at least once
        waits = site.call(*RUN)
        depth = site.depth()
        resumed = site.call("resume")
        went_on = site.call(*RUN)
        works, syncs = site.works(), site.rows("syncs")
        events = len(site.rows("events"))
    site.database_url = old
    site.write_settings()
    forgotten = site.call(*RUN)  # a lane that nobody stopped

    assert lines(exported.stdout, "this can be moved"), exported.stdout + exported.stderr
    assert imported.returncode == 0, imported.stderr
    assert lines(imported.stdout, "intake is paused in it, too")
    assert (waits.returncode, depth) == (0, 2), waits.stderr
    assert lines(resumed.stdout, "it was paused since", "to PostgreSQL")
    assert went_on.returncode == 0, went_on.stderr
    assert {rid: work.stage for rid, work in works.items()} == {"W1": "done", "W2": "done"}
    assert sorted(row["work_rid"] for row in syncs) == ["W1", "W2"]
    assert events > len(site.rows("events"))
    assert site.archived("W2") == SMALL_WORK
    assert not lines(went_on.stderr, "W1", "downloading")
    assert site.depth() == 0
    assert not lines(forgotten.stderr, "downloading")
    assert [row["work_rid"] for row in site.rows("syncs")] == ["W1"]
