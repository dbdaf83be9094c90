"""A work without a bag that has manifests of an earlier one: a work folder as it lies in BDRC's archive.

There `{RID}.bag` in the work has what was kept of its bag: `*manifest*.txt` in BDRC's own archive, all tag files in one
that this program filled. It is a bag inside out: the manifests' `data/` is the work itself. So it is read as one, and
judged by rules of its own (`kept_rules`), as nobody promised that the work is still what the bag was.
"""

import re
from collections.abc import Collection, Iterable

from pipeline.debag.zip_directory import Member

_MANIFEST = re.compile(r"manifest-[^/]+\.txt")


def kept_folders(members: Iterable[Member], works: Collection[str], *, at_root: str) -> tuple[dict[str, str], set[str]]:
    """The folders with kept manifests, of works in a zip.

    Args:
        members: the zip's members.
        works: folders that are works.
        at_root: the work's name, should it be the root of the zip.

    Returns:
        By work its latest such folder (`{RID}.bag`, then `{RID}.bag.2`), relative to the work; and all of them.
    """
    found: dict[str, dict[int, str]] = {}
    payload: set[str] = set()
    for member in members:
        parts = member.name.split("/")
        for depth in range(min(3, len(parts) - 1)):
            work = "/".join(parts[:depth])
            number = _number(parts[depth], parts[depth - 1] if depth else at_root) if work in works else 0
            if number:
                folder = "/".join(parts[: depth + 1])
                if parts[depth + 1] == "data" and len(parts) > depth + 2:
                    payload.add(folder)
                elif len(parts) == depth + 2 and _MANIFEST.fullmatch(parts[-1]):
                    found.setdefault(work, {})[number] = parts[depth]
    latest, every = {}, set()
    for work, names in found.items():
        paths = {f"{work}/{name}" if work else name for name in names.values()}
        if paths.isdisjoint(payload):
            latest[work] = names[max(names)]
            every |= paths
    return latest, every


def _number(name: str, work: str) -> int:
    """1 for `{RID}.bag`, 2 for `{RID}.bag.2` and so on; 0 for any other name."""
    rest = name.removeprefix(f"{work}.bag") if work and name.startswith(f"{work}.bag") else "-"
    if not rest:
        return 1
    return int(rest[1:]) if re.fullmatch(r"\.[1-9][0-9]{0,3}", rest) and rest != ".1" else 0
