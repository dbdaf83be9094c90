"""Pulling the plug on purpose: `PIPELINE_TEST_KILL_AT=name` ends the process with SIGKILL at the point of that name.

For the tests that prove promise 4, killed at any instant, run again: same result. Each point stands right before or
right after something becomes visible or durable. Without the variable a point costs one comparison.
"""

import os
import signal

_KILL_AT = os.environ.get("PIPELINE_TEST_KILL_AT", "")

POINTS = (
    "message received",
    "leases taken",
    "download half-way",
    "download complete, not renamed",
    "download renamed, not recorded",
    "download recorded, not marked",
    "download marked",
    "debag published, not recorded",
    "sync copied, not committed",
    "sync committed, not done",
    "done, not cleared",
    "cleared, not acknowledged",
    "acknowledged",
    "refused, not reported",
    "reported, not moved to quarantine",
    "moved to quarantine, not recorded",
    "refusal recorded, not dead-lettered",
    "dead letter sent, not acknowledged",
)


def point(name: str) -> None:
    """Die here if this is the point that a test has chosen."""
    if name == _KILL_AT:
        os.kill(os.getpid(), signal.SIGKILL)
