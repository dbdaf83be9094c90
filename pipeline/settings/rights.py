"""What each role may do on AWS: the least that the settings need. IAM policies and docs/rights.md are made of it."""

from collections.abc import Iterable
from dataclasses import dataclass

from pipeline.replicate import Replica
from pipeline.settings.sections import Source


@dataclass(frozen=True)
class Arns:
    """The ARNs of what a source has on AWS, each a list: what it has not is left out.

    Attributes:
        source: the source, set up as luigi.cfg has it.
        account: the number of the AWS account.
        dead_letters: the name of the dead-letter queue, where it is not the queue's own with an ending.
        partition: the part of the ARNs that says whether it is AWS proper, China's, or a government's.
    """

    source: Source
    account: str
    dead_letters: str = ""
    partition: str = "aws"

    def _of(self, service: str, name: str) -> str:
        return f"arn:{self.partition}:{service}:{self.source.region}:{self.account}:{name}"

    @property
    def dead_letters_name(self) -> str:
        """The name of the dead-letter queue; one of a FIFO queue is FIFO too."""
        base = self.source.queue_name.removesuffix(".fifo")
        return self.dead_letters or f"{base}-dead-letters{'.fifo' if self.source.is_fifo else ''}"

    @property
    def rule_name(self) -> str:
        """The name of EventBridge's rule, which may not be longer."""
        return self.source.queue_name.removesuffix(".fifo")[:64]

    @property
    def queue(self) -> str:
        """The queue."""
        return self._of("sqs", self.source.queue_name)

    @property
    def queues(self) -> list[str]:
        """The queue, then its dead-letter queue."""
        return [self.queue, self._of("sqs", self.dead_letters_name)]

    @property
    def bucket(self) -> list[str]:
        """The bucket."""
        return [f"arn:{self.partition}:s3:::{self.source.bucket}"]

    @property
    def objects(self) -> list[str]:
        """The bucket's objects."""
        return [f"{arn}/*" for arn in self.bucket]

    @property
    def topic(self) -> list[str]:
        """The topic in between, where there is one."""
        return [self._of("sns", self.source.topic)] if self.source.topic else []

    @property
    def subscriptions(self) -> list[str]:
        """Subscriptions, by which IAM knows no resource."""
        return ["*"] if self.source.topic else []

    @property
    def rule(self) -> list[str]:
        """EventBridge's rule, which a FIFO queue needs."""
        return [self._of("events", f"rule/{self.rule_name}")] if self.source.is_fifo else []

    @property
    def key(self) -> list[str]:
        """The key of the queues, where they have one of their own."""
        return [self.source.kms_key] if self.source.kms_key else []


@dataclass(frozen=True)
class ReplicaArns:
    """The ARNs of what a replica has on AWS, as `Arns`."""

    replica: Replica

    @property
    def bucket(self) -> list[str]:
        """The bucket."""
        return [f"arn:aws:s3:::{self.replica.bucket}"]

    @property
    def objects(self) -> list[str]:
        """The second copies."""
        return [f"{arn}/{self.replica.prefix}*" for arn in self.bucket]

    @property
    def locked(self) -> list[str]:
        """The second copies, where nobody may delete them for a while."""
        return self.objects if self.replica.lock_days else []

    @property
    def key(self) -> list[str]:
        """The key of the copies, where they have one of their own."""
        return [self.replica.kms_key] if self.replica.kms_key else []


@dataclass(frozen=True)
class SetUpArns:
    """The ARNs of what is set up for a replica, as `Arns`."""

    replica: Replica

    @property
    def second(self) -> list[str]:
        """The bucket."""
        return ReplicaArns(self.replica).bucket


@dataclass(frozen=True)
class Right:
    """What a role may do.

    Attributes:
        on: of what: a list of `Arns`.
        actions: that it may do.
        why: what it needs them for.
    """

    on: str
    actions: tuple[str, ...]
    why: str


_RECEIVE = ("sqs:ReceiveMessage", "sqs:ChangeMessageVisibility", "sqs:DeleteMessage", "sqs:SendMessage")
_FIND = ("sqs:GetQueueUrl", "sqs:GetQueueAttributes")
_READ = Right("objects", ("s3:GetObject", "s3:GetObjectVersion"), "downloads; what S3 tells of an object")
ON = {
    "queues": "the queue and its dead-letter queue",
    "bucket": "the bucket",
    "objects": "its objects",
    "topic": "the topic, with `topic`",
    "subscriptions": "all, with `topic`: subscriptions have no name before they are there",
    "rule": "the rule of EventBridge, with a FIFO queue",
    "key": "the key, with `kms_key`",
    "second": "the buckets of replicas",
    "locked": "its objects, with `lock_days`",
}
"""What a right is on, for people."""
ROLES: dict[str, tuple[Right, ...]] = {
    "worker": (
        Right("queues", _FIND + _RECEIVE, "taking messages, giving them back, dead letters, `dead-letters resend`"),
        Right("key", ("kms:Decrypt", "kms:GenerateDataKey"), "reading and sending messages that it encrypts"),
        Right(
            "bucket",
            ("s3:ListBucket", "s3:GetBucketNotification"),
            "telling what is gone from what is forbidden; `restore --prefix`; `check`",
        ),
        _READ,
    ),
    "restorer": (
        Right("objects", ("s3:RestoreObject",), "asking for restores; the rest of `restore` is the worker's"),
    ),
    "replica": (
        Right(
            "bucket",
            ("s3:ListBucket", "s3:ListBucketMultipartUploads", "s3:GetBucketVersioning"),
            "what is there; uploads that did not end; whether it keeps versions",
        ),
        Right(
            "objects",
            ("s3:GetObject", "s3:PutObject", "s3:AbortMultipartUpload", "s3:ListMultipartUploadParts"),
            "sending second copies, and looking at them without a byte retrieved",
        ),
        Right("locked", ("s3:PutObjectRetention",), "keeping anybody from deleting them"),
        Right("key", ("kms:Decrypt", "kms:GenerateDataKey"), "what S3 encrypts with it"),
    ),
    "setup": (
        Right(
            "queues",
            (
                *_FIND,
                "sqs:CreateQueue",
                "sqs:SetQueueAttributes",
                "sqs:TagQueue",
                "sqs:ListQueueTags",
                "sqs:DeleteQueue",
            ),
            "making them, and taking them away again",
        ),
        Right("bucket", ("s3:GetBucketNotification", "s3:PutBucketNotification"), "what the bucket tells to whom"),
        Right(
            "second",
            ("s3:GetLifecycleConfiguration", "s3:PutLifecycleConfiguration"),
            "letting go of uploads of second copies that never end",
        ),
        Right(
            "topic",
            (
                *("sns:GetTopicAttributes", "sns:CreateTopic", "sns:SetTopicAttributes", "sns:TagResource"),
                *("sns:ListTagsForResource", "sns:DeleteTopic", "sns:ListSubscriptionsByTopic", "sns:Subscribe"),
            ),
            "making it, with the queue's subscription",
        ),
        Right("subscriptions", ("sns:Unsubscribe",), "taking the queue's subscription away"),
        Right(
            "rule",
            (
                *("events:DescribeRule", "events:PutRule", "events:TagResource", "events:ListTagsForResource"),
                *("events:ListTargetsByRule", "events:PutTargets", "events:RemoveTargets", "events:DeleteRule"),
            ),
            "making it, and taking it away again",
        ),
    ),
}


def policy(role: str, sources: Iterable[Arns | ReplicaArns | SetUpArns]) -> dict[str, object]:
    """The least IAM policy with which a role can do its work on these sources, or replicas."""
    known = list(sources)
    named = [(right, {arn for arns in known for arn in getattr(arns, right.on, [])}) for right in ROLES[role]]
    statements = [
        {"Effect": "Allow", "Action": list(right.actions), "Resource": sorted(found)} for right, found in named if found
    ]
    return {"Version": "2012-10-17", "Statement": statements}
