"""`run_pipeline.py bag WORKDIR… --into DIR`: make bag zips of work folders, in BDRC's shape."""

from argparse import Namespace
from collections.abc import Sequence

from rich.console import Console

from pipeline.foundation.work import human_count
from pipeline.operations import bag, show
from pipeline.operations.bag import Bagged


def main(options: Namespace) -> int:
    """Make one zip of each folder.

    Raises:
        InvalidBag: a folder cannot become a bag; every reason is listed.
        TransientError: the disk is full, or something cannot be read or written.
    """
    with show.progress("bagging") as pulse:
        made = bag.make(options.work_dirs, into=options.into, pulse=pulse)
    told = [{"rid": one.rid, "path": str(one.path), "files": one.files, "bytes": one.bytes} for one in made]
    return show.result(options, {"bags": told}, lambda out: _tell(out, made))


def _tell(out: Console, made: Sequence[Bagged]) -> None:
    for one in made:
        out.print(f"{show.safe(str(one.path))}: {human_count(one.files, 'file')}, {human_count(one.bytes, 'byte')}")
