"""Figures for Prometheus: scraped, parsed, and shown on a dashboard that asks for nothing else."""

import json
import re
import time
import urllib.request
from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from pipeline.steps import record
from pipeline.steps.record import Leases
from tests import servers
from tests.bags import make_bag_zip
from tests.stack import ROOT, Site, wait_until

SETTLED = 2.5


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
    time.sleep(SETTLED)

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


def test_a_server_answers_each_scrape_anew_and_counts_each_event_once(site: Site, tmp_path: Path) -> None:
    port = servers.free_port()
    running = site.start("metrics", "--listen", str(port))

    def scrape() -> dict[tuple[str, ...], float]:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=20) as answer:
            return samples(answer.read().decode())

    try:
        wait_until(lambda: servers_answers(port))
        assert ("pipeline_events_total", "", "done", "sync") not in scrape()
        site.announce(make_bag_zip(tmp_path, "W1"))
        site.call("run", "--lanes", "1")
        time.sleep(SETTLED)
        assert [scrape()["pipeline_events_total", "", "done", "sync"] for _ in range(2)] == [1, 1]
    finally:
        running.terminate()
        _, err = running.communicate(timeout=30)
    assert running.returncode == 0, err


def servers_answers(port: int) -> bool:
    try:
        urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=20).close()
    except OSError:
        return False
    return True


def test_a_lease_that_is_taken_over_is_counted(any_database: str) -> None:
    engine = record.connect(any_database)
    record.prepare(engine)
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


def test_the_dashboard_asks_only_for_what_there_is() -> None:
    dashboard = json.loads((ROOT / "docs/grafana-dashboard.json").read_text(encoding="utf-8"))
    told = (ROOT / "docs/metrics.md").read_text(encoding="utf-8")

    asked = {
        re.sub("_bucket$", "", name)
        for panel in dashboard["panels"]
        for target in panel["targets"]
        for name in re.findall(r"pipeline_\w+", target["expr"])
    }

    assert asked
    assert asked <= set(re.findall(r"`(pipeline_\w+)`", told))
