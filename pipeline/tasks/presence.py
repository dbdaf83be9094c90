"""A lane says that it is alive, whether it works or waits, so that `status` can tell an idle host from a dead one.

A thread of the lane's own process writes it: a lane may wait minutes for a source that is out of reach, or for a
database, and what is only told must not hold up what is done.
"""

import logging
import threading
from typing import Self

from pipeline.foundation.errors import PipelineError
from pipeline.record import lanes
from pipeline.tasks.context import Site

_BEAT_SECONDS = 20.0
_ENDING_SECONDS = 5.0
_log = logging.getLogger(__name__)


class Presence:
    """Lets `status` show a lane as alive while its `with` block runs, from the first `show` on.

    Args:
        here: the lane's site.
    """

    def __init__(self, here: Site) -> None:
        self._here = here
        self._over = threading.Event()
        self._thread: threading.Thread | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        if self._thread is not None:
            self._thread.join(_ENDING_SECONDS)  # a database that is away must not keep the lane from ending

    def show(self) -> None:
        """Say that the lane lives: when it begins, and while it goes on.

        Raises:
            DatabaseUnavailable: the database has not been reached yet.
        """
        if self._thread is None:
            owner = self._here.leases.owner  # opened by the lane itself: it alone opens what both use
            self._thread = threading.Thread(target=self._beat, args=(owner,), name="presence", daemon=True)
            self._thread.start()

    def _beat(self, owner: str) -> None:
        engine, host = self._here.engine, self._here.host
        told = cleared = False
        while True:
            try:
                lanes.seen(engine, owner, host=host)
                if not cleared:
                    lanes.clear_silent(engine, host=host, silent_seconds=self._here.silent_seconds)
                    cleared = True
            except Exception as error:  # noqa: BLE001  # whatever it is: the lane works on, and this is tried again
                if not told:
                    _log.warning("`status` does not show this lane for now: %s", _in_short(error))
                told = True
            else:
                if told:
                    _log.info("`status` shows this lane again")
                told = False
            if self._over.wait(min(_BEAT_SECONDS, self._here.settings.lease_seconds / 2)):
                break
        try:
            lanes.ended(engine, owner)
        except Exception as error:  # noqa: BLE001  # as above; it is struck off when it has been silent for long
            _log.debug("not told that this lane has ended: %s", _in_short(error))


def _in_short(error: Exception) -> str:
    """In one line: a database may tell a long story, with the statement in it."""
    if isinstance(error, PipelineError):
        return str(error)
    return f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0]}"
