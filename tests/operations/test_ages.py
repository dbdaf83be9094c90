"""How long the oldest bags and zips wait."""

import json
import time
from pathlib import Path
from typing import Any

import pytest

from pipeline.foundation.work import human_seconds
from tests.operations.test_metrics import samples
from tests.world.bags import make_bag_zip
from tests.world.folders import add_folder, drop
from tests.world.stack import Site, lines


def status(site: Site) -> dict[str, Any]:
    ended = site.call("status", "--json")
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def test_the_record_tells_since_when_bags_are_known_and_refused(site: Site, tmp_path: Path) -> None:
    script = tmp_path / "sync.sh"
    script.write_text("exit 7\n")
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.announce(make_bag_zip(tmp_path, "W2", corrupt="images/I1/I10001.jpg"))
    site.call("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(script))

    told, shown = status(site), site.call("status").stdout

    for name in ("oldest_unfinished", "oldest_refused"):
        assert 0 <= told[f"{name}_seconds"] < 300
        assert told[name] <= told["at"]
    assert lines(shown, "waits since", "is refused since")
    assert lines(shown, f"queue {site.queue}", "1 dead letter")


def test_the_oldest_zip_that_waits_in_a_folder_is_told(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site)
    none = status(site)["folders"][0]["oldest_waiting_seconds"]
    drop(make_bag_zip(tmp_path, "W1"), inbox)
    time.sleep(1.1)
    drop(make_bag_zip(tmp_path, "W2"), inbox)

    (folder,) = status(site)["folders"]
    site.call("metrics", "--textfile", str(tmp_path / "pipeline.prom"))
    found = samples((tmp_path / "pipeline.prom").read_text(encoding="utf-8"))

    assert none is None
    assert (folder["waiting"], folder["oldest_waiting_seconds"] >= 1) == (2, True)
    assert lines(site.call("status").stdout, str(inbox), "2 waiting (the oldest for")
    assert found["pipeline_folder_zips", "inbox", "waiting"] == 2
    assert found["pipeline_folder_oldest_zip_seconds", "inbox"] >= 1
    assert found["pipeline_folder_up", "inbox"] == 1


def test_a_folder_that_is_away_takes_no_other_figure_with_it(site: Site, tmp_path: Path) -> None:
    add_folder(site).rmdir()

    site.call("metrics", "--textfile", str(tmp_path / "pipeline.prom"))

    found = samples((tmp_path / "pipeline.prom").read_text(encoding="utf-8"))
    assert (found["pipeline_up",], found["pipeline_folder_up", "inbox"]) == (1, 0)
    assert ("pipeline_folder_zips", "inbox", "waiting") not in found


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-3, "0 s"),
        (42, "42 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (3_900, "1 h 5 min"),
        (7_200, "2 h"),
        (187_200, "2 d 4 h"),
    ],
)
def test_times_are_told_in_two_units_at_most(seconds: float, told: str) -> None:
    assert human_seconds(seconds) == told
