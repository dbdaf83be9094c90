"""The marker `debag.json`: written into the result before it is published, it says what the result must hold."""

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from pipeline.debag.policy import Debagged, DebaggedWork
from pipeline.debag.zip_source import ZipSource
from pipeline.foundation.errors import Fault, InvalidRid, StagingDamaged
from pipeline.foundation.fixity import digests_name
from pipeline.foundation.work import checked_rid, json_bytes

MARKER = "debag.json"
TOOL = "bagline-debag 1"


def marker_bytes(
    result: Debagged, source: ZipSource, kept: Mapping[str, tuple[int, int]], digests_bytes: Mapping[str, int]
) -> bytes:
    """The marker's content.

    Args:
        result: what the zip became.
        source: the zip.
        kept: by work, files on disk and their bytes, with the kept tag files.
        digests_bytes: by work, size of its digests file.
    """
    works = [
        {
            "rid": work.rid,
            "files": work.files,
            "bytes": work.bytes,
            "verified": work.verified,
            "files_on_disk": kept[work.rid][0],
            "bytes_on_disk": kept[work.rid][1],
            "digests_bytes": digests_bytes[work.rid],
        }
        for work in result.works
    ]
    facts = {
        "tool": TOOL,
        "zip": {"name": source.path.name, "bytes": source.size, "mtime_ns": source.mtime_ns},
        "members": result.members,
        "works": works,
        "algorithms": list(result.algorithms),
        "warnings": [warning.as_dict() for warning in result.warnings],
        "seconds": result.seconds,
    }
    return json_bytes(facts)


def load_marker(into: Path, *, of: Path | None = None) -> Debagged:
    """What `unpack` made of `into`, if all of it is still there: every work, with its files and bytes.

    Args:
        into: the result.
        of: the zip that it should have been made of; not asked for if it is gone, as it may once the marker stands.

    Raises:
        StagingDamaged: there is no marker, or something is not as it says.
    """
    return _read(into, whole=True, of=of)


def read_marker(into: Path) -> Debagged:
    """What `unpack` made of `into`, by its marker alone: works may have been moved elsewhere since.

    Raises:
        StagingDamaged: there is no marker, or it is none.
    """
    return _read(into, whole=False)


def _check_zip(into: Path, facts: Mapping[str, Any], bag_zip: Path) -> None:
    try:
        zip_facts = bag_zip.lstat()
    except FileNotFoundError:
        return
    if (zip_facts.st_size, zip_facts.st_mtime_ns) != (facts["bytes"], facts["mtime_ns"]):
        raise StagingDamaged(f"{into} was made of another zip than {bag_zip}, or it was changed since")


def _read(into: Path, *, whole: bool, of: Path | None = None) -> Debagged:
    try:
        facts = json.loads((into / MARKER).read_bytes())
        if of is not None:
            _check_zip(into, facts["zip"], of)
        if whole:
            for work in facts["works"]:
                _check_work(into, work)
        result = Debagged(
            works=tuple(_work(into, work) for work in facts["works"]),
            warnings=_warnings(facts["warnings"]),
            algorithms=tuple(facts["algorithms"]),
            zip_bytes=int(facts["zip"]["bytes"]),
            seconds=float(facts["seconds"]),
            members=int(facts["members"]),
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, InvalidRid) as error:
        raise StagingDamaged(f"{into / MARKER} cannot be trusted: {error}") from error
    return result


def _warnings(warnings: Sequence[Mapping[str, str]]) -> tuple[Fault, ...]:
    return tuple(Fault(**warning) for warning in warnings)


def _work(into: Path, facts: Mapping[str, Any]) -> DebaggedWork:
    rid = checked_rid(facts["rid"])
    return DebaggedWork(rid, into / rid, facts["files"], facts["bytes"], into / digests_name(rid), facts["verified"])


def _check_work(into: Path, facts: Mapping[str, Any]) -> None:
    rid = checked_rid(facts["rid"])
    path, digests = into / rid, into / digests_name(rid)
    found, expected = count(path), (facts["files_on_disk"], facts["bytes_on_disk"])
    if found != expected:
        raise StagingDamaged(f"{path} has {found[0]} files of {found[1]} bytes, not {expected[0]} of {expected[1]}")
    if digests.stat().st_size != facts["digests_bytes"]:
        raise StagingDamaged(f"{digests} is not {facts['digests_bytes']} bytes")


def count(folder: Path) -> tuple[int, int]:
    """Files below a folder, and their bytes; links are not followed.

    Raises:
        OSError: the folder is not there.
    """
    files = size = 0
    waiting = [os.fspath(folder)]
    while waiting:
        with os.scandir(waiting.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                else:
                    files += 1
                    size += entry.stat(follow_symlinks=False).st_size
    return files, size
