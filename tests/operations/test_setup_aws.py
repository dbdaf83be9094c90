"""`setup-aws`: what a source needs on AWS is made once, what others put there stays, and only what was made goes."""

import json
import urllib.request
import uuid
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from pipeline.embedded import embedded, stack
from pipeline.foundation import aws
from pipeline.foundation.errors import PipelineError
from pipeline.operations.aws_events import overlaps
from pipeline.operations.aws_parts import meaning
from pipeline.operations.setup_aws import SetUp, carry_out, of_replica
from pipeline.settings import Replica, Source
from pipeline.settings.rights import ROLES, Arns, ReplicaArns, SetUpArns, policy
from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import Site, lines
from tests.world.strict_aws import ACCOUNT, StrictAws, strict

KEY = f"arn:aws:kms:us-east-1:{ACCOUNT}:key/0b2a8a11-0000-4000-8000-000000000000"


@dataclass
class World:
    """A bucket on AWS that nobody has set up yet, and how it is asked of the world."""

    url: str
    source: Source
    s3: Any
    sqs: Any
    sns: Any
    events: Any
    strict: StrictAws

    def set_up(self, **source: Any) -> SetUp:
        with stack.credentials():
            return SetUp(replace(self.source, **source), lease_seconds=300)

    def make(self, **source: Any) -> list[str]:
        """What was said, a line a thing that was done."""
        said: list[str] = []
        with stack.credentials():
            carry_out(self.set_up(**source).changes(), said.append)
        return said

    def remove(self, *, losing_messages: bool = False, **source: Any) -> list[str]:
        said: list[str] = []
        with stack.credentials():
            carry_out(self.set_up(**source).removals(losing_messages=losing_messages), said.append)
        return said

    def notifications(self) -> dict[str, Any]:
        told = self.s3.get_bucket_notification_configuration(Bucket=self.source.bucket)
        return {name: value for name, value in told.items() if name != "ResponseMetadata"}

    def notify(self, **entries: Any) -> None:
        self.s3.put_bucket_notification_configuration(Bucket=self.source.bucket, NotificationConfiguration=entries)

    def queues(self) -> set[str]:
        told = self.sqs.list_queues(QueueNamePrefix=self.source.queue.removesuffix(".fifo")).get("QueueUrls", [])
        return {url.rpartition("/")[2] for url in told}

    def queue(self, name: str = "") -> dict[str, Any]:
        url = self.sqs.get_queue_url(QueueName=name or self.source.queue)["QueueUrl"]
        return dict(self.sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["All"])["Attributes"])

    def arn(self, name: str = "") -> str:
        return f"arn:aws:sqs:us-east-1:{ACCOUNT}:{name or self.source.queue}"

    def open_queue(self, name: str, **attributes: str) -> str:
        """A queue of somebody else's, to which this bucket may send."""
        statement = {
            "Sid": "theirs",
            "Effect": "Allow",
            "Principal": {"Service": "s3.amazonaws.com"},
            "Action": "sqs:SendMessage",
            "Resource": self.arn(name),
        }
        document = json.dumps({"Version": "2012-10-17", "Statement": [statement]})
        self.sqs.create_queue(QueueName=name, Attributes={"Policy": document, **attributes})
        return self.arn(name)

    def bodies(self) -> list[str]:
        url = self.sqs.get_queue_url(QueueName=self.source.queue)["QueueUrl"]
        told = self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10, VisibilityTimeout=0)
        return [message["Body"] for message in told.get("Messages", [])]

    def purge(self, name: str = "") -> None:
        url = self.sqs.get_queue_url(QueueName=name or self.source.queue)["QueueUrl"]
        for message in self.sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", []):
            self.sqs.delete_message(QueueUrl=url, ReceiptHandle=message["ReceiptHandle"])


@pytest.fixture
def world(moto_url: str) -> Iterator[World]:
    name = uuid.uuid4().hex[:10]
    with stack.credentials():
        sqs, sns, events = (
            aws.client(one, region="us-east-1", profile="", endpoint_url=moto_url) for one in ("sqs", "sns", "events")
        )
        with strict(moto_url, sqs, sns) as (url, double):
            source = Source("fpl", "us-east-1", f"bucket-{name}", f"Queue-{name}", endpoint_url=url)
            s3 = aws.s3_client(region="us-east-1", endpoint_url=url)
            s3.create_bucket(Bucket=source.bucket)
            yield World(url, source, s3, sqs, sns, events, double)


def entry(arn: str, *events: str, suffix: str = "bag.zip", prefix: str = "", name: str = "theirs") -> dict[str, Any]:
    rules = [{"Name": kind, "Value": value} for kind, value in (("suffix", suffix), ("prefix", prefix)) if value]
    limited = {"Filter": {"Key": {"FilterRules": rules}}} if rules else {}
    return {"Id": name, "QueueArn": arn, "Events": list(events), **limited}


def test_everything_is_made_once_and_a_bag_s_event_arrives(world: World) -> None:
    made = world.make()
    again = world.make()
    world.s3.put_object(Bucket=world.source.bucket, Key="Archive0/00/W1/W1.bag.zip", Body=b"bag")
    world.s3.put_object(Bucket=world.source.bucket, Key="readme.txt", Body=b"no bag")

    assert (len(made), again, world.strict.puts) == (3, [], 1)
    assert [json.loads(body).get("Event") for body in world.bodies()] == ["s3:TestEvent", None]
    queue, dead = world.queue(), world.queue(f"{world.source.queue}-dead-letters")
    redrive = {"deadLetterTargetArn": dead["QueueArn"], "maxReceiveCount": 8}
    assert json.loads(queue["RedrivePolicy"]) == redrive
    assert (queue["VisibilityTimeout"], queue["MessageRetentionPeriod"]) == ("300", "1209600")
    assert dead["MessageRetentionPeriod"] == "1209600"
    assert queue["SqsManagedSseEnabled"] == dead["SqsManagedSseEnabled"] == "true"


def test_only_this_bucket_of_this_account_may_send_and_nobody_without_tls(world: World) -> None:
    world.make()

    told = json.loads(world.queue()["Policy"])["Statement"]

    assert meaning([{key: one[key] for key in one if key != "Sid"} for one in told]) == meaning(
        [
            {
                "Effect": "Allow",
                "Principal": {"Service": ["s3.amazonaws.com"]},
                "Action": ["SQS:SendMessage"],
                "Resource": [world.arn()],
                "Condition": {
                    "ArnEquals": {"aws:SourceArn": f"arn:aws:s3:::{world.source.bucket}"},
                    "StringEquals": {"aws:SourceAccount": [ACCOUNT]},
                },
            },
            {
                "Effect": "Deny",
                "Principal": "*",
                "Action": "sqs:*",
                "Resource": world.arn(),
                "Condition": {"Bool": {"aws:SecureTransport": "false"}},
            },
        ]
    )


def test_what_others_put_on_the_bucket_and_the_queue_stays(world: World) -> None:
    other = world.open_queue(f"{world.source.queue}-other")
    world.open_queue(world.source.queue, VisibilityTimeout="30")
    theirs = entry(other, "s3:ObjectCreated:*", suffix=".txt"), entry(other, "s3:ObjectRemoved:*", name="gone")
    world.notify(QueueConfigurations=list(theirs), EventBridgeConfiguration={})

    world.make()
    notes, again = list(world.set_up().notes()), world.make()
    there, policies = world.notifications(), json.loads(world.queue()["Policy"])["Statement"]
    world.purge()
    world.remove()

    assert again == []
    assert [one["Id"] for one in there["QueueConfigurations"]] == [
        "theirs",
        "gone",
        f"bag-pipeline {world.source.queue}",
    ]
    assert meaning(there["QueueConfigurations"][:2]) == meaning(theirs)
    assert "EventBridgeConfiguration" in there
    assert [one["Sid"] for one in policies] == ["theirs", "BagPipelineSends", "BagPipelineOnlyTls"]
    assert lines("\n".join(notes), "statement theirs", "it stays")
    left = world.notifications()
    assert meaning(left["QueueConfigurations"]) == meaning(theirs)
    assert "EventBridgeConfiguration" in left
    assert world.queues() == {world.source.queue, f"{world.source.queue}-other"}
    kept = world.queue()
    assert [one["Sid"] for one in json.loads(kept["Policy"])["Statement"]] == ["theirs"]
    assert not kept.get("RedrivePolicy")


@pytest.mark.parametrize(
    ("events", "prefix", "suffix", "refused"),
    [
        (["s3:ObjectRestore:Completed"], "", "bag.zip", True),
        (["s3:ObjectCreated:Put"], "Archive0/", ".zip", True),
        (["s3:ObjectCreated:*"], "", "", True),
        (["s3:ObjectCreated:*"], "logs/", ".W1.bag.zip", True),
        (["s3:ObjectRemoved:*"], "", "bag.zip", False),
        (["s3:ObjectRestore:*"], "", ".txt", False),
        (["s3:ObjectTagging:*"], "", "", False),
    ],
)
def test_a_foreign_notification_that_overlaps_is_named_and_nothing_is_changed(
    world: World, events: list[str], prefix: str, suffix: str, *, refused: bool
) -> None:
    other = world.open_queue(f"{world.source.queue}-other")
    theirs = entry(other, *events, prefix=prefix, suffix=suffix)
    world.notify(QueueConfigurations=[theirs])

    if refused:
        with pytest.raises(PipelineError, match=f"theirs to {other}.*nothing was changed"):
            world.make()
        assert meaning(world.notifications()) == meaning({"QueueConfigurations": [theirs]})
        assert world.queues() == {f"{world.source.queue}-other"}
    else:
        assert len(world.make()) == 3
        assert len(world.notifications()["QueueConfigurations"]) == 2


def test_whether_two_notifications_overlap_is_judged_as_s3_judges_it(world: World) -> None:
    arn = world.open_queue(f"{world.source.queue}-other")
    one = entry(arn, "s3:ObjectCreated:*", "s3:ObjectRestore:Completed", prefix="Archive0/")
    for event in ("s3:ObjectCreated:Put", "s3:ObjectRestore:*", "s3:ObjectRemoved:Delete"):
        for prefix in ("", "Archive0/00", "Archive1/"):
            for suffix in ("zip", "W1.bag.zip", ".txt"):
                other = entry(arn, event, prefix=prefix, suffix=suffix, name="other")
                taken = True
                try:
                    world.notify(QueueConfigurations=[one, other])
                except world.s3.exceptions.ClientError:
                    taken = False
                assert overlaps(one, other) is not taken, other


def test_the_same_notification_under_another_name_is_as_good_as_ours(world: World) -> None:
    world.make()
    (ours,) = world.notifications()["QueueConfigurations"]
    world.notify(QueueConfigurations=[{**ours, "Id": "by hand", "Events": ours["Events"][::-1]}])

    assert world.make() == []


def test_what_changed_since_it_was_shown_is_not_overwritten(world: World) -> None:
    other = world.open_queue(f"{world.source.queue}-other")
    with stack.credentials():
        shown = world.set_up().changes()
    world.notify(QueueConfigurations=[entry(other, "s3:ObjectRemoved:*")])

    with pytest.raises(PipelineError, match="changed since it was shown; what was done before stays; to do: try again"):
        carry_out(shown, str)

    assert [one["Id"] for one in world.notifications()["QueueConfigurations"]] == ["theirs"]
    assert len(world.make()) == 1
    assert len(world.notifications()["QueueConfigurations"]) == 2


def test_a_set_up_that_failed_half_way_goes_on(world: World) -> None:
    other = world.open_queue(f"{world.source.queue}-other")
    world.notify(QueueConfigurations=[entry(other, "s3:ObjectRemoved:*")])
    url = world.sqs.get_queue_url(QueueName=f"{world.source.queue}-other")["QueueUrl"]
    world.sqs.set_queue_attributes(QueueUrl=url, Attributes={"Policy": ""})  # S3 asks all destinations, theirs too

    with pytest.raises(PipelineError, match=f"validate.*{other}.*stay as they were; to do: try again in a minute"):
        world.make()
    half = world.queues()
    world.sqs.delete_queue(QueueUrl=url)
    world.open_queue(f"{world.source.queue}-other")

    assert half > {world.source.queue, f"{world.source.queue}-dead-letters"}
    assert len(world.make()) == 1
    assert world.make() == []


def test_what_drifted_is_named_and_put_right(world: World) -> None:
    world.make()
    url = world.sqs.get_queue_url(QueueName=world.source.queue)["QueueUrl"]
    world.sqs.set_queue_attributes(QueueUrl=url, Attributes={"VisibilityTimeout": "30", "MessageRetentionPeriod": "60"})
    world.notify()

    with stack.credentials():
        drifted = [change.names for change in world.set_up().changes()]

    assert drifted == [
        f"queue {world.source.queue}: VisibilityTimeout, MessageRetentionPeriod, Policy",  # which moto then forgets
        f"notifications of bucket {world.source.bucket}: QueueConfigurations",
    ]
    assert len(world.make()) == 2
    assert world.queue()["VisibilityTimeout"] == "300"


def test_a_queue_that_was_there_keeps_its_dead_letter_queue_and_its_key(world: World) -> None:
    world.open_queue(f"{world.source.queue}-poison")
    redrive = json.dumps({"deadLetterTargetArn": world.arn(f"{world.source.queue}-poison"), "maxReceiveCount": "6"})
    world.open_queue(world.source.queue, RedrivePolicy=redrive, KmsMasterKeyId=KEY)

    world.make()

    assert meaning(json.loads(world.queue()["RedrivePolicy"])) == meaning(json.loads(redrive))
    assert world.queue()["KmsMasterKeyId"] == KEY
    assert world.queues() == {world.source.queue, f"{world.source.queue}-poison"}
    assert world.set_up().arns.dead_letters_name == f"{world.source.queue}-poison"


def test_a_key_encrypts_queues_and_topic(world: World) -> None:
    topic = world.source.queue.lower()
    made = world.make(kms_key=KEY, topic=topic)

    assert len(made) == 4
    assert world.queue()["KmsMasterKeyId"] == world.queue(f"{world.source.queue}-dead-letters")["KmsMasterKeyId"] == KEY
    told = world.sns.get_topic_attributes(TopicArn=f"arn:aws:sns:us-east-1:{ACCOUNT}:{topic}")
    assert told["Attributes"]["KmsMasterKeyId"] == KEY
    assert world.make(kms_key=KEY, topic=topic) == []


def test_with_a_topic_in_between_only_it_sends_to_the_queue_and_others_listen_too(world: World) -> None:
    topic, arn = world.source.queue.lower(), f"arn:aws:sns:us-east-1:{ACCOUNT}:{world.source.queue.lower()}"
    world.make(topic=topic)
    again = world.make(topic=topic)
    world.s3.put_object(Bucket=world.source.bucket, Key="W1.bag.zip", Body=b"bag")
    arrived = [json.loads(json.loads(body)["Message"]) for body in world.bodies()]
    (allowed, _) = json.loads(world.queue()["Policy"])["Statement"]
    other = world.sns.subscribe(TopicArn=arn, Protocol="sqs", Endpoint=world.open_queue(f"{topic}-other"))
    world.purge()
    world.remove(topic=topic)
    left = world.sns.list_subscriptions_by_topic(TopicArn=arn)["Subscriptions"]

    assert again == []
    assert arrived[-1]["Records"][0]["s3"]["object"]["key"] == "W1.bag.zip"
    assert allowed["Principal"] == {"Service": "sns.amazonaws.com"}
    assert meaning(allowed["Condition"]["ArnEquals"]) == {"aws:SourceArn": [arn]}
    assert [one["SubscriptionArn"] for one in left] == [other["SubscriptionArn"]]
    assert (world.notifications(), world.queues()) == ({}, set())


def test_a_topic_that_was_made_for_the_queue_alone_goes_with_it(world: World) -> None:
    topic = world.source.queue.lower()
    world.make(topic=topic)
    world.purge()
    world.remove(topic=topic)

    with pytest.raises(world.sns.exceptions.NotFoundException):
        world.sns.get_topic_attributes(TopicArn=f"arn:aws:sns:us-east-1:{ACCOUNT}:{topic}")


def test_a_fifo_queue_is_fed_by_eventbridge_as_s3_sends_to_none(world: World) -> None:
    fifo = replace(world, source=replace(world.source, queue=f"{world.source.queue}.fifo"))
    with pytest.raises(world.s3.exceptions.ClientError, match="Unable to validate"):
        fifo.notify(QueueConfigurations=[entry(fifo.open_queue("theirs.fifo", FifoQueue="true"), "s3:ObjectCreated:*")])

    made, again = fifo.make(), fifo.make()
    fifo.s3.put_object(Bucket=fifo.source.bucket, Key="W1.bag.zip", Body=b"bag")
    arrived = fifo.bodies()
    fifo.purge()
    removed = fifo.remove()

    assert (len(made), again) == (4, [])
    assert [json.loads(body)["detail"]["object"]["key"] for body in arrived] == ["W1.bag.zip"]
    assert len(removed) == 3
    assert (fifo.queues(), list(fifo.notifications())) == (set(), ["EventBridgeConfiguration"])
    with pytest.raises(world.events.exceptions.ResourceNotFoundException):
        world.events.describe_rule(Name=world.source.queue)


def test_a_rule_of_somebody_else_s_is_not_taken_over(world: World) -> None:
    world.events.put_rule(Name=world.source.queue, EventPattern='{"source": ["theirs"]}')

    with pytest.raises(PipelineError, match="somebody else's"):
        world.make(queue=f"{world.source.queue}.fifo")

    assert world.events.describe_rule(Name=world.source.queue)["EventPattern"] == '{"source": ["theirs"]}'
    assert world.queues() == set()


def test_only_what_was_made_is_removed_and_no_message_is_lost_unsaid(world: World) -> None:
    world.make()

    with pytest.raises(PipelineError, match="holds 1 messages, which would be lost; it stays"):
        world.remove()
    kept = world.queues()
    removed, again = world.remove(losing_messages=True), world.remove()

    assert kept == {world.source.queue, f"{world.source.queue}-dead-letters"}
    assert (len(removed), again) == (3, [])
    assert (world.queues(), world.notifications()) == (set(), {})


def test_a_queue_of_another_account_is_refused(world: World) -> None:
    with pytest.raises(PipelineError, match=f"is not of account {ACCOUNT}"):
        world.set_up(queue=f"{world.url}/999999999999/{world.source.queue}")


def test_each_role_s_policy_names_what_the_settings_have_and_no_more() -> None:
    plain = Source("fpl", "eu-west-1", "bags", "https://sqs.eu-west-1.amazonaws.com/123456789012/Ready")
    full = Source("nlm", "eu-west-1", "more", "Ready.fifo", kms_key=KEY)
    arns = [Arns(plain, ACCOUNT), Arns(full, ACCOUNT)]

    def granted(role: str, *some: Arns | ReplicaArns | SetUpArns) -> dict[str, set[str]]:
        found: dict[str, set[str]] = {}
        for statement in policy(role, some)["Statement"]:  # type: ignore[attr-defined]  # a document of JSON
            assert statement["Effect"] == "Allow"
            for action in statement["Action"]:
                found.setdefault(action, set()).update(statement["Resource"])
        return found

    worker, both = granted("worker", arns[0]), granted("worker", *arns)
    queues = {f"arn:aws:sqs:eu-west-1:{ACCOUNT}:{name}" for name in ("Ready", "Ready-dead-letters")}
    assert worker["sqs:DeleteMessage"] == queues
    assert worker["s3:GetObject"] == {"arn:aws:s3:::bags/*"}
    assert both["s3:ListBucket"] == {"arn:aws:s3:::bags", "arn:aws:s3:::more"}
    assert "kms:Decrypt" not in worker
    assert both["kms:Decrypt"] == {KEY}
    assert granted("restorer", arns[0]) == {"s3:RestoreObject": {"arn:aws:s3:::bags/*"}}
    assert not [one for one in granted("setup", arns[0]) if one.startswith(("sns:", "events:", "kms:"))]
    assert granted("setup", arns[1])["events:PutRule"] == {f"arn:aws:events:eu-west-1:{ACCOUNT}:rule/Ready"}
    assert granted("setup", SetUpArns(Replica("deep", bucket="second"))) == {
        f"s3:{verb}LifecycleConfiguration": {"arn:aws:s3:::second"} for verb in ("Get", "Put")
    }
    deep = ReplicaArns(Replica("deep", region="eu-west-1", bucket="second", prefix="copies/", lock_days=30))
    assert granted("replica", deep)["s3:PutObject"] == {"arn:aws:s3:::second/copies/*"}
    assert "kms:Decrypt" not in granted("replica", deep)
    assert "s3:PutObjectRetention" in granted("replica", deep)
    every = {role: granted(role, *arns) for role in ROLES if role != "replica"}
    assert [role for role in every if "s3:RestoreObject" in every[role]] == ["restorer"]
    assert not [
        one for told in every.values() for one in told if one in {"s3:PutObject", "s3:DeleteObject"} or "*" in one
    ]


def test_the_verb_shows_a_plan_asks_and_prints_policies(site: Site) -> None:
    queue = f"{site.queue}-new"
    site.s3.put_bucket_notification_configuration(Bucket=site.bucket, NotificationConfiguration={})
    chosen = {"PIPELINE_SOURCE_TEST_QUEUE": queue}

    planned, asked = site.call("setup-aws", "test", "--plan", **chosen), site.call("setup-aws", **chosen)
    with pytest.raises(site.sqs.exceptions.QueueDoesNotExist):
        site.sqs.get_queue_url(QueueName=queue)
    made, again = site.call("setup-aws", "--yes", **chosen), site.call("setup-aws", "--yes", **chosen)
    printed = json.loads(site.call("setup-aws", "--policy", "worker", **chosen).stdout)

    assert (planned.returncode, asked.returncode, made.returncode, again.returncode) == (0, 2, 0, 0), made.stderr
    assert lines(planned.stdout, f"queue {queue} would be made")
    assert lines(planned.stdout, "+ QueueConfigurations", "bag.zip", "s3:ObjectRestore:*")
    assert lines(asked.stderr, "nothing was done", "--yes")
    assert lines(made.stdout, f"queue {queue}: done")
    assert again.stdout == "test: nothing to do\n"
    assert f"arn:aws:sqs:us-east-1:{ACCOUNT}:{queue}" in printed["Statement"][0]["Resource"]


def test_what_the_policies_grant_is_enough_and_neither_role_can_do_the_other_s_work(
    tmp_path: Path, database: Path
) -> None:
    """moto knows who may call what, but not on which queue: so every resource is granted here, and no more verbs."""
    with embedded.moto(log=tmp_path / "moto.log") as url:
        site = Site.make(tmp_path / "site", url, "http://127.0.0.1:9", database=database)
        site.s3.put_bucket_notification_configuration(Bucket=site.bucket, NotificationConfiguration={})
        site.settings = {"PIPELINE_SOURCE_TEST_QUEUE": f"{site.queue}-new"}
        with stack.credentials():
            iam = aws.client("iam", region="us-east-1", profile="", endpoint_url=url)
        users = {}
        for role in ("setup", "worker"):
            document = json.loads(site.call("setup-aws", "--policy", role).stdout)
            for statement in document["Statement"]:
                statement["Resource"] = "*"
                if "s3:ListBucket" in statement["Action"]:
                    statement["Action"].append("s3:HeadBucket")  # which AWS does not know: to list is to look
            iam.create_user(UserName=role)
            iam.put_user_policy(UserName=role, PolicyName="least", PolicyDocument=json.dumps(document))
            key = iam.create_access_key(UserName=role)["AccessKey"]
            users[role] = {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}

        def ask_who_calls(after: bytes) -> None:
            plain = {"Content-Type": "text/plain"}
            urllib.request.urlopen(urllib.request.Request(f"{url}/moto-api/reset-auth", after, plain)).close()

        ask_who_calls(b"0")
        denied, made = (site.call("setup-aws", "--yes", **users[role]) for role in ("worker", "setup"))
        ask_who_calls(b"inf")
        site.put(make_bag_zip(tmp_path, "W1"))
        ask_who_calls(b"0")
        run = ("run", "--lanes", "1", "--local-scheduler")
        refused, home = (site.call(*run, **users[role]) for role in ("setup", "worker"))
        checked, removed = (
            site.call("check", **users["worker"]),
            site.call("setup-aws", "--remove", "--yes", **users["setup"]),
        )

    assert (denied.returncode, refused.returncode) == (3, 3)
    assert lines(denied.stderr, "sqs:CreateQueue")
    assert lines(refused.stderr, "sqs:ReceiveMessage")
    assert (made.returncode, home.returncode, removed.returncode) == (0, 0, 0), (
        made.stderr + home.stderr + removed.stderr
    )
    assert site.archived("W1") == SMALL_WORK
    assert lines(checked.stdout, "set-up of test", " ok ", "as setup-aws makes it")


def test_the_verb_names_sources_that_there_are_not(site: Site) -> None:
    ended = site.call("setup-aws", "fpl")

    assert ended.returncode == 2
    assert lines(ended.stderr, "no queue's source or replica is called fpl", "take one of luigi.cfg: test")


def test_check_names_what_drifted_and_the_command_that_shows_it(site: Site) -> None:
    site.s3.put_bucket_notification_configuration(Bucket=site.bucket, NotificationConfiguration={})
    before = site.call("check")
    site.call("setup-aws", "--yes")
    after = site.call("check")

    assert (before.returncode, after.returncode) == (0, 0)
    assert lines(
        before.stdout, "set-up of test", "limited", f"queue {site.queue}", "run_pipeline.py setup-aws test --plan"
    )
    assert lines(after.stdout, "set-up of test", " ok ", "as setup-aws makes it")


@pytest.mark.parametrize(
    ("setting", "value", "said"),
    [
        ("KMS_KEY", "alias/aws/sqs", "not the ARN of a key"),
        ("TOPIC", "bags.fifo", "not the name of a standard topic"),
        ("TOPIC", "arn:aws:sns:us-east-1:1:bags", "not the name of a standard topic"),
    ],
)
def test_a_key_or_a_topic_that_s3_cannot_use_is_a_wrong_setting(
    site: Site, setting: str, value: str, said: str
) -> None:
    ended = site.call("setup-aws", **{f"PIPELINE_SOURCE_TEST_{setting}": value})

    assert ended.returncode == 2
    assert lines(ended.stderr, f"[source test] {setting.lower()}", said)


def test_a_replica_s_bucket_lets_go_of_uploads_that_never_end_and_keeps_its_other_rules(moto_url: str) -> None:
    s3, name = stack.clients(moto_url)[0], f"second-{uuid.uuid4().hex[:10]}"
    s3.create_bucket(Bucket=name)
    theirs: Any = {"ID": "theirs", "Status": "Enabled", "Filter": {"Prefix": "x/"}, "Expiration": {"Days": 30}}
    s3.put_bucket_lifecycle_configuration(Bucket=name, LifecycleConfiguration={"Rules": [theirs]})
    replica = Replica("deep", region="us-east-1", bucket=name, prefix="copies/", endpoint_url=moto_url)

    with stack.credentials():
        carry_out(of_replica(replica).changes(), print)
        rules = s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]
        assert of_replica(replica).changes() == []
        carry_out(of_replica(replica).removals(losing_messages=False), print)

    assert [rule["ID"] for rule in rules] == ["theirs", "bag-pipeline unfinished uploads of deep"]
    assert rules[1]["AbortIncompleteMultipartUpload"] == {"DaysAfterInitiation": 7}
    assert [rule["ID"] for rule in s3.get_bucket_lifecycle_configuration(Bucket=name)["Rules"]] == ["theirs"]
