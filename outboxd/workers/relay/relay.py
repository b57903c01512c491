"""The way of an event: read -> publish -> settle. Batches overlap; a lane is in one of them at most."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import structlog

from outboxd.errors import LeaseLostError, SinkUnavailableError
from outboxd.ports import Report, TopicFilter
from outboxd.telemetry.metrics import Metrics
from outboxd.workers.bell import IDLE, Bell
from outboxd.workers.relay.batch import Batch
from outboxd.workers.relay.parts import Parts
from outboxd.workers.relay.pauses import Pauses
from outboxd.workers.relay.reader import BatchReader
from outboxd.workers.relay.settling import Settling
from outboxd.workers.relay.sizes import BatchSize
from outboxd.workers.relay.tempo import Tempo

log = structlog.get_logger(__name__)

FAILED_PAUSE: Final = 5.0
"""Seconds until the events of a batch that failed for a reason of ours are read again."""

PROBE_ROWS: Final = 100
"""How many rows a probe of a topic looks at for one that it can send: the first ones may be held, or bad."""


@dataclass(frozen=True)
class Limits:
    """Rows and bytes of a batch, and of all that is in flight. `poll_interval` in seconds."""

    batch_size: int
    batch_bytes: int
    in_flight: int
    in_flight_bytes: int
    poll_interval: float


class Relay:
    """The worker. `run_once` starts at most one batch; the batch goes its way as a task."""

    name = "relay"

    def __init__(self, parts: Parts, limits: Limits, metrics: Metrics, source: str, bell: Bell) -> None:
        self._reader = BatchReader(parts)
        self._settling = Settling(parts, self._reader.suspects, metrics, source)
        self._ = parts
        self._limits = limits
        self._metrics = metrics
        self._bell = bell
        self._log = log.bind(source=source)
        self.pauses = Pauses(metrics, self._log)
        self._in_flight: dict[asyncio.Task[None], Batch] = {}
        self._bytes = 0
        self._sizes = BatchSize(limits.batch_size, limits.batch_bytes)
        self._tempo = Tempo()
        self._next_at = 0.0
        self._vain_until = 0.0
        """Like `_next_at`, behind a read that found nothing: until a batch lands, whose lanes may have more."""
        self._draining = False
        self._changed = asyncio.Event()
        self.wake: Callable[[], None] = lambda: None
        """Ends the loop's rest; set by whoever runs the relay."""

    async def run_once(self) -> float:
        """Starts a batch when there is room and something to do."""
        now = asyncio.get_running_loop().time()
        obstacle = self._obstacle(now)
        if obstacle is not None:
            return obstacle
        if not any(self.pauses.open_circuits()) and await self._bell.nothing_new():
            return self._bell.pause(self._limits.poll_interval, found=False)
        try:
            started = await self._probe_topic(now) or await self._start()
            if started is None and self.pauses.cause is not None:
                # Nothing to probe with: whether the sink answers must do.
                await self._.sink.check()
                self.pauses.note_reached(now)
        except SinkUnavailableError as error:
            self.pauses.note_trouble(error.failure, now)
            return 0.0
        return self._rest(started, asyncio.get_running_loop().time() - now)

    def _obstacle(self, now: float) -> float | None:
        """Seconds until what keeps a batch from being started is looked at again; None when nothing does."""
        if self._draining or not self._.lease.trusted:
            return min(IDLE, self._limits.poll_interval)
        pause = self.pauses.wait(now)
        if pause > 0:
            return pause
        if not self._room():
            # The end of any batch wakes the loop.
            return 1.0
        next_at = max(self._next_at, self._vain_until)
        return next_at - now if now < next_at else None

    def _rest(self, started: Batch | None, took: float) -> float:
        """Until the next turn, after one that took so long."""
        if started is None:
            rest = self._tempo.rest(took)
        else:
            rest = self._tempo.rest(took, len(started.events), started.bytes, cut=started.cut)
        pause = self._pause(started)
        # Whatever wakes the relay before that has to wait.
        self._next_at = max(self._next_at, asyncio.get_running_loop().time() + rest)
        return max(rest, pause)

    def _pause(self, started: Batch | None) -> float:
        """Until the next look. A topic that is paused is probed in time."""
        if any(self.pauses.open_circuits()):
            return 0.0 if started is not None else min(IDLE, self._limits.poll_interval)
        if self._.book.unfinished or (started is not None and (started.cut or started.suspect)):
            self._bell.expect()
            return 0.0
        now = asyncio.get_running_loop().time()
        if started is None:
            self._vain_until = now + self._tempo.vain(now)
        else:
            self._next_at = now + self._tempo.pace
        if self._bell.trusted:
            return self._bell.pause(self._limits.poll_interval, found=started is not None)
        if started is not None:
            return 0.0
        if self._limits.poll_interval >= IDLE or self._in_flight:
            return self._limits.poll_interval
        self._reader.watch(self._limits.poll_interval, self.wake, seconds=IDLE)
        return IDLE

    async def _start(self) -> Batch | None:
        """Starts the next batch, of one event only where it probes."""
        limit = 1 if self.pauses.cause is not None else self._sizes.rows
        batch = await self._begin(limit, self.pauses.passable)
        if batch is not None:
            self._sizes.note(len(batch.events), batch.bytes)
        return batch

    async def _probe_topic(self, now: float) -> Batch | None:
        """Starts a batch of one event of a topic whose time has come."""
        if any(batch.probe for batch in self._in_flight.values()):
            return None
        topic = self.pauses.due_topic(now)
        if topic is None:
            return None
        everywhere = not self._.book.suspects() and self._.book.readable() == self._.book.owned
        started = await self._begin(PROBE_ROWS, TopicFilter(only=topic), probe=True)
        if started is None and everywhere:
            self.pauses.note_empty(topic, now)
        return started

    async def _begin(self, limit: int, topics: TopicFilter, *, probe: bool = False) -> Batch | None:
        budget = min(self._limits.batch_bytes, self._limits.in_flight_bytes - self._bytes)
        batch = await self._reader.next(limit, budget, topics, probe=probe)
        if batch is not None:
            batch.probe = probe
            self._launch(batch)
        return batch

    def _room(self) -> bool:
        if self.pauses.cause is not None or any(batch.exclusive for batch in self._in_flight.values()):
            return not self._in_flight
        return len(self._in_flight) < self._limits.in_flight and self._bytes < self._limits.in_flight_bytes

    def _launch(self, batch: Batch) -> None:
        size = batch.bytes
        self._bytes += size
        task = asyncio.create_task(self._carry(batch))
        self._in_flight[task] = batch
        self._observe()

        def landed(task: asyncio.Task[None]) -> None:
            self._tempo.landed(asyncio.get_running_loop().time() - batch.read_at)
            self._vain_until = 0.0
            self._bytes -= size
            del self._in_flight[task]
            self._.book.release(batch.lanes)
            self._observe()
            self._changed.set()
            self.wake()

        task.add_done_callback(landed)

    @property
    def in_flight(self) -> tuple[int, int]:
        """How many events are in flight, and the bytes of their payloads."""
        return sum(len(batch.events) for batch in self._in_flight.values()), self._bytes

    def _observe(self) -> None:
        self._metrics.in_flight(*self.in_flight)

    async def _carry(self, batch: Batch) -> None:
        """A batch from the read to its last write. Whatever happens, its lanes are released behind it."""
        try:
            report = await self._publish(batch)
            self.pauses.note(report, asyncio.get_running_loop().time())
            if batch.probe and not (report.delivered or report.unsent or report.unknown):
                self.pauses.hurry(asyncio.get_running_loop().time())
            await self._settling.settle(batch, report)
        except asyncio.CancelledError:
            await self._reader.suspects.drop(batch)
            raise
        except LeaseLostError as error:
            self._log.debug("relay.lease_lost", reason=str(error))
        except Exception as error:
            self._metrics.worker_failed(self.name)
            self._log.error("relay.batch_failed", events=len(batch.events), exc_info=error)
            # Its lanes are still occupied: what cannot be written must not be sent again and again.
            await asyncio.sleep(FAILED_PAUSE)

    # --- publish

    async def _publish(self, batch: Batch) -> Report:
        if batch.exclusive:
            await self._alone()
        if not batch.events:
            report = Report()
        elif self._.lease.trusted:
            report = await self._.sink.publish(batch.events, lambda: self._.lease.trusted)
        else:
            report = Report(unsent=batch.events)
        report.failed += batch.failed
        return report

    async def _alone(self) -> None:
        """Until every other batch has landed."""
        while len(self._in_flight) > 1:
            self._changed.clear()
            await self._changed.wait()

    # --- the end

    async def drain(self, patience: float) -> None:
        """Starts nothing new, and gives what is in flight `patience` seconds; then drops the rest."""
        self._draining = True
        tasks = set(self._in_flight)
        if not tasks:
            return
        _, late = await asyncio.wait(tasks, timeout=patience)
        if late:
            dropped = sum(len(self._in_flight[task].events) for task in late)
            self._log.warning("relay.dropped", events=dropped, reason="the drain time-out passed")
            for task in late:
                task.cancel()
            await asyncio.wait(late)
