"""What a zip holds: one bag or several, at the root, in a folder or one level down; or works without a bag.

A work without a bag may lie there as in BDRC's archive: `{RID}.bag` in it has what was kept of its bag, manifests at
BDRC, all tag files where this program filled the archive. It is a bag inside out: the manifests' `data/` is the work.
So it is read as one, and judged by rules of its own, as nobody promised that the work is still what the bag was.
"""

import re
from collections.abc import Collection, Iterable, Iterator
from dataclasses import dataclass, field

from pipeline.debag.faults import FaultKind, Findings
from pipeline.debag.policy import Policy
from pipeline.debag.zip_directory import Member
from pipeline.foundation.errors import InvalidRid
from pipeline.foundation.work import checked_rid, human_count, rid_from_name

BAG_SUFFIX = ".bag"
PAYLOAD = "data/"
_DECLARATION = "bagit.txt"
_MANIFEST = re.compile(r"manifest-[^/]+\.txt")
WORK_CHILDREN = frozenset({"archive", "sources", "images", "eBooks", "sync-inventory"})
_LITTER = re.compile(
    r"/(?:\._[^/]*|__MACOSX|\.DS_Store\??|\.localized|\.AppleD(?:ouble|B|esktop)|\.Spotlight-V100|\.Trashes|\.fseventsd"
    r"|Network Trash Folder|Temporary Items"
    r"|\.TemporaryItems|\.DocumentRevisions-V100|\.VolumeIcon\.icns|\.apdisk|Icon\r"
    r"|Thumbs\.db|ehthumbs(?:_vista)?\.db|desktop\.ini|\$RECYCLE\.BIN|System Volume Information"
    r"|@eaDir|#recycle|#snapshot|\.SynologyWorkingDirectory|@Recycle|\.@__thumb|\.Trash-[0-9]+|\.directory"
    r"|\.nfs[0-9a-f]{8,}|lost\+found)(?:/|\Z)",
    re.IGNORECASE | re.ASCII,
)
"""What macOS, Windows, and the NAS of Synology and QNAP leave wherever they look; with all that is in such a folder."""


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
        kept: of a work without a bag, its folder with the manifests of an earlier one, which are read as its tag files;
            all else is its payload then, `data/…`.
        base: what paths of the payload begin with, and the work's files do not.
        shared: of a work that shares its bag with others, where the bag's tag files go among its own.
        has_litter: whether anything in the zip, and so perhaps in the bag, is what an operating system left.
        named_inside: the work that the bag names by all that is in it, where the zip's key or name alone says another.
    """

    folder: str
    rid: str = ""
    bagged: bool = True
    payload: dict[str, Member] = field(default_factory=dict)
    tag_files: dict[str, Member] = field(default_factory=dict)
    folders: dict[str, Member] = field(default_factory=dict)
    has_payload_folder: bool = False
    kept: str = ""
    base: str = PAYLOAD
    shared: str = ""
    has_litter: bool = False
    named_inside: str = ""

    def leave_litter_out(self, listed: Collection[str], listed_tags: Collection[str], say: Findings) -> None:
        """Drop what an operating system left, unless a manifest lists it: then it is payload, whatever its name.

        Args:
            listed: files of the payload that a manifest lists; only those that look like litter are asked for.
            listed_tags: the same of tag files.
            say: takes how many were dropped.
        """
        left = []
        for files, told in ((self.payload, listed), (self.tag_files, listed_tags)):
            for path in [path for path in files if is_litter(path) and path not in told]:
                del files[path]
                left.append(path)
        in_use = {above for path in (*listed, *listed_tags) for above in _above(path)}
        for path in [path for path in self.folders if is_litter(path) and path not in in_use]:
            del self.folders[path]
            left.append(f"{path}/")
        say_litter(left, say.of(self.folder))

    def add(self, path: str, member: Member) -> None:
        """Take in a member; `path` is its path in the bag's folder."""
        if self.kept:
            inside = path.startswith(f"{self.kept}/")
            path = path[len(self.kept) + 1 :] if inside else PAYLOAD + path
        in_payload = path.startswith(PAYLOAD)
        self.has_payload_folder |= in_payload
        if not path or path.endswith("/"):
            self.folders[path[:-1]] = member
        elif in_payload or not self.bagged:
            self.payload[path] = member
        else:
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
    clean = [member for member in say.each(members) if not is_litter(member.name)]
    bases, without_payload = _bag_folders(say.each(clean))
    works: set[str] = set()
    kept: dict[str, str] = {}
    if without_payload or not bases:
        works = _work_folders(say.each(clean))
        kept, all_kept = _kept_folders(say.each(clean), works, at_root=work_rid or zip_name.split(".", 1)[0])
        bases -= without_payload & all_kept
    bagged = bool(bases)
    if not bagged:
        bases = works
        if not bases:
            say.fault(FaultKind.NO_BAG, f"neither a bag nor a work among {len(members)} members")
            return []
        say_unbagged(bases - kept.keys() if policy.allow_unbagged else bases, policy, say)
    bags = {}
    for base in sorted(bases):
        inside = "" if bagged else kept.get(base, "")
        bags[base] = FoundBag(base, kept=inside) if bagged or inside else FoundBag(base, bagged=False, base="")
    _sort_in(members, bags, say)
    for bag in bags.values():
        bag.has_litter = len(clean) < len(members)
        bag.rid = _rid(bag, say, zip_name=zip_name, work_rid=work_rid)
    return list(bags.values())


def is_litter(path: str) -> bool:
    """Whether a path is, or lies in, what an operating system leaves; names are compared without case."""
    return _LITTER.search(f"/{path}") is not None


def say_litter(paths: Collection[str], say: Findings) -> None:
    """Count what was left out as litter."""
    if paths:
        detail = f"{human_count(len(paths), 'file or folder', 'files and folders')} of operating systems, left out"
        say.warn(FaultKind.LITTER, detail, path=min(paths))


def say_unbagged(works: Collection[str], policy: Policy, say: Findings) -> None:
    """Works that no manifest can verify: a fault, unless the source may have them."""
    if works:
        detail = "works without a bag: no manifest can verify them"
        say.judge(FaultKind.UNBAGGED, detail, refuse=not policy.allow_unbagged)


def _bag_folders(members: Iterable[Member]) -> tuple[set[str], set[str]]:
    """Folders that are bags: by declaration, by name, or by payload and manifest; never nested.

    Returns:
        All of them; and those that are none by payload.
    """
    found: set[str] = set()
    with_manifest: set[str] = set()
    with_payload: set[str] = set()
    for member in _telling(members):
        parts = member.name.split("/", 3)
        depth = len(parts) - 1
        for level in range(min(depth, 2)):
            if parts[level].lower().endswith(BAG_SUFFIX) and len(parts[level]) > len(BAG_SUFFIX):
                found.add("/".join(parts[: level + 1]))
                break
        for level in range(min(depth, 3)):
            if parts[level] == PAYLOAD[:-1]:
                with_payload.add("/".join(parts[:level]))
        if depth <= 2:
            folder, name = "/".join(parts[:-1]), parts[-1]
            if name == _DECLARATION:
                found.add(folder)
            elif _MANIFEST.fullmatch(name):
                with_manifest.add(folder)
    found |= with_manifest & with_payload
    return _topmost(found), found - with_payload


def _telling(members: Iterable[Member]) -> Iterator[Member]:
    """Members that may tell of a bag: of those three folders deep only the folders do, so one of each will do."""
    known: set[str] = set()
    for member in members:
        folder = member.name.rpartition("/")[0]
        if folder not in known:
            yield member
            if folder.count("/") >= 2:
                known.add(folder)


def _topmost(folders: set[str]) -> set[str]:
    return {folder for folder in folders if not any(above in folders for above in _above(folder))}


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
            if part not in WORK_CHILDREN:
                continue
            above = folders[:level]
            if len(above) >= 2 and above[-1].startswith(above[-2] + "-I"):
                above = above[:-1]
            if len(above) <= 2:
                found.add("/".join(above))
            break
    return _topmost(found)


def _kept_folders(
    members: Iterable[Member], works: Collection[str], *, at_root: str
) -> tuple[dict[str, str], set[str]]:
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


def _sort_in(members: Iterable[Member], bags: dict[str, FoundBag], say: Findings) -> None:
    """Give each member to the bag that it lies in."""
    homes: dict[str, FoundBag | None] = {}
    litter = []
    for member in say.each(members):
        name = member.name
        folder = name.rpartition("/")[0]
        if folder not in homes:
            homes[folder] = next((bags[above] for above in (folder, *_above(folder)) if above in bags), None)
        bag = homes[folder]
        if bag is not None:
            bag.add(name[len(bag.folder) + 1 :] if bag.folder else name, member)
        elif is_litter(name):
            litter.append(name)
        elif not member.is_folder:
            say.fault(FaultKind.OUTSIDE_BAG, "is in no bag, so no manifest can verify it", path=name)
    say_litter(litter, say)


def _rid(bag: FoundBag, say: Findings, *, zip_name: str, work_rid: str) -> str:
    """The work that the bag's folder names; for a bag without a folder the key's, else the zip's name has to tell."""
    name = bag.folder.rpartition("/")[2]
    if name.lower().endswith(BAG_SUFFIX):
        name = name[: -len(BAG_SUFFIX)]
    try:
        if name:
            return checked_rid(name, source=bag.folder)
        return work_rid or ("" if bag.bagged and not bag.kept else rid_from_name(zip_name))
    except InvalidRid as error:
        say.of(bag.folder).fault(FaultKind.RID_INVALID, str(error))
        return ""
