"""How old the oldest messages are, asked of CloudWatch in the background: who shows it never waits long, or fails."""

import threading
import time
from collections import defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from pipeline import aws
from pipeline.errors import PipelineError
from pipeline.settings import Source
from pipeline.steps import intake
from pipeline.steps.intake import Age

_PATIENCE_SECONDS = 2.0
_KEPT_SECONDS = 60.0  # CloudWatch itself knows no more often, and each question costs a little
_REFUSAL_KEPT_SECONDS = 300.0  # nobody grants a right, or opens a firewall, between two looks
_Account = tuple[str, str, str]


@dataclass(frozen=True)
class Told:
    """What was told of some queues: their ages by name; or why nothing was."""

    ages: dict[str, Age]
    why_not: str = ""


class Ages:
    """Asks for ages and remembers them, as long as they are worth it.

    Args:
        patience_seconds: how long to wait for CloudWatch.
    """

    def __init__(self, *, patience_seconds: float = _PATIENCE_SECONDS) -> None:
        self._patience = patience_seconds
        self._known: dict[_Account, tuple[float, frozenset[str], Told]] = {}

    def of(self, queues: Collection[tuple[Source, str]]) -> dict[tuple[Source, str], Told]:
        """What is told of each queue (a source's own, or its dead letters'), by name or URL; all are asked at once."""
        wanted: dict[_Account, set[str]] = defaultdict(set)
        for source, queue in queues:
            wanted[_account(source)].add(intake.queue_name(queue))
        asked = {
            account: _Question(account, names) for account, names in wanted.items() if self._unknown(account, names)
        }
        until = time.monotonic() + self._patience
        for account, question in asked.items():
            told = question.answer(until - time.monotonic())
            kept = time.monotonic() + (_REFUSAL_KEPT_SECONDS if told.why_not else _KEPT_SECONDS)
            self._known[account] = (kept, frozenset(wanted[account]), told)
        return {(source, queue): self._known[_account(source)][2] for source, queue in queues}

    def _unknown(self, account: _Account, names: set[str]) -> bool:
        until, known, told = self._known.get(account, (0.0, frozenset(), Told({})))
        return time.monotonic() >= until or not (told.why_not or names <= known)


class _Question:
    """One call of CloudWatch, on a thread that nobody waits for longer than there is patience."""

    def __init__(self, account: _Account, names: set[str]) -> None:
        self._told = Told({}, "CloudWatch did not answer in time")
        self._thread = threading.Thread(target=self._ask, args=(account, sorted(names)), daemon=True)
        self._thread.start()

    def answer(self, seconds: float) -> Told:
        self._thread.join(max(0.0, seconds))
        return self._told

    def _ask(self, account: _Account, names: list[str]) -> None:
        region, profile, endpoint_url = account
        try:
            client: Any = aws.cloudwatch_client(region=region, profile=profile, endpoint_url=endpoint_url)
            self._told = Told(intake.oldest_messages(client, names))
        except PipelineError as error:
            self._told = Told({}, f"CloudWatch: {error}")
        except intake.CLOUDWATCH_ERRORS as error:
            self._told = Told({}, intake.why_not_told(error))


def _account(source: Source) -> _Account:
    return source.region, source.profile, source.endpoint_url
