"""Logs for programs."""

import json
from pathlib import Path

from tests.world.bags import make_bag_zip
from tests.world.stack import Site


def test_json_lines_name_work_bag_step_lane_and_attempt(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    script = tmp_path / "bad.sh"
    script.write_text("exit 12\n", encoding="utf-8")

    site.call("run", "--lanes", "1", PIPELINE_PIPELINE_LOG_FORMAT="json", PIPELINE_SYNC_SCRIPT=str(script))
    ended = site.call("work", "W1", PIPELINE_PIPELINE_LOG_FORMAT="json", PIPELINE_SYNC_SCRIPT=str(script))

    told = [json.loads(line) for line in (site.home / "logs/lane-1.log").read_text(encoding="utf-8").splitlines()]
    (failure,) = (line for line in told if line["level"] == "ERROR" and "exited 12" in line["message"])
    assert failure["work"] == "W1"
    assert failure["bag"] == site.works()["W1"].bag_id
    assert (failure["step"], failure["lane"], failure["attempt"]) == ("sync", "lane-1", 1)
    assert {line["step"] for line in told if "step" in line} == {"download", "debag", "sync"}
    again = [json.loads(line) for line in ended.stderr.splitlines()]
    assert {line["lane"] for line in again} == {"work"}
