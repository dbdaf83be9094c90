"""Intake: messages and dropped zips in, bags out. Touches SQS and the folders of zips, and nothing else."""

from pipeline.steps.intake.ages import CLOUDWATCH_ERRORS, RIGHT, Age, oldest_messages, queue_name, why_not_told
from pipeline.steps.intake.dead_letters import DeadLetter, dead_letters, send_back
from pipeline.steps.intake.events import Delivery, body_of, listed, parse
from pipeline.steps.intake.folders import (
    Dropped,
    Listing,
    ends_as_a_zip,
    look,
    look_again,
    see_usable,
    unreachable,
)
from pipeline.steps.intake.moving import clock_ahead_seconds, left_aside, move_out, put_back, remove
from pipeline.steps.intake.queues import (
    SEAL,
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
    seal_digest,
)

__all__ = [
    "CLOUDWATCH_ERRORS",
    "RIGHT",
    "SEAL",
    "Age",
    "DeadLetter",
    "Delivery",
    "Dropped",
    "Listing",
    "Message",
    "Queue",
    "acknowledge",
    "backoff_seconds",
    "body_of",
    "busy_seconds",
    "clock_ahead_seconds",
    "dead_letter",
    "dead_letters",
    "depth",
    "ends_as_a_zip",
    "find_queue",
    "hide",
    "left_aside",
    "listed",
    "look",
    "look_again",
    "move_out",
    "oldest_messages",
    "parse",
    "put_back",
    "queue_name",
    "receive",
    "remove",
    "seal_digest",
    "see_usable",
    "send_back",
    "unreachable",
    "why_not_told",
]
