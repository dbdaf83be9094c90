"""`run_pipeline.py quarantine list|show|release|drop`: refused bags, and what becomes of them."""

from argparse import Namespace
from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

from rich.console import Console

from pipeline.foundation.arguments import command
from pipeline.foundation.errors import UsageError
from pipeline.foundation.work import human_count, rfc3339, stamp
from pipeline.operations import quarantine, repair, show
from pipeline.operations.quarantine import Kept
from pipeline.record import BagRow, overview
from pipeline.tasks import context
from pipeline.tasks.context import Site

_SHOWN_LINES = 100  # of a report, which has a line for every fault


def main(options: Namespace) -> int:
    """Do what was asked; 1 when a lane has one of the works.

    Raises:
        UsageError: nothing is kept of a work that was named, or nobody agreed; nothing was changed.
    """
    here = context.open_site(lane="quarantine")
    return _ACTIONS[options.action](here, options)


def _list(here: Site, options: Namespace) -> int:
    """All that are refused, wherever they are kept: `status` counts them all."""
    found = quarantine.kept(here)
    here_kept = {one.bag_id for one in found}
    others = [row for row in overview.refused(here.engine) if row.bag.bag_id not in here_kept]
    elsewhere = [_not_kept(here, row) for row in others]

    def tell(out: Console) -> None:
        if not found:
            out.print(f"nothing is in quarantine on {here.host} ({here.settings.quarantine})")
        show.tell(out, [*map(_row, found), *elsewhere])
        if others:
            out.print(
                f"not kept here: {human_count(len(others), 'refused bag')}; put mended ones to S3, or leave their "
                "works out: run_pipeline.py skip RID --reason WHY; more of each: run_pipeline.py explain RID"
            )

    told = {"host": here.host, "folder": str(here.settings.quarantine), "kept": [_document(one) for one in found]}
    return show.result(options, {**told, "not_kept_here": elsewhere}, tell)


def _not_kept(here: Site, row: BagRow) -> dict[str, str]:
    where = "nothing" if row.host in {"", here.host} else f"on {row.host}"
    return {
        "work": row.bag.work_rid,
        "bag": row.bag.bag_id,
        "state": str(row.state),
        "kept since": "",
        "kept": where,
        "faults": row.error_kind,
    }


def _show(here: Site, options: Namespace) -> int:
    found = quarantine.named(here, options.names)
    document = {"kept": [_document(one) for one in found]}
    return show.result(options, document, lambda out: _tell(here, out, found))


def _tell(here: Site, out: Console, found: Sequence[Kept]) -> None:
    for one in found:
        out.print(f"{one.work_rid}, bag {one.bag_id}: {one.state}, kept since {stamp(one.since)} in {one.folder}")
        for path, size in one.zips.items():
            out.print(f"  {show.safe(path.name)}, {human_count(size, 'byte')}")
        out.print(
            f"  other copy: {quarantine.other_copy(here, one) or 'none that could be seen: this is the only one'}"
        )
        out.print()
        lines = one.report_text.rstrip().split("\n")
        out.print("\n".join(lines[:_SHOWN_LINES]))
        if len(lines) > _SHOWN_LINES:
            out.print(f"… and {len(lines) - _SHOWN_LINES} more lines in {show.safe(str(one.folder / 'report.txt'))}")
        out.print()
        if not one.superseded:
            out.print(f"try it again: {command('quarantine', 'release', one.work_rid)}")
        out.print(f"delete it:    {command('quarantine', 'drop', one.work_rid)}")


def _release(here: Site, options: Namespace) -> int:
    """The zip itself is taken back to staging by the lane that takes the bag up, in one rename: no state in between."""
    found = quarantine.named(here, options.names)
    for one in found:
        if one.row is None:
            kept = next((path for path in one.zips if path.suffix == ".zip"), None)
            raise UsageError(
                f"{one.work_rid}: the record does not know bag {one.bag_id}",
                go_on=("work", str(kept)) if kept else ("quarantine", "drop", one.work_rid),
            )
    rows = [one.row for one in found if one.row is not None]
    return 1 if repair.hand_back_each(here, rows, reason="released from quarantine", say=show.console().print) else 0


def _drop(here: Site, options: Namespace) -> int:
    out = show.console()
    found = quarantine.named(here, options.names)
    others = {one.bag_id: quarantine.other_copy(here, one) for one in found}
    alone = [one for one in found if not others[one.bag_id]]
    if alone and not options.only_copy:
        raise UsageError(
            "no other copy could be seen of " + ", ".join(f"{one.work_rid} (bag {one.bag_id})" for one in alone) + "; "
            "nothing was deleted",
            by_hand="the same with --only-copy, if they may be lost",
        )
    for one in found:
        sys_line = f"{one.work_rid}: {quarantine.what_of(one)} in {one.folder}; {others[one.bag_id] or 'THE ONLY COPY'}"
        out.print(show.safe(sys_line))
    show.agreed(f"{human_count(len(found), 'refused bag')} will be deleted. Delete?", yes=options.yes)
    for one in found:
        with repair.leased(here, one.work_rid, one.bag_id):
            quarantine.drop(here, one, by=repair.operator())
        out.print(
            f"{one.work_rid}: deleted; why it was refused stays in the record: {command('explain', one.work_rid)}"
        )
    return 0


def _row(one: Kept) -> dict[str, str]:
    counts = one.report.get("counts", {})
    return {
        "work": one.work_rid,
        "bag": one.bag_id,
        "state": one.state,
        "kept since": f"{one.since:%F %T}",
        "kept": quarantine.what_of(one),
        "faults": ", ".join(f"{count} {kind}" for kind, count in counts.items()) or "no report",
    }


def _document(one: Kept) -> dict[str, Any]:
    told = asdict(one)
    del told["row"]
    return {
        **told,
        "folder": str(one.folder),
        "state": one.state,
        "zips": [{"path": str(path), "bytes": size} for path, size in one.zips.items()],
        "since": rfc3339(one.since),
    }


_ACTIONS = {"list": _list, "show": _show, "release": _release, "drop": _drop}
