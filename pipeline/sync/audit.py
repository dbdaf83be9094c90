"""What became of the audit tool's two runs: on the work before the copy, on the archive copy after it.

Whoever copies audits, so that nothing is audited twice: the sync script runs the tool itself, as BDRC's does. The one
shipped tells what came of it in a file beside its log; of another script's audits only its exit status is known.
"""

import shutil
from collections.abc import Mapping
from pathlib import Path

TOOL = "audit-tool"
PASSED, FAILED, NOT_RUN, TIMED_OUT = "passed", "failed", "not run", "timed out"
WHEN = ("pre", "post")
ENDED_BEFORE = "the sync ended before it"

_TOLD = "audits.txt"
_LIMIT_BYTES = 64 * 1024

Audits = Mapping[str, str]
"""By `pre` and `post`: one of the words above, with a reason after a colon where there is one."""


def none_run(why: str) -> Audits:
    """Neither audit was run."""
    return dict.fromkeys(WHEN, f"{NOT_RUN}: {why}")


def told(folder: Path, *, path: str) -> Audits:
    """What a sync script told of its audits; the file in which it did is taken away.

    Args:
        folder: `syncLogDateTimeDir`. Lines of `audits.txt` in it are `pre passed`, `post not run: why`.
        path: the `PATH` on which the script looked for the tool.
    """
    found = dict(_lines(folder / _TOLD))
    if shutil.which(TOOL, path=path) is None:
        silent = f"{NOT_RUN}: {TOOL} is not installed"
    else:
        silent = f"{NOT_RUN}: {ENDED_BEFORE}" if found else "left to the script"
    return {when: found.get(when, silent) for when in WHEN}


def failures(audits: Audits) -> list[str]:
    """The audits in which a test failed: `pre`, `post`."""
    return [when for when, outcome in audits.items() if outcome.partition(":")[0] == FAILED]


def _lines(file: Path) -> list[tuple[str, str]]:
    try:
        with file.open("rb") as opened:
            content = opened.read(_LIMIT_BYTES)
        file.unlink()
    except FileNotFoundError:
        return []
    lines = [line.partition(" ") for line in content.decode("utf-8", "backslashreplace").splitlines()]
    return [(when, outcome[:200]) for when, _, outcome in lines if when in WHEN and outcome.isprintable()]


def ended_before_copy(audits: Audits) -> bool:
    """Whether the sync ended in the audit before the copy: then nothing was written."""
    before = audits["pre"].partition(":")[0] not in {PASSED, NOT_RUN}
    return before and audits["post"] == f"{NOT_RUN}: {ENDED_BEFORE}"
