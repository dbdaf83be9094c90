"""`run_pipeline.py db status|upgrade|downgrade REVISION`: the tables of the progress database."""

import sys
from argparse import Namespace

from pipeline import record, settings
from pipeline.foundation.errors import UsageError
from pipeline.operations import show


def main(options: Namespace) -> int:
    """Tell or change the revision of the tables; 1 when they are not this release's, unless that was asked for.

    Raises:
        UsageError: there is no such revision to go back to, or nobody agreed; nothing was changed.
        DatabaseUnavailable: the database is out of reach.
    """
    if bool(options.revision) != (options.action == "downgrade"):
        raise UsageError("db downgrade, and that alone, needs a REVISION", go_on=("db", "status"))
    engine = record.connect(settings.load().database_url)
    if options.action == "upgrade":
        record.upgrade(engine)
    elif options.action == "downgrade":
        _agreed(options.revision, record.earlier(engine), yes=options.yes)
        record.downgrade(engine, options.revision)
    found, wanted = record.revisions(engine)
    sys.stdout.write(f"tables: revision {found or 'none'}; this release needs {wanted}\n")
    return 0 if options.action == "downgrade" or found == wanted else 1


def _agreed(revision: str, possible: list[str], *, yes: bool) -> None:
    if revision not in possible:
        raise UsageError(f"the tables can go back to {', '.join(possible) or 'nothing earlier'}, not to {revision}")
    show.agreed(f"What only revisions after {revision} hold will be deleted. Stop all lanes first. Go back?", yes=yes)
