"""Suspects: the first batch of each lane whose owner died may hold the event that it died of, and is sent with care."""

import asyncio
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from typing import Final

from outboxd.errors import Failure, FailureKind
from outboxd.lanes import LaneBook
from outboxd.lifecycle import Happening, RetryPolicy, crash_batch_limit, decide
from outboxd.model import Event, Status
from outboxd.ports import Settler, Sink
from outboxd.workers.relay.batch import Batch

KILLER = Failure(
    FailureKind.PERMANENT,
    "owner_died",
    "the daemon died each time that it sent this event alone; look at its log and at the payload, then requeue it",
)

TAKE_BACK: Final = 1.0
"""Seconds that taking attempts back may delay a stop, once where the relay reads and once for its batches."""


class Suspects:
    """Counts an attempt before such a batch is sent, takes it back where nothing was sent, and acquits its lanes."""

    def __init__(self, settler: Settler, sink: Sink, book: LaneBook, policy: RetryPolicy) -> None:
        self._settler = settler
        self._sink = sink
        self._book = book
        self._policy = policy

    # --- before the batch is sent

    async def take_care(self, batch: Batch) -> None:
        """Counts the attempt first; the batch shrinks with the count. Raises SinkUnavailableError."""
        events = batch.events
        if events and self._killed(events[0]):
            batch.failed.append((events[0], KILLER))
            batch.events, batch.exhausted, batch.held = [], frozenset(), []
            return
        careful, batch.exclusive = self._careful(events)
        if len(careful) < len(events):
            batch.exhausted = frozenset(lane for lane in batch.exhausted if lane < events[len(careful)].lane)
        alone = careful[0] if batch.exclusive and len(careful) == 1 else None
        batch.events = await self._mark(batch.instance, careful, alone)

    def _careful(self, events: list[Event]) -> tuple[list[Event], bool]:
        """As many of the first events as may share a batch, and whether nothing else may be in flight with them."""
        count, limit, exclusive = 0, len(events), False
        for event in events:
            deaths = self._deaths(event)
            limit = min(limit, crash_batch_limit(deaths, len(events)))
            if count >= limit:
                break
            exclusive = exclusive or deaths > 0
            count += 1
        return events[:count], exclusive

    async def _mark(self, instance: str, events: list[Event], alone: Event | None) -> list[Event]:
        """Counts the attempt of those that this owner has not counted yet. Raises SinkUnavailableError."""
        unmarked = [event for event in events if not self._marked(event)]
        if not unmarked:
            return events
        # While the sink cannot be reached nothing is sent, so no attempt may be spent.
        await self._sink.check()
        fresh = {event.id for event in unmarked}
        counted = [e._replace(attempt_count=e.attempt_count + 1) if e.id in fresh else e for e in events]
        try:
            await self._settler.mark_suspects(instance, unmarked, alone)
        except asyncio.CancelledError:
            # The database counts all the same, and does this behind it.
            await self._take_back(instance, counted)
            raise
        for event in unmarked:
            suspicion = self._book.suspicion(event.lane)
            if suspicion is not None:
                suspicion.marked.add(event.id)
        return counted

    async def _take_back(self, instance: str, events: Sequence[Event]) -> None:
        """The attempt of these, which the relay stops before they are settled. Raises nothing: the stop goes on."""
        with suppress(Exception):
            async with asyncio.timeout(TAKE_BACK):
                await self._settler.unmark_suspects(instance, events)

    def _deaths(self, event: Event) -> int:
        """How many owners may have died of the event, before the last: its attempts can have had other reasons, but
        no more of them can be deaths than its lane has seen."""
        suspicion = self._book.suspicion(event.lane)
        seen = suspicion.deaths - 1 if suspicion is not None else 0
        attempts = event.attempt_count - self._marked(event)
        return seen if attempts < 0 else min(attempts, seen)

    def _marked(self, event: Event) -> bool:
        suspicion = self._book.suspicion(event.lane)
        return suspicion is not None and event.id in suspicion.marked

    def _killed(self, event: Event) -> bool:
        suspicion = self._book.suspicion(event.lane)
        if suspicion is None or suspicion.alone_id != event.id or event.id in suspicion.marked:
            return False
        transition = decide(Status.NEW, Happening.OWNER_DIED, event.attempt_count, self._policy, was_alone=True)
        return transition.status is Status.ERROR

    # --- behind it

    async def drop(self, batch: Batch) -> None:
        """The relay stops before the batch is settled."""
        if batch.suspect and batch.events:
            await self._take_back(batch.instance, batch.events)

    async def forgive(self, batch: Batch) -> None:
        """After the batch was settled."""
        if batch.suspect:
            await self.acquit(batch.instance, batch.rows_by_lane, batch.exhausted)

    async def unmark(self, batch: Batch, events: Sequence[Event]) -> None:
        """These were not delivered, for the broker's sake, and their owner lives: no attempt is spent."""
        if batch.suspect and events:
            await self._settler.unmark_suspects(batch.instance, events)
            for event in events:
                suspicion = self._book.suspicion(event.lane)
                if suspicion is not None:
                    suspicion.marked.discard(event.id)

    async def acquit(self, instance: str, rows: Mapping[int, int], exhausted: Collection[int]) -> None:
        """Lanes of which so many rows, or all, are settled: those whose first batch is through are suspect no more."""
        cleared = self._book.clear_suspects(rows, exhausted=exhausted)
        if cleared:
            await self._settler.clear_suspects(instance, cleared)
