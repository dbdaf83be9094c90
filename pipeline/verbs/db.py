"""`run_pipeline.py db status|upgrade`: the tables of the progress database."""

import sys
from argparse import Namespace

from pipeline import settings
from pipeline.steps import record


def main(options: Namespace) -> int:
    """Tell or change the revision of the tables; 1 when they are not this release's."""
    engine = record.connect(settings.load().database_url)
    if options.action == "upgrade":
        record.upgrade(engine)
    found, wanted = record.revisions(engine)
    sys.stdout.write(f"tables: revision {found or 'none'}; this release needs {wanted}\n")
    return 0 if found == wanted else 1
