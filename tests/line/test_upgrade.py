"""A site that an earlier release left in the middle of its works, with lanes killed at every step: today's goes on."""

import json
from pathlib import Path

import pytest

from pipeline.foundation.work import archive_dir
from tests.world import releases
from tests.world.bags import SMALL_WORK
from tests.world.stack import Site, lines

LEFT = {
    "W1HOME": {"done"},
    "W1ROTTEN": {"done"},
    "W1SUPERSEDED": {"done", "superseded"},
    "W1REFUSED": {"refused"},
    "W1GONE": {"refused"},
    "W1FROZEN": {"not-restored"},
    "W1FAILED": {"failed"},
    "W1SKIPPED": {"skipped"},
}
"""What became of works before the upgrade."""
UNFINISHED = {"W1HALF", *releases.KILLED}


def stages(site: Site) -> dict[str, set[str]]:
    found: dict[str, set[str]] = {}
    for work in json.loads(site.call("status", "--json").stdout)["works"]:
        found.setdefault(work["work_rid"], set()).add(work["stage"])
    return found


@pytest.mark.parametrize(("release", "copier"), [("0.1.0", "script"), ("0.1.0", "builtin")])
def test_a_site_of_an_earlier_release_goes_on_where_it_was(
    tmp_path: Path, moto_url: str, luigid_url: str, release: str, copier: str
) -> None:
    site = releases.thaw(release, tmp_path / "site", moto=moto_url, luigid=luigid_url)
    # What happened there was long ago.
    site.settings = {"PIPELINE_SYNC_COPIER": copier, "PIPELINE_QUEUE_RETRY_DAYS": "36500"}

    refused = site.call("run", "--lanes", "1")
    upgraded, checked = site.call("db", "upgrade"), json.loads(site.call("check", "--json").stdout)
    kept = stages(site)
    paused = site.call("run", "--lanes", "1")
    site.call("resume")
    ended = site.call("run", "--lanes", "1")

    assert refused.returncode == 3
    assert lines(refused.stderr, "run_pipeline.py db upgrade")
    assert upgraded.returncode == 0
    assert [one for one in checked["checks"] if one["verdict"] == "wrong"] == []
    assert kept == LEFT | {rid: {"waiting"} for rid in UNFINISHED}
    assert not lines(paused.stderr, "downloading")
    assert ended.returncode == 0, ended.stderr
    home = {*UNFINISHED, "W1FAILED", "W1DROPPED"}
    assert stages(site) == LEFT | {rid: {"done"} for rid in home}
    small = {"W1LEASED", "W1CAME", "W1ZIPPED", "W1BAGGED", "W1COPIED", "W1FAILED", "W1DROPPED"}
    assert {rid: site.archived(rid) for rid in home} == dict.fromkeys(small, SMALL_WORK) | {"W1HALF": releases.LARGE}
    assert not list((site.home / "archive").rglob(".*"))
    # Nothing is paid for or done twice that was whole.
    assert lines(ended.stderr, "W1HALF", "2.0 MiB came now")
    assert lines(ended.stderr, "W1CAME", "0 B came now")
    fetched = {line.split(" I ")[1].split(":")[0] for line in lines(ended.stderr, ": downloading ")}
    assert fetched == {"W1LEASED", "W1HALF", "W1CAME", "W1DROPPED"}
    debagged = {line.split(" I ")[1].split(":")[0] for line in lines(ended.stderr, ": debagging ")}
    assert debagged == {*fetched, "W1ZIPPED"}


def test_what_an_operator_does_with_an_earlier_release_s_works_is_done_with_today_s(
    tmp_path: Path, moto_url: str, luigid_url: str
) -> None:
    site = releases.thaw("0.1.0", tmp_path / "site", moto=moto_url, luigid=luigid_url)
    for words in (["db", "upgrade"], ["resume"], ["dead-letters", "list"], ["quarantine", "list"]):
        assert site.call(*words).returncode == 0

    known = set((releases.FROZEN / "0.1.0" / "words.txt").read_text().splitlines())
    told = {rid: site.call("explain", rid) for rid in LEFT}
    gone = json.loads(site.call("explain", "W1GONE", "--json").stdout)["next"]
    checked = [site.call("verify", rid).returncode for rid in ("W1HOME", "W1ROTTEN")]
    done = [
        site.call(*words, "--local-scheduler").returncode
        for words in (["work", "W1SKIPPED"], ["work", "W1ROTTEN", "--from", "sync", "--replace"], ["work", "W1REFUSED"])
    ]
    released = site.call("quarantine", "release", "W1REFUSED")
    given_up = site.call("quarantine", "drop", "W1SUPERSEDED", "--yes", "--only-copy")

    assert {rid for rid, one in told.items() if one.returncode or not lines(one.stdout, f"{rid}:")} == set()
    assert lines(told["W1FROZEN"].stdout, "go on with", "restore W1FROZEN")
    assert known - releases.words(site) == set(), "scripts of a site may rely on them"
    assert gone["command"] == "run_pipeline.py retry W1GONE"
    assert gone["by_hand"].startswith("put its bag there again, then run_pipeline.py work ")
    assert checked == [0, 1]
    assert done == [0, 0, 1]
    assert (released.returncode, given_up.returncode) == (0, 0), released.stderr + given_up.stderr
    assert site.archived("W1SKIPPED") == site.archived("W1ROTTEN") == SMALL_WORK
    replaced = list((archive_dir(site.home / "archive", "W1ROTTEN").parents[1] / ".replaced").rglob("I10001.jpg"))
    assert [one.read_bytes() for one in replaced] == [b"rotten"]
