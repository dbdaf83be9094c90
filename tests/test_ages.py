"""How old the oldest messages, zips and bags are: told where somebody can tell it, and held up by nobody."""

import json
import socket
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import boto3
import pytest

from pipeline import aws, embedded, settings, standing, trial
from pipeline import site as site_module
from pipeline.ages import Ages
from pipeline.settings import Source
from pipeline.work import human_seconds, without_user
from tests.bags import make_bag_zip
from tests.folders import add_folder, drop
from tests.stack import Site, lines, wait_until
from tests.test_metrics import samples

NOBODY_SENT: dict[str, list[str]] = {"Records": []}


def told_by_cloudwatch(site: Site, queue: str, *, age_seconds: float, minutes_ago: float = 1) -> None:
    """As SQS would: moto's SQS tells CloudWatch nothing by itself."""
    with trial.credentials():
        cloudwatch = aws.cloudwatch_client(region="us-east-1", endpoint_url=site.moto_url)
    datum = {
        "MetricName": "ApproximateAgeOfOldestMessage",
        "Dimensions": [{"Name": "QueueName", "Value": queue}],
        "Timestamp": datetime.now(UTC) - timedelta(minutes=minutes_ago),
        "Value": age_seconds,
        "Unit": "Seconds",
    }
    cloudwatch.put_metric_data(Namespace="AWS/SQS", MetricData=[datum])


def dead_of(site: Site) -> str:
    return site.dead_url.rpartition("/")[2]


def source_of(site: Site, *, endpoint_url: str = "") -> Source:
    return Source(
        name="test",
        region="us-east-1",
        bucket=site.bucket,
        queue=site.queue,
        endpoint_url=endpoint_url or site.moto_url,
    )


def status(site: Site) -> dict[str, Any]:
    ended = site.call("status", "--json")
    assert ended.returncode == 0, ended.stderr
    found: dict[str, Any] = json.loads(ended.stdout)
    return found


def user_who_may(actions: list[str], moto_url: str) -> dict[str, str]:
    """The environment of somebody who may do this much; from now on that moto asks whoever calls for rights."""
    with trial.credentials():
        iam: Any = boto3.client("iam", region_name="us-east-1", endpoint_url=moto_url)
    iam.create_user(UserName="worker")
    policy = {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": actions, "Resource": "*"}]}
    iam.put_user_policy(UserName="worker", PolicyName="rights", PolicyDocument=json.dumps(policy))
    key = iam.create_access_key(UserName="worker")["AccessKey"]
    ask = urllib.request.Request(f"{moto_url}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"})
    urllib.request.urlopen(ask, timeout=20).close()
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}


@pytest.fixture
def credentials() -> Iterator[None]:
    with trial.credentials():
        yield


@contextmanager
def silent_server() -> Iterator[str]:
    """Something that takes every connection and never says a word."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_status_tells_how_old_the_oldest_message_and_the_oldest_dead_letter_are(site: Site) -> None:
    site.send(NOBODY_SENT)
    site.sqs.send_message(QueueUrl=site.dead_url, MessageBody="{}")
    told_by_cloudwatch(site, site.queue, age_seconds=9_000, minutes_ago=5)
    told_by_cloudwatch(site, site.queue, age_seconds=9_240)
    told_by_cloudwatch(site, dead_of(site), age_seconds=200_000)

    # Under load an answer may come later than status waits for it: then it says so, and is asked again.
    wait_until(lambda: status(site)["queues"][0]["age_not_told"] is None, seconds=120)
    (queue,) = status(site)["queues"]
    line = lines(site.call("status").stdout, f"queue {site.queue}")[0]

    assert (queue["oldest_seconds"], queue["oldest_dead_letter_seconds"]) == (9_240, 200_000)
    told_at = datetime.fromisoformat(queue["oldest_told_at"])
    assert timedelta(seconds=30) < datetime.now(UTC) - told_at < timedelta(minutes=5)
    assert "the oldest message is 2 h 34 min old" in line or "not told" in line


def test_metrics_tell_the_same_and_nothing_of_queues_that_are_empty(site: Site, tmp_path: Path) -> None:
    told_by_cloudwatch(site, site.queue, age_seconds=9_240)
    told_by_cloudwatch(site, dead_of(site), age_seconds=200_000)

    def scraped() -> dict[tuple[str, ...], float]:
        site.call("metrics", "--textfile", str(tmp_path / "pipeline.prom"))
        return samples((tmp_path / "pipeline.prom").read_text(encoding="utf-8"))

    oldest = ("pipeline_queue_oldest_message_seconds", site.queue)
    empty = scraped()
    site.send(NOBODY_SENT)
    site.sqs.send_message(QueueUrl=site.dead_url, MessageBody="{}")

    assert (empty["pipeline_up",], empty[*oldest, "waiting"], empty[*oldest, "dead_letters"]) == (1, 0, 0)
    wait_until(lambda: scraped().get((*oldest, "waiting")) == 9_240, seconds=120)
    wait_until(lambda: scraped().get((*oldest, "dead_letters")) == 200_000, seconds=120)


def test_of_an_empty_queue_nobody_is_asked(site: Site) -> None:
    told_by_cloudwatch(site, site.queue, age_seconds=500)  # the minute before the last message was deleted

    (queue,) = status(site)["queues"]

    assert (queue["oldest_seconds"], queue["oldest_dead_letter_seconds"], queue["age_not_told"]) == (None, None, None)


def test_a_right_that_is_missing_is_named_and_fails_nothing(tmp_path: Path, luigid_url: str, database: Path) -> None:
    with embedded.moto(log=tmp_path / "moto.log") as strict:
        site = Site.make(tmp_path / "site", strict, luigid_url, database=database)
        site.send(NOBODY_SENT)
        site.settings |= user_who_may(["sqs:*", "s3:*"], strict)
        shown, checked = site.call("status"), site.call("check")
        (queue,) = status(site)["queues"]

    assert (queue["waiting"], queue["oldest_seconds"]) == (1, None)
    assert queue["age_not_told"].startswith("CloudWatch: 403; grant cloudwatch:GetMetricData")  # moto names it so
    assert lines(shown.stdout, "1 waiting", "age of the oldest not told", "grant cloudwatch:GetMetricData")
    assert lines(checked.stdout, "ages in", "ok", "grant cloudwatch:GetMetricData")
    assert checked.returncode == 0, checked.stdout


@pytest.mark.usefixtures("credentials")
def test_what_is_no_cloudwatch_is_told_as_such(site: Site, luigid_url: str) -> None:
    """A source with an endpoint of its own: whatever stands there need not know CloudWatch."""
    other = source_of(site, endpoint_url=without_user(luigid_url))

    told = Ages(patience_seconds=60).of([(other, site.queue)])[other, site.queue]

    assert told.ages == {}
    assert told.why_not.startswith("CloudWatch: ")


@pytest.mark.usefixtures("credentials")
def test_one_that_does_not_answer_holds_up_nobody_and_is_left_alone_for_a_while(site: Site) -> None:
    with silent_server() as url:
        silent = source_of(site, endpoint_url=url)
        ages = Ages(patience_seconds=0.5)
        first = ages.of([(silent, site.queue)])[silent, site.queue]
        began = time.monotonic()
        for _ in range(50):
            again = ages.of([(silent, site.queue)])[silent, site.queue]

    assert first.why_not == again.why_not == "CloudWatch did not answer in time"
    assert time.monotonic() - began < 5


@pytest.mark.usefixtures("credentials")
def test_what_was_told_is_kept_for_a_minute_but_for_queues_that_were_not_asked_about(site: Site) -> None:
    source = source_of(site)
    told_by_cloudwatch(site, site.queue, age_seconds=60)
    told_by_cloudwatch(site, dead_of(site), age_seconds=70)
    ages = Ages(patience_seconds=60)
    ages.of([(source, site.queue_url)])
    told_by_cloudwatch(site, site.queue, age_seconds=90, minutes_ago=0)

    kept = ages.of([(source, site.queue_url)])[source, site.queue_url]
    both = ages.of([(source, site.queue_url), (source, site.dead_url)])[source, site.dead_url]

    assert kept.ages[site.queue].seconds == 60
    assert both.ages[dead_of(site)].seconds == 70


@pytest.mark.usefixtures("credentials")
def test_queues_are_told_with_their_ages_in_one_document(site: Site) -> None:
    site.send(NOBODY_SENT)
    told_by_cloudwatch(site, site.queue, age_seconds=33)
    chosen = replace(settings.load(), sources=(source_of(site),), folders=(), database_url=site.database_url)
    here = site_module.Site(chosen, lane="test")

    (queue,) = standing.document(here, within_hours=48, ages=Ages(patience_seconds=60), most_ended=9)["queues"]
    here.engine.dispose()

    assert (queue["waiting"], queue["oldest_seconds"], queue["age_not_told"]) == (1, 33, None)
    assert queue["oldest_dead_letter_seconds"] is None


def test_without_cloudwatch_the_record_tells_since_when_bags_are_known_and_refused(site: Site, tmp_path: Path) -> None:
    script = tmp_path / "sync.sh"
    script.write_text("exit 7\n")
    site.announce(make_bag_zip(tmp_path, "W1"))
    site.announce(make_bag_zip(tmp_path, "W2", corrupt="images/I1/I10001.jpg"))
    site.call("run", "--lanes", "1", PIPELINE_SYNC_SCRIPT=str(script))

    told, shown = status(site), site.call("status").stdout

    for name in ("oldest_unfinished", "oldest_refused"):
        assert 0 <= told[f"{name}_seconds"] < 300
        assert told[name] <= told["at"]
    assert told["queues"][0]["age_not_told"]
    assert lines(shown, "waits since", "is refused since")
    assert lines(shown, f"queue {site.queue}", "1 dead letter,", "age of the oldest not told")


def test_the_oldest_zip_that_waits_in_a_folder_is_told(site: Site, tmp_path: Path) -> None:
    inbox = add_folder(site)
    none = status(site)["folders"][0]["oldest_waiting_seconds"]
    drop(make_bag_zip(tmp_path, "W1"), inbox)
    time.sleep(1.1)
    drop(make_bag_zip(tmp_path, "W2"), inbox)

    (folder,) = status(site)["folders"]
    site.call("metrics", "--textfile", str(tmp_path / "pipeline.prom"))
    found = samples((tmp_path / "pipeline.prom").read_text(encoding="utf-8"))

    assert none is None
    assert (folder["waiting"], folder["oldest_waiting_seconds"] >= 1) == (2, True)
    assert lines(site.call("status").stdout, str(inbox), "2 waiting (the oldest for")
    assert found["pipeline_folder_zips", "inbox", "waiting"] == 2
    assert found["pipeline_folder_oldest_zip_seconds", "inbox"] >= 1
    assert found["pipeline_folder_up", "inbox"] == 1


def test_a_folder_that_is_away_takes_no_other_figure_with_it(site: Site, tmp_path: Path) -> None:
    add_folder(site).rmdir()

    site.call("metrics", "--textfile", str(tmp_path / "pipeline.prom"))

    found = samples((tmp_path / "pipeline.prom").read_text(encoding="utf-8"))
    assert (found["pipeline_up",], found["pipeline_folder_up", "inbox"]) == (1, 0)
    assert ("pipeline_folder_zips", "inbox", "waiting") not in found


def test_check_says_whether_cloudwatch_tells_ages_and_fails_for_nothing_of_it(site: Site) -> None:
    checks = {one["what"]: one for one in json.loads(site.call("check", "--json").stdout)["checks"]}

    found = checks[f"ages in {site.queue}"]
    assert found["verdict"] == "ok"
    assert "CloudWatch" in found["detail"]


@pytest.mark.parametrize(
    ("seconds", "told"),
    [
        (-3, "0 s"),
        (42, "42 s"),
        (60, "1 min"),
        (3_599, "59 min"),
        (3_900, "1 h 5 min"),
        (7_200, "2 h"),
        (187_200, "2 d 4 h"),
    ],
)
def test_times_are_told_in_two_units_at_most(seconds: float, told: str) -> None:
    assert human_seconds(seconds) == told
