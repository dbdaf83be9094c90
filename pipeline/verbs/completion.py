"""`run_pipeline.py completion bash|zsh|fish`: a script that completes this command line."""

import sys
from argparse import Namespace
from pathlib import Path

from pipeline import completion, settings
from pipeline.errors import InvalidRid
from pipeline.steps import record
from pipeline.steps.record import views
from pipeline.work import checked_rid

_MOST = 1000


def main(options: Namespace) -> int:
    """Print it; or, asked by it, the works whose RID begins so, and nothing at all when the record is away."""
    if options.works_like is not None:
        sys.stdout.write("".join(f"{rid}\n" for rid in _works(options.works_like)))
        return 0
    program = Path(sys.argv[0]).absolute()
    sys.stdout.write(completion.script(options.shell, command=[sys.executable, str(program)]))
    return 0


def _works(beginning: str) -> list[str]:
    try:
        url = record.parsed_url(settings.load().database_url)
        if url.get_backend_name() == "sqlite" and not Path(url.database or "").exists():
            return []  # connecting would make it
        engine = record.connect(settings.load().database_url)
        return [rid for rid in views.works_like(engine, beginning, most=_MOST) if _is_word(rid)]
    except Exception:  # noqa: BLE001  # whatever is wrong: an error in a line that somebody just types helps nobody
        return []


def _is_word(rid: str) -> bool:
    """Whether it may be given to a shell: whatever came into the record, only a RID of one word leaves it here."""
    try:
        return checked_rid(rid) == rid and " " not in rid
    except InvalidRid:
        return False
