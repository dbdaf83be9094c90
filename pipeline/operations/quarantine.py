"""Refused bags, as an operator meets them: what is kept, whether it is the only copy, and letting it go."""

import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from pipeline import download
from pipeline.foundation import durable, failpoints, guarded, removal
from pipeline.foundation.errors import PipelineError, UsageError
from pipeline.foundation.work import human_bytes
from pipeline.operations.repair import moved_out
from pipeline.record import SUPERSEDED, BagRow, BagState, superseded
from pipeline.tasks import staging
from pipeline.tasks.context import Site


@dataclass(frozen=True)
class Kept:
    """A refused bag.

    Attributes:
        folder: where it is kept with its reports.
        row: what the record knows of it; None: nothing.
        report: what was wrong; empty where the report is gone.
        zips: what is kept of it besides the reports, in bytes by path; its owner's own zip is not among them.
        owners_zip: its owner's own zip, where it lies now; None: there is none, or it is gone.
        since: when its report was written.
        superseded: a later bag brought its works home since.
    """

    folder: Path
    work_rid: str
    bag_id: str
    row: BagRow | None
    report: dict[str, Any]
    zips: dict[Path, int]
    since: datetime
    superseded: bool = False
    owners_zip: Path | None = None

    @property
    def state(self) -> str:
        """What has become of the bag since."""
        if self.superseded:
            return SUPERSEDED
        return "unknown" if self.row is None else str(self.row.state)

    @property
    def report_text(self) -> str:
        """The report for people."""
        try:
            return (self.folder / "report.txt").read_text(encoding="utf-8")
        except OSError as error:
            return f"{self.folder / 'report.txt'} cannot be read: {error.strerror}\n"


def kept(here: Site) -> list[Kept]:
    """All that is in the quarantine of this host, the latest first."""
    found, over = [], superseded(here.engine)
    for bag_id, folder in staging.residue(here.settings.quarantine):
        report = _report(folder / "report.json")
        zips = {path: path.stat().st_size for path in sorted(folder.iterdir()) if ".zip" in path.suffixes}
        since = datetime.fromtimestamp(folder.stat().st_mtime, UTC)
        rid = folder.name.rpartition("-")[0]
        row = here.record.bag(bag_id)
        theirs = None if row is None else _owners_zip(here, row)
        found.append(Kept(folder, rid, bag_id, row, report, zips, since, bag_id in over, theirs))
    return sorted(found, key=lambda one: one.since, reverse=True)


def named(here: Site, names: Sequence[str]) -> list[Kept]:
    """What is kept of these works, or bags.

    Raises:
        UsageError: nothing is kept of one of them on this host.
    """
    found: list[Kept] = []
    everything = kept(here)
    for name in names:
        matching = [one for one in everything if name in {one.work_rid, one.bag_id}]
        if not matching:
            row = here.record.bag(name)
            rid = name if row is None else row.bag.work_rid
            known = row is not None or here.record.bags_of(rid)
            raise UsageError(
                f"{name}: nothing is kept of it in {here.settings.quarantine} on {here.host}",
                go_on=("explain", rid) if known else ("quarantine", "list"),
                by_hand="look on the host that had it last, which explain names" if known else "",
            )
        found += [one for one in matching if one not in found]
    return found


def other_copy(here: Site, one: Kept) -> str:
    """Where else the bytes of a kept zip are; empty: nowhere that could be seen, so this is the only copy."""
    if one.owners_zip is not None:
        return f"its owner's zip is at {one.owners_zip}"
    if not one.zips:
        return "no zip is kept here"
    if one.row is not None and one.row.state is BagState.DONE:
        return "the work is home since"
    if one.row is None or one.row.bag.is_local:
        return ""
    try:
        download.look(here.s3(one.row.bag), one.row.bag)
    except PipelineError:
        return ""  # gone, replaced, or nobody to ask: whoever does not know must not say that there is one
    return f"{one.row.bag.address} is still what it was"


def drop(here: Site, one: Kept, *, by: str) -> None:
    """Delete what is kept of a refused bag; what was wrong with it stays in the record.

    Killed at any instant: the record says that it is being dropped, and dropping it again finishes it.
    """
    try:
        guarded.see_nobody_can_swap(one.folder.parent)
    except OSError as error:
        raise UsageError(f"{error.strerror}; nothing was deleted") from error
    facts = {"by": by, "folder": str(one.folder), "zips": {path.name: size for path, size in one.zips.items()}}
    here.record.note("quarantine", "dropping", facts, work_rid=one.work_rid, bag_id=one.bag_id)
    failpoints.before(failpoints.Act.DELETE)
    # Under another name first: a removal cut short is finished by whoever looks next.
    doomed = one.folder.with_name(f".{one.folder.name}.removed")
    removal.remove_tree(doomed)
    os.replace(one.folder, doomed)
    durable.fsync_folder(doomed.parent)
    failpoints.point("half dropped")
    removal.remove_tree(doomed)
    failpoints.after(failpoints.Act.DELETE)
    here.record.note("quarantine", "dropped", facts, work_rid=one.work_rid, bag_id=one.bag_id)


def what_of(one: Kept) -> str:
    """What is kept, for people."""
    if one.zips:
        return human_bytes(sum(one.zips.values()))
    return "report alone" if one.owners_zip is None else f"report; the zip is {one.owners_zip}"


def _owners_zip(here: Site, row: BagRow) -> Path | None:
    """A zip that a person dropped or named: where she put it, or with the refused ones of its folder."""
    if not row.bag.is_local:
        return None
    own = Path(row.bag.key)
    return own if own.exists() else moved_out(here, row)


def _report(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}
