"""A trial site on the embedded stack: bucket and queues as an operator has them, and a luigi.cfg that says so."""

import os
import shlex
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.embedded import embedded
from pipeline.foundation import aws
from pipeline.foundation.work import without_user

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client
    from mypy_boto3_sqs import SQSClient

BUCKET, QUEUE, DEAD_LETTERS = "glacier.staging.demo.example.org", "DemoReadyToIntake", "DemoDeadLetters"
AT_MOST_WORKS = 4  # that S3 is asked for at once
_RETENTION_SECONDS = 1_209_600
_LUIGID_STATE = "luigid.pickle"


@dataclass(frozen=True)
class Stack:
    """The running stack."""

    home: Path
    moto_url: str
    luigid_url: str
    password_file: Path
    s3: "S3Client"
    sqs: "SQSClient"

    @property
    def environment(self) -> dict[str, str]:
        """With which `run_pipeline.py` works on this stack, and on nothing else."""
        inherited = {name: value for name, value in os.environ.items() if not name.startswith(("PIPELINE_", "AWS_"))}
        return {**inherited, **embedded.CREDENTIALS, **self._own}

    @property
    def by_hand(self) -> str:
        """The same, to be typed before a command."""
        return shlex.join(
            ["env", *(f"{name}={value}" for name, value in {**embedded.CREDENTIALS, **self._own}.items())]
        )

    @property
    def _own(self) -> dict[str, str]:
        # An operator's .env beside run_pipeline.py may name her archive, and her database.
        return {"LUIGI_CONFIG_PATH": str(self.home / "luigi.cfg"), "PYTHON_DOTENV_DISABLED": "1"}


@contextmanager
def stack(home: Path, *, lanes: int = 2) -> Iterator[Stack]:
    """With moto and luigid as children, bucket and queues as an operator has them, and a luigi.cfg that says so."""
    logs = home / "logs"
    with (
        embedded.moto(log=logs / "moto.log") as moto_url,
        embedded.luigid(state=home / _LUIGID_STATE, log=logs / "luigid.log") as with_password,
    ):
        s3, sqs = clients(moto_url)
        set_up_aws(s3, sqs, bucket=BUCKET, queue=QUEUE, dead_letters=DEAD_LETTERS)
        (home / "archive").mkdir(exist_ok=True)  # never made by the pipeline: a missing archive is an unmounted one
        luigid_url, password_file = without_user(with_password), embedded.password_file(home / _LUIGID_STATE)
        (home / "luigi.cfg").write_text(_luigi_cfg(home, moto_url, luigid_url, lanes), encoding="utf-8")
        yield Stack(home, moto_url, luigid_url, password_file, s3, sqs)


@contextmanager
def credentials() -> Iterator[None]:
    """The embedded stack's credentials while clients are made: never an operator's own."""
    saved = {name: value for name, value in os.environ.items() if name.startswith("AWS_")}
    for name in saved:
        del os.environ[name]
    os.environ.update(embedded.CREDENTIALS)
    try:
        yield
    finally:
        for name in embedded.CREDENTIALS:
            del os.environ[name]
        os.environ.update(saved)


def clients(url: str, *, region: str = "us-east-1") -> tuple["S3Client", "SQSClient"]:
    """Of the embedded stack's S3 and SQS at a URL."""
    with credentials():
        return aws.s3_client(region=region, endpoint_url=url), aws.sqs_client(region=region, endpoint_url=url)


def set_up_aws(s3: "S3Client", sqs: "SQSClient", *, bucket: str, queue: str, dead_letters: str) -> str:
    """Bucket, queue, dead-letter queue with redrive, and the notification that joins them; returns the queue's URL."""
    dead_url = sqs.create_queue(QueueName=dead_letters, Attributes={"MessageRetentionPeriod": str(_RETENTION_SECONDS)})
    dead_arn = sqs.get_queue_attributes(QueueUrl=dead_url["QueueUrl"], AttributeNames=["QueueArn"])
    redrive = f'{{"deadLetterTargetArn":"{dead_arn["Attributes"]["QueueArn"]}","maxReceiveCount":"5"}}'
    url = sqs.create_queue(
        QueueName=queue, Attributes={"MessageRetentionPeriod": str(_RETENTION_SECONDS), "RedrivePolicy": redrive}
    )["QueueUrl"]
    arn = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    region: Any = s3.meta.region_name
    if region == "us-east-1":  # which S3 refuses to be told
        s3.create_bucket(Bucket=bucket)
    else:
        s3.create_bucket(Bucket=bucket, CreateBucketConfiguration={"LocationConstraint": region})
    s3.put_bucket_notification_configuration(
        Bucket=bucket,
        NotificationConfiguration={
            "QueueConfigurations": [
                {
                    "Id": f"bag-pipeline {queue}",  # as `setup-aws` calls it
                    "QueueArn": arn,
                    "Events": ["s3:ObjectRestore:Completed"],
                    "Filter": {"Key": {"FilterRules": [{"Name": "suffix", "Value": "bag.zip"}]}},
                }
            ]
        },
    )
    return url


def _luigi_cfg(home: Path, moto_url: str, luigid_url: str, lanes: int) -> str:
    where = str(home).replace("%", "%%")
    return f"""\
# Made by `run_pipeline.py demo`, which ends with the command to look around.
[pipeline]
environment = dev
lanes = {lanes}
staging = {where}/staging
quarantine = {where}/quarantine
logs = {where}/logs
archive_root = {where}/archive
margin_bytes = 16777216
scheduler_password_file = {where}/{_LUIGID_STATE}.password

[database]
url = sqlite:///{where}/pipeline.db

[source demo]
region = us-east-1
bucket = {BUCKET}
queue = {QUEUE}
endpoint_url = {moto_url}

[restore]
at_most_works = {AT_MOST_WORKS}

[core]
default_scheduler_url = {luigid_url}
rpc_retry_attempts = 3
rpc_retry_wait = 1
rpc_connect_timeout = 10

[worker]
keep_alive = false
ping_interval = 1
timeout = 0
"""
