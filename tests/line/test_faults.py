"""S3, SQS and the database misbehave for real: throttling, resets, expired credentials, a server that is away."""

import signal
import subprocess
import time
from pathlib import Path

import pytest

from tests.world import servers
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.faulty import faulty
from tests.world.stack import Site, lines, wait_until

QUICK = {
    "PIPELINE_QUEUE_BACKOFF_SECONDS": "4",
    "PIPELINE_QUEUE_BACKOFF_LIMIT_SECONDS": "4",
    "PIPELINE_QUEUE_WAIT_SECONDS": "1",
}


@pytest.mark.parametrize("wrong", ["SlowDown", "ServiceUnavailable", "reset"])
def test_throttling_and_resets_are_ridden_out(site: Site, tmp_path: Path, wrong: str) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    seen: dict[str, int] = {}

    def every_first_request_of_a_kind_fails_twice(method: str, path: str) -> str:
        kind = f"{method} {path}"
        seen[kind] = seen.get(kind, 0) + 1
        return wrong if seen[kind] <= 2 else ""

    with faulty(site.moto_url, every_first_request_of_a_kind_fails_twice) as url:
        ended = site.call("run", "--lanes", "1", PIPELINE_SOURCE_TEST_ENDPOINT_URL=url)

    assert ended.returncode == 0, ended.stderr
    assert len([kind for kind, count in seen.items() if count > 2]) >= 2  # the queue, and the object
    assert site.archived("W1") == SMALL_WORK
    assert site.depth() == 0


@pytest.mark.parametrize(
    ("wrong", "named"), [("ExpiredToken", "credentials-expired"), ("AccessDenied", "access-denied")]
)
def test_credentials_that_expire_leave_everything_to_go_on_with_new_ones(
    site: Site, tmp_path: Path, wrong: str, named: str
) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))

    def the_object_is_refused(method: str, path: str) -> str:
        return wrong if method == "GET" and ".bag.zip" in path else ""

    with faulty(site.moto_url, the_object_is_refused) as url:
        refused = site.call("run", "--lanes", "1", PIPELINE_SOURCE_TEST_ENDPOINT_URL=url, **QUICK)
    kind, hidden = site.works()["W1"].error_kind, site.hidden()
    time.sleep(4.1)
    later = site.call("run", "--lanes", "1", **QUICK)

    assert (refused.returncode, kind, hidden) == (1, named, 1), refused.stderr
    assert lines(refused.stderr, wrong, "credentials")
    assert later.returncode == 0, later.stderr
    assert site.archived("W1") == SMALL_WORK


def test_a_database_that_goes_away_for_a_while_is_waited_for_by_a_watch(
    tmp_path: Path, moto_url: str, luigid_url: str
) -> None:
    with servers.folder() as folder, servers.postgresql(folder) as url:
        if url is None:
            pytest.skip("the postgresql server is not installed; .ci/run installs it")
        site = Site.make(tmp_path / "site", moto_url, luigid_url, database_url=url)
        log = tmp_path / "run.log"
        with log.open("wb") as sink:
            run = subprocess.Popen(
                [*site.command("run", "--watch", "--lanes", "2")],
                env={**site.environment, **QUICK},
                stdin=subprocess.DEVNULL,
                stdout=sink,
                stderr=sink,
            )
        try:
            site.announce(make_bag_zip(tmp_path, "W1"))
            wait_until(lambda: "W1: synced" in log.read_text(encoding="utf-8"), seconds=60)
            with servers.stopped(folder):
                site.announce(make_bag_zip(tmp_path, "W2"))
                wait_until(lambda: "the progress database does not answer" in log.read_text(encoding="utf-8"))
            wait_until(lambda: "W2: synced" in log.read_text(encoding="utf-8"), seconds=90)
            wait_until(lambda: site.depth() == 0)
        finally:
            run.send_signal(signal.SIGTERM)
            run.wait(30)
        assert run.returncode == 0
        assert site.archived("W2") == SMALL_WORK
        assert {row["work_rid"] for row in site.rows("syncs")} == {"W1", "W2"}
