"""S3 is asked for what is wanted as room comes free, once; and nothing depends on an event, or on who was killed."""

import signal
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from pipeline.foundation.work import staging_key
from pipeline.record import campaign
from pipeline.tasks.context import Site
from pipeline.tasks.restoring import tend
from tests.world.cold_line import (
    announced,
    bring_home,
    counted,
    fill,
    in_flight,
    open_line,
    pass_time,
    states,
    want,
    with_source,
)
from tests.world.cold_s3 import Cold, ColdS3
from tests.world.stack import ROOT, history


def small(line: Site, cold: ColdS3, **chosen: object) -> Site:
    """The same line with other settings, as another process has it."""
    made = Site(with_source(line.settings, cold.url, **chosen))
    made.engine = line.engine
    return made


def cost_told(here: Site) -> float:
    return sum(one.cost or 0 for one in campaign.wanted(here.engine))


def test_as_many_are_asked_for_as_there_is_room_and_the_next_when_some_are_home(line: Site, cold: ColdS3) -> None:
    here = small(line, cold, at_most_works=2)
    rids = fill(cold, 5)
    cold.announce = lambda key, one: here.record.see(announced(key, one))
    want(here, rids)

    seen: list[list[str]] = []
    while not seen or in_flight(here):
        tend(here)
        seen.append(in_flight(here))
        pass_time(here, cold, hours=49)
        bring_home(here)

    assert seen == [rids[:2], rids[2:4], rids[4:], []]
    assert set(states(here).values()) == {"home"}
    assert [one.key for one in cold.asked] == [staging_key(rid) for rid in rids]
    assert cost_told(here) == pytest.approx(
        counted(cold.asked) + sum(a.size_bytes for a in cold.asked) / 2**30 * 90_000
    )


def test_what_s3_refuses_stays_in_its_place_and_is_told(line: Site, cold: ColdS3) -> None:
    rids = fill(cold, 2)
    cold.fault = lambda _key, _count: (403, "AccessDenied")
    want(line, rids)

    tend(line)
    refused = campaign.wanted(line.engine)
    cold.fault = lambda _key, count: (503, "SlowDown") if count < 2 else None  # the first goes on, with patience
    tend(line)

    assert [(one.bag.work_rid, one.state, one.attempts) for one in refused] == [(rid, "wanted", 0) for rid in rids]
    assert "grant s3:RestoreObject" in refused[0].error
    assert states(line) == dict.fromkeys(rids, "asked")
    assert len(cold.asked) == 2


def test_a_request_that_runs_already_is_success_and_nothing_is_paid_for_what_is_there(line: Site, cold: ColdS3) -> None:
    running, ready, thawed = fill(cold, 3)
    want(line, [running, ready, thawed])
    for rid in (running, ready):  # somebody asks by hand, between the plan and our turn
        cold.restore(staging_key(rid), "<Days>1</Days><Tier>Bulk</Tier>")
    cold.objects[staging_key(ready)].ready_on = None
    cold.objects[staging_key(ready)].until = datetime.now(UTC) + timedelta(days=1)
    cold.objects[staging_key(thawed)].storage_class = "STANDARD"

    tend(line)
    tend(line)

    assert states(line) == {running: "asked", ready: "ready", thawed: "ready"}
    assert len(cold.asked) == 2, "by hand alone"
    assert bring_home(line) == [ready, thawed]


@pytest.mark.parametrize("point", ["restore claimed", "restore asked"])
def test_killed_before_or_after_s3_was_asked_it_is_asked_once(
    line: Site, cold: ColdS3, point: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    rids = fill(cold, 2)
    want(line, rids)
    monkeypatch.setenv("PIPELINE_TEST_KILL_AT", point)

    ended = subprocess.run(
        [sys.executable, "-m", "tests.restore.host", cold.url, '{"turns": 1}'], cwd=ROOT, timeout=60, check=False
    )
    killed = states(line)
    for _ in range(3):
        tend(line)
        pass_time(line, cold, hours=0.1)
    pass_time(line, cold, hours=49 * 2)
    tend(line)

    assert ended.returncode == -signal.SIGKILL
    assert killed == {rids[0]: "asking", rids[1]: "wanted"}
    assert sorted(one.key for one in cold.asked) == [staging_key(rid) for rid in rids]
    assert cost_told(line) == pytest.approx(counted(cold.asked))
    assert sorted(bring_home(line)) == rids


@pytest.mark.parametrize("events", ["lost", "late", "twice"])
def test_a_lost_a_late_and_a_second_event_change_nothing(line: Site, cold: ColdS3, events: str) -> None:
    rids = fill(cold, 3)
    told: list[tuple[str, Cold]] = []
    cold.announce = lambda key, one: told.append((key, one))
    want(line, rids)
    tend(line)
    asked = {one.bag.work_rid: one.attempts for one in campaign.wanted(line.engine)}

    pass_time(line, cold, hours=47)
    tend(line)
    early = [one.heads for one in cold.objects.values()]
    pass_time(line, cold, hours=20)
    if events == "twice":
        for key, one in told * 2:
            line.record.see(announced(key, one))
    tend(line)
    tend(line)
    home = bring_home(line)
    if events == "late":
        for key, one in told:
            line.record.see(announced(key, one))
    home += bring_home(line)
    tend(line)

    assert asked == dict.fromkeys(rids, 1)
    assert early == [1, 1, 1], "the plan's looks alone"
    assert sorted(home) == rids
    assert set(states(line).values()) == {"home"}
    assert len(cold.asked) == 3


def test_a_copy_that_ends_too_early_is_paid_for_again_before_all_others_and_that_is_told(
    line: Site, cold: ColdS3, caplog: pytest.LogCaptureFixture
) -> None:
    here = small(line, cold, at_most_works=1, most_attempts=2)
    first, second, third = fill(cold, 3)
    cold.announce = lambda key, one: here.record.see(announced(key, one))
    cold.objects[staging_key(first)].ends_early = 0.01
    want(here, [first, second, third])
    tend(here)
    pass_time(here, cold, hours=48.1)
    pass_time(here, cold, hours=14 * 24 * 0.02)  # the line stood still for longer than the copy did
    tend(here)
    again = {one.bag.work_rid: (one.state, one.attempts) for one in campaign.wanted(here.engine)}
    events = [(event["step"], event["outcome"]) for event in history(here.engine, first)]
    pass_time(here, cold, hours=49)
    came = bring_home(here)
    tend(here)

    assert again == {first: ("asked", 2), second: ("wanted", 0), third: ("wanted", 0)}
    assert events.count(("restore", "failed")) == 1
    assert "asked for again, which costs" in caplog.text
    assert came == [first]
    assert in_flight(here) == [second]


def test_what_ends_too_early_too_often_is_not_paid_for_any_more(line: Site, cold: ColdS3) -> None:
    here = small(line, cold, most_attempts=2)
    (rid,) = fill(cold, 1)
    want(here, [rid])
    for _ in range(3):
        cold.objects[staging_key(rid)].ends_early = 0.001
        tend(here)
        pass_time(here, cold, hours=61)
        tend(here)

    (row,) = campaign.wanted(here.engine)
    assert (row.state, row.attempts, len(cold.asked)) == ("failed", 2, 2)
    assert "asked for 2 times" in row.error
    assert f"run_pipeline.py restore {rid}" in row.error


def test_a_download_that_finds_the_copy_gone_is_enough_to_look(line: Site, cold: ColdS3) -> None:
    (rid,) = fill(cold, 1)
    cold.announce = lambda key, one: line.record.see(announced(key, one))
    want(line, [rid])
    tend(line)
    pass_time(line, cold, hours=49)
    tend(line)
    cold.objects[staging_key(rid)].until = None  # twelve days too early
    bring_home(line)

    tend(line)

    assert states(line) == {rid: "asked"}
    assert len(cold.asked) == 2


def test_an_object_that_was_deleted_is_told_and_makes_room(line: Site, cold: ColdS3) -> None:
    here = small(line, cold, at_most_works=1)
    rids = fill(cold, 2)
    want(here, rids)
    del cold.objects[staging_key(rids[0])]

    tend(here)
    tend(here)

    assert states(here) == {rids[0]: "failed", rids[1]: "asked"}


def test_other_rights_may_be_used_to_ask(
    tmp_path: Path, cold: ColdS3, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "credentials").write_text("[restorer]\naws_access_key_id = r\naws_secret_access_key = s\n")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    here = open_line(tmp_path, cold, database, monkeypatch)
    source = replace(here.settings.sources[0], restore_profile="restorer")
    here = Site(replace(here.settings, sources=(source,)))
    (rid,) = fill(cold, 1)
    bag = announced(staging_key(rid), cold.objects[staging_key(rid)])

    keys = [
        here.s3(bag, restoring=restoring)._request_signer._credentials.access_key  # type: ignore[attr-defined]  # botocore tells it nowhere else
        for restoring in (False, True)
    ]

    assert keys[0] != "r"
    assert keys[1] == "r"
    here.engine.dispose()
