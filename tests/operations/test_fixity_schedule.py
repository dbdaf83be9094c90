"""`verify --due`: each archived work at least once in so many days, in the time that there is, by any hosts."""

import argparse
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import update

from pipeline import settings as site_settings
from pipeline.foundation.arguments import rate
from pipeline.foundation.errors import Stopping
from pipeline.foundation.work import archive_dir
from pipeline.operations import needs_you, notify, show, verify
from pipeline.operations.status import Standing
from pipeline.record import Archived, notices, replicas, schedule, tables
from pipeline.tasks.context import Site
from tests.world.bags import SMALL_WORK
from tests.world.library import Library
from tests.world.stack import lines
from tests.world.works import put


def age(library: Library, **days: float) -> None:
    """Let works have come home, or have been checked, so many days ago."""
    with library.here.engine.begin() as connection:
        for rid, ago in days.items():
            then = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=ago)
            connection.execute(update(tables.syncs).where(tables.syncs.c.work_rid == rid).values(synced_on=then))
            connection.execute(update(tables.checks).where(tables.checks.c.work_rid == rid).values(checked_on=then))


def test_a_night_after_the_other_each_work_is_looked_at_in_time_and_no_night_has_much_more_than_another() -> None:
    days, day, now = 30, timedelta(days=1), datetime.now(UTC)
    works = [Archived(f"W{n}", synced_on=now - n % 7 * day) for n in range(300)]  # all of them came in one week
    nights: list[int] = []
    for _ in range(3 * days):
        works = [replace(one, synced_on=None, checked_on=one.seen_on - day) for one in works]  # a day goes by
        works.sort(key=lambda work: work.turn)
        assert now - works[0].seen_on <= days * day
        tonight = {one.work_rid for one in verify.due(works, days, looked_on=lambda work: work.checked_on)}
        works = [replace(one, checked_on=now) if one.work_rid in tonight else one for one in works]
        nights.append(len(tonight))
        assert verify.due(works, days, looked_on=lambda work: work.checked_on) == []  # called again, it has done it
    assert max(nights) <= 2 * len(works) / days
    assert sum(nights) <= 3 * days * len(works) / (days - 3)


def test_what_was_never_looked_at_comes_first_then_what_was_longest_ago_and_the_rest_has_time(library: Library) -> None:
    for rid in ("W1", "W2", "W3"):
        library.bring_home(rid)
    put(library.home.root / "Archive0/00/W4", SMALL_WORK)
    age(library, W1=20, W2=25, W3=3)

    first = library.call("--due", "20", "--json")
    again = library.report("--due", "20")

    assert [one for one in ("W4", "W2", "W1", "W3") if f'"{one}"' in first] == ["W4", "W2", "W1"]
    assert first.index('"W4"') < first.index('"W2"') < first.index('"W1"')
    assert again["asked"] == 0
    assert library.report("--due", "1")["asked"] == 1  # the one of three days ago


def test_a_run_stops_in_time_and_what_it_read_half_counts_for_nothing_and_keeps_nobody_else(library: Library) -> None:
    library.bring_home("W1", {"a": b"x" * 100_000})
    library.bring_home("W2", {"a": b"x"})
    age(library, W1=30, W2=20)

    ended = library.report("--due", "7", "--max-rate", "100", "--max-hours", "0.0001")

    assert (ended["asked"], ended["not_reached"], ended["works"]) == (2, 2, [])

    def cut(_done: int, _total: int) -> None:
        raise Stopping("the time is over")

    first, second = sorted(verify.everything(library.here), key=lambda work: work.seen_on)
    with pytest.raises(Stopping):
        verify.check_work(library.here, first, pulse=cut, shared=True)
    assert (first.work_rid, library.checks("W1")) == ("W1", [])
    assert [work.work_rid for work in verify.everything(library.here)] == [second.work_rid, "W1"]
    assert library.verdicts("--due", "7") == {"W2": "passed", "W1": "passed"}  # given up, it is nobody's


def test_two_hosts_at_a_time_check_each_work_once(library: Library) -> None:
    rids = [f"W{number}" for number in range(1, 9)]
    for rid in rids:
        library.bring_home(rid)
    age(library, **dict.fromkeys(rids, 30))

    runs = [library.start("--due", "7") for _ in range(2)]

    assert [(run.communicate(timeout=60), run.returncode)[1] for run in runs] == [0, 0]
    assert {rid: len(library.checks(rid)) for rid in rids} == dict.fromkeys(rids, 1)


def test_a_work_that_nobody_recorded_stays_on_the_schedule_until_its_place_is_seen_without_it(library: Library) -> None:
    withdrawn, unmounted = (archive_dir(library.home.root, rid) for rid in ("W9FPL2251", "W1"))
    put(withdrawn, SMALL_WORK)
    put(withdrawn.parent / "W9FPL3351", SMALL_WORK)
    put(unmounted, SMALL_WORK)
    library.call("--due", "7")
    before = schedule.listed(library.here.engine)
    withdrawn.rename(library.home.folder / "withdrawn")
    unmounted.parent.rename(library.home.folder / "unmounted")
    library.call("--due", "7")

    assert before == {"W1", "W9FPL2251", "W9FPL3351"}
    assert schedule.listed(library.here.engine) == {"W1", "W9FPL3351"}


def test_without_a_number_the_settings_say_how_often(library: Library) -> None:
    library.bring_home("W1")
    age(library, W1=6)

    unset = library.call("--due", status=2)
    replicas = library.call("--replica", "--due", status=2)
    library.environment["PIPELINE_FIXITY_DUE_DAYS"] = "7"

    assert "[fixity] due_days is not set; nothing was checked; to do: set it, or say --due DAYS" in unset
    assert "[fixity] replica_due_days is not set" in replicas
    assert library.report("--due")["asked"] == 1


@pytest.fixture
def scheduled(library: Library, monkeypatch: pytest.MonkeyPatch) -> Library:
    """A library whose works are to be verified once in seven days, by its settings."""
    monkeypatch.setenv("PIPELINE_FIXITY_DUE_DAYS", "7")
    library.environment["PIPELINE_FIXITY_DUE_DAYS"] = "7"
    library.here = Site(site_settings.load(), lane="test")
    for rid in ("W1", "W2", "W3", "W4"):
        library.bring_home(rid)
    return library


def needed(library: Library) -> list[str]:
    return [one["what"] for one in needs_you.needs_you(Standing(library.here).document(most_ended=9)) if one]


def test_who_is_behind_schedule_is_told_with_the_figures_and_nobody_is_who_is_not(scheduled: Library) -> None:
    on_time, day = needed(scheduled), datetime.now(UTC) - timedelta(days=9)
    put(scheduled.home.root / "Archive0/00/W5", SMALL_WORK)
    age(scheduled, W1=9, W2=8, W3=6.5)
    none = needed(scheduled)
    scheduled.call("--due", "--max-hours", "1")
    age(scheduled, W1=9, W2=8, W5=7.1)
    late = needed(scheduled)
    told = lines(scheduled.call(verb="status"), "needs you: 3 works were not verified for more than 7 days")

    assert on_time == []
    assert none == [
        f"2 works were not verified for more than 7 days, the oldest since {day:%F}; none was in the last 30 days"
    ]
    assert "3 works were not verified for more than 7 days, the oldest since " in late[0]
    assert "at the rate of the last 30 days, " in late[0]
    assert late[0].endswith("it needs 0.0 hours a night")
    assert told
    assert "verify --due" in told[0]


def test_what_was_never_verified_is_told_as_such(scheduled: Library) -> None:
    schedule.enrol(scheduled.here.engine, {"W5"}, set())
    assert needed(scheduled) == [
        "1 work was not verified for more than 7 days, 1 of them never; none was in the last 30 days"
    ]


def test_the_hours_are_those_that_the_bytes_of_all_works_take_at_the_rate_of_late(scheduled: Library) -> None:
    engine = scheduled.here.engine
    rows = [
        {"work_rid": rid, "checked_on": datetime.now(UTC).replace(tzinfo=None) - timedelta(days=ago), **read}
        for rid, ago, read in (
            ("W1", 1, {"bytes": 7_200_000, "seconds": 36.0}),
            ("W2", 40, {"bytes": 7_200_000, "seconds": 1.0}),  # what a rate was long ago says nothing
        )
    ]
    with engine.begin() as connection:
        connection.execute(tables.checks.insert(), rows)
        connection.execute(update(tables.syncs).values(bytes=7_200_000))
    stands = schedule.standing(engine, days=7)

    assert (stands.works, stands.bytes_per_second) == (4, 200_000)
    assert stands.hours_a_night == round(4 * 7_200_000 / 7 / 200_000 / 3600, 1)


def test_a_channel_is_told_once_when_checks_fall_behind_and_once_when_they_are_on_time_again(
    scheduled: Library,
) -> None:
    def news() -> tuple[list[str], bool]:
        """What a channel is told now; it then knows it."""
        stands = Standing(scheduled.here)
        known = notices.told(scheduled.here.engine, "mail", today="2999-01-01")  # no digest
        found = notify.new_to(stands, known, notify.compare(stands, known))
        notices.sent(scheduled.here.engine, "mail", found.now)
        text = notify.compose(found, environment="dev").text
        assert all(line in text for line in found.fixity)
        return list(found.fixity), bool(found)

    first = news()
    age(scheduled, W1=9)
    behind, still = news(), news()
    scheduled.call("--due")
    again, after = news(), news()

    assert (first, still, after) == (([], False), ([], False), ([], False))
    assert behind[1]
    assert behind[0][0].startswith("1 work was not verified for more than 7 days")
    assert again == (["on schedule again"], True)


@pytest.mark.parametrize(
    ("text", "bytes_per_second"),
    [("50MB/s", 50 << 20), ("50M", 50 << 20), ("500k", 500 << 10), ("1g/s", 1 << 30), ("4096", 4096), ("800B/s", 800)],
)
def test_a_rate_is_read_as_people_write_it(text: str, bytes_per_second: int) -> None:
    assert rate(text) == bytes_per_second
    for wrong in ("/s", "fast", "50 MB/h", "0M"):
        with pytest.raises(argparse.ArgumentTypeError):
            rate(wrong)


def test_copies_that_were_not_looked_at_in_time_are_told_by_replica(library: Library) -> None:
    now, engine = datetime.now(UTC).replace(tzinfo=None), library.here.engine
    names = ("bag_id", "content", "upload_id", "object_key", "version_id", "checksum", "verdict")
    rows = [
        {
            "work_rid": rid,
            "replica": "cold",
            "bytes": 1,
            **dict.fromkeys(names, ""),
            "sent_on": sent,
            "looked_on": looked,
        }
        for rid, sent, looked in (
            ("W1", now - timedelta(days=40), now - timedelta(days=3)),
            ("W2", now - timedelta(days=40), None),
            ("W3", now - timedelta(days=3), None),
        )
    ]
    with engine.begin() as connection:
        connection.execute(tables.replicas.insert(), rows)
    told = replicas.counts(engine, days=30)

    assert told == {"cold": {"works": 3, "failed": 0, "behind": 1}}
    assert replicas.counts(engine)["cold"]["behind"] == 0
    assert list(show.behind(None, told)) == [("1 second copy in cold not looked at in time", ("--replica",))]
