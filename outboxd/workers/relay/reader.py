"""Reads batches: lock-free, from free lanes, compared with what blocks, within the limits."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from operator import attrgetter
from typing import Final

from outboxd.errors import DatabaseUnavailableError, Failure, FailureKind
from outboxd.model import Event
from outboxd.ports import EVERY_TOPIC, Found, Standing, TopicFilter
from outboxd.workers.relay.batch import Batch, payload_size
from outboxd.workers.relay.parts import Parts
from outboxd.workers.relay.suspects import Suspects

UNTORN: Final = 60.0
"""Seconds for which all reads are of one moment, after a write that makes rows readable had an unknown outcome."""

UNREADABLE = Failure(
    FailureKind.PERMANENT,
    "payload_unreadable",
    "column payload cannot be sent by the database: it has more bytes than max_allowed_packet, or its text has no "
    "form in UTF-8; raise the one or correct the other, then requeue the event",
)

in_order = attrgetter("lane", "id")


@dataclass(frozen=True, slots=True)
class _Wish:
    """What a batch may be."""

    limit: int
    budget: int
    topics: TopicFilter
    probe: bool

    @property
    def whole(self) -> bool:
        """It leaves nothing out. What a filter does may be what its last owner died of."""
        return self.topics == EVERY_TOPIC and not self.probe


class BatchReader:
    """Makes batches, one at a time."""

    def __init__(self, parts: Parts) -> None:
        self._ = parts
        self.suspects = Suspects(parts.settler, parts.sink, parts.book, parts.policy)
        self._untorn_until = 0.0

    async def next(
        self, limit: int, budget: int, topics: TopicFilter = EVERY_TOPIC, *, probe: bool = False
    ) -> Batch | None:
        """The next batch of at most `limit` rows and about `budget` bytes, its lanes occupied; None: nothing to do.
        Of a probe only the first event that can be delivered is sent.

        Raises LeaseLostError, DatabaseUnavailableError, SinkUnavailableError.
        """
        wish = _Wish(limit, budget, topics, probe)
        suspects = self._.book.suspects()
        if suspects:
            batch = await self._occupying(suspects, wish, suspect=True)
            if batch is not None:
                return batch
        lanes = self._.book.readable()
        batch = await self._occupying(lanes, wish, suspect=False) if lanes else None
        if batch is None and self._.book.unfinished:
            # Lanes that a full batch had left out came first, and there is nothing in them.
            batch = await self._occupying(self._.book.readable(), wish, suspect=False)
        return batch

    async def _occupying(self, lanes: Sequence[int], wish: _Wish, *, suspect: bool) -> Batch | None:
        instance = self._.lease.require()
        self._.book.occupy(lanes)
        kept: Collection[int] = ()
        try:
            batch = await self._read(instance, lanes, wish, suspect=suspect)
            if batch is not None:
                kept = batch.lanes
            return batch
        finally:
            self._.book.release(set(lanes).difference(kept))

    async def _read(self, instance: str, lanes: Sequence[int], wish: _Wish, *, suspect: bool) -> Batch | None:
        asked_at = asyncio.get_running_loop().time()
        events, standing = await self._compared(lanes, wish.limit, wish.topics)
        read_at = asyncio.get_running_loop().time()
        cut = events[-1].lane if len(events) == wish.limit else None
        events = await self._in_order(instance, events, standing, cut)
        deliverable, held = self._hold_back(events)
        if wish.probe:
            deliverable = deliverable[:1]
        deliverable, failed, cut = await self._load(deliverable, wish.budget, cut)
        if not suspect and wish.topics.only is None:
            self._.book.note_read(lanes, cut)
        batch = Batch(
            instance,
            frozenset(),
            asked_at,
            read_at,
            deliverable,
            held,
            failed,
            cut=cut is not None,
            suspect=suspect,
            exhausted=frozenset(lane for lane in lanes if cut is None or lane < cut) if wish.whole else frozenset(),
        )
        if suspect:
            await self.suspects.take_care(batch)
        batch.lanes, batch.bytes = frozenset(batch.rows_by_lane), payload_size(batch.events)
        if suspect:
            try:
                await self.suspects.acquit(instance, {}, batch.exhausted - batch.lanes)
            except asyncio.CancelledError:
                await self.suspects.drop(batch)
                raise
        return batch if batch.lanes else None

    def watch(self, interval: float, found: Callable[[], None], *, seconds: float) -> None:
        """Looks for new events in the lanes of this instance, free or not, until there may be some."""
        if lanes := self._.book.owned:
            self._.reader.watch(lanes, interval, found, seconds=seconds)

    async def _compared(self, lanes: Sequence[int], limit: int, topics: TopicFilter) -> Found:
        """The next events, with a hold book that is true of them.

        What blocks is asked for with the read, or behind it. Where the book says the same, it was so all the time.
        Where it does not, a row that blocked during the read may have become new since, and belong in front of what was
        read (a dead letter that was requeued): so both are read again, as they are at one moment.
        """
        holds, reader = self._.holds, self._.reader
        known = holds.known(lanes)
        if len(known) == len(lanes) and asyncio.get_running_loop().time() >= self._untorn_until:
            found = await reader.read(lanes, limit, topics)
            if not holds.stale({event.lane for event in found.events}, found.standing.signatures):
                return found
        snapshot = await reader.snapshot(lanes, limit, topics, known)
        for lane in tuple(snapshot.blocked):
            # Each is let go of as it is taken over: with very many blocked aggregates both would be too much memory.
            holds.load(lane, snapshot.blocked.pop(lane))
        return Found(snapshot.events, snapshot.standing)

    async def _in_order(self, instance: str, events: list[Event], standing: Standing, cut: int | None) -> list[Event]:
        """The events by id."""
        if cut is not None and standing.cut_lane_dated:
            # Rows with a due time may belong in front of those read of this lane: it waits for the next read.
            try:
                await self._.upkeep.undate(instance, [cut], 1000)
            except DatabaseUnavailableError:
                # It may be done yet, between a read and the look for dated rows behind it.
                self._untorn_until = asyncio.get_running_loop().time() + UNTORN
                raise
            events = [event for event in events if event.lane != cut]
        return sorted(events, key=in_order)

    def _hold_back(self, events: list[Event]) -> tuple[list[Event], list[tuple[Event, int]]]:
        if not len(self._.holds):
            return events, []
        deliverable, held = [], []
        for event in events:
            predecessor = self._.holds.predecessor(event)
            if predecessor is None:
                deliverable.append(event)
            else:
                held.append((event, predecessor))
        return deliverable, held

    async def _load(
        self, events: list[Event], budget: int, cut: int | None
    ) -> tuple[list[Event], list[tuple[Event, Failure]], int | None]:
        """Loads the payloads that the read left out. What goes beyond the budget waits for another batch."""
        if all(event.payload is not None for event in events) and payload_size(events) <= budget:
            return events, [], cut
        taken, failed, cut = self._affordable(events, budget, cut)
        missing = [event.id for event in taken if event.payload is None]
        if missing:
            loaded = await self._.reader.load_payloads(missing)
            # A row that is gone by now was deleted by somebody: there is nothing to deliver.
            taken = [_complete(event, loaded) for event in taken if event.payload is not None or event.id in loaded]
            unreadable = [event for event in taken if event.payload is None]
            failed += [(event, UNREADABLE) for event in unreadable]
            holding = {e.aggregate_id for e in unreadable if self._.order.holds(e.topic, e.event_type)}
            taken = [e for e in taken if e.payload is not None and e.aggregate_id not in holding]
        return taken, failed, cut

    def _affordable(
        self, events: list[Event], budget: int, cut: int | None
    ) -> tuple[list[Event], list[tuple[Event, Failure]], int | None]:
        """The first events that stay within the budget, or one; those that the sink refuses unseen; and the lane that
        the limit or the budget cut."""
        taken: list[Event] = []
        failed: list[tuple[Event, Failure]] = []
        stopped: set[str] = set()
        for event in events:
            if event.aggregate_id in stopped:
                continue
            failure = self._.sink.refuse(event) if event.payload is None else None
            if failure:
                failed.append((event, failure))
                if self._.order.holds(event.topic, event.event_type):
                    stopped.add(event.aggregate_id)
                continue
            size = event.payload_bytes or payload_size([event])
            if size > budget and taken:
                return taken, failed, event.lane
            budget -= size
            taken.append(event)
        return taken, failed, cut


def _complete(event: Event, loaded: Mapping[int, tuple[bytes | None, bytes | None]]) -> Event:
    if event.payload is not None:
        return event
    payload, headers = loaded[event.id]
    return event._replace(payload=payload, headers=headers)
