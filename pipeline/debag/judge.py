"""Everything that can be known of a bag zip before its payload is read: the zip, its members, its bags, their rules."""

from collections.abc import Sequence
from dataclasses import dataclass, field

from pipeline.debag import kept_rules, rules
from pipeline.debag.bag_record import BagReader, BagRecord
from pipeline.debag.faults import FaultKind, Findings
from pipeline.debag.layout import FoundBag, find_bags, say_unbagged
from pipeline.debag.matching import check_unicode_twins
from pipeline.debag.policy import Policy
from pipeline.debag.shared import works_of
from pipeline.debag.zip_directory import read_directory
from pipeline.debag.zip_members import check_members
from pipeline.debag.zip_source import ZipSource
from pipeline.foundation.errors import InvalidRid
from pipeline.foundation.work import checked_rid, rid_from_name


@dataclass(slots=True)
class Verdict:
    """What was found before the payload is read.

    Attributes:
        records: the works' bags; of a bag that several works share one for each of them.
        members: members of the zip.
        readable: whether the payload may be read at all; not so if all of it together is a bomb.
    """

    records: list[BagRecord] = field(default_factory=list)
    members: int = 0
    readable: bool = False


def examine(source: ZipSource, policy: Policy, say: Findings, *, work_rid: str) -> Verdict:
    """Read the table of contents and the tag files of an open zip, and judge them.

    Raises:
        UnreadableZip: nothing more can be known; `say` has the reason.
        OSError: the zip could not be read.
    """
    directory = read_directory(source, policy, say)
    verdict = Verdict(members=len(directory.members))
    safe = check_members(source, directory, policy, say)
    verdict.readable = not any(fault.kind == FaultKind.RATIO_TOO_HIGH and not fault.path for fault in say.faults)
    reader = BagReader(source, policy, say, len(directory.members))
    found = find_bags(safe, policy, say, zip_name=source.path.name, work_rid=work_rid)
    for bag in found:
        if not verdict.readable:
            verdict.records.append(BagRecord(bag))
            continue
        if bag.kept:
            kept_rules.leave_own_proof_out(bag, say)
        record = reader.read(bag)
        verdict.records += _judged(record, source.path.name, policy, say)
    _check_works([record.found for record in verdict.records], policy, say, work_rid=work_rid)
    return verdict


def _judged(record: BagRecord, zip_name: str, policy: Policy, say: Findings) -> list[BagRecord]:
    """Judge a bag, or a work without one; gives the work, or the works that share the bag."""
    found = record.found
    if found.kept and not kept_rules.is_of_the_work(record):
        kept_rules.given_up(found, say)
        say_unbagged([found.folder], policy, say)
        record = BagRecord(found)
    if found.kept:
        kept_rules.check(record, policy, say)
    elif found.bagged:
        _name_root_bag(record, zip_name, say)
        rules.check(record, policy, say)
        return works_of(record, policy, say)
    else:
        check_unicode_twins(found.payload, (), say, bag=found.folder)
    return [record]


def _name_root_bag(record: BagRecord, zip_name: str, say: Findings) -> None:
    """A bag that is the zip's root has no folder to name its work: its BDRC-RID does, else the zip's name."""
    if record.found.rid or record.found.folder:
        return
    told = next((value for label, value in record.metadata if label.casefold() == "bdrc-rid"), "")
    try:
        record.found.rid = checked_rid(told, source="BDRC-RID") if told else rid_from_name(zip_name)
    except InvalidRid as error:
        say.fault(FaultKind.RID_INVALID, detail=str(error))


def _check_works(bags: Sequence[FoundBag], policy: Policy, say: Findings, *, work_rid: str) -> None:
    """No work twice; and none but the one that the zip's key promised, unless it may hold several."""
    seen: dict[str, str] = {}
    for bag in bags:
        if bag.rid and bag.rid in seen:
            detail = f"{seen[bag.rid] or 'the root'} would become {bag.rid} too"
            say.fault(FaultKind.SAME_WORK_TWICE, bag=bag.folder, detail=detail)
        seen.setdefault(bag.rid, bag.folder)
    for bag in bags:
        if not work_rid or bag.rid in {"", work_rid}:
            continue
        if len(bags) == 1:
            say.misnamed = bag.rid
            detail = f"the zip is named for {work_rid}, the bag in it for {bag.rid}: if that is right, rename the zip"
            say.judge(FaultKind.RID_MISMATCH, refuse=policy.rid_mismatch == "refuse", bag=bag.folder, detail=detail)
        elif not policy.several_works:
            say.fault(
                FaultKind.FOREIGN_WORK, bag=bag.folder, detail=f"{bag.rid}, in a zip that is named for {work_rid}"
            )
