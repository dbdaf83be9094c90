"""How the command line is used: every verb with its options, examples and exit statuses, as data.

Nothing of the pipeline is imported here: `--help` does without AWS, database and scheduler.
"""

import argparse

from pipeline import __version__
from pipeline.cli.usage import looking, repairing, working
from pipeline.cli.usage.verb import EXITS, Paragraphs, Verb
from pipeline.foundation.arguments import PROGRAM

VERBS: tuple[Verb, ...] = (
    *working.VERBS,
    working.RESTORE,
    *looking.VERBS,
    *repairing.VERBS,
    *looking.TELLING,
    working.SETUP_AWS,
    working.DEMO,
)


def parser() -> argparse.ArgumentParser:
    """The whole command line."""
    made = argparse.ArgumentParser(
        prog=PROGRAM,
        description="Brings bags home from cold storage: download, debag, sync, record. Without a verb: run.",
        epilog="exit status: "
        + "; ".join(f"{status} {meaning}" for status, meaning in EXITS.items())
        + f"\n\nmore of a verb, with examples: {PROGRAM} VERB --help, and docs/verbs",
        formatter_class=Paragraphs,
    )
    made.add_argument("--version", action="version", version=__version__)
    # `run_pipeline.py --watch` means `run_pipeline.py run --watch`.
    for names, how in working.RUN:
        made.add_argument(*names, **how)
    verbs = made.add_subparsers(dest="verb", metavar="VERB", title="verbs")
    for verb in VERBS:
        verb.add_to(verbs)
    return made
