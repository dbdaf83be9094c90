"""A site for tests: its own bucket, queues, folders and database on the embedded stack."""

import functools
import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from luigi.rpc import URLLibFetcher
from sqlalchemy import Engine, func, select

from pipeline import record
from pipeline.embedded import embedded, stack
from pipeline.foundation.work import archive_dir, staging_key
from pipeline.record import stories, tables, views
from tests.world import warm

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

ROOT, RUN_PIPELINE = warm.ROOT, warm.RUN_PIPELINE
EVENTS = Path(__file__).resolve().parent / "events"
# For who is killed or frozen; whoever brings its work home afterwards has a lease that a slow machine cannot lose.
SHORT_LEASE = {"PIPELINE_QUEUE_LEASE_SECONDS": "2", "PIPELINE_QUEUE_HEARTBEAT_SECONDS": "0.5"}


_clients = functools.cache(stack.clients)  # to make two takes as long as all else of a site


@dataclass
class Site:
    """One site; everything on it is asked of the world, not of the program."""

    home: Path
    moto_url: str
    luigid_url: str
    s3: "S3Client"
    sqs: "SQSClient"
    bucket: str
    queue: str
    queue_url: str
    dead_url: str
    settings: dict[str, str] = field(default_factory=dict)
    database_url: str = ""

    @classmethod
    def make(
        cls, home: Path, moto_url: str, luigid_url: str, *, database: Path | None = None, database_url: str = ""
    ) -> "Site":
        """A new site, on SQLite unless told otherwise; a copy of a database with the right tables saves making them."""
        name = uuid.uuid4().hex[:10]
        s3, sqs = _clients(moto_url)
        url = stack.set_up_aws(s3, sqs, bucket=f"bucket-{name}", queue=f"queue-{name}", dead_letters=f"dead-{name}")
        dead_url = sqs.get_queue_url(QueueName=f"dead-{name}")["QueueUrl"]
        for message in sqs.receive_message(QueueUrl=url).get("Messages", []):
            # S3's test event: each test begins with an empty queue.
            sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])
        made = cls(home, moto_url, luigid_url, s3, sqs, f"bucket-{name}", f"queue-{name}", url, dead_url)
        made.database_url = database_url or f"sqlite:///{home}/pipeline.db"
        made.write_settings()
        (home / "archive").mkdir(exist_ok=True)
        if database is not None:
            shutil.copy(database, home / "pipeline.db")
        return made

    def write_settings(self) -> None:
        self.home.mkdir(parents=True, exist_ok=True)
        (self.home / "luigi.cfg").write_text(
            f"""\
[pipeline]
staging = {self.home}/staging
quarantine = {self.home}/quarantine
logs = {self.home}/logs
archive_root = {self.home}/archive
margin_bytes = 1000000
[database]
url = {self.database_url.replace("%", "%%")}
[queue]
wait_seconds = 0
[source test]
region = us-east-1
bucket = {self.bucket}
queue = {self.queue}
endpoint_url = {self.moto_url}
[core]
default_scheduler_url = {self.luigid_url}
autoload_range = false
no_configure_logging = true
rpc_retry_attempts = 2
rpc_retry_wait = 1
[worker]
keep_alive = false
ping_interval = 1
check_complete_on_run = true
timeout = 0
""",
            encoding="utf-8",
        )
        (self.home / "luigi.cfg").chmod(0o600)  # the scheduler's password is in it

    @property
    def environment(self) -> dict[str, str]:
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PIPELINE_", "AWS_"))}
        return {
            **inherited,
            **embedded.CREDENTIALS,
            "LUIGI_CONFIG_PATH": str(self.home / "luigi.cfg"),
            "PYTHON_DOTENV_DISABLED": "1",  # a .env beside run_pipeline.py may name a real archive
            **self.settings,
        }

    def put(self, bag_zip: Path, *, key: str = "") -> str:
        """Put a bag as a thawed object; returns its ETag."""
        key = key or staging_key(bag_zip.name.split(".")[0])
        with bag_zip.open("rb") as body:
            return self.s3.put_object(Bucket=self.bucket, Key=key, Body=body)["ETag"].strip('"')

    def send(self, body: str | Mapping[str, Any]) -> None:
        self.sqs.send_message(QueueUrl=self.queue_url, MessageBody=body if isinstance(body, str) else json.dumps(body))

    def announce(self, *bag_zips: Path) -> None:
        """Put the bags, and send one message that announces them all."""
        records = []
        for bag_zip in bag_zips:
            etag = self.put(bag_zip)
            records.append(self.event(staging_key(bag_zip.name.split(".")[0]), etag, bag_zip.stat().st_size))
        self.send({"Records": records})

    def event(self, key: str, etag: str, size: int, *, name: str = "ObjectRestore:Completed") -> dict[str, Any]:
        return {
            "eventVersion": "2.1",
            "eventSource": "aws:s3",
            "awsRegion": "us-east-1",
            "eventTime": "2026-04-06T00:11:23.730Z",
            "eventName": name,
            "s3": {"bucket": {"name": self.bucket}, "object": {"key": key, "size": size, "eTag": etag}},
        }

    def command(self, *arguments: str) -> list[str]:
        """`run_pipeline.py …`, as a program and its arguments."""
        return [sys.executable, str(RUN_PIPELINE), *arguments]

    def start(self, *arguments: str, **settings: str) -> "subprocess.Popen[str]":
        """`run_pipeline.py …` in the background; the caller waits for it."""
        return warm.start(arguments, environment={**self.environment, **settings})

    def call(self, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        """`run_pipeline.py …`, to its end."""
        return warm.ended(self.start(*arguments, **settings))

    def start_anew(self, *arguments: str, **settings: str) -> "subprocess.Popen[str]":
        """`run_pipeline.py …` in the background, from the first instruction of the interpreter."""
        return warm.start_anew(arguments, environment={**self.environment, **settings})

    def call_anew(self, *arguments: str, **settings: str) -> "subprocess.CompletedProcess[str]":
        """`run_pipeline.py …`, from the first instruction of the interpreter to its end."""
        return warm.ended(self.start_anew(*arguments, **settings))

    def depth(self, url: str = "") -> int:
        """Messages in a queue, hidden ones too."""
        told = self.sqs.get_queue_attributes(QueueUrl=url or self.queue_url, AttributeNames=["All"])["Attributes"]
        return int(told["ApproximateNumberOfMessages"]) + int(told["ApproximateNumberOfMessagesNotVisible"])

    def hidden(self) -> int:
        told = self.sqs.get_queue_attributes(QueueUrl=self.queue_url, AttributeNames=["All"])["Attributes"]
        return int(told["ApproximateNumberOfMessagesNotVisible"])

    def held(self) -> bool:
        """Whether anything is still somebody's, even of who was killed: a work by a lease, a message by a lane."""
        engine = record.connect(self.database_url)
        try:
            with engine.connect() as connection:
                until = connection.scalar(select(func.max(tables.leases.c.until)))
        finally:
            engine.dispose()
        return (until is not None and until.replace(tzinfo=UTC) > datetime.now(UTC)) or self.hidden() > 0

    def wait_for_leases(self, *, seconds: float = 3) -> None:
        """Wait until nothing is held, or for longer than the leases of tests last: some messages rest for minutes."""
        over = time.monotonic() + seconds
        while self.held() and time.monotonic() < over:
            time.sleep(0.2)

    def dead_letters(self) -> list[Any]:
        """The messages of the dead-letter queue, with their attributes."""
        return list(
            self.sqs.receive_message(
                QueueUrl=self.dead_url, MaxNumberOfMessages=10, VisibilityTimeout=0, MessageAttributeNames=["All"]
            ).get("Messages", [])
        )

    def works(self) -> dict[str, views.WorkStatus]:
        engine = record.connect(self.database_url)
        record.prepare(engine)
        try:
            return {work.work_rid: work for work in views.works(engine)}
        finally:
            engine.dispose()

    def ask_luigid(self, method: str, **data: Any) -> Any:
        """What luigid answers, asked as a lane asks."""
        body = URLLibFetcher().fetch(f"{self.luigid_url}/api/{method}", {"data": json.dumps(data)}, 10)
        return json.loads(body)["response"]

    def rows(self, table: str) -> list[dict[str, Any]]:
        engine = record.connect(self.database_url)
        try:
            with engine.connect() as connection:
                return [dict(row) for row in connection.exec_driver_sql(f"SELECT * FROM {table}").mappings()]
        finally:
            engine.dispose()

    def archived(self, rid: str) -> dict[str, bytes]:
        """The payload in the archive, by path; without the tag files kept beside it."""
        return {
            name: content
            for name, content in tree(archive_dir(self.home / "archive", rid)).items()
            if not name.startswith(f"{rid}.bag/")
        }

    def staged(self) -> list[str]:
        folder = self.home / "staging"
        return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def tree(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by its relative path."""
    return {str(path.relative_to(folder)): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def wait_until(what: Any, *, seconds: float = 60, every: float = 0.05) -> None:
    """Wait for something to become true.

    Raises:
        AssertionError: it did not.
    """
    over = time.monotonic() + seconds
    while True:
        asked = time.monotonic()
        if what():
            return
        took = time.monotonic() - asked
        assert asked < over, f"did not happen within {seconds} s"
        time.sleep(max(every, min(4 * took, 1)))  # who waits leaves the CPU to what is waited for


def history(engine: Engine, work_rid: str) -> tuple[dict[str, Any], ...]:
    """What the record has of a work, oldest first."""
    told = stories.story(engine, work_rid)
    assert told is not None
    return told.events


def lines(text: str, *words: str) -> Sequence[str]:
    """The lines that hold all these words."""
    return [line for line in text.splitlines() if all(word in line for word in words)]
