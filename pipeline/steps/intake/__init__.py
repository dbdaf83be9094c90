"""Intake: messages and dropped zips in, bags out. Touches SQS and the folders of zips, and nothing else."""

from pipeline.steps.intake.dead_letters import DeadLetter, dead_letters, send_back
from pipeline.steps.intake.events import Delivery, body_of, listed, parse
from pipeline.steps.intake.folders import (
    Dropped,
    ends_as_a_zip,
    look,
    look_again,
    see_usable,
)
from pipeline.steps.intake.moving import (
    clock_ahead_seconds,
    left_aside,
    move_out,
    put_again,
    put_back,
    remove,
    see_ours,
)
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
