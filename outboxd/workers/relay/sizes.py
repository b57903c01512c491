"""How many rows a read asks for: the fewer, the larger the payloads that were met last. Pure.

A read brings payloads up to (bytes of a batch / rows asked for) with their rows; larger ones take a second read. So
asking for less, where payloads are large, is what keeps it at one.
"""

from typing import Final

ROOM: Final = 2
"""How many average payloads the place of one has: they vary."""

MEMORY: Final = 0.5
"""The share of what was known before, in the average, against that of the last batch."""


class BatchSize:
    """Of one relay: at most `most_rows` rows of about `most_bytes` bytes in all."""

    def __init__(self, most_rows: int, most_bytes: int) -> None:
        self._most_rows = most_rows
        self._most_bytes = most_bytes
        self._average = 0.0

    @property
    def rows(self) -> int:
        """The most rows, or a half, a quarter, ... of them: few different numbers make few different statements."""
        rows = self._most_rows
        while rows > 1 and rows * self._average * ROOM > self._most_bytes:
            rows //= 2
        return rows

    def note(self, rows: int, size: int) -> None:
        """A batch of so many rows had payloads of so many bytes."""
        if rows:
            self._average = MEMORY * self._average + (1 - MEMORY) * size / rows
