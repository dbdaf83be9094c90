"""Figures for Prometheus: scraped, parsed, and shown on a dashboard that asks for nothing else."""

import json
import re
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from pipeline import record, settings
from pipeline.embedded import embedded
from pipeline.operations.metrics import Collector
from pipeline.record import Leases, lanes
from pipeline.tasks import context as site_module
from tests.world import faulty, servers
from tests.world.bags import make_bag_zip
from tests.world.folders import add_folder
from tests.world.stack import ROOT, Site, wait_until


@pytest.fixture
def until_end() -> Iterator[ExitStack]:
    """What a test has opened."""
    with ExitStack() as stack:
        yield stack


def samples(text: str) -> dict[tuple[str, ...], float]:
    """Every sample, by its name and the values of its labels in the order of their names."""
    return {
        (one.name, *(one.labels[name] for name in sorted(one.labels))): one.value
        for family in text_string_to_metric_families(text)
        for one in family.samples
    }


def test_a_run_is_counted_by_outcome_bytes_and_time(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.announce(make_bag_zip(tmp_path, "W2", corrupt="images/I1/I10001.jpg"))
    site.call("run", "--lanes", "1")

    ended = site.call("metrics", "--textfile", str(tmp_path / "pipeline.prom"))

    assert ended.returncode == 0, ended.stderr
    found = samples((tmp_path / "pipeline.prom").read_text(encoding="utf-8"))
    assert found["pipeline_up",] == 1
    assert found["pipeline_events_total", "", "done", "sync"] == 1
    assert found["pipeline_events_total", "invalid-bag", "failed", "debag"] == 1
    assert found["pipeline_bytes_total", "debag"] == site.works()["W1"].bytes
    assert found["pipeline_bytes_total", "sync"] > site.works()["W1"].bytes  # the tag files are kept with the work
    assert found["pipeline_step_duration_seconds_count", "download"] == 2
    assert found["pipeline_step_duration_seconds_bucket", "+Inf", "sync"] == 1
    assert found["pipeline_bags", "refused"] == 1
    assert found["pipeline_queue_messages", site.queue, "dead_letters"] == 1
    assert found["pipeline_disk_bytes", "staging", "free"] > 0


def test_a_server_answers_each_scrape_anew_counts_each_event_once_and_asks_aws_once_a_minute(
    site: Site, tmp_path: Path, until_end: ExitStack
) -> None:
    port, asked = servers.free_port(), []

    def fault(_method: str, path: str) -> str:
        asked.append(path)
        return ""

    proxy = until_end.enter_context(faulty.faulty(site.moto_url, fault))
    running = site.start("metrics", "--listen", str(port), PIPELINE_SOURCE_TEST_ENDPOINT_URL=proxy)

    def scrape() -> dict[tuple[str, ...], float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            return samples(answer.read().decode())

    try:
        wait_until(lambda: servers_answers(port))
        assert ("pipeline_events_total", "", "done", "sync") not in scrape()
        questions = len(asked)
        site.announce(make_bag_zip(tmp_path, "W1"))
        site.call("run", "--lanes", "1")
        assert [scrape()["pipeline_events_total", "", "done", "sync"] for _ in range(2)] == [1, 1]
        assert len(asked) == questions > 0
    finally:
        running.terminate()
        _, err = running.communicate(timeout=30)
    assert running.returncode == 0, err


def test_aws_that_refuses_is_not_asked_again_at_once(
    here: site_module.Site, monkeypatch: pytest.MonkeyPatch, moto_url: str, until_end: ExitStack
) -> None:
    asked: list[str] = []

    def fault(_method: str, path: str) -> str:
        asked.append(path)
        return "AccessDenied"

    proxy = until_end.enter_context(faulty.faulty(moto_url, fault))
    for name, value in embedded.CREDENTIALS.items():
        monkeypatch.setenv(name, value)
    source = settings.Source("test", region="us-east-1", bucket="b", queue="q", endpoint_url=proxy)
    here.settings = replace(here.settings, sources=(source,))
    collector = Collector(here)

    up = [next(iter(collector.collect())).samples[0].value for _ in range(3)]

    assert up == [0, 0, 0]
    assert len(asked) == 1


def servers_answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20).close()
    except OSError:
        return False
    return True


def test_a_lease_that_is_taken_over_is_counted(any_tables: str) -> None:
    engine = record.connect(any_tables)
    Leases(engine, owner="dead/1/1/x", seconds=-1).take("W1", "b1")

    assert Leases(engine, owner="here/2/1/y", seconds=60).take("W1", "b1")

    with engine.connect() as connection:
        told = connection.exec_driver_sql("SELECT work_rid, step, outcome, agent FROM events").all()
    engine.dispose()
    assert [tuple(row) for row in told] == [("W1", "lease", "taken-over", "here/2/1")]


def test_a_database_that_is_away_is_told_as_such(site: Site, tmp_path: Path) -> None:
    away = f"postgresql+psycopg://nobody@127.0.0.1:{servers.free_port()}/none"

    site.call("metrics", "--textfile", str(tmp_path / "pipeline.prom"), PIPELINE_DATABASE_URL=away)

    assert samples((tmp_path / "pipeline.prom").read_text(encoding="utf-8"))["pipeline_up",] == 0


LABELS = r'(\w+)="(\w+)"'


def documented() -> dict[str, set[str]]:
    """The metrics of docs/metrics.md, with their labels."""
    rows = [line.split("|") for line in (ROOT / "docs/metrics.md").read_text(encoding="utf-8").splitlines()]
    return {row[1].strip(" `"): set(re.findall(r"`(\w+)`", row[2])) for row in rows if len(row) > 3 and "`" in row[1]}


def targets() -> list[dict[str, str]]:
    """The questions of the dashboard."""
    dashboard = json.loads((ROOT / "docs/grafana-dashboard.json").read_text(encoding="utf-8"))
    return [target for panel in dashboard["panels"] for target in panel["targets"]]


def test_what_is_told_is_documented_and_the_dashboard_asks_only_for_what_is_told(site: Site, tmp_path: Path) -> None:
    add_folder(site)
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.announce(make_bag_zip(tmp_path, "W2", corrupt="images/I1/I10001.jpg"))
    site.call("run", "--lanes", "1")
    site.call("verify", "W1")
    engine = record.connect(site.database_url)
    lanes.seen(engine, "far/1/1/x", host="far")
    engine.dispose()
    site.call("metrics", "--textfile", str(tmp_path / "pipeline.prom"))

    families = list(text_string_to_metric_families((tmp_path / "pipeline.prom").read_text(encoding="utf-8")))
    told = [one for family in families for one in family.samples if not one.name.endswith(("_created", "_sum"))]
    labels = {re.sub("_(bucket|count)$", "", one.name): set(one.labels) - {"le"} for one in told}

    not_asked_for = {  # of a site without second copies, callbacks, and without a schedule
        "pipeline_replica_copies": {"replica", "state"},
        "pipeline_fixity_behind_works": set[str](),
        "pipeline_fixity_hours_a_night": set[str](),
        "pipeline_callbacks": {"callback", "state"},
    }
    assert labels | not_asked_for == documented()
    for target in targets():
        asked = re.findall(r"(pipeline_\w+)(?:{([^}]*)})?", target["expr"])
        assert asked, target
        for name, wanted in asked:
            chosen = set(re.findall(LABELS, wanted))
            assert [one for one in told if one.name == name and chosen <= set(one.labels.items())], target
            grouped = re.findall(r"by \(([^)]*)\)", target["expr"]) or [", ".join(labels.get(name, {"le", "step"}))]
            shown = re.findall(r"{{(\w+)}}", target["legendFormat"])
            assert set(shown) <= set(grouped[0].split(", ")), target


def test_a_dashboard_s_panels_do_not_lie_over_one_another() -> None:
    dashboard = json.loads((ROOT / "docs/grafana-dashboard.json").read_text(encoding="utf-8"))
    places = [panel["gridPos"] for panel in dashboard["panels"]]
    cells = [
        (x, y)
        for place in places
        for x in range(place["x"], place["x"] + place["w"])
        for y in range(place["y"], place["y"] + place["h"])
    ]

    assert len(set(cells)) == len(cells)
    assert max(x for x, _ in cells) < 24
    assert len({panel["id"] for panel in dashboard["panels"]}) == len(places)


def test_works_that_failed_their_last_fixity_check_and_superseded_bags_are_counted(site: Site, tmp_path: Path) -> None:
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.announce(make_bag_zip(tmp_path, "W2", corrupt="images/I1/I10001.jpg"))
    site.call("run", "--lanes", "1")

    def scraped() -> tuple[float, ...]:
        site.call("metrics", "--textfile", str(tmp_path / "pipeline.prom"))
        found = samples((tmp_path / "pipeline.prom").read_text(encoding="utf-8"))
        bags = [found["pipeline_bags", state] for state in ("done", "refused", "superseded")]
        return (found["pipeline_fixity_failed_works",], found["pipeline_oldest_bag_seconds", "refused"] > 0, *bags)

    before = scraped()
    (site.home / "archive/Archive0/00/W1/images/I1/I10001.jpg").write_bytes(b"rotten")
    site.call("verify", "W1")
    site.announce(make_bag_zip(tmp_path, "W2"))
    site.call("run", "--lanes", "1")

    assert before == (0, True, 1, 1, 0)
    assert scraped() == (1, False, 2, 0, 1)
