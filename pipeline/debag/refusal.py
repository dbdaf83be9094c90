"""The report of a refused zip: as data, in a line, and as text that can be read at three in the morning."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from pipeline.debag.faults import FaultKind
from pipeline.foundation.errors import Fault, InvalidBag
from pipeline.foundation.work import Bag, human_count


def as_data(refusal: InvalidBag, bag: Bag, *, zip_name: str, proof: str = "") -> dict[str, Any]:
    """What `report.json` says of a refused bag: which one it is, all faults and warnings, and how many of each kind.

    Args:
        refusal: why.
        bag: the bag.
        zip_name: its zip.
        proof: what proved that the zip came as its source has it; empty: nothing.
    """
    return {
        "work_rid": bag.work_rid,
        "bag_id": bag.bag_id,
        "from": bag.address,
        "etag": bag.etag,
        "zip": zip_name,
        "download": proof,
        "work": refusal.work_rid,
        "refused": True,
        "what": refusal.what,
        "kept": refusal.kept,
        "counts": counts(refusal),
        "faults": [fault.as_dict() for fault in refusal.faults],
        "warnings": [warning.as_dict() for warning in refusal.warnings],
    }


def counts(refusal: InvalidBag) -> dict[str, int]:
    """How many faults there are of each kind, listed or only counted."""
    listed = Counter(fault.kind for fault in refusal.faults)
    # Where there are more of a kind, one that is listed stands for all that are not.
    listed.update({kind: more - 1 for kind, more in refusal.unlisted.items() if more})
    return dict(sorted(listed.items()))


def as_line(refusal: InvalidBag) -> str:
    """Why a bag was refused, in one line; the report has it all."""
    if refusal.misnamed:
        return f"the zip is named wrongly: the bag in it is {refusal.misnamed}, by all that it says of itself"
    first = refusal.faults[0]
    where = "/".join(part for part in (first.bag, first.path) if part)
    others = sum(counts(refusal).values()) - 1
    more = f", and {human_count(others, 'more fault')}" if others else ""
    return f"the bag is refused: {first.kind}" + (f" of {where}" if where else "") + more


def as_text(refusal: InvalidBag, *, zip_name: str, proof: str = "") -> str:
    """The report for a person: what it means, bag by bag and kind by kind; `proof` as in `as_data`.

    Names come from strangers: what could move the cursor, hide or reverse other text is written by its number.
    """
    kept = f"{refusal.kept[:1].upper()}{refusal.kept[1:]}." if refusal.kept else ""
    lines = [f"{zip_name} was refused: {human_count(sum(counts(refusal).values()), 'fault')}."]
    came = (
        f"It came right, by its {proof}: to fetch it again does not help." if proof else "Nothing proves how it came."
    )
    lines += [f"Nothing of it was published. {kept}", came, *_section(refusal.faults)]
    if refusal.warnings:
        lines += ["", "Also odd, but no reason to refuse it:", *_section(refusal.warnings)]
    return "\n".join(_safe(line).rstrip() for line in lines) + "\n"


def _section(faults: Sequence[Fault]) -> Iterator[str]:
    """Faults grouped by bag, and then by kind."""
    meanings = {str(kind): kind.meaning for kind in FaultKind}
    for bag in dict.fromkeys(fault.bag for fault in faults):
        yield from ("", f"In {bag}:" if bag else "In the zip:")
        mine: dict[str, list[Fault]] = {}
        for fault in faults:
            if fault.bag == bag:
                mine.setdefault(fault.kind, []).append(fault)
        for kind, listed in mine.items():
            yield f"  {kind} ({len(listed)}): {meanings.get(kind, '')}"
            for fault in listed:
                yield "    " + (": ".join(part for part in (fault.path, fault.detail) if part) or "(the whole)")


def _safe(text: str) -> str:
    return "".join(char if char.isprintable() else ascii(char)[1:-1] for char in text)
