"""What the record and the reports keep of a step: facts, JSON-able."""

from typing import Any

from pipeline import sync
from pipeline.debag import Debagged, report
from pipeline.foundation.errors import InvalidBag
from pipeline.foundation.work import Bag, human_count


def debag_facts(unpacked: Debagged) -> dict[str, Any]:
    """What the record keeps of a debag."""
    return {
        "works": [work.rid for work in unpacked.works],
        "files": sum(work.files for work in unpacked.works),
        "bytes": sum(work.bytes for work in unpacked.works),
        "algorithms": list(unpacked.algorithms),
        "verified": sorted({work.verified for work in unpacked.works}),
        "warnings": [fault.as_dict() for fault in unpacked.warnings],
        "seconds": round(unpacked.seconds, 3),
    }


def sync_facts(synced: sync.Synced) -> dict[str, Any]:
    """What the record keeps of a sync."""
    return {
        "archive_path": str(synced.path),
        "files": synced.files,
        "bytes": synced.bytes,
        "written": synced.written,
        "added": synced.added,
        "cache_dropped": synced.cache_dropped,
        "replaced": list(synced.replaced[:1000]),
        "replaced_to": synced.replaced_to,
        "not_kept": ", ".join(synced.not_kept),
        "extra": list(synced.extra[:1000]),
        "algorithms": list(synced.algorithms),
        "log": str(synced.log or ""),
        "options": synced.options.facts(),
        "audits": dict(synced.audits),
        "proof": {"name": synced.proof.name, "sha512": synced.proof.sha512},
        "seconds": round(synced.seconds, 3),
    }


def report_facts(bag: Bag, error: InvalidBag, zip_name: str) -> dict[str, Any]:
    """What `report.json` says of a refused bag: which one it is, and everything that is wrong with it."""
    return {
        "work_rid": bag.work_rid,
        "bag_id": bag.bag_id,
        "from": bag.address,
        "etag": bag.etag,
        **report.as_data(error, zip_name=zip_name),
    }


def refusal(error: InvalidBag) -> str:
    """Why a bag was refused, in one line; the report has it all."""
    if error.misnamed:
        return f"the zip is named wrongly: the bag in it is {error.misnamed}, by all that it says of itself"
    first = error.faults[0]
    where = "/".join(part for part in (first.bag, first.path) if part)
    others = sum(report.counts(error).values()) - 1
    more = f", and {human_count(others, 'more fault')}" if others else ""
    return f"the bag is refused: {first.kind}" + (f" of {where}" if where else "") + more
