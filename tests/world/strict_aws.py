"""moto's AWS, but S3's notifications are as strict as S3's own: what moto lets pass is refused here.

S3 asks whether it may send to each destination, knows no FIFO queue, and lets no two notifications tell of the same
event of the same key (API Reference, PutBucketNotificationConfiguration; User Guide, "Configuring event notifications
using object key name filtering"). It answers `Suffix` where it was sent `suffix`, and forgets no EventBridge.
"""

import http.client
import http.server
import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlsplit
from xml.etree import ElementTree as ET

NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"
ACCOUNT = "123456789012"
Policies = Callable[[str], dict[str, Any] | None]


def _tag(element: ET.Element) -> str:
    return element.tag.rpartition("}")[2]


def _texts(element: ET.Element, name: str) -> list[str]:
    return [one.text or "" for one in element.iter() if _tag(one) == name]


def _filter(element: ET.Element) -> dict[str, str]:
    names, values = _texts(element, "Name"), _texts(element, "Value")
    return {"prefix": "", "suffix": "", **{name.lower(): value for name, value in zip(names, values, strict=True)}}


def _overlap(one: ET.Element, other: ET.Element) -> bool:
    events = ((mine, its) for mine in _texts(one, "Event") for its in _texts(other, "Event"))
    if not any(fnmatchcase(mine, its) or fnmatchcase(its, mine) for mine, its in events):
        return False
    mine, its = _filter(one), _filter(other)
    prefixes = sorted((mine["prefix"], its["prefix"]), key=len)
    suffixes = sorted((mine["suffix"], its["suffix"]), key=len)
    return prefixes[1].startswith(prefixes[0]) and suffixes[1].endswith(suffixes[0])


def may_send(policy: dict[str, Any] | None, *, action: str, arn: str, bucket: str) -> bool:
    """Whether a destination's policy lets S3 send to it for this bucket; a narrow reading of IAM's rules."""
    known = {"aws:SourceArn": f"arn:aws:s3:::{bucket}", "aws:SourceAccount": ACCOUNT, "aws:SecureTransport": "true"}
    for one in (policy or {}).get("Statement", []):
        service = one["Principal"] == "*" or one["Principal"].get("Service") == "s3.amazonaws.com"
        meant = one["Action"] in {action, action.partition(":")[0] + ":*"} and one["Resource"] == arn
        tests = [(name, value) for condition in one.get("Condition", {}).values() for name, value in condition.items()]
        if service and meant and all(known[name] == value for name, value in tests):
            return bool(one["Effect"] == "Allow")
    return False


class StrictAws:
    """Stands before moto, and keeps each bucket's notifications itself."""

    def __init__(self, moto_url: str, *, queue_policy: Policies, topic_policy: Policies) -> None:
        self.moto = urlsplit(moto_url)
        self.queue_policy, self.topic_policy = queue_policy, topic_policy
        self.notifications: dict[str, bytes] = {}
        self.puts = 0

    def refusal(self, bucket: str, body: bytes) -> str:
        """Why S3 would not take these notifications; empty: it would."""
        entries = [one for one in ET.fromstring(body) if _tag(one) != "EventBridgeConfiguration"]
        for number, one in enumerate(entries):
            kind = _tag(one).removesuffix("Configuration")
            arn = _texts(one, kind)[0]
            policy = self.queue_policy(arn) if kind == "Queue" else self.topic_policy(arn)
            action = "sqs:SendMessage" if kind == "Queue" else "sns:Publish"
            if arn.endswith(".fifo") or not may_send(policy, action=action, arn=arn, bucket=bucket):
                return f"Unable to validate the following destination configurations: {arn}"
            if any(_overlap(one, other) for other in entries[:number]):
                return "Configurations overlap. Configurations on the same bucket cannot share a common event type."
        return ""

    def answer(self, handler: http.server.BaseHTTPRequestHandler) -> tuple[int, bytes]:
        body = handler.rfile.read(int(handler.headers.get("Content-Length", 0)))
        bucket = urlsplit(handler.path).path.strip("/")
        asked = "notification" in urlsplit(handler.path).query
        if asked and handler.command == "GET":
            return 200, self.notifications.get(bucket, f'<NotificationConfiguration xmlns="{NAMESPACE}"/>'.encode())
        if asked:
            self.puts += 1
            if problem := self.refusal(bucket, body):
                return 400, f"<Error><Code>InvalidArgument</Code><Message>{problem}</Message></Error>".encode()
            self.notifications[bucket] = body.replace(b">suffix<", b">Suffix<").replace(b">prefix<", b">Prefix<")
        upstream = http.client.HTTPConnection(self.moto.hostname or "", self.moto.port or 0)
        upstream.request(handler.command, handler.path, body, dict(handler.headers))
        told = upstream.getresponse()
        status, content = told.status, told.read()
        upstream.close()
        return (200, b"") if asked else (status, content)  # moto stumbles over some, and then delivers nothing


@contextmanager
def strict(moto_url: str, sqs: Any, sns: Any) -> Iterator[tuple[str, StrictAws]]:
    """AWS at a URL of its own, and what it keeps."""

    def queue_policy(arn: str) -> dict[str, Any] | None:
        try:
            url = sqs.get_queue_url(QueueName=arn.rpartition(":")[2])["QueueUrl"]
        except sqs.exceptions.QueueDoesNotExist:
            return None
        told = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["Policy"]).get("Attributes", {})
        return json.loads(told["Policy"]) if told.get("Policy") else None

    def topic_policy(arn: str) -> dict[str, Any] | None:
        try:
            return dict(json.loads(sns.get_topic_attributes(TopicArn=arn)["Attributes"]["Policy"]))
        except sns.exceptions.NotFoundException:
            return None

    aws = StrictAws(moto_url, queue_policy=queue_policy, topic_policy=topic_policy)

    class Handler(http.server.BaseHTTPRequestHandler):
        def _answer(self) -> None:
            status, content = aws.answer(self)
            self.send_response(status)
            self.send_header("Content-Type", "application/xml" if content[:1] == b"<" else "application/x-amz-json-1.0")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PUT = do_POST = do_DELETE = do_HEAD = _answer  # noqa: N815  # http.server's names

        def log_message(self, *_: object) -> None:
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_address[1]}", aws
    finally:
        server.shutdown()
        thread.join()
        server.server_close()
