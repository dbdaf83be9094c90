"""A bag whose payload is several works: BDRC's tools take it apart, so it is taken apart here.

BDRC's rule: if the payload is a work itself, it is the work; else each folder in it that is one. There what lies
beside such folders is lost, and no manifest is kept. Here it is refused, and each work gets the manifests that are its
own (`derived`); the bag's other tag files are kept with each, in a folder of theirs.
"""

import re
from collections.abc import Iterable, Iterator

from pipeline.debag.bag_record import BagRecord
from pipeline.debag.faults import FaultKind, Findings
from pipeline.debag.layout import PAYLOAD, WORK_CHILDREN, FoundBag, is_litter, say_litter
from pipeline.debag.manifests import manifest_of
from pipeline.debag.policy import Policy
from pipeline.foundation.errors import InvalidRid
from pipeline.foundation.work import checked_rid

SHARED_FOLDER = "whole-bag/"
_IMAGE_GROUP = re.compile(r".+-I.*")


def works_of(record: BagRecord, policy: Policy, say: Findings) -> list[FoundBag]:
    """The works in a bag that was judged: nearly always itself, else one of each folder that is a work.

    A payload that is one folder, and that a work, is that work.
    """
    found, say = record.found, say.of(record.name)
    names = _work_names(found)
    if not names:
        return [found]
    kept = _work(found, "")
    copies = len(names) * (len(kept.tag_files) + len(kept.folders))
    size = len(names) * sum(member.size for member in kept.tag_files.values())
    if copies > policy.max_members or size > max(policy.max_tag_bytes, sum(m.size for m in found.payload.values())):
        detail = f"{copies} tag files and folders, {size} bytes, would have to be kept with {len(names)} works"
        say.fault(FaultKind.TAG_FILE_TOO_BIG, detail)
        return [found]
    works = {name: _work(found, name) for name in sorted(names)}
    told = _told(works)
    litter: list[str] = []
    for path, member in (*found.payload.items(), *((f"{path}/", member) for path, member in found.folders.items())):
        name = path.split("/", 2)[1] if path.startswith(PAYLOAD) else ""
        if name in works:
            (works[name].folders if path.endswith("/") else works[name].payload)[path.rstrip("/")] = member
        elif not path.startswith(PAYLOAD):
            continue
        elif is_litter(path):
            litter.append(path)
        elif not path.endswith("/"):
            say.fault(FaultKind.OUTSIDE_WORK, f"beside {told}", path=path)
    say_litter(litter, say)
    detail = f"its payload is {told}"
    if len(works) > 1:
        say.warn(FaultKind.SHARED_BAG, detail)
    elif found.rid and found.rid not in works:
        refuse = policy.rid_mismatch == "refuse"
        say.judge(FaultKind.RID_MISMATCH, f"{detail}, the bag is {found.rid}", refuse=refuse)
    return list(works.values())


def _work_names(found: FoundBag) -> set[str]:
    """The folders in the payload that are works; none if the payload is one itself."""
    names: set[str] = set()
    for folders in _folders(found):
        if folders and (folders[0] in WORK_CHILDREN or _is_image_group(folders)):
            return set()
        if len(folders) > 1 and (folders[1] in WORK_CHILDREN or _is_image_group(folders[1:], of=folders[0])):
            names.add(folders[0])
    return {name for name in names if _is_rid(name)}


def _folders(found: FoundBag) -> Iterator[list[str]]:
    """The folders that each member of the payload lies in, below `data`."""
    for path in found.payload:
        yield path.split("/")[1:-1]
    for path in found.folders:
        if path.startswith(PAYLOAD):
            yield path.split("/")[1:]


def _is_image_group(folders: list[str], *, of: str = "") -> bool:
    """`{RID}-I…` with a folder that only works have; without `of` of any work, as the bag's folder may be misnamed."""
    named = folders[0].startswith(f"{of}-I") if of else _IMAGE_GROUP.fullmatch(folders[0]) is not None
    return len(folders) > 1 and named and folders[1] in WORK_CHILDREN


def _is_rid(name: str) -> bool:
    try:
        return bool(checked_rid(name))
    except InvalidRid:
        return False


def _work(found: FoundBag, name: str) -> FoundBag:
    """A work that shares its bag: its files, and the bag's tag files but for the payload manifests."""
    left = {path for path in found.tag_files if (kind := manifest_of(path)) and not kind.of_tags}
    tag_files = {path: member for path, member in found.tag_files.items() if path not in left}
    folders = {path: member for path, member in found.folders.items() if path and not f"{path}/".startswith(PAYLOAD)}
    base = f"{PAYLOAD}{name}/"
    return FoundBag(found.folder, name, tag_files=tag_files, folders=folders, base=base, shared=SHARED_FOLDER)


def _told(works: Iterable[str]) -> str:
    names = sorted(works)
    return ", ".join(names[:5]) + (f" and {len(names) - 5} more" if len(names) > 5 else "")
