"""What the script prints: to its log file, to the pipeline's log, and its last lines into the failure, if there is one.

However much it prints, memory stays bounded, and so does the file: its beginning and its end are kept.
"""

import logging
from pathlib import Path
from typing import Self

LAST_LINES = 12
LOGGED_LINES = 200
LINE_BYTES = 1000
_END_BYTES = LAST_LINES * LINE_BYTES

logger = logging.getLogger(__name__)


class Transcript:
    """Takes bytes as they come; lines are cut at `LINE_BYTES` for the log and the failure, never in the file.

    Args:
        file: `syncLogDateTimeFile`; made here.
        work_rid: begins each line in the pipeline's log.
        limit_bytes: how much the file holds before only the last lines are kept.
    """

    def __init__(self, file: Path, *, work_rid: str, limit_bytes: int) -> None:
        self._file = file.open("ab", buffering=0)
        self._name = file
        self._work_rid = work_rid
        self._room = limit_bytes
        self._omitted = 0
        self._logged = 0
        self._rest = b""  # of a line that has not ended yet
        self._end = b""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._log(self._rest)
        if self._omitted:
            end = "\n".join(self.last_lines())
            self._write(f"\n[{self._omitted:,} more bytes were printed; the last lines]\n{end}\n".encode())
        self._file.close()

    def note(self, sentence: str) -> None:
        """A line of our own, for the file only, after what was printed so far."""
        between = b"" if self._end.endswith(b"\n") or not self._end else b"\n"
        self._write(between + f"[{self._work_rid}: {sentence}]\n".encode("utf-8", "backslashreplace"))

    def add(self, chunk: bytes) -> None:
        """Take what was printed.

        Raises:
            OSError: the log file cannot be written.
        """
        kept = chunk[: self._room]
        self._room -= len(kept)
        self._omitted += len(chunk) - len(kept)
        self._write(kept)
        self._end = (self._end + chunk)[-_END_BYTES:]
        if self._logged <= LOGGED_LINES:  # a flood is not even cut into lines
            *lines, rest = (self._rest + chunk).split(b"\n")
            for line in lines:
                self._log(line)
            self._rest = rest[:LINE_BYTES]

    def last_lines(self) -> list[str]:
        """The last lines so far that are not blank."""
        return [text for line in self._end.split(b"\n") if (text := _text(line))][-LAST_LINES:]

    def _write(self, content: bytes) -> None:
        """All of it, though an unbuffered file may take it in parts."""
        while content:
            content = content[self._file.write(content) :]

    def _log(self, line: bytes) -> None:
        text = _text(line)
        if not text:
            return
        self._logged += 1
        if self._logged <= LOGGED_LINES:
            logger.debug("%s: sync script: %s", self._work_rid, text)
        elif self._logged == LOGGED_LINES + 1:
            logger.debug("%s: sync script: more lines are only in %s", self._work_rid, self._name)


def _text(line: bytes) -> str:
    """A line for people: as it is but cut, and without what could move a terminal's cursor."""
    text = line[:LINE_BYTES].decode("utf-8", "backslashreplace").rstrip()
    return "".join(char if char.isprintable() or char == "\t" else "�" for char in text)
