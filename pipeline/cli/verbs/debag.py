"""`run_pipeline.py debag ZIP… --into DIR`: debag zips by hand; no AWS, no database."""

import sys
from argparse import Namespace
from dataclasses import replace

from rich.console import Console

from pipeline.debag import Policy
from pipeline.foundation.work import human_count
from pipeline.operations import debag_zips, show
from pipeline.operations.debag_zips import Debagging


def main(options: Namespace) -> int:
    """Debag them; 0 only with no fault.

    Raises:
        TransientError: the disk is full, or something cannot be read or written.
    """
    policy = replace(
        Policy(), allow_weak_digests=not options.refuse_weak_digests, allow_unbagged=options.allow_unbagged
    )
    with show.progress("debagging") as pulse:
        outcome = debag_zips.debag_zips(options.zips, options.into, policy=policy, threads=options.threads, pulse=pulse)
    return show.result(options, outcome.as_dict(), lambda out: _tell(out, outcome), status=outcome.exit_status)


def _tell(out: Console, outcome: Debagging) -> None:
    for work in outcome.works:
        there = ", was there already" if work.rid in outcome.already_there else ""
        size = f"{human_count(work.files, 'file')}, {human_count(work.bytes, 'byte')}"
        out.print(f"{show.safe(str(work.path))}: {size}, verified{there}")
    for warning in outcome.warnings:
        sys.stderr.write(f"warning: {show.safe(str(warning))}\n")
    for fault in outcome.faults:
        sys.stderr.write(f"refused: {show.safe(str(fault))}\n")
    if outcome.faults:
        sys.stderr.write(
            f"{human_count(len(outcome.faults), 'fault')}; the zips are untouched, what was refused was not unpacked\n"
        )
