"""`run_pipeline.py check`: everything that the pipeline depends on, each with a verdict."""

import os
import re
import shutil
import subprocess
from argparse import Namespace
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import botocore.exceptions

from pipeline import intake, record, settings, sync
from pipeline.foundation import abilities, aws, durable, guarded, vectors
from pipeline.foundation.arguments import command
from pipeline.foundation.errors import (
    AccessDenied,
    FolderUnreachable,
    PipelineError,
    SchedulerUnreachable,
    SettingsError,
    StorageUnreachable,
)
from pipeline.foundation.work import archive_shares, human_bytes, human_count
from pipeline.lanes import builds
from pipeline.operations import callbacks, replication, show, tidy
from pipeline.operations.setup_aws import SetUp
from pipeline.operations.show import folder_line
from pipeline.operations.status import look_at
from pipeline.settings import Folder, Settings, Source
from pipeline.tasks.context import Site

_Row = dict[str, str]
_ABLE = "renames without replacing, syncs and locks folders, tells names apart by case"


def main(options: Namespace) -> int:
    """Check; 0 when all is well, 2 when settings are wrong, 3 when something does not answer."""
    try:
        chosen = settings.load()
    except SettingsError as error:
        rows = [_row("settings", "wrong", problem) for problem in error.problems]
        return show.result(options, {"checks": rows}, lambda out: show.tell(out, rows), status=2)
    read = _row("settings", "ok", f"environment {chosen.environment}, {human_count(chosen.lanes, 'lane')}")
    rows = [read, *_checks(chosen)]
    wrong = any(row["verdict"] == "wrong" for row in rows)
    return show.result(options, {"checks": rows}, lambda out: show.tell(out, rows), status=3 if wrong else 0)


def _row(what: str, verdict: str, detail: str) -> _Row:
    return {"what": what, "verdict": verdict, "detail": detail}


def _checks(chosen: Settings) -> Iterator[_Row]:
    here = Site(chosen, lane="check")
    yield _try("database", partial(_database, here))
    yield _try("scheduler", partial(_scheduler, chosen))
    if not (chosen.sources or chosen.folders):
        wanted = "[source NAME] with region, bucket and queue, or with a path"
        yield _row("sources", "wrong", f"luigi.cfg has no section {wanted}")
    read: dict[str, str] = {}
    for source in chosen.sources:
        rows = [
            _try(f"queue {source.queue}", partial(_queue, here, source, read)),
            _try(f"bucket {source.bucket}", partial(_bucket, source)),
        ]
        yield from rows
        if all(row["verdict"] == "ok" for row in rows):
            yield _set_up(chosen, source)
    for replica in chosen.replicas:
        yield _try(f"replica {replica.name}", partial(replication.see_rights, here, replica))
    for callback in chosen.callbacks:
        yield _try(f"callback {callback.name}", partial(callbacks.see, callback))
    for folder in chosen.folders:
        yield _try(f"folder {folder.name}", partial(_folder_of_zips, folder))
    for name in ("staging", "quarantine", "logs"):
        yield _folder(name, getattr(chosen, name))
    yield _able("staging's disk", [chosen.staging], locks=True)
    archive = _archive(chosen)
    yield archive
    if archive["verdict"] == "ok":
        yield _able("archive's disk", _shares(chosen.archive_root))
        yield from _unpacking(chosen.sync)
    yield (
        _script(chosen.sync.script)
        if chosen.sync.copier != sync.BUILTIN
        else _row("sync script", "ok", "not used: [sync] copier is builtin, which makes no web copy")
    )
    yield _row("sync options", "ok", _options(chosen))
    yield _row("retention", "ok", f"kept: {tidy.in_words(chosen)}; what is older goes when tidy is called")
    yield from _tools(chosen)
    lanes = vectors.installed()
    yield (
        _row("digests", "limited", f"one file at a time in each core, by hashlib: vector lanes are {lanes}")
        if isinstance(lanes, str)
        else _row("digests", "ok", f"SHA-512 of {lanes.width} files at once in each core, by {lanes.name}")
    )


def _tools(chosen: Settings) -> Iterator[_Row]:
    """What a sync calls: the audit tool, and for a web copy the AWS command."""
    here = chosen.sync
    by_script = here.copier != sync.BUILTIN
    path = here.script_path if by_script else here.path
    tool = shutil.which(sync.AUDIT_TOOL, path=path)
    missing = f"not on the PATH of syncs ({path}): "
    yield _row("audit tool", "ok" if tool else "limited", tool or f"{missing}works are not audited")
    if by_script and here.web_parent and here.options.web:
        aws_command = shutil.which("aws", path=path)
        called = here.script.is_file() and re.search(rb"\baws\b", here.script.read_bytes())
        verdict = "ok" if aws_command else "wrong" if called else "limited"
        yield _row("aws command", verdict, aws_command or f"{missing}the script makes no web copy by it")


def _try(what: str, probe: Callable[[], str]) -> _Row:
    try:
        return _row(what, "ok", probe())
    except PipelineError as error:
        return _row(what, "wrong", str(error))


def _database(here: Site) -> str:
    url = record.parsed_url(here.settings.database_url)
    here.engine.dispose()  # to open it is to ask it, and to make its tables
    return f"answers: {url.render_as_string(hide_password=True)}"


def _scheduler(chosen: Settings) -> str:
    paused = builds.scheduler_paused(chosen.scheduler.url)
    told = ", paused: nothing is taken in until it is resumed" if paused else ""
    try:
        builds.scheduler_paused(chosen.scheduler.shown)
    except SchedulerUnreachable:
        return f"answers: {chosen.scheduler.shown}{told}"
    bare = (
        "it asks nobody for a password: whoever reaches it can stop lanes and steer them; "
        "python -m pipeline.operations.door does"
    )
    return f"answers: {chosen.scheduler.shown}{told}; {bare}"


def _queue(here: Site, source: Source, read: dict[str, str]) -> str:
    """Look at a source's queue; `read` are the sources of those that were looked at, by URL: names may hide it."""
    sqs = here.sqs(source)
    queue = intake.find_queue(sqs, source=source.name, queue=source.queue)
    other = read.setdefault(queue.url, source.name)
    if other != source.name:
        raise PipelineError(
            f"{source.queue} is the queue of [source {other}] too: its messages are counted twice",
            by_hand=f"take [source {source.name}] or [source {other}] out of luigi.cfg",
        )
    depth = intake.depth(sqs, queue.url)
    if queue.odd_pair:
        raise PipelineError(
            f"{source.queue} {queue.odd_pair}: SQS moves no message there",
            by_hand="give it a dead-letter queue of its own kind",
        )
    dead = "" if queue.dead_letter_url else "; it has no dead-letter queue: messages that can never succeed stay in it"
    return f"answers: {depth['waiting']} waiting, {depth['in_flight']} in flight{dead}"


def _bucket(source: Source) -> str:
    s3 = aws.s3_client(region=source.region, profile=source.profile, endpoint_url=source.endpoint_url)
    try:
        s3.head_bucket(Bucket=source.bucket)
    except (botocore.exceptions.ClientError, botocore.exceptions.BotoCoreError) as error:
        if aws.error_code(error) in {"404", "NoSuchBucket"}:
            by_hand = f"look at bucket, region and endpoint_url of [source {source.name}]"
            raise StorageUnreachable(f"bucket {source.bucket}: there is no such bucket", by_hand=by_hand) from error
        raise aws.translated(error, f"bucket {source.bucket}") from error
    return "answers"


def _set_up(chosen: Settings, source: Source) -> _Row:
    """What drifted from what `setup-aws` makes; a site that made it in another way may leave it so."""
    what = f"set-up of {source.name}"
    try:
        changes = SetUp(source, lease_seconds=chosen.lease_seconds).changes()
    except AccessDenied as error:
        return _row(what, "ok", f"not compared, as these credentials may not look: {error.what}")
    except PipelineError as error:
        return _row(what, "limited", str(error))
    if not changes:
        return _row(what, "ok", "as setup-aws makes it")
    differs = "; ".join(change.names for change in changes)
    shown = command("setup-aws", source.name, "--plan")
    return _row(what, "limited", f"differs from what setup-aws makes: {differs}; to see it: {shown}")


def _folder_of_zips(folder: Folder) -> str:
    found = look_at(folder)
    intake.see_ours(folder.path, folder.targets)
    for target in folder.targets:
        _see_movable(folder.path, target)
    return f"{folder.path}: {folder_line(found)}; done ones: {folder.done}"


def _see_movable(folder: Path, target: Path) -> None:
    there = next(path for path in (target, *target.parents) if path.exists())
    if there.stat().st_dev != folder.stat().st_dev:
        raise FolderUnreachable(
            f"{target} is not on the file system of {folder}: zips cannot be moved there in one instant",
            by_hand="set done_path and refused_path to folders on the same file system",
        )
    if not os.access(there, os.W_OK | os.X_OK):
        raise FolderUnreachable(f"{there} is not writable", by_hand="grant the rights, or set done = keep")


def _folder(name: str, folder: Path) -> _Row:
    try:
        guarded.make_ours_alone(folder)
    except OSError as error:
        return _row(name, "wrong", f"{folder}: {error.strerror}")
    if not os.access(folder, os.W_OK | os.X_OK):
        return _row(name, "wrong", f"{folder}: not writable")
    return _row(name, "ok", f"{folder}: {_free(folder)}")


def _free(folder: Path) -> str:
    free = durable.free_bytes(folder)
    return "its disk does not tell how much is free" if free is None else f"{human_bytes(free)} free"


def _archive(chosen: Settings) -> _Row:
    root = chosen.archive_root
    if not root.is_dir():
        return _row(
            "archive", "wrong", f"{root}: not there; is it mounted? The pipeline never makes it: mount it, or mkdir"
        )
    if chosen.environment == "prod" and (missing := settings.missing_archive(root, marker=chosen.sync.mount_marker)):
        return _row("archive", "wrong", missing[0])
    shares = [share for share in archive_shares(root) if share.is_dir() and not os.access(share, os.W_OK | os.X_OK)]
    if shares or not os.access(root, os.X_OK):
        return _row("archive", "wrong", f"not writable: {', '.join(map(str, shares or [root]))}")
    marker = chosen.sync.mount_marker
    if bare := sync.unmarked(root, marker):
        return _row("archive", "wrong", f"{root}: no {marker} in {', '.join(bare)}; mounted?")
    known = (
        f", {marker} is in each share" if marker else "; without [sync] mount_marker an unmounted one is not noticed"
    )
    return _row("archive", "ok", f"{root}: {_free(root)}{known}")


def _shares(root: Path) -> list[Path]:
    """The share points that are there; before the first work came home, the archive itself."""
    return [share for share in archive_shares(root) if share.is_dir()] or [root]


def _able(what: str, folders: list[Path], *, locks: bool = False) -> _Row:
    """What the file systems of these folders can do; `locks`: works are locked there."""
    lacking: dict[str, list[str]] = {}
    for folder in folders:
        try:
            found = abilities.probe(folder)
        except OSError as error:
            return _row(what, "wrong", f"{folder}: a probe could not be written: {error.strerror}")
        if locks and not found.flock:
            return _row(what, "wrong", f"{folder}: cannot be locked (flock): use a local disk")
        lacking.setdefault("; ".join(found.lacking), []).append(folder.name)
    if list(lacking) == [""]:
        return _row(what, "ok", f"keeps times, modes and names of {abilities.LONGEST_NAME_BYTES} bytes; {_ABLE}")
    told = [f"{', '.join(names)}: {lacks}" for lacks, names in lacking.items() if lacks]
    return _row(what, "limited", ". ".join(told))


def _unpacking(chosen: sync.SyncSettings) -> Iterator[_Row]:
    """Where bags are unpacked for the built-in copier; a script takes them from staging."""
    if chosen.copier != sync.BUILTIN:
        return
    shares = [share for share in archive_shares(chosen.archive_root) if share.is_dir()]
    whys = [
        why
        for share in shares or archive_shares(chosen.archive_root)[:1]
        if (why := sync.why_not(chosen, share / "0/0"))
    ]
    told = f"on the staging disk, and copied from there: {'; '.join(dict.fromkeys(whys))}"
    where = told if whys else "in the archive, beside the works' places, which saves a copy"
    yield _row("unpacking", "limited" if whys and chosen.staging == "archive" else "ok", where)


def _options(chosen: Settings) -> str:
    options = chosen.sync.options
    audits = ", ".join(
        f"{when} {' '.join(words) or 'all tests'}"
        for when, words in (("before the copy", options.audit_pre), ("after it", options.audit_post))
    )
    web = "no web copy" if not (options.web and chosen.sync.web_parent) else f"web copy to {chosen.sync.web_parent}"
    kept = "" if options.update_web else ", one that is there is left as it is"
    works = "may narrow them" if chosen.sync.heed_works else "is ignored"
    return f"{options.source}: {web}{kept}; audits: {audits}; a work's own config/sync.yml {works}"


def _script(script: Path) -> _Row:
    if not script.is_file():
        return _row("sync script", "wrong", f"{script}: not there")
    parsed = subprocess.run(["bash", "-n", str(script)], capture_output=True, text=True, check=False)
    if parsed.returncode:
        return _row("sync script", "wrong", f"{script}: bash does not read it: {parsed.stderr.strip()[:500]}")
    return _row("sync script", "ok", str(script))
