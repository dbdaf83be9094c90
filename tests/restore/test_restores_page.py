"""docs/restores.md is true: its campaign is played from a bucket for which nothing was made, to the last work."""

import contextlib
import shlex
import sqlite3
from pathlib import Path

from pipeline.cli import usage
from pipeline.foundation.work import staging_key
from tests.world.bags import make_bag_zip
from tests.world.console import chapters, commands
from tests.world.session import Happenings, Session
from tests.world.stack import ROOT, Site

HAPPENINGS = Happenings()
SETTINGS = "[restore]\nat_most_works = 2\n" + "\n".join(
    block
    for block in (ROOT / "docs" / "restores.md").read_text(encoding="utf-8").split("```\n")
    if block.startswith("[prices ")
)


@HAPPENINGS.when(r"(\w+), (\w+) and (\w+) lie in DEEP_ARCHIVE\. There is no queue yet\.")
def a_bucket_alone(day: Session, *rids: str) -> None:
    site = day.site
    site.s3.put_bucket_notification_configuration(Bucket=site.bucket, NotificationConfiguration={})
    for url in (site.queue_url, site.dead_url):
        site.sqs.delete_queue(QueueUrl=url)
    for rid in rids:
        body = make_bag_zip(day.folder, rid).read_bytes()
        site.s3.put_object(Bucket=site.bucket, Key=staging_key(rid), Body=body, StorageClass="DEEP_ARCHIVE")
    with (site.home / "luigi.cfg").open("a", encoding="utf-8") as config:
        config.write(SETTINGS)


@HAPPENINGS.when(r"The next run takes place\.")
def the_next_run(day: Session) -> None:
    day.site.call("run", "--lanes", "1", **day.environment)


@HAPPENINGS.when(r"Two days later S3 has restored (\w+) and (\w+), and the next run takes place\.")
def restored(day: Session, *rids: str) -> None:
    for rid in rids:
        day.site.s3.head_object(Bucket=day.site.bucket, Key=staging_key(rid))  # which moto waits for
    the_next_run(day)


@HAPPENINGS.when(r"S3 restores (\w+), but its event is lost\. Three days later the next run takes place\.")
def restored_unheard(day: Session, rid: str) -> None:
    day.site.s3.head_object(Bucket=day.site.bucket, Key=staging_key(rid))
    lost = ""  # with the one that told that it was asked for, which no lane has read yet
    while messages := day.site.sqs.receive_message(QueueUrl=day.site.queue_url).get("Messages", []):
        for message in messages:
            lost += message["Body"]
            day.site.sqs.delete_message(QueueUrl=day.site.queue_url, ReceiptHandle=message["ReceiptHandle"])
    assert "ObjectRestore:Completed" in lost
    assert rid in lost
    with contextlib.closing(sqlite3.connect(day.site.home / "pipeline.db")) as database, database:
        database.execute("UPDATE wants SET look_on = strftime('%Y-%m-%d %H:%M:%f000', 'now', '-1 hours')")
    the_next_run(day)


def test_a_collection_comes_home_as_the_page_shows(site: Site, tmp_path: Path) -> None:
    (chapter,) = chapters(ROOT / "docs" / "restores.md")
    with contextlib.ExitStack() as until_end:
        day = Session(site, tmp_path / "bags", until_end)
        day.play(chapter, HAPPENINGS)
        for words in commands(day.told):
            usage.parser().parse_args(shlex.split(words))  # what she is told to type can be typed
    assert [(row["state"], row["attempts"]) for row in site.rows("wants")] == [("home", 1)] * 3
