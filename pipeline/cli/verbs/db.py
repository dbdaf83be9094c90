"""`run_pipeline.py db status|upgrade|downgrade|export|import|rebuild`: the progress database, its tables and rows."""

import os
import sys
from argparse import Namespace
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import asdict
from datetime import datetime
from pathlib import Path

from rich.console import Console

from pipeline import __version__, record, settings
from pipeline.foundation.arguments import command, way_on
from pipeline.foundation.errors import Stopping, UsageError
from pipeline.foundation.signals import stopping_on_signals
from pipeline.foundation.work import human_bytes, human_count, stamp
from pipeline.operations import rebuild, show
from pipeline.operations.rebuild import RebuildVerdict, Rebuilt
from pipeline.record import Archived, dump, refill
from pipeline.record.dump import Contents
from pipeline.settings import Settings
from pipeline.tasks import context
from pipeline.tasks.context import Site


def main(options: Namespace) -> int:
    """Tell or change the tables, or what is in them.

    Raises:
        UsageError: there is no such revision to go back to, a file or database is not fit, or nobody agreed; nothing
            was changed.
        SchemaOutdated: the tables are of a later release, and do not serve this one.
        ArchiveMissing: the archive is out of reach; what was rebuilt so far is.
        DatabaseUnavailable: the database is out of reach.
    """
    return _ACTIONS[options.action](settings.load(), options)


def _status(chosen: Settings, _: Namespace) -> int:
    """1 when the tables do not serve this release."""
    found, wanted = record.revisions(record.connect(chosen.database_url))
    serve = record.serves(found, wanted)
    later = "; they are of a later release, and serve this one" if serve and found != wanted else ""
    sys.stdout.write(f"tables: revision {found or 'none'}; this release needs {wanted}{later}\n")
    return 0 if serve else 1


def _upgrade(chosen: Settings, options: Namespace) -> int:
    record.upgrade(record.connect(chosen.database_url))
    return _status(chosen, options)


def _downgrade(chosen: Settings, options: Namespace) -> int:
    engine, revision = record.connect(chosen.database_url), options.revision
    possible = record.earlier(engine)
    if revision not in possible:
        raise UsageError(f"the tables can go back to {', '.join(possible) or 'nothing earlier'}, not to {revision}")
    lost = f"What only revisions after {revision} hold will be deleted. Stop all lanes first. Go back?"
    show.agreed(lost, yes=options.yes)
    record.downgrade(engine, revision)
    _status(chosen, options)
    return 0


def _export(chosen: Settings, options: Namespace) -> int:
    """Write the record to a file, and say whether it will do to move to another database."""
    file: Path = options.file
    if os.path.lexists(file):
        raise UsageError(f"{file} is there already, and stays as it is", by_hand="the same with another name")
    engine = record.connect(chosen.database_url)
    with show.progress("export", counted=True) as pulse:
        try:
            contents = dump.export(
                engine, file, product=__version__, silent_seconds=2 * chosen.lease_seconds, pulse=pulse
            )
        except OSError as error:
            raise UsageError(f"{file} cannot be written: {error.strerror}; there is no such file") from error
    out = show.console()
    out.print(f"{_told(contents)}, in {file} ({human_bytes(file.stat().st_size)})")
    if contents.is_still:
        out.print("intake is paused and no lane is alive: this can be moved. Set [database] url to an empty database,")
        out.print(f"then: run_pipeline.py db import {file}")
    else:
        out.print(f"a backup, not to be moved: {_restless(contents)}. To move, see docs/backups.md:")
        out.print("run_pipeline.py pause, then stop all lanes, then db export again")
    return 0


def _import(chosen: Settings, options: Namespace) -> int:
    """Fill an empty database with what a file holds, once an operator knows what it lacks."""
    contents = refill.look(options.file)
    out = show.console()
    out.print(f"{options.file}: {_told(contents)}")
    if not contents.is_still:
        show.agreed(
            f"When this was written, {_restless(contents)}: what was done since is not in it. "
            "Lanes must not go on with the database that it was made of. Import it?",
            yes=options.yes,
        )
    with show.progress("import", counted=True) as pulse:
        refill.load(record.connect(chosen.database_url), options.file, contents, pulse=pulse)
    rows = human_count(sum(contents.rows.values()), "row")
    out.print(f"imported: {rows}, each read back and matched; lanes hold nothing in it")
    if contents.paused:
        out.print("intake is paused in it, too; start the lanes, then: run_pipeline.py resume")
    return 0


def _told(contents: Contents) -> str:
    rows = ", ".join(f"{name} {count:,}" for name, count in contents.rows.items() if count)
    of = f"{stamp(datetime.fromisoformat(contents.made_on))}, release {contents.made_by}, revision {contents.revision}"
    return f"the record of {of}: {rows or 'nothing is in it'}"


def _restless(contents: Contents) -> str:
    """Why a file is not fit to be moved."""
    at_work = f"lanes held {human_count(contents.held, 'work')}" if contents.held else ""
    alive = f"{human_count(contents.alive, 'lane')} alive" if contents.alive else ""
    return ", ".join(filter(None, ("" if contents.paused else "intake was not paused", at_work, alive)))


def _rebuild(chosen: Settings, options: Namespace) -> int:
    """Write rows for works that lie in the archive; 1 when one is not as its proof says, or was not reached."""
    here = context.open_site(chosen, lane="rebuild")
    works = rebuild.lost(here)
    if works:
        same = "every byte is" if options.verify else "names and sizes are"
        many = human_count(len(works), "work in the archive has", "works in the archive have")
        show.agreed(f"{many} no sync row. Give one to each whose {same} as its proof says?", yes=options.yes)
    found: list[Rebuilt] = []
    with stopping_on_signals(here.stopping.set), show.progress("rebuild", counted=True) as pulse, suppress(Stopping):
        for one in _each(here, works, options):
            found.append(one)
            pulse(len(found), len(works))
    counts = Counter(one.ending for one in found)
    left = len(works) - len(found)
    told = {"asked": len(works), "not_reached": left, "works": [asdict(one) for one in found]}

    def tell(out: Console) -> None:
        for one in found:
            if one.ending is not RebuildVerdict.REBUILT:
                way = way_on(command("verify", one.work_rid)) if one.ending is RebuildVerdict.WRONG else ""
                out.print(show.safe("; ".join(filter(None, (f"{one.work_rid}: {one.ending}: {one.why}", way)))))
        ended = ", ".join(f"{count} {ending}" for ending, count in sorted(counts.items()))
        not_reached = f"; not reached: {left}" if left else ""
        out.print(f"{human_count(len(works), 'work')} without a row: {ended or 'nothing to do'}{not_reached}")
        if counts[RebuildVerdict.REBUILT]:
            out.print(
                "what only the record knew stays lost: zips, events, failures, dates of steps; see docs/backups.md"
            )
            if chosen.replicas:
                out.print("second copies that are there are found again by: run_pipeline.py replicate --owed")

    wrong = counts[RebuildVerdict.WRONG] or counts[RebuildVerdict.BUSY] or left
    return show.result(options, told, tell, status=1 if wrong else 0)


def _each(here: Site, works: Sequence[Archived], options: Namespace) -> Iterator[Rebuilt]:
    """One after the other, until a signal comes."""

    def pulse(_done: int, _total: int) -> None:
        if here.stopping.is_set():
            raise Stopping("stopped as asked")

    for work in works:
        pulse(0, 0)
        yield rebuild.rebuild(here, work, read=options.verify, pulse=pulse)


_ACTIONS = {
    "status": _status,
    "upgrade": _upgrade,
    "downgrade": _downgrade,
    "export": _export,
    "import": _import,
    "rebuild": _rebuild,
}
