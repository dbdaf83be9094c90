"""docs/operations.md is true: every chapter is played on a site of its own, and says what the document shows."""

import contextlib
import shlex
from pathlib import Path

import pytest

from pipeline.cli import usage
from tests.world import mishaps, mishaps_around
from tests.world.console import Chapter, chapters, commands, says
from tests.world.session import Session
from tests.world.stack import ROOT, Site

HAPPENINGS = {**mishaps.HAPPENINGS, **mishaps_around.HAPPENINGS}
CHAPTERS = chapters(ROOT / "docs" / "operations.md")


@pytest.mark.parametrize("chapter", CHAPTERS, ids=[chapter.title for chapter in CHAPTERS])
def test_a_chapter_of_the_operator_s_day_is_true(site: Site, tmp_path: Path, chapter: Chapter) -> None:
    with contextlib.ExitStack() as until_end:
        day = Session(site, tmp_path / "bags", until_end)
        day.play(chapter, HAPPENINGS)
        for words in commands(day.told):
            usage.parser().parse_args(shlex.split(words))  # what she is told to type can be typed


def test_what_varies_is_left_open_and_nothing_else() -> None:
    shown = ["W1  done   …  3 files", "…", "go on with: run_pipeline.py retry W1"]

    assert says(shown, "W1 done 0.7 s 3 files\na line\nand another\ngo on with:  run_pipeline.py retry W1\n")
    assert says(shown, "W1 done 3 files\ngo on with: run_pipeline.py retry W1\n") is False
    assert says(shown, "W1 done 0.7 s 3 files\ngo on with: run_pipeline.py retry W2\n") is False
    assert says(shown, "W1 done 0.7 s 3 files\ngo on with: run_pipeline.py retry W1\nmore\n") is False
    assert says([], "") is True
    assert says([], "something") is False


def test_a_document_that_is_not_true_is_told_with_what_is(site: Site, tmp_path: Path) -> None:
    document = tmp_path / "untrue.md"
    document.write_text(
        "## One\n```console\n# Pigs fly.\n$ run_pipeline.py resume\nintake goes on\n$ echo ok\nok\n```\n",
        encoding="utf-8",
    )
    (chapter,) = chapters(document)
    with contextlib.ExitStack() as until_end, pytest.raises(AssertionError) as caught:
        Session(site, tmp_path, until_end).play(chapter, HAPPENINGS)

    told = str(caught.value)
    assert "line 3: nothing is known to happen when: Pigs fly." in told
    assert "line 4: $ run_pipeline.py resume" in told
    assert "intake is not paused" in told
    assert "echo ok" not in told
