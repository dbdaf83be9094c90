"""`run_pipeline.py log RID [--path] [--all]`: what the sync script and the audit tool printed for a work."""

import sys
from argparse import Namespace
from pathlib import Path

from pipeline.foundation.arguments import command
from pipeline.operations import show, sync_logs
from pipeline.operations.sync_logs import SyncLog
from pipeline.record import stories
from pipeline.tasks import context
from pipeline.tasks.context import Site


def main(options: Namespace) -> int:
    """Show the log of its last sync; 1 when none of those asked for is on a disk that this host sees.

    Raises:
        UsageError: it is no RID, or nothing is known of the work.
    """
    work_rid, here = options.rid, context.open_site(lane="log")
    found = sync_logs.of(here, work_rid, stories.asked_story(here.engine, work_rid).events)
    if not found:
        again = f"go on with: {command('explain', work_rid)}"
        sys.stderr.write(f"{work_rid}: no sync of it has left a log; {again}\n")
        return 0
    asked = found if options.all else found[-1:]
    for one in asked:
        if one.there:
            _show(work_rid, one, paths=options.path)
        else:
            sys.stderr.write(f"{_elsewhere(here, work_rid, one)}\n")
    return 0 if any(one.there for one in asked) else 1


def _show(work_rid: str, one: SyncLog, *, paths: bool) -> None:
    """The log as it is, but for what a terminal would obey; line by line, for it may be large."""
    if paths:
        sys.stdout.write("".join(f"{show.safe(str(file))}\n" for file in one.files))
        return
    sys.stdout.write(f"== {work_rid}: sync {one.outcome}, {one.at[:19]}Z on {one.host}: {show.safe(one.log)}\n")
    with Path(one.log).open(encoding="utf-8", errors="backslashreplace") as lines:
        for line in lines:
            sys.stdout.write("\t".join(map(show.safe, line.rstrip("\n").split("\t"))) + "\n")
    for file in one.files[1:]:
        sys.stdout.write(f"== audit log: {show.safe(str(file))}\n")


def _elsewhere(here: Site, work_rid: str, one: SyncLog) -> str:
    where = "is not there any more" if one.host == here.host else f"is on host {one.host}"
    return show.safe(f"{work_rid}: the log of the sync of {one.at[:19]}Z ({one.outcome}) {where}: {one.log}")
