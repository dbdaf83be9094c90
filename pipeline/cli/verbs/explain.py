"""`run_pipeline.py explain RID`: the whole story of a work, what happens next, and the command to go on."""

from argparse import Namespace
from typing import Any

from rich.console import Console

from pipeline.foundation.work import human_bytes, human_count
from pipeline.operations import explain, show
from pipeline.record import stories
from pipeline.tasks import context

_DATES = {
    "restore_requested_on": "restore asked for",
    "restore_complete_on": "restored",
    "download_complete_on": "downloaded",
    "debag_complete_on": "debagged",
    "sync_complete_on": "synced",
}


def main(options: Namespace) -> int:
    """Tell it.

    Raises:
        UsageError: it is no RID, or nothing is known of the work.
    """
    here = context.open_site(lane="explain")
    told = explain.document(here, stories.asked_story(here.engine, options.rid))
    return show.result(options, told, lambda out: _tell(out, told))


def _tell(out: Console, told: dict[str, Any]) -> None:
    newest = told["bags"][0] if told["bags"] else None
    alone = "wanted from cold storage" if told["wanted"] else "known by its dates alone"
    out.print(f"{told['work_rid']}: {newest['stage'] if newest else alone}")
    if newest and newest["error"]:
        _pair(out, "why", newest["error"]["error"])
    _pair(out, "next", told["next"]["what"])
    _pair(out, "to do", told["next"]["by_hand"])
    _pair(out, "go on with", told["next"]["command"])
    dates = [f"{word} {_when(told['dates'][name])}" for name, word in _DATES.items() if told["dates"][name]]
    _pair(out, "dates", ", ".join(dates))
    for one in told["wanted"]:
        cost = "" if one["cost"] is None else f", which cost {one['cost']:.4f}"
        _pair(out, "restore", f"{one['state']}; asked for {human_count(one['attempts'], 'time')}{cost}")
    _pair(out, "archive", told["archive_path"] or "nothing of it is there")
    if told["last_check"]:
        _pair(out, "fixity", _checked(told["last_check"]))
    for copy in told["second_copies"]:
        _pair(out, "second copy", _second_copy(copy))
    for line in show.sync_log_lines(told["sync_logs"]):
        _pair(out, "sync log", line)
    for bag in told["bags"]:
        _tell_bag(out, bag, here=told["host"])
    out.print()
    for event in told["history"]:
        out.print(show.event_line(event))


def _second_copy(copy: dict[str, Any]) -> str:
    where = show.safe(f"in {copy['replica']}, {copy['object_key']}")
    if not copy["sent_on"]:
        return f"{where}: begun"
    looked = f", {copy['verdict']} {_when(copy['looked_on'])}" if copy["looked_on"] else ""
    return f"{where}, {human_bytes(copy['bytes'])}, sent {_when(copy['sent_on'])}{looked}"


def _checked(check: dict[str, Any]) -> str:
    why = check["detail"].get("reason") or f"{human_count(check['detail'].get('files') or 0, 'file')} matched"
    return f"{check['outcome']} {_when(check['at'])}, {why}"


def _tell_bag(out: Console, bag: dict[str, Any], *, here: str) -> None:
    out.print()
    of = f" (the zip of {bag['work_rid']}, with {', '.join(bag['works'])})" if len(bag["works"]) > 1 else ""
    out.print(show.safe(f"bag {bag['bag_id']}: {bag['stage']}{of}"))
    zipped = [human_bytes(bag["zip_bytes"])] if bag["zip_bytes"] else []  # S3 tells it when the download begins
    _pair(out, "from", ", ".join([bag["from"], *zipped, f"seen {_when(bag['seen_on'])}"]))
    _pair(
        out,
        "identity",
        ", ".join(filter(None, [f"ETag {bag['etag']}", bag["version_id"] and f"version {bag['version_id']}"])),
    )
    if bag["restore_expires_on"] and bag["state"] != "done":
        _pair(out, "restored", f"until {_when(bag['restore_expires_on'])}")
    if bag["running"]:
        _pair(out, "running", _running(bag["running"]))
    for step, facts in bag["verification"].items():
        _pair(out, step, _verified(facts))
    tries = [
        f"{step} " + ", ".join(f"{count} {outcome}" for outcome, count in of.items())
        for step, of in bag["attempts"].items()
    ]
    _pair(out, "attempts", "; ".join(tries) or "none yet")
    for one in bag["on_disk"]:
        _pair(out, "on disk", f"{one['what']}: {one['path']}, {human_bytes(one['bytes'])}")
    if not bag["on_disk"]:
        elsewhere = f"; {bag['host']} had it last" if bag["host"] not in {"", here} and bag["state"] != "done" else ""
        _pair(out, "on disk", f"nothing in staging or quarantine of {here}{elsewhere}")
    for copy in bag["archived"]:
        size = f"{human_count(copy['files'], 'file')}, {human_bytes(copy['bytes'])}"
        _pair(out, "archived", f"{copy['work_rid']} in {copy['archive_path']}, {size}, {_when(copy['synced_on'])}")


def _running(holder: dict[str, Any]) -> str:
    percent = f" {100 * holder['done_bytes'] // holder['total_bytes']}%" if holder["total_bytes"] else ""
    return f"{holder['owner']} since {_when(holder['taken_on'])}, {holder['step'] or 'just begun'}{percent}"


def _verified(facts: dict[str, Any]) -> str:
    parts = []
    if facts.get("verified"):
        levels = facts["verified"]
        told = levels if isinstance(levels, str) else ", ".join(levels)
        parts.append("not compared with S3's digests" if told == "size" else f"verified by {told}")
    if "download" in facts:
        parts.append(f"the download proved by {facts['download']}")
    if facts.get("algorithms"):
        parts.append(", ".join(facts["algorithms"]))
    parts += [f"{name} {value}" for name, value in (facts.get("digests") or {}).items()]
    if facts.get("files"):
        parts.append(human_count(facts["files"], "file"))
    if facts.get("bytes"):
        parts.append(human_bytes(facts["bytes"]))
    if proof := facts.get("proof"):
        parts.append(f"proof {proof['name']} (sha512 {proof['sha512'][:16]}…)")
    return "; ".join(parts)


def _pair(out: Console, name: str, value: str) -> None:
    if value:
        out.print(f"  {name:11} {show.safe(value)}", soft_wrap=True)  # a path that is cut in two cannot be copied


def _when(moment: str) -> str:
    return f"{moment[:10]} {moment[11:19]} UTC"
