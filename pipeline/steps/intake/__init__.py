"""Intake: messages in, bags out. Touches SQS, and nothing else."""

from pipeline.steps.intake.events import Delivery, parse
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
    "Delivery",
    "Message",
    "Queue",
    "acknowledge",
    "backoff_seconds",
    "busy_seconds",
    "dead_letter",
    "depth",
    "find_queue",
    "hide",
    "parse",
    "receive",
]
