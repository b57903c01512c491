"""The crew of one source: all its workers around one set of books, started and stopped in order."""

import asyncio
import json
from dataclasses import dataclass
from itertools import islice
from typing import Final

import structlog

from outboxd.backoff import Backoff
from outboxd.errors import OutboxdError
from outboxd.eventloop import Guards
from outboxd.holds import HoldBook
from outboxd.lanes import LaneBook
from outboxd.lifecycle import RetryPolicy
from outboxd.order import OrderPolicy
from outboxd.ports import Doorbell, EventReader, LeaseStore, Lookout, Sampler, Settler, Sink, Upkeep
from outboxd.pulse import Pulse
from outboxd.telemetry.metrics import Metrics
from outboxd.workers.bell import Bell
from outboxd.workers.lease import Lease, LeaseKeeper
from outboxd.workers.loop import DatabaseWatch, Loop, Worker
from outboxd.workers.monitor import SinkMonitor
from outboxd.workers.relay import Limits, Relay
from outboxd.workers.relay.parts import Parts
from outboxd.workers.rounds import Rounds
from outboxd.workers.upkeep import (
    DeadLetterMover,
    GaugeSampler,
    HoldRelease,
    Reservations,
    Retention,
    RetryScheduler,
    StuckRecovery,
    UnknownStatusSweep,
)

log = structlog.get_logger(__name__)

RESTART: Final = Backoff(base=0.2, max=5.0, jitter=0.3)
"""How a worker that raises comes back."""

HEARTBEAT_RESTART: Final = Backoff(base=0.1, max=1.0, jitter=0.3)
"""A heartbeat has no time to lose."""

MAX_CIRCUITS: Final = 50
"""How many circuits a report has."""

GOODBYE: Final = 5.0
"""Seconds that giving the lanes back may take; without a database, they expire."""


@dataclass(frozen=True)
class Ports:
    """What the crew works with."""

    reader: EventReader
    settler: Settler
    leases: LeaseStore
    lookout: Lookout
    upkeep: Upkeep
    sampler: Sampler
    sink: Sink
    doorbell: Doorbell | None = None


@dataclass(frozen=True)
class Terms:
    """How it works. Times in seconds; None for a retention means for ever."""

    policy: RetryPolicy
    order: OrderPolicy
    limits: Limits
    lease_ttl: float
    lease_margin: float
    retry_interval: float
    dead_letter_interval: float
    stuck_timeout: float
    recovery_interval: float
    retention_sent: float | None
    retention_dead_letters: float | None
    retention_interval: float
    drain_timeout: float
    instance_name: str


class Crew:
    """The workers of one source. `guards` are those of the event loop: while it runs, the crew's is among them."""

    def __init__(
        self, source: str, ports: Ports, terms: Terms, metrics: Metrics, pulse: Pulse, *, guards: Guards
    ) -> None:
        self._source, self._ports, self._terms, self._metrics = source, ports, terms, metrics
        self._guards = guards
        self._log = log.bind(source=source)

        self._book, self._holds, self._lease = LaneBook(), HoldBook(terms.order), Lease(margin=terms.lease_margin)
        self._rounds = Rounds(ports.lookout, self._book)
        self._reservations = Reservations(self._book, self._holds)
        self._bell = Bell(self._rounds, metrics, source)

        self._keeper = self._make_keeper()
        self._relay = self._make_relay()
        self._monitor = SinkMonitor(ports.sink, source)

        watch = DatabaseWatch(source)

        def loop(worker: Worker, backoff: Backoff = RESTART) -> Loop:
            return Loop(worker, pulse, metrics, source, backoff=backoff, watch=watch)

        self._heartbeat = loop(self._keeper, HEARTBEAT_RESTART)
        self._delivery = loop(self._relay)
        self._others = [loop(worker) for worker in (*self._make_upkeep(), self._monitor)]
        self._connect()

    # --- which workers there are

    def _make_keeper(self) -> LeaseKeeper:
        terms = self._terms
        return LeaseKeeper(
            self._ports.leases,
            self._lease,
            self._book,
            self._holds,
            self._metrics,
            source=self._source,
            ttl=terms.lease_ttl,
            margin=terms.lease_margin,
            first_batch=terms.limits.batch_size,
            instance_name=terms.instance_name,
        )

    def _make_relay(self) -> Relay:
        ports, terms = self._ports, self._terms
        parts = Parts(
            ports.reader,
            ports.settler,
            ports.upkeep,
            ports.sink,
            self._book,
            self._holds,
            self._lease,
            terms.policy,
            terms.order,
        )
        return Relay(parts, terms.limits, self._metrics, self._source, self._bell)

    def _make_upkeep(self) -> list[Worker]:
        source, terms, metrics = self._source, self._terms, self._metrics
        upkeep, lease, book, rounds = self._ports.upkeep, self._lease, self._book, self._rounds
        reservations, policy, recovery = self._reservations, terms.policy, terms.recovery_interval
        return [
            RetryScheduler(upkeep, lease, reservations, rounds, terms.retry_interval),
            HoldRelease(upkeep, lease, reservations, rounds, terms.order, source=source, interval=terms.retry_interval),
            DeadLetterMover(upkeep, lease, book, rounds, metrics, source=source, interval=terms.dead_letter_interval),
            StuckRecovery(upkeep, lease, reservations, policy, source, timeout=terms.stuck_timeout, interval=recovery),
            UnknownStatusSweep(upkeep, lease, book, policy, source=source, interval=recovery),
            Retention(
                upkeep,
                lease,
                book,
                sent=terms.retention_sent,
                dead_letters=terms.retention_dead_letters,
                interval=terms.retention_interval,
            ),
            GaugeSampler(self._ports.sampler, book, self._holds, metrics),
        ]

    # --- who wakes whom

    def _connect(self) -> None:
        self._bell.wake = self._delivery.wake
        self._relay.wake = self._reservations.released = self._bell.stir
        self._keeper.lanes_changed = self._wake_all
        self._keeper.report = self._report

    def _wake_all(self) -> None:
        """Lanes have come or gone: everybody looks again."""
        self._bell.stir()
        for loop in (self._delivery, *self._others):
            loop.wake()

    # --- from start to stop

    def start(self) -> None:
        """Begins to work; the lease keeper first, since the others wait for lanes."""
        self._guards.append(self._guard)
        for loop in (self._heartbeat, self._delivery, *self._others):
            loop.start()
        if self._ports.doorbell is not None:
            self._ports.doorbell.start(self._bell)

    def _guard(self) -> None:
        if self._lease.lapsed():
            self._log.warning("lease.lapsed", reason="the lease ran out before it was renewed; nothing more is sent")
            self._ports.sink.sever()

    async def stop(self) -> None:
        """Finishes or drops what is in flight, gives the lanes back, and lets go of the sink. Bounded in time."""
        if self._ports.doorbell is not None:
            self._ports.doorbell.stop()
        # The relay's loop first: a batch that is being read when the drain begins must not start behind it.
        await self._delivery.stop()
        await self._relay.drain(self._terms.drain_timeout)
        for loop in self._others:
            await loop.stop()
        await self._ports.sink.close()
        self._guards.remove(self._guard)
        await self._heartbeat.stop()
        try:
            async with asyncio.timeout(GOODBYE):
                await self._keeper.leave()
        except (TimeoutError, OutboxdError) as error:
            self._log.warning("lease.not_returned", reason=str(error) or "no answer from the database in time")

    # --- how it is

    def _report(self) -> str:
        """What `outboxd status` shows of this instance."""
        now = asyncio.get_running_loop().time()
        events, size = self._relay.in_flight
        return json.dumps(
            {
                "in_flight": events,
                "in_flight_bytes": size,
                "circuits": [
                    {
                        "topic": topic,
                        "cause": circuit.cause.code,
                        "reason": circuit.cause.text,
                        "seconds": round(now - circuit.opened_at, 3),
                    }
                    for topic, circuit in islice(self._relay.pauses.open_circuits(), MAX_CIRCUITS)
                    if circuit.cause is not None
                ],
            }
        )

    def paused_topics(self) -> dict[str, str]:
        """The topics that are paused while the others go on, and why."""
        return {
            topic: circuit.cause.last_error
            for topic, circuit in self._relay.pauses.open_circuits()
            if topic is not None and circuit.cause is not None
        }

    def readiness(self) -> dict[str, str | None]:
        """What this source needs to deliver, and why it is missing."""
        trouble = self._relay.pauses.cause or self._monitor.failure
        waiting = None if self._monitor.reached else "not reached yet"
        return {
            "database": None if self._lease.trusted else "the lease is not held: the database cannot be reached",
            "sink": trouble.last_error if trouble else waiting,
            "lanes": None if self._book.owned else "owns none yet",
        }
