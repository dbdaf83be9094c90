"""What a zip holds: one bag or several, at the root, in a folder or one level down; or works without a bag."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from pipeline.errors import InvalidRid
from pipeline.steps.debag.faults import FaultKind, Findings
from pipeline.steps.debag.policy import Policy
from pipeline.steps.debag.zip_directory import Member
from pipeline.work import checked_rid, rid_from_name

BAG_SUFFIX = ".bag"
PAYLOAD = "data/"
_DECLARATION = "bagit.txt"
_WORK_CHILDREN = frozenset({"archive", "sources", "images", "eBooks", "sync-inventory"})
_LITTER = frozenset({".DS_Store", "Thumbs.db", "desktop.ini", "__MACOSX"})


@dataclass(slots=True)
class FoundBag:
    """A bag (or a work without one) as it lies in the zip.

    Attributes:
        folder: its folder in the zip; empty if it is the zip's root.
        rid: the work; empty while only its bag-info can tell.
        bagged: whether it is a bag at all.
        payload: payload files, by their path in the bag (`data/…`; of an unbagged work: in the work).
        tag_files: tag files, by their path in the bag.
        folders: entries for folders, by their path in the bag, without a slash at the end.
        has_payload_folder: whether there is a folder `data`.
    """

    folder: str
    rid: str = ""
    bagged: bool = True
    payload: dict[str, Member] = field(default_factory=dict)
    tag_files: dict[str, Member] = field(default_factory=dict)
    folders: dict[str, Member] = field(default_factory=dict)
    has_payload_folder: bool = False

    def add(self, path: str, member: Member) -> None:
        """Take in a member; `path` is its path in the bag."""
        in_payload = path.startswith(PAYLOAD)
        self.has_payload_folder |= in_payload
        if path.endswith("/"):
            self.folders[path[:-1]] = member
        elif in_payload or not self.bagged:
            self.payload[path] = member
        elif path:
            self.tag_files[path] = member


def find_bags(members: list[Member], policy: Policy, say: Findings, *, zip_name: str, work_rid: str) -> list[FoundBag]:
    """The bags of a zip, or its works if there is no bag; what is in neither is a fault.

    Args:
        members: the zip's members.
        policy: whether works without a bag are accepted.
        say: takes what is wrong.
        zip_name: the zip's file name, which may have to name the work.
        work_rid: the work that the zip's key promised; may be empty.
    """
    bases = _bag_folders(members)
    bagged = bool(bases)
    if not bases:
        bases = _work_folders(members)
        if not bases:
            say.fault(FaultKind.NO_BAG, detail=f"neither a bag nor a work among {len(members)} members")
            return []
        say.judge(
            FaultKind.UNBAGGED,
            refuse=not policy.allow_unbagged,
            detail="works without a bag: no manifest can verify them",
        )
    bags = {base: FoundBag(base, bagged=bagged) for base in sorted(bases)}
    _sort_in(members, bags, say)
    for bag in bags.values():
        bag.rid = _rid(bag, say, zip_name=zip_name, work_rid=work_rid)
    return list(bags.values())


def _bag_folders(members: Iterable[Member]) -> set[str]:
    """Folders that are bags by declaration, by name, or by payload and manifest; never nested."""
    found: set[str] = set()
    with_manifest: set[str] = set()
    with_payload: set[str] = set()
    for member in members:
        parts = member.name.split("/", 3)
        if parts[0] in _LITTER:
            continue
        depth = len(parts) - 1
        for level in range(min(depth, 2)):
            if parts[level].lower().endswith(BAG_SUFFIX) and len(parts[level]) > len(BAG_SUFFIX):
                found.add("/".join(parts[: level + 1]))
                break
        for level in range(min(depth, 3)):
            if parts[level] == "data":
                with_payload.add("/".join(parts[:level]))
        if depth <= 2:
            folder, name = "/".join(parts[:-1]), parts[-1]
            if name == _DECLARATION:
                found.add(folder)
            elif name.startswith("manifest-") and name.endswith(".txt"):
                with_manifest.add(folder)
    found |= with_manifest & with_payload
    return {folder for folder in found if not any(above in found for above in _above(folder))}


def _above(folder: str) -> Iterator[str]:
    """The folders above `folder`, up to the root, which is empty."""
    while folder:
        folder = folder.rpartition("/")[0]
        yield folder


def _work_folders(members: Iterable[Member]) -> set[str]:
    """Folders that are works: with a child that only works have, or with an image group `{RID}-I…` that has one."""
    found: set[str] = set()
    for member in members:
        parts = member.name.split("/")
        folders = parts[:-1]
        for level, part in enumerate(folders[:4]):
            if part not in _WORK_CHILDREN:
                continue
            above = folders[:level]
            if len(above) >= 2 and above[-1].startswith(above[-2] + "-I"):
                above = above[:-1]
            if len(above) <= 2:
                found.add("/".join(above))
            break
    return {folder for folder in found if not any(above in found for above in _above(folder))}


def _sort_in(members: Iterable[Member], bags: dict[str, FoundBag], say: Findings) -> None:
    """Give each member to the bag that it lies in."""
    only = next(iter(bags.values())) if len(bags) == 1 else None
    prefix = f"{only.folder}/" if only and only.folder else ""
    for member in members:
        name = member.name
        if only is not None and name.startswith(prefix):
            only.add(name[len(prefix) :], member)
            continue
        bag = next((bags[above] for above in _above(name) if above in bags), None)
        if bag is not None:
            bag.add(name[len(bag.folder) + 1 :] if bag.folder else name, member)
        elif not _LITTER.isdisjoint(name.split("/")):
            say.warn(FaultKind.LITTER, path=name, detail="beside the bags; not unpacked")
        elif not member.is_folder:
            say.fault(FaultKind.OUTSIDE_BAG, path=name, detail="is in no bag, so no manifest can verify it")


def _rid(bag: FoundBag, say: Findings, *, zip_name: str, work_rid: str) -> str:
    """The work that the bag's folder names; for a bag without a folder the key's, else the zip's name has to tell."""
    name = bag.folder.rpartition("/")[2]
    if name.lower().endswith(BAG_SUFFIX):
        name = name[: -len(BAG_SUFFIX)]
    try:
        if name:
            return checked_rid(name, source=bag.folder)
        return work_rid or ("" if bag.bagged else rid_from_name(zip_name))
    except InvalidRid as error:
        say.fault(FaultKind.RID_INVALID, bag=bag.folder, detail=str(error))
        return ""
