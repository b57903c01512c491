"""How soon the relay reads again: not so soon that the database or the batches suffer from it."""

from typing import Final

SLOW_READ: Final = 0.02
SLOW_EVENT: Final = 0.000_05
SLOW_BYTE: Final = 0.000_000_02
"""Seconds, and seconds per event and per byte of payload, beyond which a read that found no full batch is slow: the
rows of a paused topic stand in its way, or those that a dump keeps from being purged."""

SLOW_READS: Final = 3
"""So many of them in a row are the database's: a single one can be a moment in which something else had the CPU."""

REST_AFTER_SLOW: Final = 4.0
MOST_REST: Final = 2.0
"""How many times as long as a slow read the database is left alone behind it; and how many seconds at most."""

PACE: Final = 0.5
"""The share of the time that a batch takes, for which no other begins behind one that had all there was: else a stream
of events would go in ever smaller batches, each of which costs as much as a hundred events."""

MOST_PACE: Final = 0.05
"""Seconds of that, at most: in an outage a batch takes long."""

VAIN: Final = (0.001, 0.002, 0.004, 0.008, 0.016, 0.032)
"""Seconds until the next read behind one that found nothing, and behind further ones: of replicas with a doorbell each
hears of all events, and most of these are in others' lanes."""

QUIET: Final = 0.1
"""Seconds without such a read after which that begins anew; as it does when a batch has landed."""

RISE: Final = 0.1
FALL: Final = 0.5
"""How much of what a batch took counts, where it is more than the last ones took, and where it is less: a single flush
of the server's log that takes a tenth of a second must not delay the batches behind it."""


class Tempo:
    """What was met lately. All times in seconds."""

    def __init__(self) -> None:
        self._took = 0.0
        self._slow = 0
        self._vain = 0
        self._vain_at = 0.0

    def landed(self, took: float) -> None:
        """A batch took so long, from its read to its end."""
        self._took += (took - self._took) * (RISE if took > self._took else FALL)
        self._vain = 0

    @property
    def pace(self) -> float:
        """From the read of a batch that had all there was to the next."""
        return min(MOST_PACE, PACE * self._took)

    def vain(self, now: float) -> float:
        """From a read that found nothing to the next."""
        vain = 0 if now - self._vain_at > QUIET else self._vain
        self._vain, self._vain_at = min(vain + 1, len(VAIN) - 1), now
        return VAIN[vain]

    def rest(self, took: float, events: int = 0, size: int = 0, *, cut: bool = False) -> float:
        """How long to leave the database alone after a read that took so long, and found so many events and bytes."""
        slow = not cut and took > SLOW_READ + SLOW_EVENT * events + SLOW_BYTE * size
        self._slow = self._slow + 1 if slow else 0
        return min(MOST_REST, took * REST_AFTER_SLOW) if self._slow >= SLOW_READS else 0.0
