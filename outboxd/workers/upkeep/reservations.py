"""Lanes that are kept from being read for a while."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Final

from outboxd.holds import HoldBook
from outboxd.lanes import LaneBook

SOON: Final = 0.02
"""Seconds until a lane that was busy is asked for again."""


class Reservations:
    """Lanes that are kept from being read while rows of theirs become new again, so that the two never cross."""

    def __init__(self, book: LaneBook, holds: HoldBook) -> None:
        self._book = book
        self._holds = holds
        self.released: Callable[[], None] = lambda: None
        """Called when there may be something new to read."""

    @property
    def owned(self) -> list[int]:
        """The owned lanes."""
        return self._book.owned

    @asynccontextmanager
    async def of(self, holder: str, lanes: Sequence[int]) -> AsyncIterator[list[int]]:
        """Those of the lanes that are free; the others are not read again until this holder had them, or no longer
        asks for them. What the hold book knew of them is forgotten."""
        reserved = self._book.reserve(holder, lanes)
        try:
            self._holds.forget(reserved)
            yield reserved
        finally:
            self._book.release(reserved)
            if reserved:
                self.released()
