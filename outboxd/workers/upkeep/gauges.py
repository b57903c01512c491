"""The sizes and ages of what waits."""

from outboxd.holds import HoldBook
from outboxd.lanes import LaneBook
from outboxd.ports import Sampler
from outboxd.telemetry.metrics import Metrics


class GaugeSampler:
    """Samples the backlog of the lanes that this instance owns."""

    name = "gauges"

    def __init__(
        self, sampler: Sampler, book: LaneBook, holds: HoldBook, metrics: Metrics, interval: float = 5.0
    ) -> None:
        self._sampler = sampler
        self._book = book
        self._holds = holds
        self._metrics = metrics
        self._interval = interval

    async def run_once(self) -> float:
        """Reads the gauges."""
        sizes = await self._sampler.sample(self._book.owned)
        self._metrics.queue_size(sizes.counts)
        self._metrics.oldest_age(sizes.oldest_age)
        self._metrics.held_aggregates(len(self._holds))
        return self._interval
