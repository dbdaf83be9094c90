"""Intake: messages and dropped zips in, bags out. Touches SQS and the folders of zips, and nothing else."""

from pipeline.intake.dead_letters import DeadLetter, dead_letters, send_back
from pipeline.intake.events import Delivery, body_of, listed, parse
from pipeline.intake.folder import Dropped, ends_as_a_zip, look, look_again, see_usable
from pipeline.intake.moving import (
    clock_ahead_seconds,
    is_same,
    left_aside,
    move_out,
    put_again,
    put_back,
    remove,
    see_ours,
)
from pipeline.intake.queue import (
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
