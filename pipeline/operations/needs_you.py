"""What of all that `status` tells needs a person; nothing, on most days."""

from collections.abc import Iterator
from typing import Any

from pipeline.foundation.arguments import Command, command
from pipeline.foundation.work import human_count
from pipeline.operations import show

_LONG_DUE_SECONDS = 3600
_Found = Iterator[tuple[str, Command] | tuple[str, Command, str]]


def needs_you(told: dict[str, Any]) -> list[dict[str, str]]:
    """What does not mend itself, or has not yet; each with how to go on.

    Args:
        told: what `status --json` tells; see docs/status.md.

    Returns:
        Of each `what` it is, `go_on` and `by_hand`, as of an error, the most urgent first; empty: all is well.
    """
    found = [
        *_at_risk(told),
        *_away(told),
        *_stopped(told),
        *_bags(told),
        *_restores(told),
        *_letters(told),
        *_archived(told),
        *_callbacks(told),
    ]
    return [{"by_hand": "", **dict(zip(("what", "go_on", "by_hand"), one, strict=False))} for one in found]


def _at_risk(told: dict[str, Any]) -> _Found:
    if soon := told["at_risk"]:
        yield (
            f"{human_count(len(soon), 'restored copy', 'restored copies')} about to end before the download",
            command("run"),
        )


def _away(told: dict[str, Any]) -> _Found:
    for kind, name in (("queues", "queue"), ("folders", "folder"), ("disk", "what")):
        for one in told[kind]:
            if "error" in one:
                label = one[name] if kind == "disk" else f"{name} {one[name]}"
                yield f"{label}: {one['error']}", command("check")


def _stopped(told: dict[str, Any]) -> _Found:
    if pause := told["paused"]:
        yield f"intake is PAUSED since {pause['since'][:19]}Z by {pause['by']}: {pause['reason']}", command("resume")
    for host in told["hosts"]:
        if host["gone"]:
            what = f"host {host['host']} is gone with {human_count(host['lanes'], 'lane')}"
            yield what, command("run"), "see to that host, or run on another"


def _bags(told: dict[str, Any]) -> _Found:
    """Bags by what became of them; where it is one alone, its own story is the way on."""
    for state, of_several in (("refused", ("quarantine", "list")), ("not-restored", ()), ("failed", ())):
        if not (count := told["bags"].get(state, 0)):
            continue
        works = [work["work_rid"] for work in told["works"] if work["stage"] == state]
        works = works or [work["work_rid"] for work in told["works"] if work["error"]]  # home, but for its second copy
        again = ", tried again by themselves" if count > 1 else ", tried again by itself"
        words = of_several if of_several and count > 1 else ("explain", works[0]) if works else ("status",)
        yield f"{human_count(count, 'bag')} {state}{again if state == 'failed' else ''}", command(*words)


def _restores(told: dict[str, Any]) -> _Found:
    if count := (told["restores"] or {}).get("counts", {}).get("failed", 0):
        what = f"{human_count(count, 'wanted work')} cannot come home by {'itself' if count == 1 else 'themselves'}"
        yield what, command("restore", "list")


def _letters(told: dict[str, Any]) -> _Found:
    if count := sum(queue.get("dead_letters") or 0 for queue in told["queues"]):
        yield human_count(count, "dead letter"), command("dead-letters", "list")


def _archived(told: dict[str, Any]) -> _Found:
    if broken := told["fixity_failed"]:
        what = human_count(len(broken), "archived work")
        yield f"{what} failed the last fixity check", command("explain", broken[0]["work_rid"])
    if failed := sum(one["failed"] for one in told["replicas"].values()):
        what = human_count(failed, "second copy", "second copies")
        yield f"{what} failed the last look", command("verify", "--replica", "--all")
    for what, replica in show.behind(told["fixity"], told["replicas"]):
        yield what, command("verify", *replica, "--due"), "see whether it is called each night: docs/years.md"


def _callbacks(told: dict[str, Any]) -> _Found:
    for name, one in told["callbacks"].items():
        if one["dead"]:
            yield f"{human_count(one['dead'], 'callback')} to {name} given up", command("callbacks", "list")
        waiting = human_count(one["waiting"], "callback")
        if one["waiting"] and not one["is_set"]:
            yield f"{waiting} wait for {name}, which is no longer set", command("callbacks", "drop", name)
        elif one["due_seconds"] > _LONG_DUE_SECONDS:
            yield f"{waiting} to {name} wait, and nothing sends them", command("notify")
