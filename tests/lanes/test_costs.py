"""What bringing one small work home asks of the database and of luigid, so that it does not grow unnoticed."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from tests.lanes.test_own_work import double
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import ROOT, Site

LANE = """
import json, sys, threading
from sqlalchemy import event
from pipeline.lanes.lane import Lane
from pipeline.tasks import context

here, said = context.open_site(lane="1"), []

def listen(_connection, _cursor, statement, *_):
    if threading.current_thread() is threading.main_thread():  # others tell by the clock that the lane lives
        said.append(statement.split(maxsplit=2))

event.listen(here.engine, "before_cursor_execute", listen)
Lane(here).run()
json.dump(said, sys.stdout)
"""


def test_a_work_costs_so_many_statements_and_calls_of_luigid(site: Site, luigid_url: str, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    calls: list[str] = []

    def count(call: str, _told: dict[str, Any]) -> None:
        calls.extend([call] if call not in {"ping", "is_paused"} else [])

    with double(luigid_url, count) as url:
        environment = {**site.environment, "PIPELINE_SCHEDULER_URL": url}
        ended = subprocess.run(
            [sys.executable, "-c", LANE], cwd=ROOT, env=environment, capture_output=True, text=True, check=True
        )

    said = json.loads(ended.stdout)
    assert site.archived("W1") == SMALL_WORK
    assert len([one for one in said if one[:2] == ["SELECT", "bags.bag_id,"] and "object_key" in one[2]]) <= 5
    assert len([one for one in said if one[0] == "BEGIN"]) <= 9  # a transaction for what is written, none for reading
    assert len([one for one in said if one[0] != "BEGIN"]) <= 60
    assert len(calls) == 14
