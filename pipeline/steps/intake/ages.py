"""How old the oldest message of a queue is: SQS tells that to CloudWatch, and to nobody who asks SQS itself.

What CloudWatch tells is of the last whole minute or two. Of a message that was received more than three times it tells
nothing any more (SQS puts it behind the others), and of a dead letter for how long it has been one. See the SQS
Developer Guide, "Available CloudWatch metrics for Amazon SQS".
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import botocore.exceptions

from pipeline.aws import error_code, translated
from pipeline.errors import AccessDenied

RIGHT = "cloudwatch:GetMetricData"
_LOOK_BACK = timedelta(minutes=15)
_PERIOD_SECONDS = 60
# What a call may raise; the last ones from another service at this address, whose answer is none of CloudWatch's.
CLOUDWATCH_ERRORS = (
    botocore.exceptions.ClientError,
    botocore.exceptions.BotoCoreError,
    OSError,
    KeyError,
    ValueError,
    TypeError,
)


class CloudWatch(Protocol):
    """The one call of CloudWatch that is made here."""

    def get_metric_data(self, **query: Any) -> Mapping[str, Any]:
        """Values of metrics, by the identity that the query gave them."""


@dataclass(frozen=True)
class Age:
    """The age of a queue's oldest message, and when that was so."""

    seconds: float
    at: datetime


def oldest_messages(cloudwatch: CloudWatch, queues: Sequence[str]) -> dict[str, Age]:
    """The age of the oldest message of each queue, by its name; of one that was empty or idle nothing.

    Raises:
        CLOUDWATCH_ERRORS: CloudWatch refuses, or is out of reach; `why_not_told` puts it into words.
    """
    now = datetime.now(UTC)
    queries = {f"q{number}": name for number, name in enumerate(queues)}
    answer = cloudwatch.get_metric_data(
        MetricDataQueries=[_query(identity, name) for identity, name in queries.items()],
        StartTime=now - _LOOK_BACK,
        EndTime=now,
        ScanBy="TimestampDescending",
    )
    return {
        queries[one["Id"]]: Age(float(one["Values"][0]), one["Timestamps"][0].astimezone(UTC))
        for one in answer["MetricDataResults"]
        if one["Values"]
    }


def why_not_told(error: Exception) -> str:
    """Why CloudWatch did not tell, in a few words, with the right that is missing if one is."""
    reason = error_code(error) or type(error).__name__
    named = translated(error, "CloudWatch", needs=RIGHT)
    return f"CloudWatch: {reason}" + (f"; {named.go_on}" if isinstance(named, AccessDenied) else "")


def queue_name(url_or_name: str) -> str:
    """The name by which CloudWatch knows a queue."""
    return url_or_name.rpartition("/")[2]


def _query(identity: str, queue: str) -> dict[str, Any]:
    metric = {
        "Namespace": "AWS/SQS",
        "MetricName": "ApproximateAgeOfOldestMessage",
        "Dimensions": [{"Name": "QueueName", "Value": queue}],
    }
    return {"Id": identity, "MetricStat": {"Metric": metric, "Period": _PERIOD_SECONDS, "Stat": "Maximum"}}
