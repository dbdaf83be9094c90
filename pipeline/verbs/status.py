"""`run_pipeline.py status [RID]`: what waits, runs, is done, failed, and why."""

from argparse import Namespace
from dataclasses import asdict
from typing import Any

from pipeline import settings, show, site
from pipeline.errors import PipelineError
from pipeline.settings import Folder
from pipeline.site import Site
from pipeline.sources.folder import look_at
from pipeline.steps import intake
from pipeline.steps.record import views

_SHOWN = 200


def main(options: Namespace) -> int:
    """Show it; queues that do not answer are shown as such, the record has to."""
    here = site.open_site(settings.load(), lane="status")
    if options.rid:
        return _one(here, options.rid, as_json=options.json)
    works = views.works(here.engine)
    document: dict[str, Any] = {
        "queues": [_queue(here, source.name) for source in here.settings.sources],
        "folders": [_folder(folder) for folder in here.settings.folders],
        "bags": views.counts(here.engine),
        "works": [asdict(work) for work in works],
        "messages_not_understood": views.unreadable_messages(here.engine),
    }
    if options.json:
        show.as_json(document)
        return 0
    out = show.console()
    for queue in document["queues"]:
        out.print(_queue_line(queue))
    for folder in document["folders"]:
        told = show.safe(folder["error"]) if "error" in folder else show.folder_line(folder)
        out.print(f"folder {show.safe(folder['folder'])}: {told}")
    out.print(
        "bags: " + (", ".join(f"{n} {state}" for state, n in sorted(document["bags"].items())) or "none seen yet")
    )
    if works:
        show.tell(out, show.works_rows(works[:_SHOWN]))
    if len(works) > _SHOWN:
        out.print(f"and {len(works) - _SHOWN} more; all of them: status --json")
    for message in document["messages_not_understood"]:
        out.print(f"not understood, {message['at']}: {show.safe(_name_of(message))}: {show.safe(message['error'])}")
    return 0


def _one(here: Site, work_rid: str, *, as_json: bool) -> int:
    works = views.works(here.engine, work_rid=work_rid)
    history = views.history(here.engine, work_rid)
    if as_json:
        show.as_json({"works": [asdict(work) for work in works], "history": history})
        return 0
    out = show.console()
    if not works and not history:
        out.print(f"{show.safe(work_rid)}: the record knows no such work")
        return 0
    show.tell(out, show.works_rows(works))
    for event in history:
        out.print(show.event_line(event))
    return 0


def _name_of(message: dict[str, Any]) -> str:
    """A message, or a dropped zip."""
    return str(message.get("file") or f"message {message.get('message_id', '')}")


def _folder(folder: Folder) -> dict[str, Any]:
    named = {"source": folder.name, "folder": str(folder.path)}
    try:
        return {**named, **look_at(folder)}
    except PipelineError as error:
        return {**named, "error": str(error)}


def _queue(here: Site, name: str) -> dict[str, Any]:
    source = here.settings.source(name)
    assert source is not None
    try:
        sqs = here.sqs(source)
        queue = intake.find_queue(sqs, source=name, queue=source.queue)
        dead = intake.depth(sqs, queue.dead_letter_url)["waiting"] if queue.dead_letter_url else None
        return {"source": name, "queue": source.queue, **intake.depth(sqs, queue.url), "dead_letters": dead}
    except PipelineError as error:
        return {"source": name, "queue": source.queue, "error": str(error)}


def _queue_line(queue: dict[str, Any]) -> str:
    if "error" in queue:
        return f"queue {queue['queue']}: {show.safe(queue['error'])}"
    dead = "no dead-letter queue" if queue["dead_letters"] is None else f"{queue['dead_letters']} dead letters"
    return f"queue {queue['queue']}: {queue['waiting']} waiting, {queue['in_flight']} in flight, {dead}"
