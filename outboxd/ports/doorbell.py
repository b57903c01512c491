"""What a doorbell tells, and whom."""

from typing import Protocol


class Bell(Protocol):
    """What a doorbell tells. Its methods are called in the event loop."""

    def hung(self, row_format: str) -> None:
        """It rings from now on; `row_format`, if it is not ROW, is what keeps it from telling writes apart."""

    def ring(self, *, certain: bool = True) -> None:
        """Events were written; or may have been, where that is not certain. They can be read now, or in a moment."""

    def lost(self, reason: str) -> None:
        """It does not ring, until it is hung again. Called for each attempt that fails."""


class Doorbell(Protocol):
    """Hears of new events as they are committed. It decides nothing: a ring too few costs a poll interval."""

    def start(self, bell: Bell) -> None:
        """Begins, and begins anew whenever it cannot go on."""

    def stop(self) -> None:
        """Ends it, without waiting."""
