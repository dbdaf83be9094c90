"""Is the work in staging still what debag left? Looked at by name and size; the bytes are proved in the archive."""

import hashlib
import shlex
import stat
from pathlib import Path

from pipeline.foundation import fixity
from pipeline.foundation.errors import StagingDamaged
from pipeline.foundation.fixity import Fixity
from pipeline.sync.trees import scan, shown

_NAMED = 20  # problems told in the sentence; all are in the facts


def checked(work_dir: Path, digests: Path, *, work_rid: str) -> Fixity:
    """The verified digests of the work, once its folder has exactly these files in these sizes.

    A file that no digest vouches for is a fault as well: the script would carry it into the archive unverified.

    Raises:
        StagingDamaged: the digests or the folder are not as debag leaves them; everything wrong is named.
    """
    go_on = f"run_pipeline.py work {shlex.quote(work_rid)} --from debag"
    try:
        known = fixity.load(digests)
    except StagingDamaged as error:
        raise StagingDamaged(error.what, work_rid=work_rid, kept=f"staging kept at {work_dir}", go_on=go_on) from error
    problems = _wrong_from_the_start(work_dir, known, work_rid) or _wrong_files(work_dir, known)
    if problems:
        more = f" … and {len(problems) - _NAMED} more" if len(problems) > _NAMED else ""
        raise StagingDamaged(
            f"staging is not what debag left: {'; '.join(problems[:_NAMED])}{more}",
            work_rid=work_rid,
            kept=f"nothing was written to the archive; staging kept at {work_dir}",
            go_on=go_on,
            facts={"problems": problems, "staging": str(work_dir)},
        )
    return known


def _wrong_from_the_start(work_dir: Path, known: Fixity, work_rid: str) -> list[str]:
    """What makes it senseless to look at files: another work's folder or digests, a link, digests without proof."""
    if known.work_rid != work_rid:
        return [f"the digests are those of {known.work_rid!r}"]
    if work_dir.name != work_rid:
        return [f"{work_dir} is the folder of another work"]
    try:
        mode = work_dir.lstat().st_mode
    except OSError as error:
        return [f"{work_dir}: {error.strerror}"]
    if not stat.S_ISDIR(mode):
        return [f"{work_dir} is {'a link' if stat.S_ISLNK(mode) else 'no folder'}"]
    if not known.files:
        return ["the digests name no file"]
    foreign = {name for file in known.files.values() for name in file.digests} - hashlib.algorithms_available
    bare = sorted(name for name, file in known.files.items() if not file.digests)
    return [f"unknown algorithm {name}" for name in sorted(foreign)] + [f"{name} has no digest" for name in bare]


def _wrong_files(work_dir: Path, known: Fixity) -> list[str]:
    """What is missing, has another size, or should not be there."""
    try:
        tree = scan(work_dir)
    except OSError as error:
        return [f"{error.filename}: {error.strerror}"]
    problems = []
    for name, file in known.files.items():
        if name not in tree.files:
            problems.append(f"{name} is missing")
        elif tree.files[name] != file.size_bytes:
            problems.append(f"{name} has {tree.files[name]:,} bytes instead of {file.size_bytes:,}")
    problems += [f"{shown(name)} has no digest" for name in tree.files if name not in known.files]
    problems += [f"{shown(name)} is {what}" for name, what in tree.others.items()]
    return sorted(problems)
