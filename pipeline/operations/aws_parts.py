"""What a source needs on AWS, part by part: how each one is, how it is to be, and how it would be without us.

A part's state is JSON-able data, and None where it is not there. Whatever asks AWS raises PipelineError, by its name.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from pipeline.foundation import aws
from pipeline.foundation.errors import PipelineError
from pipeline.settings.rights import Arns

if TYPE_CHECKING:
    from mypy_boto3_sqs import SQSClient

State = dict[str, Any]
TAG = "bag-pipeline"
"""The tag of what was made here; what has none was there before, and is never deleted."""
_SENDS, _TLS = "BagPipelineSends", "BagPipelineOnlyTls"  # the Sids of our statements
_RETENTION_SECONDS, _LEAST_RECEIVES, _RECEIVES = 1_209_600, 5, 8
EVENTS = ("s3:ObjectCreated:*", "s3:ObjectRestore:*")
SUFFIX = "bag.zip"
_NO_KEY_FOR_S3 = {"none", "alias/aws/sqs"}  # S3 cannot send to a queue with the key that KMS keeps for SQS
_MISSING = {"AWS.SimpleQueueService.NonExistentQueue", "QueueDoesNotExist", "NotFound", "ResourceNotFoundException"} | {
    "NoSuchLifecycleConfiguration"
}
_SCALAR_ATTRIBUTES = ("VisibilityTimeout", "MessageRetentionPeriod", "FifoQueue", "ContentBasedDeduplication")


class Part(Protocol):
    """A part of a source's set-up."""

    name: str

    def look(self) -> State | None:
        """How it is."""

    def wanted(self, was: State | None) -> State:
        """How it is to be: what is there already, changed as little as can be."""

    def without(self, was: State) -> State | None:
        """How it would be had it never been set up here."""

    def put(self, was: State | None, target: State | None) -> None:
        """Make it so."""


def found(ask: Callable[..., Any], what: str, **how: Any) -> Any:
    """What AWS answers; None where it says that there is no such thing."""
    with aws.failures_named(what):
        try:
            return ask(**how)
        except Exception as error:
            if aws.error_code(error) in _MISSING:
                return None
            raise


def meaning(value: Any, name: str = "") -> Any:
    """What a policy or a notification means: one value or a list of one, order, and the case of verbs are the same."""
    if isinstance(value, Mapping):
        return {key: meaning(one, key) for key, one in value.items()}
    many = value if isinstance(value, Sequence) and not isinstance(value, str) else [value]
    small = name in {"Action", "NotAction", "Name"}  # S3 answers `Suffix` to `suffix`
    told = [meaning(one) if isinstance(one, Mapping) else f"{one}".lower() if small else f"{one}" for one in many]
    return sorted(told, key=repr)


def _allowed(service: str, action: str, resource: str, *, source_arn: str, account: str) -> State:
    """The statement that lets a service of AWS send, in the name of one thing of one account alone."""
    return {
        "Sid": _SENDS,
        "Effect": "Allow",
        "Principal": {"Service": f"{service}.amazonaws.com"},
        "Action": action,
        "Resource": resource,
        "Condition": {"ArnEquals": {"aws:SourceArn": source_arn}, "StringEquals": {"aws:SourceAccount": account}},
    }


def _only_tls(actions: str, resource: str) -> State:
    condition = {"Bool": {"aws:SecureTransport": "false"}}
    rest = {"Principal": "*", "Action": actions, "Resource": resource, "Condition": condition}
    return {"Sid": _TLS, "Effect": "Deny", **rest}


def _statements(policy: State | None) -> list[State]:
    told = (policy or {}).get("Statement", [])
    return [told] if isinstance(told, dict) else list(told)


def _foreign(policy: State | None) -> list[State]:
    return [one for one in _statements(policy) if one.get("Sid") not in {_SENDS, _TLS}]


def _with_ours(policy: State | None, ours: list[State]) -> State:
    """A policy with our statements, and with everybody else's as they are."""
    foreign = _foreign(policy)
    there = [one for one in _statements(policy) if one not in foreign]
    if policy and meaning(there) == meaning(ours):
        return policy
    return {"Version": "2012-10-17", **(policy or {}), "Statement": [*foreign, *ours]}


def _without_ours(was: State) -> State:
    """A state whose policy has lost our statements."""
    rest = {key: value for key, value in was.items() if key != "Policy"}
    foreign = _foreign(was.get("Policy"))
    return {**rest, "Policy": {**was["Policy"], "Statement": foreign}} if foreign else rest


def also_allowed(policy: State | None) -> list[str]:
    """The statements of others that let somebody send, by their names."""
    return [str(one.get("Sid", "without a Sid")) for one in _foreign(policy) if one.get("Effect") == "Allow"]


class QueuePart:
    """A queue: the one that brings messages, with the dead-letter queue behind it; or that one, which has none."""

    def __init__(self, sqs: "SQSClient", arns: Arns, *, lease_seconds: int, dead: bool = False) -> None:
        self._sqs, self._arns, self._dead, self._lease_seconds = sqs, arns, dead, lease_seconds
        self._arn, self._dead_arn = arns.queues[dead], arns.queues[1]
        self.queue = self._arn.rpartition(":")[2]
        self.name = f"{'dead-letter ' if dead else ''}queue {self.queue}"
        self.losing_messages = False  # an operator's word

    def look(self) -> State | None:
        """How it is: of its attributes those that a set-up is about."""
        url = self._url()
        if not url:
            return None
        with aws.failures_named(self.name):
            told: Any = self._sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"]
        state = {name: json.loads(told[name]) for name in _SCALAR_ATTRIBUTES if name in told}
        state |= {name: json.loads(told[name]) for name in ("RedrivePolicy", "Policy") if told.get(name)}
        own_key = "SQS" if told.get("SqsManagedSseEnabled") == "true" else "none"
        return {**state, "encryption": told.get("KmsMasterKeyId") or own_key}

    def wanted(self, was: State | None) -> State:
        """Kept for 14 days, encrypted, sent to by the bucket alone; hidden for a lease, and redriven."""
        has, source = was or {}, self._arns.source
        there = has.get("encryption", "none")
        target = {
            **has,
            "MessageRetentionPeriod": _RETENTION_SECONDS,
            "encryption": source.kms_key or ("SQS" if there in _NO_KEY_FOR_S3 else there),
            "Policy": _with_ours(has.get("Policy"), self._ours()),
        }
        if source.is_fifo:
            target |= {"FifoQueue": True, "ContentBasedDeduplication": True}
        return target if self._dead else {**target, **self._redriven(has.get("RedrivePolicy", {}))}

    def _redriven(self, policy: State) -> State:
        kept = int(policy.get("maxReceiveCount", 0)) >= _LEAST_RECEIVES
        made = {"deadLetterTargetArn": self._dead_arn, "maxReceiveCount": _RECEIVES}
        return {"VisibilityTimeout": self._lease_seconds, "RedrivePolicy": policy if kept else made}

    def _ours(self) -> list[State]:
        arns = self._arns
        tls = _only_tls("sqs:*", self._arn)
        if self._dead:
            return [tls]
        way = ("s3", arns.bucket[0])
        if arns.source.is_fifo:
            way = ("events", arns.rule[0])
        elif arns.source.topic:
            way = ("sns", arns.topic[0])
        return [
            _allowed(way[0], "sqs:SendMessage", self._arn, source_arn=way[1], account=arns.account),
            tls,
        ]

    def without(self, was: State) -> State | None:
        """Not there, if it was made here; else without our statements, and without a redrive to what was made here."""
        if self.made_here():
            return None
        bare = _without_ours(was)
        redrive = was.get("RedrivePolicy", {}).get("deadLetterTargetArn")
        if redrive == self._dead_arn and QueuePart(self._sqs, self._arns, lease_seconds=0, dead=True).made_here():
            del bare["RedrivePolicy"]
        return bare

    def put(self, was: State | None, target: State | None) -> None:
        """Make it so.

        Raises:
            PipelineError: messages would be lost.
        """
        with aws.failures_named(self.name):
            if target is None:
                self.see_empty()
                self._sqs.delete_queue(QueueUrl=self._url())
            elif was is None:
                attributes: Any = _attributes(target)
                self._sqs.create_queue(QueueName=self.queue, Attributes=attributes, tags={TAG: self._arns.source.name})
            else:
                changed = _attributes({key: value for key, value in target.items() if was.get(key) != value})
                cleared: Any = {key: "" for key in was if key not in target}
                self._sqs.set_queue_attributes(QueueUrl=self._url(), Attributes=changed | cleared)

    def see_empty(self) -> None:
        """See that no message would be lost with the queue, unless an operator lets them go.

        Raises:
            PipelineError: it holds messages.
        """
        with aws.failures_named(self.name):
            told = self._sqs.get_queue_attributes(QueueUrl=self._url(), AttributeNames=["All"])["Attributes"]
        count = sum(int(number) for name, number in told.items() if name.startswith("ApproximateNumberOfMessages"))
        if count and not self.losing_messages:
            raise PipelineError(
                f"{self.name} holds {count} messages, which would be lost",
                kept="it stays",
                by_hand="try again once they are home, or with --with-messages",
            )

    def made_here(self) -> bool:
        """Whether it is there and has our tag."""
        url = self._url()
        with aws.failures_named(self.name):
            return bool(url) and TAG in self._sqs.list_queue_tags(QueueUrl=url).get("Tags", {})

    def _url(self) -> str:
        told = found(self._sqs.get_queue_url, self.name, QueueName=self.queue)
        return str(told["QueueUrl"]) if told else ""


def _attributes(state: State) -> dict[str, str]:
    """A queue's state as SQS takes it."""
    rest = {key: value for key, value in state.items() if key != "encryption"}
    sent = {key: value if isinstance(value, str) else json.dumps(value) for key, value in rest.items()}
    key = state.get("encryption")
    return sent | ({"SqsManagedSseEnabled": "true"} if key == "SQS" else {"KmsMasterKeyId": key} if key else {})


class TopicPart:
    """The topic of SNS in between, with the queue's subscription."""

    def __init__(self, sns: Any, arns: Arns) -> None:
        self._sns, self._arns, self._arn = sns, arns, arns.topic[0]
        self.name = f"topic {arns.source.topic}"

    def look(self) -> State | None:
        """How it is, and whether the queue is subscribed."""
        told = found(self._sns.get_topic_attributes, self.name, TopicArn=self._arn)
        if told is None:
            return None
        has = told["Attributes"]
        state = {"Policy": json.loads(has["Policy"])} if has.get("Policy") else {}
        key = {"KmsMasterKeyId": has["KmsMasterKeyId"]} if has.get("KmsMasterKeyId") else {}
        ours = [one for one in self._subscriptions() if one["Endpoint"] == self._arns.queue]
        return {**state, **key, "subscribed": [one["Endpoint"] for one in ours]}

    def wanted(self, was: State | None) -> State:
        """Published to by the bucket alone, and the queue is subscribed."""
        arns, has = self._arns, was or {}
        key = {"KmsMasterKeyId": arns.source.kms_key} if arns.source.kms_key else {}
        sends = _allowed("s3", "sns:Publish", self._arn, source_arn=arns.bucket[0], account=arns.account)
        ours = [sends, _only_tls("sns:Publish", self._arn)]
        return {**has, **key, "Policy": _with_ours(has.get("Policy"), ours), "subscribed": [arns.queue]}

    def without(self, was: State) -> State | None:
        """Not there, if it was made here and nobody else is subscribed; else without our statements and the queue."""
        with aws.failures_named(self.name):
            tags = self._sns.list_tags_for_resource(ResourceArn=self._arn)["Tags"]
        others = [one for one in self._subscriptions() if one["Endpoint"] != self._arns.queue]
        if any(tag["Key"] == TAG for tag in tags) and not others:
            return None
        return {**was, **_without_ours(was), "subscribed": []}

    def put(self, was: State | None, target: State | None) -> None:
        """Make it so; of the subscriptions only the queue's is touched."""
        has, to = was or {}, target or {"subscribed": []}
        with aws.failures_named(self.name):
            for one in self._subscriptions() if has.get("subscribed") and not to["subscribed"] else []:
                if one["Endpoint"] == self._arns.queue:
                    self._sns.unsubscribe(SubscriptionArn=one["SubscriptionArn"])
            if target is None:
                self._sns.delete_topic(TopicArn=self._arn)
                return
            changed = {key: to[key] for key in ("Policy", "KmsMasterKeyId") if to.get(key) != has.get(key)}
            sent = {key: value if isinstance(value, str) else json.dumps(value) for key, value in changed.items()}
            if was is None:
                tags = [{"Key": TAG, "Value": self._arns.source.name}]
                self._sns.create_topic(Name=self._arns.source.topic, Attributes=sent, Tags=tags)
            for key, value in sent.items() if was is not None else ():
                self._sns.set_topic_attributes(TopicArn=self._arn, AttributeName=key, AttributeValue=value)
            if to["subscribed"] and not has.get("subscribed"):
                self._sns.subscribe(TopicArn=self._arn, Protocol="sqs", Endpoint=self._arns.queue)

    def _subscriptions(self) -> list[Any]:
        with aws.failures_named(self.name):
            pages = self._sns.get_paginator("list_subscriptions_by_topic").paginate(TopicArn=self._arn)
            return [one for page in pages for one in page["Subscriptions"]]
