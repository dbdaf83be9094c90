"""`run_pipeline.py bag WORKDIR… --into DIR`: make bag zips of work folders, in BDRC's shape."""

from argparse import Namespace

from pipeline.foundation.work import human_count
from pipeline.operations import bag, show


def main(options: Namespace) -> int:
    """Make one zip of each folder.

    Raises:
        InvalidBag: a folder cannot become a bag; every reason is listed.
        TransientError: the disk is full, or something cannot be read or written.
    """
    with show.progress("bagging") as pulse:
        made = bag.make(options.work_dirs, into=options.into, pulse=pulse)
    if options.json:
        show.as_json(
            {"bags": [{"rid": one.rid, "path": str(one.path), "files": one.files, "bytes": one.bytes} for one in made]}
        )
        return 0
    out = show.console()
    for one in made:
        out.print(f"{show.safe(str(one.path))}: {human_count(one.files, 'file')}, {human_count(one.bytes, 'byte')}")
    return 0
