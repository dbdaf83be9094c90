"""Intake: messages and dropped zips in, bags out. Touches SQS and the folders of zips, and nothing else."""

from pipeline.steps.intake.dead_letters import DeadLetter, dead_letters, send_back
from pipeline.steps.intake.events import Delivery, parse
from pipeline.steps.intake.folders import (
    Dropped,
    Listing,
    ends_as_a_zip,
    look,
    look_again,
    see_usable,
    unreachable,
)
from pipeline.steps.intake.moving import left_aside, move_out, put_back, remove
from pipeline.steps.intake.queues import (
    Message,
    Queue,
    acknowledge,
    backoff_seconds,
    busy_seconds,
    dead_letter,
    depth,
    find_queue,
    hide,
    receive,
)

__all__ = [
    "DeadLetter",
    "Delivery",
    "Dropped",
    "Listing",
    "Message",
    "Queue",
    "acknowledge",
    "backoff_seconds",
    "busy_seconds",
    "dead_letter",
    "dead_letters",
    "depth",
    "ends_as_a_zip",
    "find_queue",
    "hide",
    "left_aside",
    "look",
    "look_again",
    "move_out",
    "parse",
    "put_back",
    "receive",
    "remove",
    "see_usable",
    "send_back",
    "unreachable",
]
