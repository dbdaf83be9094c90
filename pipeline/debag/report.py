"""The report of a refused zip: everything that is wrong, as data and as text that can be read at three in the morning.

Pure: nothing is read or written here. Names come from strangers: whatever could disturb a terminal is escaped.
"""

from collections import Counter
from collections.abc import Sequence

from pipeline.debag.meanings import MEANINGS
from pipeline.foundation.errors import Fault, InvalidBag
from pipeline.foundation.work import human_count

_SHOWN = 20


def as_data(refusal: InvalidBag, *, zip_name: str) -> dict[str, object]:
    """The report as JSON: all faults and warnings, and how many there are of each kind."""
    return {
        "zip": zip_name,
        "work": refusal.work_rid,
        "refused": True,
        "what": refusal.what,
        "kept": refusal.kept,
        "counts": counts(refusal),
        "faults": [fault.as_dict() for fault in refusal.faults],
        "warnings": [warning.as_dict() for warning in refusal.warnings],
    }


def sentence(refusal: InvalidBag) -> str:
    """Why a bag was refused, in one line; the report has it all."""
    if refusal.misnamed:
        return f"the zip is named wrongly: the bag in it is {refusal.misnamed}, by all that it says of itself"
    first = refusal.faults[0]
    where = "/".join(part for part in (first.bag, first.path) if part)
    others = sum(counts(refusal).values()) - 1
    more = f", and {human_count(others, 'more fault')}" if others else ""
    return f"the bag is refused: {first.kind}" + (f" of {where}" if where else "") + more


def counts(refusal: InvalidBag) -> dict[str, int]:
    """How many faults there are of each kind, listed or only counted."""
    listed = Counter(fault.kind for fault in refusal.faults)
    return {kind: _all_of(kind, count, refusal) for kind, count in sorted(listed.items())}


def _all_of(kind: str, listed: int, refusal: InvalidBag) -> int:
    more = refusal.unlisted.get(kind, 0)
    return listed + more - 1 if more else listed  # one that is listed stands for those that are not


def as_text(refusal: InvalidBag, *, zip_name: str, shown: int = _SHOWN) -> str:
    """The report for a person: what it means, bag by bag and kind by kind.

    Args:
        refusal: the refusal.
        zip_name: the zip, as a person knows it.
        shown: how many of one kind are listed; the rest is counted. 0: all.
    """
    lines = [f"{_safe(zip_name)} was refused: {human_count(sum(counts(refusal).values()), 'fault')}."]
    lines.append(
        "Nothing of it was published. "
        + (f"{refusal.kept[:1].upper()}{_safe(refusal.kept[1:])}." if refusal.kept else "")
    )
    lines += _section(refusal.faults, shown)
    if refusal.warnings:
        lines += ["", "Also odd, but no reason to refuse it:"]
        lines += _section(refusal.warnings, shown)
    return "\n".join(line.rstrip() for line in lines) + "\n"


def _section(faults: Sequence[Fault], shown: int) -> list[str]:
    """Faults grouped by bag, and then by kind."""
    lines: list[str] = []
    for bag in dict.fromkeys(fault.bag for fault in faults):
        lines += ["", f"In {_safe(bag)}:" if bag else "In the zip:"]
        mine = [fault for fault in faults if fault.bag == bag]
        for kind in dict.fromkeys(fault.kind for fault in mine):
            lines += _kind(kind, [fault for fault in mine if fault.kind == kind], shown)
    return lines


def _kind(kind: str, faults: Sequence[Fault], shown: int) -> list[str]:
    lines = [f"  {kind} ({len(faults)}): {meaning(kind)}"]
    listed = faults[:shown] if shown else faults
    lines += [f"    {text}" for text in map(_line, listed)]
    if len(faults) > len(listed):
        lines.append(f"    … and {len(faults) - len(listed)} more; all of them are in the JSON report")
    return lines


def _line(fault: Fault) -> str:
    return ": ".join(_safe(part) for part in (fault.path, fault.detail) if part) or "(the whole)"


def meaning(kind: str) -> str:
    """What a kind of fault means, in a sentence; empty for one that is not known."""
    return {str(known): text for known, text in MEANINGS.items()}.get(kind, "")


def _safe(text: str) -> str:
    """Text in which nothing can move the cursor, hide or reverse other text: other characters stay as they are."""
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
