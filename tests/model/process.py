"""A daemon in memory: the real crew of a source, on a loop, a database and a sink that are simulated."""

import asyncio
import itertools
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any, cast
from unittest.mock import patch

import structlog

from outboxd.backoff import Backoff, Strategy
from outboxd.eventloop import Guards
from outboxd.lifecycle import RetryPolicy
from outboxd.model import Event
from outboxd.order import OrderPolicy
from outboxd.pulse import Pulse
from outboxd.telemetry.metrics import Metrics
from outboxd.workers.crew import Crew, Ports, Terms
from outboxd.workers.lease import Lease
from outboxd.workers.relay import Limits
from tests.model.broker import SimulatedBroker, SimulatedSink, Wire
from tests.model.connection import Job, SimulatedStore
from tests.model.database import LANES, SimulatedDatabase, Violation
from tests.model.doorbell import Ring, SimulatedDoorbell
from tests.model.loop import SimulatedClock, SimulatedLoop

TTL = 10.0
MAX_ATTEMPTS = 3


class NoMetrics:
    """Nobody looks."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        return lambda *values, **more: None


def terms(policy: OrderPolicy, name: str) -> Terms:
    """Small batches, so that limits matter; short waits, so that little happens between them."""
    return Terms(
        policy=RetryPolicy(MAX_ATTEMPTS, Backoff(Strategy.FIXED, base=1.0, max=1.0, jitter=0.0)),
        order=policy,
        limits=Limits(batch_size=3, batch_bytes=10**6, in_flight=2, in_flight_bytes=10**6, poll_interval=0.5),
        lease_ttl=TTL,
        lease_margin=1.0,
        retry_interval=0.5,
        dead_letter_interval=0.5,
        stuck_timeout=3.0,
        recovery_interval=1.0,
        retention_sent=None,
        retention_dead_letters=None,
        retention_interval=1000.0,
        drain_timeout=1.0,
        instance_name=name,
    )


class Process:
    """One daemon from its start to its end."""

    def __init__(
        self,
        name: str,
        database: SimulatedDatabase,
        broker: SimulatedBroker,
        clock: SimulatedClock,
        *,
        bell: bool,
        tell: Callable[[str], None],
        late: Callable[[Wire], None],
        broken: Callable[[Violation], None],
    ) -> None:
        self.name = name
        self.frozen = self.dead = False
        self._db = database
        self._broken = broken
        self.loop = SimulatedLoop(clock)
        self.store = SimulatedStore(name, database, tell, looks_wait=bell)
        self.doorbell = SimulatedDoorbell(name, self.loop)
        self.sink = SimulatedSink(name, broker, database.policy, self.store.read_at, late, self._before_hand_over)
        self._guards: Guards = []
        store = self.store
        ports = Ports(store, store, store, store, store, store, self.sink, self.doorbell if bell else None)
        metrics = cast(Metrics, NoMetrics())
        self.crew = Crew(name, ports, terms(database.policy, name), metrics, Pulse(), guards=self._guards)
        self._stopping: asyncio.Task[None] | None = None
        self.loop.within(self.crew.start)

    def run(self) -> None:
        """As far as it gets now."""
        if self.frozen or self.dead:
            return
        for guard in self._guards:
            guard()
        self.loop.run()
        if self._stopping is not None and self._stopping.done():
            self.dead = True

    def stop(self) -> None:
        """SIGTERM."""

        def begin() -> None:
            self._stopping = self.loop.create_task(self.crew.stop())

        if self._stopping is None:
            self.loop.within(begin)

    @property
    def agenda(self) -> list[Job | Wire | Ring]:
        """What waits for the database or the broker, or is heard of. A frozen process learns no answers, and sends
        nothing more."""
        found: list[Job | Wire | Ring] = [*self.store.heads, *self.sink.wires, *self.doorbell.rings]
        return [item for item in found if not item.asked] if self.frozen else found

    def _before_hand_over(self, events: Sequence[Event]) -> None:
        """Whoever hands over believes in its lease: so it must own the lanes."""
        lease: Lease = self.crew._lease
        member = self._db.members.get(lease.instance)
        if member is None or member.expires_at <= self._db.clock():
            self._broken(Violation("one owner", f"{self.name} sends without a lease"))
        for event in events:
            if self._db.lanes[event.lane].owner != lease.instance:
                self._broken(Violation("one owner", f"{self.name} sends {event.id} of a lane that is not its own"))


@contextmanager
def simulated(clock: SimulatedClock) -> Iterator[list[Violation]]:
    """The few places where the crew asks the machine for time and chance. Yields what the crew's log calls a bug."""
    bugs: list[Violation] = []

    def look(_: Any, __: str, line: dict[str, Any]) -> dict[str, Any]:
        if line["event"] in {"worker.failed", "relay.batch_failed"}:
            bugs.append(Violation("no bug", f"{line['event']}: {line['exc_info']!r}"))
        raise structlog.DropEvent

    serial = itertools.count(1)
    before = structlog.get_config()
    with ExitStack() as stack:
        enter = stack.enter_context
        enter(patch("outboxd.workers.lease.LANES", LANES))
        enter(patch("outboxd.workers.lease.boottime", clock))
        enter(patch("outboxd.workers.lease.secrets.token_hex", lambda _: f"{next(serial):06d}"))
        enter(patch("outboxd.workers.crew.Lease", partial(Lease, clock=clock)))
        enter(patch("outboxd.workers.upkeep.release.time.monotonic", clock))
        structlog.configure(processors=[look])
        try:
            yield bugs
        finally:
            structlog.configure(**before)
