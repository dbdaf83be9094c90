"""A site on the embedded stack for measurements: bags that wait in S3, messages that announce them, rows that count."""

import contextlib
import hashlib
import json
import random
import sqlite3
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import psutil

from benchmarks import seaweed
from pipeline import intake
from pipeline.embedded import stack as trial
from pipeline.embedded.watched import RUN_PIPELINE
from pipeline.foundation import work

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

FILES, FILE_BYTES = 50, 20_000
_LOOK_SECONDS = 0.003
_START_SECONDS = 10


@dataclass(frozen=True)
class Site:
    """One site. Its S3 is moto, or a faster server where `s3_url` is set; its SQS is moto always."""

    stack: trial.Stack
    s3_url: str = ""

    @property
    def home(self) -> Path:
        """The folder of everything that the pipeline keeps."""
        return self.stack.home

    @property
    def environment(self) -> dict[str, str]:
        """With which `run_pipeline.py` works on this site."""
        if not self.s3_url:
            return self.stack.environment
        # A source has one endpoint for both services; two of them are told to boto3 by its own variables.
        apart = {"AWS_ENDPOINT_URL_S3": self.s3_url, "AWS_ENDPOINT_URL_SQS": self.stack.moto_url}
        return {**self.stack.environment, **apart, "PIPELINE_SOURCE_DEMO_ENDPOINT_URL": ""}

    def command(self, *arguments: str) -> list[str]:
        """The command line of `run_pipeline.py`."""
        return [sys.executable, str(RUN_PIPELINE), *arguments]

    def scheduler(self) -> psutil.Process:
        """The process of luigid."""
        ours = psutil.Process().children()
        return next(child for child in ours if child.cmdline()[2:4] == ["pipeline.embedded.embedded", "luigid"])

    def put(self, bag_zip: Path) -> str:
        """Put a bag as a thawed object; returns the message that announces it."""
        key = work.staging_key(work.rid_from_name(bag_zip.name))
        with bag_zip.open("rb") as body:
            etag = self.stack.s3.put_object(Bucket=trial.BUCKET, Key=key, Body=body)["ETag"]
        return message(key, etag, bag_zip.stat().st_size)

    def send(self, messages: Sequence[str]) -> None:
        """Hand messages to the queue."""
        for message in messages:
            self.stack.sqs.send_message(QueueUrl=self.queue_url, MessageBody=message)

    @property
    def queue_url(self) -> str:
        """The queue that the lanes poll."""
        return intake.find_queue(self.stack.sqs, source="demo", queue=trial.QUEUE).url

    def forget(self) -> None:
        """Empty the bucket: moto keeps objects in memory."""
        for thing in self.stack.s3.list_objects_v2(Bucket=trial.BUCKET).get("Contents", []):
            self.stack.s3.delete_object(Bucket=trial.BUCKET, Key=thing["Key"])

    def rows(self) -> int:
        """How many sync rows are committed."""
        with contextlib.closing(sqlite3.connect(f"file:{self.home}/pipeline.db?mode=ro", uri=True)) as database:
            return int(database.execute("SELECT count(*) FROM syncs").fetchone()[0])

    def last_row(self) -> float:
        """When the last sync row was written, by its own word: seconds since the epoch."""
        with contextlib.closing(sqlite3.connect(f"file:{self.home}/pipeline.db?mode=ro", uri=True)) as database:
            told = str(database.execute("SELECT max(synced_on) FROM syncs").fetchone()[0])
        return datetime.fromisoformat(told).replace(tzinfo=UTC).timestamp()

    def wait_for_rows(self, wanted: int, *, seconds: float = 120) -> None:
        """Wait until so many sync rows are committed, looking every few milliseconds.

        Raises:
            TimeoutError: they were not.
        """
        over = time.monotonic() + seconds
        with contextlib.closing(sqlite3.connect(f"file:{self.home}/pipeline.db?mode=ro", uri=True)) as database:
            while database.execute("SELECT count(*) FROM syncs").fetchone()[0] < wanted:
                if time.monotonic() > over:
                    raise TimeoutError(f"{wanted} rows did not come in {seconds:.0f} s")
                time.sleep(_LOOK_SECONDS)


@contextlib.contextmanager
def site(home: Path, *, s3_url: str = "") -> Iterator[Site]:
    """A running site whose database has its tables, and whose queue is empty."""
    (home / "archive").mkdir(parents=True)
    with trial.stack(home) as stack:
        made = Site(stack, s3_url)
        stack.sqs.purge_queue(QueueUrl=made.queue_url)  # S3's test event
        subprocess.run(
            made.command("db", "upgrade"), env=made.environment, check=True, stdout=subprocess.DEVNULL, timeout=60
        )
        yield made


def place(s3: "S3Client", bag_zip: Path) -> str:
    """Move a bag into another S3 than the stack's, in parts; returns the message that announces it."""
    key = work.staging_key(work.rid_from_name(bag_zip.name))
    s3.create_bucket(Bucket=trial.BUCKET)
    seaweed.put(s3, bag_zip, bucket=trial.BUCKET, key=key)
    bag_zip.unlink()
    head = s3.head_object(Bucket=trial.BUCKET, Key=key)
    return message(key, head["ETag"], head["ContentLength"])


def small_bag(folder: Path, number: int) -> Path:
    """The bag zip of a small work: 50 files of 20 KB, as `benchmarks.inputs` makes them, under an RID of its own."""
    rid = f"W{number}LINE{number % 100:02}"
    dice, digests = random.Random(number), ""
    with zipfile.ZipFile(folder / f"{rid}.bag.zip", "w") as zip_file:
        for image in range(FILES):
            path, content = f"data/images/{rid}-I1/{image:04}.jpg", dice.randbytes(FILE_BYTES)
            zip_file.writestr(f"{rid}.bag/{path}", content)
            digests += f"{hashlib.sha512(content).hexdigest()}  {path}\n"
        tags = {
            "bagit.txt": "BagIt-Version: 0.97\nTag-File-Character-Encoding: UTF-8\n",
            "bag-info.txt": f"BDRC-RID: {rid}\nPayload-Oxum: {FILES * FILE_BYTES}.{FILES}\n",
            "manifest-sha512.txt": digests,
        }
        sums = [f"{hashlib.sha512(text.encode()).hexdigest()}  {name}\n" for name, text in tags.items()]
        for name, text in {**tags, "tagmanifest-sha512.txt": "".join(sums)}.items():
            zip_file.writestr(f"{rid}.bag/{name}", text)
    return folder / f"{rid}.bag.zip"


def message(key: str, etag: str, size_bytes: int, *, bucket: str = trial.BUCKET) -> str:
    """What S3 tells a queue when an object has been restored."""
    thing: dict[str, Any] = {"key": key, "size": size_bytes, "eTag": etag.strip('"')}
    event = {
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": "2026-04-06T00:11:23.730Z",
        "eventName": "ObjectRestore:Completed",
        "s3": {"bucket": {"name": bucket}, "object": thing},
    }
    return json.dumps({"Records": [event]})
