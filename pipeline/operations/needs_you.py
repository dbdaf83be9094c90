"""What of all that `status` tells needs a person; nothing, on most days."""

import shlex
from collections.abc import Iterator
from typing import Any

from pipeline.foundation.work import human_count

_PROGRAM = "run_pipeline.py"


def needs_you(told: dict[str, Any]) -> list[dict[str, str]]:
    """What does not mend itself, or has not yet; each with the command to go on with.

    Args:
        told: what `status --json` tells; see docs/status.md.

    Returns:
        Of each `what` it is and `go_on`, the most urgent first; empty: all is well.
    """
    found = [*_at_risk(told), *_away(told), *_stopped(told), *_bags(told), *_letters(told), *_archived(told)]
    return [{"what": what, "go_on": f"{_PROGRAM} {verb}"} for what, verb in found]


def _at_risk(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if soon := told["at_risk"]:
        yield f"{human_count(len(soon), 'restored copy', 'restored copies')} about to end before the download", "run"


def _away(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for kind, name in (("queues", "queue"), ("folders", "folder"), ("disk", "what")):
        for one in told[kind]:
            if "error" in one:
                label = one[name] if kind == "disk" else f"{name} {one[name]}"
                yield f"{label}: {one['error']}", "check"


def _stopped(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if pause := told["paused"]:
        yield f"intake is PAUSED since {pause['since'][:19]}Z by {pause['by']}: {pause['reason']}", "resume"
    for host in told["hosts"]:
        if host["gone"]:
            yield f"host {host['host']} is gone with {human_count(host['lanes'], 'lane')}", "run"


def _bags(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """Bags by what became of them; where it is one alone, its own story is the way on."""
    for state, of_several in (("refused", "quarantine list"), ("not-restored", ""), ("failed", "")):
        if not (count := told["bags"].get(state, 0)):
            continue
        works = [work["work_rid"] for work in told["works"] if work["stage"] == state]
        again = ", tried again by themselves" if count > 1 else ", tried again by itself"
        verb = of_several if of_several and count > 1 else f"explain {shlex.quote(works[0])}" if works else "status"
        yield f"{human_count(count, 'bag')} {state}{again if state == 'failed' else ''}", verb


def _letters(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if count := sum(queue.get("dead_letters") or 0 for queue in told["queues"]):
        yield human_count(count, "dead letter"), "dead-letters list"


def _archived(told: dict[str, Any]) -> Iterator[tuple[str, str]]:
    if broken := told["fixity_failed"]:
        what = human_count(len(broken), "archived work")
        yield f"{what} failed the last fixity check", f"explain {shlex.quote(broken[0]['work_rid'])}"
