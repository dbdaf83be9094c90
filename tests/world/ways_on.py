"""Whether a command that people are told to go on with can be typed as it stands."""

import re
import shlex
import shutil
import sqlite3
from contextlib import closing, redirect_stderr, redirect_stdout, suppress
from io import StringIO
from pathlib import Path

from pipeline.cli import usage
from pipeline.foundation.arguments import PROGRAM
from tests.world.stack import ROOT


def see_recorded(database: Path) -> None:
    """As much of every failure in the record of a site; a test may have taken the record away, or its tables."""
    told = "SELECT DISTINCT json_extract(detail, '$.go_on') FROM events WHERE json_extract(detail, '$.go_on') <> ''"
    with suppress(sqlite3.Error), closing(sqlite3.connect(f"file:{database}?mode=ro", uri=True)) as connection:
        for (go_on,) in connection.execute(told).fetchall():
            see_typed(go_on)


def see_typed(told: str, where: str = "") -> None:
    """Each command of the line starts with a program that is here; this program's own are taken by its command line."""
    for words in map(shlex.split, told.split(" && ")):
        while re.fullmatch(r"[A-Z_]+=\w*", words[0]):
            del words[0]
        program, *rest = words
        if program == PROGRAM:
            said = StringIO()
            status: object = 0
            try:
                with redirect_stderr(said), redirect_stdout(said):
                    usage.parser().parse_args(rest)
            except SystemExit as ended:
                status = ended.code
            assert not status, f"{where}: {told}: {said.getvalue()}"
        else:  # Amazon's program is an operator's own
            assert program == "aws" or (ROOT / program).is_file() or shutil.which(program), f"{where}: {told}"
