"""A range that is being fetched: how far it is, and what the journal was told of it."""

import hashlib
from collections.abc import Callable, Iterable

from pipeline.download.journal import Journal


class Begun:
    """One range on its way, from its first byte.

    Attributes:
        start: its first byte.
        end: the byte after its last.
        position: up to where it lies in the file.
        digest: of what lies there.
    """

    def __init__(self, journal: Journal, number: int) -> None:
        self._journal = journal
        self._number = number
        self.start, self.end = journal.plan.span(number)
        self.begin_again()

    def begin_again(self) -> None:
        """Nothing has come."""
        self.position = self._claimed = self.start
        self.digest = self._journal.plan.digest()

    def go_on(self, read: Callable[[int, int], Iterable[memoryview]]) -> None:
        """Go on after what the journal claims, if that lies there as claimed; else from the first byte.

        Args:
            read: gives the bytes of the file from one position up to another, as far as there are any.
        """
        claimed = self._journal.begun.get(self._number)
        if claimed is None:
            return
        for block in read(self.start, self.start + claimed[0]):
            self.digest.update(block)
            self.position += len(block)
        if claimed == (self.position - self.start, self._taken):
            self._claimed = self.position
        else:
            self.begin_again()

    @property
    def unclaimed_bytes(self) -> int:
        """What has come since the journal was told; it ends at `position`."""
        return self.position - self._claimed

    def claim(self) -> None:
        """Let the journal know what has come: all of that has to be in the file, and in the digest."""
        self._journal.claim_begun(self._number, self.position - self.start, self._taken)
        self._claimed = self.position

    @property
    def _taken(self) -> list[str]:
        """The digest so far; of many parts' digests one, so that a range of many parts does not make long lines."""
        values = self.digest.values()
        return (
            values if len(values) <= 1 else [hashlib.md5("".join(values).encode(), usedforsecurity=False).hexdigest()]
        )
