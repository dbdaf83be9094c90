"""Every verb is run end to end by some test, and every command that the program tells a person can be copied."""

import argparse
import ast
import json
import re
import shlex
import signal
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from pathlib import Path

import pytest

from pipeline.cli import usage
from pipeline.foundation.work import staging_key
from tests.world.bags import SMALL_WORK, make_bag_zip, write_zip
from tests.world.console import chapters, commands
from tests.world.stack import ROOT, Site, lines, tree

PARSER = usage.parser()
RUN = ("run", "--lanes", "1")
BAD_IMAGE = "images/I1/I10001.jpg"
MAIL = {
    "PIPELINE_NOTIFY_SMTP_HOST": "127.0.0.1",
    "PIPELINE_NOTIFY_MAIL_FROM": "pipeline@example.org",
    "PIPELINE_NOTIFY_MAIL_TO": "dolma@example.org",
}


def _choices(parser: argparse.ArgumentParser) -> dict[str, argparse.ArgumentParser]:
    return {
        name: below
        for action in parser._actions
        if isinstance(action, argparse._SubParsersAction)
        for name, below in action.choices.items()
    }


def _verbs() -> list[tuple[str, ...]]:
    """Every verb, with each of its actions where it has such."""
    return [
        (verb, action) if action else (verb,)
        for verb, parser in _choices(PARSER).items()
        for action in (_choices(parser) or [""])
    ]


@cache
def _typed() -> frozenset[tuple[str, ...]]:
    """The words of each call that has some, in all tests and in the operator's day."""
    day = [step.text for chapter in chapters(ROOT / "docs" / "operations.md") for step in chapter.steps]
    typed = (tuple(shlex.split(words)) for text in day for words in commands(text))
    return frozenset(words[start : start + 4] for words in (*_typed_in_tests(), *typed) for start in range(3))


def _typed_in_tests() -> Iterator[tuple[str, ...]]:
    for file in (ROOT / "tests").rglob("*.py"):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call | ast.List | ast.Tuple):
                parts = node.args if isinstance(node, ast.Call) else node.elts
                yield tuple(str(one.value) for one in parts if isinstance(one, ast.Constant))


def _texts_of_the_program() -> Iterator[tuple[str, str]]:
    """Every text in the program's source but docstrings, with 1 where a value is put in, which may be a number."""
    for file in sorted((ROOT / "pipeline").rglob("*.py")):
        module = ast.parse(file.read_text(encoding="utf-8"))
        plain = {id(node.value) for node in ast.walk(module) if isinstance(node, ast.Expr)}
        inside = {id(part) for node in ast.walk(module) if isinstance(node, ast.JoinedStr) for part in node.values}
        for node in ast.walk(module):
            if isinstance(node, ast.JoinedStr):
                parts = (one.value if isinstance(one, ast.Constant) else "1" for one in node.values)
                yield f"{file.name}:{node.lineno}", "".join(map(str, parts))
            elif isinstance(node, ast.Constant) and isinstance(node.value, str) and id(node) not in plain | inside:
                yield f"{file.name}:{node.lineno}", node.value


def _is_taken(words: str) -> bool:
    try:
        PARSER.parse_args(shlex.split(words))
    except SystemExit as ended:
        return ended.code == 0  # of --help
    return True


@pytest.mark.parametrize("verb", _verbs(), ids=" ".join)
def test_every_verb_is_run_by_a_test_or_by_the_operator_s_day(verb: tuple[str, ...]) -> None:
    assert any(words[: len(verb)] == verb for words in _typed())


def test_every_command_that_the_program_tells_can_be_copied() -> None:
    told = [(where, words) for where, text in _texts_of_the_program() for words in commands(text)]

    assert told  # those that are written as calls are tried in test_usage
    assert [one for one in told if not _is_taken(one[1])] == []


def test_a_work_with_a_blank_in_its_name_is_told_in_commands_that_can_be_copied(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W 1", corrupt=BAD_IMAGE))
    ran = site.call(*RUN, PIPELINE_DOWNLOAD_VERIFY="never")

    told = json.loads(site.call("explain", "W 1", "--json").stdout)

    assert shlex.split(told["next"]["command"]) == ["run_pipeline.py", "quarantine", "show", "W 1"]
    assert site.call(*shlex.split(told["next"]["command"])[1:]).returncode == 0
    assert lines(ran.stderr, "run_pipeline.py work 'W 1' --from download")


def test_verify_checks_works_that_came_home_and_the_oldest_first(site: Site, tmp_path: Path) -> None:
    for rid in ("W1", "W2"):
        site.announce(make_bag_zip(tmp_path, rid))
    site.call(*RUN)
    site.call("verify", "W1")
    (site.home / "archive/Archive0/00/W2" / BAD_IMAGE).unlink()

    oldest = json.loads(site.call("verify", "--oldest", "1", "--json").stdout)
    everything = site.call("verify", "--all", "--max-rate", "50M", "--threads", "1")

    assert [(one["work_rid"], one["verdict"]) for one in oldest["works"]] == [("W2", "failed")]
    assert everything.returncode == 1
    assert lines(everything.stdout, BAD_IMAGE)
    assert lines(everything.stdout, "2 works: 1 passed, 1 failed")


def test_the_hours_within_which_a_restored_copy_is_at_risk_can_be_chosen(site: Site, tmp_path: Path) -> None:
    ends = datetime.now(UTC) + timedelta(hours=100)
    bag_zip = make_bag_zip(tmp_path, "W1")
    event = site.event(staging_key("W1"), site.put(bag_zip), bag_zip.stat().st_size)
    event["glacierEventData"] = {"restoreEventData": {"lifecycleRestorationExpiryTime": f"{ends:%FT%T}Z"}}
    site.send({"Records": [event]})
    site.call(*RUN, PIPELINE_PIPELINE_MARGIN_BYTES=str(1 << 50))

    soon, later = (site.call("status", *words).stdout for words in ((), ("--expiring", "200")))

    assert not lines(soon, "at risk")
    assert lines(later, "at risk: W1")


def test_bags_are_made_and_taken_apart_with_every_option(site: Site, tmp_path: Path) -> None:
    (tmp_path / "W1").mkdir()
    (tmp_path / "W1" / "page.jpg").write_bytes(b"page")
    weak = make_bag_zip(tmp_path / "weak", "W2", algorithms=("md5",))
    plain = write_zip(tmp_path / "W3.zip", {f"W3/{name}": content for name, content in SMALL_WORK.items()})
    into = ("--into", str(tmp_path / "out"))

    made = json.loads(site.call("bag", str(tmp_path / "W1"), "--into", str(tmp_path), "--json").stdout)["bags"]
    taken = site.call("debag", made[0]["path"], *into, "--threads", "1")
    refused = site.call("debag", str(weak), *into, "--refuse-weak-digests")
    unbagged = site.call("debag", str(plain), *into, "--allow-unbagged")

    assert (made[0]["rid"], taken.returncode) == ("W1", 0), taken.stderr
    assert (refused.returncode, unbagged.returncode) == (1, 0), unbagged.stderr
    assert tree(tmp_path / "out" / "W1")["page.jpg"] == b"page"
    assert SMALL_WORK.items() <= tree(tmp_path / "out" / "W3").items()


def test_notify_that_watches_ends_when_it_is_asked_to(site: Site) -> None:
    watch = site.start("notify", "--watch", **MAIL, PIPELINE_NOTIFY_SMTP_PORT="9")
    log = site.home / "logs" / "notify.log"
    try:
        while not log.exists():
            assert watch.poll() is None, watch.communicate()
        watch.send_signal(signal.SIGTERM)
        _, said = watch.communicate(timeout=60)
    finally:
        watch.kill()
        watch.wait()

    assert watch.returncode == 0, said
    assert re.search("SIGTERM: stopping", said)


def test_a_dead_letter_is_deleted_on_an_operator_s_word_alone_and_what_it_said_is_kept(
    site: Site, tmp_path: Path
) -> None:
    site.announce(make_bag_zip(tmp_path, "W1", corrupt=BAD_IMAGE))
    site.send("nonsense")
    site.call(*RUN)

    asked = site.call("dead-letters", "drop", "W1")
    there = site.depth(site.dead_url)
    one = site.call("dead-letters", "drop", "W1", "--yes")
    rest = site.call("dead-letters", "drop", "--all", "--yes")

    assert (asked.returncode, there) == (2, 2)
    assert lines(asked.stderr, "nothing was done", "--yes")
    assert (one.returncode, rest.returncode) == (0, 0), one.stderr + rest.stderr
    assert site.depth(site.dead_url) == 0
    dropped = [json.loads(row["detail"]) for row in site.rows("events") if row["outcome"] == "dropped"]
    assert ["Archive0/00/W1/W1.bag.zip" in one["body"] for one in dropped] == [True, False]
    assert dropped[1]["body"] == "nonsense"
    assert site.works()["W1"].stage == "refused"


@pytest.mark.parametrize("instant", ["before commit 1", "after commit 1", "before acknowledge 1"])
def test_killed_while_deleting_a_dead_letter_it_is_there_or_recorded(site: Site, tmp_path: Path, instant: str) -> None:
    site.announce(make_bag_zip(tmp_path, "W1", corrupt=BAD_IMAGE))
    site.call(*RUN)

    killed = site.call("dead-letters", "drop", "W1", "--yes", PIPELINE_TEST_KILL_AT=instant)

    assert killed.returncode == -9
    assert site.depth(site.dead_url) == 1
    recorded = [row for row in site.rows("events") if row["outcome"] == "dropped"]
    assert len(recorded) == (0 if instant == "before commit 1" else 1)
