"""FIFO queues: what can never succeed leaves them too, and what is sent back arrives, also when it says the same."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.world.bags import SMALL_WORK, make_bag_zip
from tests.world.stack import Site, lines


def queue(site: Site, name: str, *, dead: str = "") -> str:
    attributes: Any = {"FifoQueue": "true"} if name.endswith(".fifo") else {}
    if dead:
        arn = site.sqs.get_queue_attributes(QueueUrl=dead, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
        attributes["RedrivePolicy"] = json.dumps({"deadLetterTargetArn": arn, "maxReceiveCount": 5})
    return site.sqs.create_queue(QueueName=name, Attributes=attributes)["QueueUrl"]


@pytest.fixture
def fifo(site: Site) -> Site:
    """The site with FIFO queues."""
    dead_url = queue(site, f"{site.queue}-dead.fifo")
    url = queue(site, f"{site.queue}.fifo", dead=dead_url)
    made = replace(site, queue=f"{site.queue}.fifo", queue_url=url, dead_url=dead_url)
    made.write_settings()
    return made


def send(site: Site, *bodies: str) -> None:
    for number, body in enumerate(bodies):
        site.sqs.send_message(
            QueueUrl=site.queue_url, MessageBody=body, MessageGroupId="g", MessageDeduplicationId=f"{body}-{number}"
        )


def test_poison_in_a_fifo_queue_moves_to_its_dead_letters_also_when_it_says_the_same(fifo: Site) -> None:
    send(fifo, *["not json at all"] * 12)

    ran = fifo.call("run", "--lanes", "1")
    listed = json.loads(fifo.call("dead-letters", "list", "--json").stdout)["dead_letters"]

    assert ran.returncode == 1, ran.stderr
    assert (fifo.depth(), fifo.depth(fifo.dead_url)) == (0, 12)
    assert {one["attributes"]["ErrorKind"] for one in listed} == {"not-understood"}
    assert len(listed) == 12


def test_a_dead_letter_is_sent_back_to_a_fifo_queue_again_and_again(fifo: Site, tmp_path: Path) -> None:
    bag_zip = make_bag_zip(tmp_path, "W1", algorithms=("md5",))
    event = fifo.event("Archive0/00/W1/W1.bag.zip", fifo.put(bag_zip), bag_zip.stat().st_size)
    send(fifo, json.dumps({"Records": [event]}))
    strict = {"PIPELINE_DEBAG_ALLOW_WEAK_DIGESTS": "false"}
    fifo.call("run", "--lanes", "1", **strict)

    sent = []
    for settings in (strict, {}):
        sent.append(fifo.call("dead-letters", "resend", "W1").returncode)
        fifo.call("run", "--lanes", "1", **settings)

    assert sent == [0, 0]
    assert fifo.archived("W1") == SMALL_WORK
    assert (fifo.depth(), fifo.depth(fifo.dead_url)) == (0, 0)


def test_check_wants_a_dead_letter_queue_of_the_same_kind(fifo: Site) -> None:
    odd = replace(fifo, queue=fifo.queue.replace(".fifo", "-odd"))
    queue(odd, odd.queue, dead=fifo.dead_url)

    right = fifo.call("check").stdout
    odd.write_settings()
    wrong = odd.call("check")

    assert lines(right, f"queue {fifo.queue}", "ok")
    assert lines(wrong.stdout, f"queue {odd.queue}", "wrong", "is not FIFO, its dead-letter queue is")
    assert wrong.returncode == 3
