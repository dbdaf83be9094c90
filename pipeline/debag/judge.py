"""Everything that can be known of a bag zip before its payload is read: the zip, its members, its bags, their rules."""

from collections.abc import Sequence
from dataclasses import dataclass

from pipeline.debag import rules
from pipeline.debag.bag_record import BagReader, BagRecord
from pipeline.debag.faults import FaultKind, Findings
from pipeline.debag.layout import FoundBag, find_bags, say_unbagged
from pipeline.debag.policy import Policy
from pipeline.debag.shared import works_of
from pipeline.debag.zip_directory import read_directory
from pipeline.debag.zip_members import check_members
from pipeline.debag.zip_source import ZipSource
from pipeline.foundation.errors import InvalidRid
from pipeline.foundation.fixity import digests_name
from pipeline.foundation.work import checked_rid, rid_from_name

_NOT_KEPT = {"bagit.txt", "bag-info.txt"}


@dataclass(frozen=True)
class Examined:
    """What was found before the payload is read.

    Attributes:
        records: the bags, each with its works.
        members: members of the zip.
        readable: whether the payload may be read at all; not so if all of it together is a bomb.
    """

    records: list[BagRecord]
    members: int
    readable: bool


def examine(source: ZipSource, policy: Policy, say: Findings, *, work_rid: str) -> Examined:
    """Read the table of contents and the tag files of an open zip, and judge them.

    Raises:
        UnreadableZip: nothing more can be known; `say` has the reason.
        OSError: the zip could not be read.
    """
    directory = read_directory(source, policy, say)
    safe = check_members(source, directory, policy, say)
    readable = not any(fault.kind == FaultKind.RATIO_TOO_HIGH and not fault.path for fault in say.faults)
    found = find_bags(safe, policy, say, zip_name=source.path.name, work_rid=work_rid)
    reader = BagReader(source, policy, say, len(directory.members))
    records = [
        _judged(bag, reader, policy, say, zip_name=source.path.name) if readable else BagRecord(bag) for bag in found
    ]
    _check_works([work for record in records for work in record.works], policy, say, work_rid=work_rid)
    return Examined(records, len(directory.members), readable)


def _judged(found: FoundBag, reader: BagReader, policy: Policy, say: Findings, *, zip_name: str) -> BagRecord:
    """A bag, or a work without one, read and judged; with the work, or the works that share the bag."""
    here = say.of(found.folder)
    if found.kept:
        _leave_own_proof_out(found, here)
    record = reader.read(found)
    if found.kept and not _is_of_the_work(record):
        _give_up(found, here)
        say_unbagged([found.folder], policy, say)
        record = BagRecord(found)
    if found.kept:
        rules.check(record, policy, say, rules=KEPT_RULES)
    elif found.bagged:
        _name_root_bag(record, zip_name, say)
        rules.check(record, policy, say)
        record.works = works_of(record, policy, say)
    else:
        rules.names_are_told_apart(record, policy, here)
    return record


def _name_root_bag(record: BagRecord, zip_name: str, say: Findings) -> None:
    """A bag that is the zip's root has no folder to name its work: its BDRC-RID does, else the zip's name."""
    if record.found.rid or record.found.folder:
        return
    told = next((value for label, value in record.metadata if label.casefold() == "bdrc-rid"), "")
    try:
        record.found.rid = checked_rid(told, source="BDRC-RID") if told else rid_from_name(zip_name)
    except InvalidRid as error:
        say.fault(FaultKind.RID_INVALID, str(error))


def kept_manifests_list_every_file(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """A work without a bag may have got files since its manifests were kept: those are not verified, and said."""
    listed = {path for manifest in bag.manifests if manifest.algorithm for path in manifest.entries}
    for path in say.each(bag.found.payload.keys() - listed):
        say.warn(FaultKind.FILE_UNLISTED, f"in no manifest of {bag.found.kept}", path=path)


def kept_tag_files_are_there(bag: BagRecord, _policy: Policy, say: Findings) -> None:
    """Of a bag's tag files BDRC keeps the manifests; the others are missing, and that is no fault."""
    for manifest in bag.tag_manifests:
        for path in sorted({*manifest.missing} - _NOT_KEPT):
            must = path.startswith("manifest-")
            say.judge(FaultKind.TAG_FILE_MISSING, f"listed in {manifest.file_name}", refuse=must, path=path)


KEPT_RULES: tuple[rules.Rule, ...] = (
    rules.has_a_payload_manifest,
    rules.has_strong_digests,
    rules.manifests_keep_to_the_payload,
    rules.manifests_of_one_algorithm_agree,
    rules.lists_only_files_that_are_there,
    kept_manifests_list_every_file,
    rules.names_are_told_apart,
    kept_tag_files_are_there,
    rules.tag_files_match,
)


def _leave_own_proof_out(found: FoundBag, say: Findings) -> None:
    """The digests that this program keeps in the archive are not the work's: they are made anew when it is home."""
    name = digests_name(found.rid)
    if found.tag_files.pop(name, None) is not None:
        say.warn(FaultKind.PROOF_LEFT_OUT, "made anew in the archive", path=f"{found.kept}/{name}")


def _is_of_the_work(record: BagRecord) -> bool:
    """Whether the kept manifests list any file of the work: only then can they say what is missing or altered."""
    return any(path in record.found.payload for manifest in record.manifests for path in manifest.entries)


def _give_up(found: FoundBag, say: Findings) -> None:
    """Take the work as one that nothing can verify, its `.bag` folder as a folder like any other."""
    detail = f"what {found.kept} lists is not in the work, so it verifies nothing"
    say.warn(FaultKind.KEPT_MANIFESTS_STRANGE, detail, path=found.kept)
    base, kept = len(found.base), found.kept
    found.payload = {path[base:]: member for path, member in found.payload.items()}
    found.payload |= {f"{kept}/{path}": member for path, member in found.tag_files.items()}
    found.folders = {
        path[base:] if path.startswith(found.base) else f"{kept}/{path}" if path else kept: member
        for path, member in found.folders.items()
        if path != found.base[:-1]
    }
    found.tag_files, found.kept, found.base, found.bagged = {}, "", "", False


def _check_works(bags: Sequence[FoundBag], policy: Policy, say: Findings, *, work_rid: str) -> None:
    """No work twice; and none but the one that the zip's key promised, unless it may hold several."""
    seen: dict[str, str] = {}
    for bag in bags:
        here = say.of(bag.folder)
        if bag.rid and bag.rid in seen:
            here.fault(FaultKind.SAME_WORK_TWICE, f"{seen[bag.rid] or 'the root'} would become {bag.rid} too")
        seen.setdefault(bag.rid, bag.folder)
        if not work_rid or bag.rid in {"", work_rid}:
            continue
        if len(bags) == 1:
            bag.named_inside = bag.rid
            detail = f"the zip is named for {work_rid}, the bag in it for {bag.rid}: if that is right, rename the zip"
            here.judge(FaultKind.RID_MISMATCH, detail, refuse=policy.rid_mismatch == "refuse")
        elif not policy.several_works:
            here.fault(FaultKind.FOREIGN_WORK, f"{bag.rid}, in a zip that is named for {work_rid}")
