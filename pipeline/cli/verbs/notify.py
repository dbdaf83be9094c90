"""`run_pipeline.py notify [--test] [--watch]`: tell operators what is new, and receivers of callbacks of works.

A process of its own: no work waits for it, or fails with it.
"""

import logging
import sys
from argparse import Namespace
from collections.abc import Callable, Iterable
from pathlib import Path

from pipeline import settings
from pipeline.foundation import logs
from pipeline.foundation.errors import PipelineError, UsageError
from pipeline.foundation.signals import stopping_on_signals
from pipeline.operations import callbacks, channels, notify
from pipeline.operations.status import Standing
from pipeline.tasks import context
from pipeline.tasks.context import Site

_WATCH_SECONDS = 60
_log = logging.getLogger("pipeline.notify")


def main(options: Namespace) -> int:
    """Send what is due through each channel, and to each receiver; 3 when one of them did not take it.

    Raises:
        UsageError: there is neither.
        DatabaseUnavailable: the database is out of reach.
    """
    chosen = settings.load()
    named = channels.channels(chosen.notify)
    if not (named or chosen.callbacks):
        raise UsageError(
            "no channel is set: [notify] smtp_host, or webhook_url_file; and no [callback NAME]",
            by_hand="see docs/notifications.md, docs/callbacks.md",
        )
    if options.test:
        note = notify.sample(chosen.notify, environment=chosen.environment)
        receivers = {f"callback {one.name}": one for one in chosen.callbacks}
        status = _each(named, lambda channel: _send_sample(channel, chosen.notify, note))
        return max(status, _each(receivers, lambda name: callbacks.send_sample(receivers[name])))
    here = context.open_site(chosen, lane="notify")
    if not options.watch:
        with callbacks.sending(here, watch=False) as sending:
            status = _look(here, named)
            return max(status, _each(sending, lambda name: sending[name].result()))
    with stopping_on_signals(here.stopping.set):
        logs.log_to(chosen.lane_logs, "notify", json_lines=chosen.log_json)
        with callbacks.sending(here, watch=True) as sending:
            while not any(one.done() and one.result() for one in sending.values()):  # a defect ends the watch
                _look(here, named)
                _touch(chosen.alive_file)
                if here.stopping.wait(_WATCH_SECONDS):
                    break
    return 0


def _touch(alive_file: Path | None) -> None:
    """Tell a health check that the watch goes on, whether or not the channels take what they are sent."""
    if alive_file is not None:
        try:
            alive_file.touch()
        except OSError as error:
            _log.warning("[pipeline] alive_file: %s", error)


def _look(here: Site, named: list[str]) -> int:
    """Tell each channel what is new; a queue that does not answer is named, and holds up nothing else."""
    if not named:
        return 0
    stands = Standing(here, within_hours=here.settings.notify.expiry_hours, hasty=True)
    for queue in stands.queues:
        if queue.error:
            _complain(str(queue.error))
    return _each(named, lambda channel: notify.tell(stands, channel))


def _complain(text: str) -> None:
    # What watches has its log, on stderr too; without one, Python itself would write the line there.
    if logging.getLogger().hasHandlers():
        _log.error("%s", text)
    else:
        sys.stderr.write(f"run_pipeline.py: {text}\n")


def _each(named: Iterable[str], send: Callable[[str], str]) -> int:
    status = 0
    for channel in named:
        try:
            said = send(channel)
        except PipelineError as error:
            _complain(f"{channel}: {error}")
            status = 3
        else:
            sys.stdout.write(f"{channel}: {said or 'nothing to tell'}\n")
    sys.stdout.flush()
    return status


def _send_sample(channel: str, chosen: settings.Notify, note: channels.Note) -> str:
    channels.send(chosen, channel, note)
    return f"sent {note.subject!r}"
