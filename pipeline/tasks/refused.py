"""What becomes of a refused bag: its reports, where its zip is kept, and how to go on."""

import shlex
from pathlib import Path, PurePosixPath

from pipeline.debag import refusal
from pipeline.foundation.arguments import Command, command
from pipeline.foundation.errors import InvalidBag
from pipeline.foundation.work import Bag, staging_key
from pipeline.settings import WhenDone
from pipeline.tasks import staging
from pipeline.tasks.context import Site


def keep(here: Site, bag: Bag, error: InvalidBag, *, zip_name: str) -> None:
    """Keep a refused bag in quarantine with its reports, and let the failure say where, and how to go on."""
    place = here.place(bag)
    proof = staging.proof(place)
    _say_what_is_kept(here, bag, error, proved=bool(proof))
    facts = refusal.as_data(error, bag, zip_name=zip_name, proof=proof)
    staging.keep(place, bag, report=facts, text=refusal.as_text(error, zip_name=zip_name, proof=proof))


def _say_what_is_kept(here: Site, bag: Bag, error: InvalidBag, *, proved: bool) -> None:
    """Where a refused zip is kept, and how to go on: that depends on where it came from."""
    kept, report_txt = staging.kept_zip(here.place(bag), bag), here.place(bag).quarantine / "report.txt"
    folder = here.settings.folder(bag.source)
    if folder is not None and folder.done is not WhenDone.KEEP:
        kept = folder.refused_dir(bag.work_rid, bag.bag_id) / kept.name
    error.kept = f"the zip is kept at {kept}, the report at {report_txt}"
    if error.misnamed:
        error.go_on = _renaming(error.misnamed, bag, kept, into=None if folder is None else folder.path)
        error.by_hand = ""
    elif folder is not None:
        error.by_hand = f"put a mended bag into {folder.path}"
    elif bag.is_local:
        error.go_on, error.by_hand = command("work", bag.key), "mend the bag"
    elif proved:
        error.by_hand = "put a mended bag to S3 again"
    else:
        error.go_on = command("work", bag.work_rid, "--from", "download")
        error.by_hand = "put a mended bag to S3 again, unless only the download was bad"


def _renaming(right_rid: str, bag: Bag, kept: Path, *, into: Path | None) -> Command:
    """The commands that give a zip its right name, leave the wrong one out, and bring it home."""
    skipped = command("skip", bag.work_rid, "--reason", f"it is {right_rid}", "--yes")
    if bag.is_local:
        renamed = str((into or kept.parent) / f"{right_rid}.bag.zip")
        moved = shlex.join(("mv", "-n", str(kept), renamed))
        return Command(f"{moved} && {skipped} && {command('run') if into else command('work', renamed)}")
    key = str(PurePosixPath(bag.key).parent / f"{right_rid}.bag.zip")
    new = f"s3://{bag.bucket}/{staging_key(right_rid) if bag.key == staging_key(bag.work_rid) else key}"
    return Command(f"{shlex.join(('aws', 's3', 'mv', bag.address, new))} && {skipped} && {command('work', new)}")
