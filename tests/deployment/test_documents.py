"""The documents: what the code knows is as the code has it, every link leads somewhere, and a newcomer has one page."""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from pipeline.cli import usage
from pipeline.foundation import errors
from pipeline.foundation.declared import settings_of
from pipeline.settings import Callback, Replica
from pipeline.settings.prices import Prices
from pipeline.settings.sections import KINDS, SECTIONS
from tests import manual
from tests.test_layers import FLOOR_OF, FLOORS
from tests.world.stack import ROOT

DOCS = ROOT / "docs"
DOCUMENTS = [*ROOT.glob("*.md"), *DOCS.rglob("*.md")]


def test_what_is_made_of_the_code_is_as_the_code_makes_it() -> None:
    made = manual.pages(DOCS)

    kept = {str(path.relative_to(DOCS)): path.read_text(encoding="utf-8") for path in DOCS.rglob("*.md")}
    assert {name: kept.get(name) for name in made} == made, "stale: run `make docs`"
    assert {name for name in kept if name.startswith("verbs/")} <= made.keys(), "of verbs that are no more"


def test_pages_are_made_anew_and_those_of_verbs_that_are_no_more_go(tmp_path: Path) -> None:
    docs = shutil.copytree(DOCS, tmp_path / "docs", ignore=lambda folder, _: ["verbs"] if folder == str(DOCS) else [])
    (docs / "verbs").mkdir()
    (docs / "verbs" / "unpack.md").write_text("of a verb that there was\n")
    for name in ("settings.md", "failures.md", "bags.md", "rights.md"):
        page = (docs / name).read_text(encoding="utf-8")
        (docs / name).write_text(re.sub(r"(?s)(<!-- Made [^>]*-->\n).*?(\n<!-- end)", r"\1\2", page), encoding="utf-8")

    subprocess.run([sys.executable, "-m", "tests.manual", str(docs)], cwd=ROOT, check=True)

    assert {str(path.relative_to(docs)) for path in docs.glob("verbs/*")} == {
        name for name in manual.pages(DOCS) if name.startswith("verbs/")
    }
    for name in ("settings.md", "failures.md", "bags.md", "rights.md"):
        assert (docs / name).read_text(encoding="utf-8") == (DOCS / name).read_text(encoding="utf-8")


def test_every_setting_is_told_with_its_meaning() -> None:
    told = re.findall(r"(?m)^\| `(\w+)` \| .+ \| .+ \|$", (DOCS / "settings.md").read_text(encoding="utf-8"))

    sections = [*SECTIONS.values(), *KINDS.values(), Prices, Replica, Callback]
    assert told == [name for section in sections for name in settings_of(section)]


def kinds() -> Iterator[str]:
    bases = (errors.TransientError, errors.PermanentError)
    for one in vars(errors).values():
        if isinstance(one, type) and issubclass(one, bases) and one not in bases:
            yield one.__new__(one).kind


def test_every_kind_of_failure_says_what_it_means_what_is_left_and_how_to_go_on() -> None:
    told = re.findall(
        r"(?m)^\| `([a-z-]+)` \| [^|]+ \| [^|]+ \| [^|]+ \|$", (DOCS / "failures.md").read_text(encoding="utf-8")
    )

    assert set(kinds()) <= set(told)


def test_every_verb_s_page_is_linked_from_the_readme() -> None:
    linked = set(re.findall(r"\(docs/verbs/([a-z-]+)\.md\)", (ROOT / "README.md").read_text(encoding="utf-8")))

    assert linked == {verb.name for verb in usage.VERBS}


def test_the_readme_can_be_read_at_one_sitting() -> None:
    assert (ROOT / "README.md").stat().st_size <= 8192


def first_site() -> list[str]:
    """The lines that a newcomer types for her first site, without what is said beside them."""
    (block,) = re.findall(r"(?s)## The first site\n.*?```\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"))
    return [line.partition("  #")[0].rstrip() for line in block.splitlines()]


def test_what_a_newcomer_types_for_her_first_site_is_taken(tmp_path: Path) -> None:
    for name in ("luigi.cfg", ".env.example"):
        shutil.copy(ROOT / name, tmp_path)
    typed = [line for line in first_site() if line.startswith(("install ", "printf ", "mkdir "))]
    load = "from dotenv import load_dotenv; load_dotenv('.env'); from pipeline import settings; print(settings.load())"

    subprocess.run(["bash", "-e", "-c", "\n".join(typed)], cwd=tmp_path, check=True)
    ended = subprocess.run(
        [sys.executable, "-c", load],
        cwd=tmp_path,
        env={"PYTHONPATH": str(ROOT), "LUIGI_CONFIG_PATH": "luigi.cfg"},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 0, ended.stderr
    assert "Source(name='trial', region='us-east-1'" in ended.stdout
    assert (tmp_path / "var" / "archive").is_dir()
    assert (tmp_path / ".env").stat().st_mode & 0o077 == 0  # it holds a key
    for line in first_site():
        if line.startswith("./run_pipeline.py "):
            usage.parser().parse_args(shlex.split(line)[1:])


def test_the_page_on_architecture_draws_the_rooms_that_there_are() -> None:
    page = (DOCS / "architecture.md").read_text(encoding="utf-8")

    drawn = set(re.findall(r"\b([a-z]+)/ ", re.findall(r"(?s)pipeline/\n(.*?)```", page)[0]))
    assert drawn == set(FLOOR_OF)
    (floors,) = re.findall(r"(?m)^(`cli` > .*)\.$", page)
    assert [set(re.findall(r"\w+", floor)) for floor in floors.split(" > ")] == list(FLOORS)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_what_a_document_names_of_the_program_is_there(document: Path) -> None:
    named = re.findall(
        r"`((?:pipeline|tests|bin|docker|benchmarks|systemd|locks)/[\w./-]*)`", document.read_text("utf-8")
    )
    if document.name == "architecture.md":
        rooms = "|".join(FLOOR_OF)
        named += [f"pipeline/{path}" for path in re.findall(rf"`((?:{rooms})/[\w./-]*)`", document.read_text("utf-8"))]

    assert [path for path in named if not (ROOT / path).exists()] == []


def targets(text: str) -> set[str]:
    """What a document's links lead to; nothing that stands in a block of code, nor on the web."""
    prose = re.sub(r"(?ms)^```.*?^```", "", text)
    return {link for link in re.findall(r"\]\(([^)\s]+)\)", prose) if "://" not in link}


def anchors(text: str) -> set[str]:
    """Of the headings of a document, as the page of a repository names them."""
    titles = re.findall(r"(?m)^#+ (.*)$", re.sub(r"(?ms)^```.*?^```", "", text))
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_every_link_of_a_document_leads_somewhere(document: Path) -> None:
    for link in targets(document.read_text(encoding="utf-8")):
        name, _, anchor = link.partition("#")
        path = document.parent / name if name else document
        assert path.exists(), link
        assert not anchor or anchor in anchors(path.read_text(encoding="utf-8")), link
