"""The report: a page that needs nothing else, and a table; neither obeys what bags call their works."""

import csv
import io
import re
from datetime import UTC, datetime, timedelta
from html.parser import HTMLParser
from pathlib import Path

import pytest

from pipeline import record
from pipeline.foundation.errors import InvalidBag
from pipeline.foundation.work import Bag, exact_seconds
from pipeline.operations.report import pictures
from pipeline.record import Leases, Phase, Record
from pipeline.record.history import Happening
from tests.world import browser
from tests.world.bags import make_bag_zip
from tests.world.stack import ROOT, Site, wait_until

EVIL = "<script>window.pwned = 1</script><img src=x onerror='window.pwned = 1'>"


class Resources(HTMLParser):
    """Everything in a page that a browser would fetch, or run."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        for name, value in attrs:
            if name in {"src", "href", "srcset", "data", "action"} or name.startswith("on"):
                self.found.append(f"{tag} {name}={value}")


@pytest.fixture
def told(site: Site) -> Site:
    """A site whose record knows of two works that are home, and of one that was refused in words meant to do harm."""
    engine = record.connect(site.database_url)
    book = Record(engine, agent="here/1/1", host="here")
    leases = Leases(engine, owner="here/1/1/x", seconds=60)
    for rid, size in (("W1HOME", 5_000_000), ("W2HOME", 9_000_000)):
        bag = Bag(rid, "bucket", f"{rid}.bag.zip", etag=rid, size_bytes=size)
        book.see(bag)
        leases.take(rid, bag.bag_id)
        book.finished(Phase.DOWNLOAD, bag, {"bytes": size, "seconds": 2.5})
        book.finished(Phase.DEBAG, bag, {"bytes": size, "seconds": 1.0}, works=(rid,))
        facts = {"bytes": size, "seconds": 4.0}
        book.commit_sync(bag, rid, archive_path=f"/archive/{rid}", files=3, size_bytes=size, facts=facts, leases=leases)
        book.done(bag)
        leases.release(rid)
    bad = Bag("W3BAD", "bucket", f"{EVIL}.bag.zip", etag="3", size_bytes=7)
    book.see(bad)
    book.failed(bad, Phase.DEBAG, InvalidBag(f"the bag is refused: {EVIL}", work_rid="W3BAD", faults=()))
    engine.dispose()
    return site


def page_of(site: Site, *arguments: str) -> Path:
    page = site.home / "report.html"
    ended = site.call("report", "--html", str(page), *arguments)
    assert ended.returncode == 0, ended.stderr
    return page


def test_a_run_s_works_and_failures_are_in_the_page(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.announce(make_bag_zip(tmp_path, "W2", corrupt="images/I1/I10001.jpg"))
    site.call("run", "--lanes", "1")

    text = page_of(site, "--since", "1h").read_text(encoding="utf-8")

    assert text.count("<svg") == 4
    assert re.search(r"<b>1</b> works came home", text)
    assert re.search(r"<b>1</b> failed or refused now", text)
    assert "invalid-bag" in text
    assert str(site.home / "archive/Archive0/00/W1") in text


def test_the_page_fetches_nothing_and_runs_nothing_but_its_own_script(told: Site) -> None:
    text = page_of(told).read_text(encoding="utf-8")

    parsed = Resources()
    parsed.feed(text)
    assert [found for found in parsed.found if not re.search(r"href=#[\w-]+$", found)] == []
    assert parsed.tags.count("script") == 1
    assert "img" not in parsed.tags
    assert "default-src 'none'" in text
    assert "&lt;script&gt;window.pwned" in text


def test_a_time_in_which_nothing_happened_makes_a_page_too(site: Site) -> None:
    text = page_of(site).read_text(encoding="utf-8")

    assert "None was heard of in this time" in text
    assert "<svg" not in text


def test_since_leaves_out_what_was_before(told: Site) -> None:
    tomorrow = (datetime.now(UTC) + timedelta(days=1)).isoformat()

    assert "W1HOME" in told.call("report", "--csv", "--since", "1d").stdout
    assert "W1HOME" not in told.call("report", "--csv", "--since", tomorrow).stdout
    assert told.call("report", "--csv", "--since", "yesterday").returncode == 2


def test_the_table_has_a_line_for_each_work_and_no_formulas(told: Site) -> None:
    engine = record.connect(told.database_url)
    odd = Bag("W4", "", "=cmd|' /C calc'!A0", etag="4")
    Record(engine, agent="here/1/1", host="here").see(odd)
    engine.dispose()

    rows = list(csv.DictReader(io.StringIO(told.call("report", "--csv").stdout)))

    assert {row["work_rid"]: row["stage"] for row in rows} == {
        "W1HOME": "done",
        "W2HOME": "done",
        "W3BAD": "refused",
        "W4": "waiting",
    }
    assert next(row["address"] for row in rows if row["work_rid"] == "W4") == "'=cmd|' /C calc'!A0"
    assert next(row["bytes"] for row in rows if row["work_rid"] == "W2HOME") == "9000000"


def test_a_step_of_seconds_is_drawn_as_a_hairline_in_a_picture_of_a_week_and_told_as_it_was() -> None:
    now = datetime(2026, 11, 28, tzinfo=UTC)
    done = [
        Happening(now - timedelta(days=days), rid, "sync", "done", seconds=0.004)
        for rid, days in (("W1", 7), ("W2", 0))
    ]

    drawn = pictures.timeline(done)

    bars = re.findall(r'<path d="M ([\d.]+) [^"]*?L ([\d.]+) [^>]*stroke: var\(--sync\); stroke-width: ([\d.]+)', drawn)
    points = [float(right) - float(left) + float(edge) for left, right, edge in bars]
    week = max(float(right) for _, right, _ in bars) - min(float(left) for left, _, _ in bars)
    assert len(points) == 2
    assert max(points) / week * timedelta(days=7) < timedelta(minutes=6)
    assert [exact_seconds(seconds) for seconds in (0, 0.004, 0.25, 41.26)] == ["0.001", "0.004", "0.25", "41.3"]


def test_nothing_asked_for_is_wrong_usage(site: Site) -> None:
    assert site.call("report").returncode == 2


def test_nobody_else_imports_what_draws_pictures() -> None:
    users = [
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "pipeline").rglob("*.py")
        if re.search(
            r"^\s*(import|from) (matplotlib|jinja2|pipeline\.report\.(page|pictures))",
            path.read_text("utf-8"),
            re.MULTILINE,
        )
    ]

    assert sorted(users) == ["pipeline/operations/report/page.py", "pipeline/operations/report/pictures.py"]


@pytest.mark.skipif(browser.installed() is None, reason="Debian's chromium is not installed")
def test_in_a_browser_works_are_found_and_sorted_and_names_do_no_harm(told: Site) -> None:
    page_file = page_of(told)
    visible = (
        "Array.from(document.querySelectorAll('.works tbody tr:not([hidden]) .rid')).map(e => e.textContent).join()"
    )

    with browser.browser() as page:
        page.look(width=1200)
        page.open(page_file.as_uri())
        assert set(str(page.ask(visible)).split(",")) == {"W1HOME", "W2HOME", "W3BAD"}

        page.ask("var field = document.querySelector('#find'); field.value = 'home'")
        page.ask("field.dispatchEvent(new Event('input'))")
        assert set(str(page.ask(visible)).split(",")) == {"W1HOME", "W2HOME"}
        assert page.ask("document.querySelector('#count').textContent") == "2 of 3"

        size = "document.querySelectorAll('.works th button')[3]"
        page.ask(f"{size}.click()")
        assert page.ask(visible) == "W1HOME,W2HOME"
        page.ask(f"{size}.click()")
        assert page.ask(visible) == "W2HOME,W1HOME"
        assert page.ask("window.pwned") is None

        paper = page.ask("getComputedStyle(document.body).backgroundColor")
        ink = "getComputedStyle(document.querySelector('.picture svg text')).fill"
        lit = page.ask(ink)
        page.look(width=1200, dark=True)
        assert page.ask("getComputedStyle(document.body).backgroundColor") != paper
        assert page.ask(ink) != lit
        page.look(dark=True, media="print")
        assert page.ask("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
        page.look(width=390, height=800)
        wait_until(lambda: page.ask("innerWidth") == 390)
        assert page.ask("document.documentElement.scrollWidth") == 390

        assert page.complaints() == []
        assert page.requests() == [page_file.as_uri()]
