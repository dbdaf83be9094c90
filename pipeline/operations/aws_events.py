"""What makes a bucket tell of its bags: its notification, and EventBridge's rule before a FIFO queue."""

import json
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from pipeline.foundation import aws
from pipeline.foundation.errors import PipelineError
from pipeline.operations.aws_parts import EVENTS, SUFFIX, TAG, State, found, meaning
from pipeline.settings import Replica
from pipeline.settings.rights import Arns

if TYPE_CHECKING:
    from mypy_boto3_s3 import S3Client

_LISTS = {
    "QueueConfigurations": "QueueArn",
    "TopicConfigurations": "TopicArn",
    "LambdaFunctionConfigurations": "LambdaFunctionArn",
}
"""The lists of a bucket's notifications, and what says in each where they go."""
_DETAILS = ["Object Created", "Object Restore Initiated", "Object Restore Completed", "Object Restore Expired"]
_GROUP = "bags"
_IN_A_MINUTE = "try again in a minute, as what was just made spreads slowly; with kms_key, see docs/aws.md"
_TARGET = "queue"
_UNFINISHED_DAYS = 7


class RulePart:
    """EventBridge's rule: S3 itself sends to no FIFO queue and no FIFO topic (S3 User Guide, Event notifications)."""

    def __init__(self, events: Any, arns: Arns) -> None:
        self._events, self._arns, self._rule = events, arns, arns.rule_name
        self.name = f"rule {self._rule} of EventBridge"

    def look(self) -> State | None:
        """How it is, with its targets."""
        told = found(self._events.describe_rule, self.name, Name=self._rule)
        if told is None:
            return None
        with aws.failures_named(self.name):
            targets = self._events.list_targets_by_rule(Rule=self._rule)["Targets"]
        return {"pattern": json.loads(told.get("EventPattern", "{}")), "state": told["State"], "targets": targets}

    def wanted(self, was: State | None) -> State:
        """The bucket's bags go to the queue, in one message group: a rule knows no other.

        Raises:
            PipelineError: a rule of this name was not made here.
        """
        arns = self._arns
        if was is not None and not self._made_here():
            raise PipelineError(f"{self.name} is somebody else's", by_hand="give the queue another name in luigi.cfg")
        detail = {"bucket": {"name": [arns.source.bucket]}, "object": {"key": [{"suffix": SUFFIX}]}}
        pattern = {"source": ["aws.s3"], "account": [arns.account], "detail-type": _DETAILS, "detail": detail}
        target = {"Id": _TARGET, "Arn": arns.queue, "SqsParameters": {"MessageGroupId": _GROUP}}
        others = [one for one in (was or {}).get("targets", []) if one["Id"] != _TARGET]
        return {"pattern": pattern, "state": "ENABLED", "targets": [*others, target]}

    def without(self, was: State) -> State | None:
        """Not there, if it was made here."""
        return None if self._made_here() else was

    def put(self, was: State | None, target: State | None) -> None:
        """Make it so."""
        with aws.failures_named(self.name):
            if target is None:
                self._events.remove_targets(Rule=self._rule, Ids=[one["Id"] for one in (was or {})["targets"]])
                self._events.delete_rule(Name=self._rule)
                return
            tags = {} if was else {"Tags": [{"Key": TAG, "Value": self._arns.source.name}]}
            pattern = json.dumps(target["pattern"])
            self._events.put_rule(Name=self._rule, EventPattern=pattern, State=target["state"], **tags)
            refused = self._events.put_targets(Rule=self._rule, Targets=target["targets"])
            if refused.get("FailedEntryCount"):
                raise PipelineError(f"{self.name}: its target is refused: {refused['FailedEntries']}")

    def _made_here(self) -> bool:
        with aws.failures_named(self.name):
            tags = self._events.list_tags_for_resource(ResourceARN=self._arns.rule[0])["Tags"]
        return any(tag["Key"] == TAG for tag in tags)


class LifecyclePart:
    """The rules by which a bucket cleans up: one of them is ours, known by its Id.

    An upload that was killed is gone on with, or let go of when its work is sent again. Where nobody sends the work
    again, its parts would be paid for for ever.
    """

    def __init__(self, s3: "S3Client", replica: Replica) -> None:
        self._s3, self._replica = s3, replica
        self._id = f"bag-pipeline unfinished uploads of {replica.name}"
        self.name = f"lifecycle of bucket {replica.bucket}"

    def look(self) -> State:
        """All rules of the bucket."""
        ask = self._s3.get_bucket_lifecycle_configuration
        told = found(ask, self.name, Bucket=self._replica.bucket)
        return {"Rules": told["Rules"]} if told else {"Rules": []}

    def wanted(self, was: State | None) -> State:
        """With ours, and with everybody else's as they are."""
        ours = {
            "ID": self._id,
            "Status": "Enabled",
            "Filter": {"Prefix": self._replica.prefix},
            "AbortIncompleteMultipartUpload": {"DaysAfterInitiation": _UNFINISHED_DAYS},
        }
        return {"Rules": [*self.without(was or {"Rules": []})["Rules"], ours]}

    def without(self, was: State) -> State:
        """Without ours."""
        return {"Rules": [rule for rule in was["Rules"] if rule.get("ID") != self._id]}

    def put(self, was: State | None, target: State | None) -> None:
        """Make it so."""
        del was
        with aws.failures_named(self.name):
            if target and target["Rules"]:
                put: Any = self._s3.put_bucket_lifecycle_configuration
                put(Bucket=self._replica.bucket, LifecycleConfiguration=target)
            else:
                self._s3.delete_bucket_lifecycle(Bucket=self._replica.bucket)


class NotificationPart:
    """The bucket's notifications: one of them is ours, known by its Id."""

    def __init__(self, s3: "S3Client", arns: Arns) -> None:
        self._s3, self._arns = s3, arns
        self._id = f"bag-pipeline {arns.source.queue_name}"
        self.name = f"notifications of bucket {arns.source.bucket}"

    def look(self) -> State:
        """All that the bucket tells, to whomever; a bucket of another account is refused."""
        with aws.failures_named(self.name):
            told: Any = self._s3.get_bucket_notification_configuration(
                Bucket=self._arns.source.bucket, ExpectedBucketOwner=self._arns.account
            )
        return {name: value for name, value in told.items() if name != "ResponseMetadata"}

    def wanted(self, was: State | None) -> State:
        """With ours, and with everybody else's as they are.

        Raises:
            PipelineError: somebody else's overlaps with ours, which S3 refuses.
        """
        has, source = was or {}, self._arns.source
        if source.is_fifo:
            return {**self.without(has), "EventBridgeConfiguration": has.get("EventBridgeConfiguration", {})}
        where, arn = (
            ("TopicConfigurations", self._arns.topic[0]) if source.topic else ("QueueConfigurations", self._arns.queue)
        )
        rules = [{"Name": "suffix", "Value": SUFFIX}]
        sent = {_LISTS[where]: arn, "Events": list(EVENTS), "Filter": {"Key": {"FilterRules": rules}}}
        for _, one in _each(has):
            if meaning(_unnamed(one)) == meaning(sent):
                return has  # ours as it is to be, or the same under another Id
        rest = self.without(has)
        if overlapping := [_told(name, one) for name, one in _each(rest) if overlaps(one, sent)]:
            raise PipelineError(
                f"{self.name}: S3 allows one notification of an event of a key, and these are there: "
                + "; ".join(overlapping),
                kept="nothing was changed",
                by_hand="take them out of the bucket, or let a topic tell both (topic in [source NAME])",
            )
        return {**rest, where: [*rest.get(where, []), {"Id": self._id, **sent}]}

    def without(self, was: State) -> State:
        """Without ours. EventBridge stays switched on: others may rely on it, and by itself it costs nothing."""
        rest = {name: [one for one in was[name] if one.get("Id") != self._id] for name in _LISTS if name in was}
        others = {name: value for name, value in was.items() if name not in _LISTS}
        return {**others, **{name: kept for name, kept in rest.items() if kept}}

    def put(self, _: State | None, target: State | None) -> None:
        """Replace them all, as S3 knows no other way.

        Raises:
            PipelineError: S3 refuses, as it may not send to a destination, or to one of somebody else's.
        """
        put: Callable[..., Any] = self._s3.put_bucket_notification_configuration
        bucket, account = self._arns.source.bucket, self._arns.account
        with aws.failures_named(self.name):
            try:
                put(Bucket=bucket, NotificationConfiguration=target or {}, ExpectedBucketOwner=account)
            except Exception as error:
                if aws.error_code(error) != "InvalidArgument":
                    raise
                raise PipelineError(
                    f"{self.name}: {error}", kept="they stay as they were", by_hand=_IN_A_MINUTE
                ) from error


def _each(has: State) -> Iterator[tuple[str, State]]:
    for name in _LISTS:
        for one in has.get(name, []):
            yield name, one


def _unnamed(one: State) -> State:
    return {name: value for name, value in one.items() if name != "Id"}


def _told(name: str, one: State) -> str:
    return f"{one.get('Id', 'without an Id')} to {one[_LISTS[name]]} ({', '.join(one['Events'])})"


def overlaps(one: State, other: State) -> bool:
    """Whether two notifications tell of the same event of the same key.

    S3 User Guide, "Configuring event notifications using object key name filtering": two that share an event may not
    overlap in their prefixes and in their suffixes both.
    """
    shared = any(_same_event(mine, its) for mine in one["Events"] for its in other["Events"])
    (prefix, suffix), (its_prefix, its_suffix) = _filter(one), _filter(other)
    prefixes = prefix.startswith(its_prefix) or its_prefix.startswith(prefix)
    return shared and prefixes and (suffix.endswith(its_suffix) or its_suffix.endswith(suffix))


def _same_event(one: str, other: str) -> bool:
    short, long = sorted((one.removesuffix("*"), other.removesuffix("*")), key=len)
    return one == other or (long.startswith(short) and f"{short}*" in {one, other})


def _filter(one: State) -> tuple[str, str]:
    rules = one.get("Filter", {}).get("Key", {}).get("FilterRules", [])
    told = {rule["Name"].lower(): str(rule.get("Value", "")) for rule in rules}
    return told.get("prefix", ""), told.get("suffix", "")
