"""A broker in memory, the network to it, and a sink that keeps the contract of `outboxd.ports.Sink`.

The sink sends as `outboxd.sinks.kafka` does: a few events of a partition at a time, the next ones when those are
acknowledged; a group that is refused is halved, and what is behind an event that may succeed later is not sent.
"""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from zlib import crc32

from outboxd.errors import Failure, FailureKind, SinkUnavailableError
from outboxd.model import Event, Status
from outboxd.order import OrderPolicy
from outboxd.ports import Report
from tests.model.database import SimulatedDatabase, Violation

PARTITIONS = 2
GROUP = 2
"""How many events are handed over together."""

DELIVERY = 2.0
"""Seconds for one publish."""

FOR_EVER = 10**6
"""So often an event is refused that can never be delivered."""

DOWN = Failure(FailureKind.OUTAGE, "no_connection", "no broker")
TIMEOUT = Failure(FailureKind.OUTAGE, "request_timed_out", "no answer")
CLOSED = Failure(FailureKind.REBUILD, "producer_closed", "closed")
NOT_PERMITTED = Failure(FailureKind.OUTAGE, "lease_or_deadline_passed", "the lease or the deadline passed")
NO_TOPIC = Failure(FailureKind.PAUSE, "unknown_topic", "no such topic")
REFUSED = Failure(FailureKind.PERMANENT, "message_too_large", "too large")
DAMAGED = Failure(FailureKind.CAPPED, "corrupt_record", "damaged")

DELIVERED = None
Verdict = Failure | None


@dataclass(slots=True)
class SimulatedBroker:
    """The log of each partition, and what it refuses."""

    tell: Callable[[str], None]
    database: SimulatedDatabase = field(init=False)
    down: bool = False
    missing: set[str] = field(default_factory=set)
    """Topics that are in trouble."""
    bad: dict[int, int] = field(default_factory=dict)
    """Events that are refused, and how often yet."""
    refused: set[int] = field(default_factory=set)
    """Events that were refused for their own sake."""
    delivered: set[int] = field(default_factory=set)
    duplicates: int = 0

    def receive(self, events: Sequence[Event], read_at: Sequence[int], topic: str) -> Verdict:
        """A group arrives: all of it is appended, or nothing."""
        if self.down:
            return DOWN
        if topic in self.missing:
            return NO_TOPIC
        bad = [event for event in events if self.bad.get(event.id)]
        if bad:
            return self._refuse(events, bad[0])
        for event, version in zip(events, read_at, strict=True):
            self._append(event, version)
        return DELIVERED

    def _refuse(self, events: Sequence[Event], bad: Event) -> Failure:
        for_ever = self.bad[bad.id] >= FOR_EVER
        if len(events) == 1:
            self.refused.add(bad.id)
            if not for_ever:
                self.bad[bad.id] -= 1
        return REFUSED if for_ever else DAMAGED

    def _append(self, event: Event, version: int) -> None:
        if event.id in self.delivered:
            self.duplicates += 1
            self.tell(f"broker: {event.id} once more")
            return
        self.tell(f"broker: {event.id} of {event.aggregate_id} arrives in {event.topic}")
        self._check_order(event, version)
        self.delivered.add(event.id)

    def _check_order(self, event: Event, version: int) -> None:
        """Promise 2. `version` is what the read of the event saw."""
        db = self.database
        for row in (*db.rows.values(), *db.dead.values()):
            if (row.aggregate, row.topic) != (event.aggregate_id, event.topic) or row.id >= event.id:
                continue
            if row.id in self.delivered or row.committed > version:
                continue
            error = row.status is Status.ERROR
            holds = db.policy.holds(row.topic, "made")
            dead = error if holds else error or (self.bad.get(row.id) == FOR_EVER and row.id in self.refused)
            if dead and not (holds and row.dead_since is not None and row.dead_since <= version):
                continue
            state = "dead letter" if row.id in db.dead else row.status.name.lower()
            raise Violation("order", f"{event.id} overtook {row.id} ({state}) of {event.aggregate_id}")


@dataclass(eq=False, slots=True)
class Wire:
    """A group on its way to the broker, or its answer on its way back."""

    owner: str
    producer: "Producer"
    topic: str
    events: Sequence[Event]
    read_at: Sequence[int]
    broker: SimulatedBroker
    answer: "asyncio.Future[Verdict]"
    arrived: bool = False
    verdict: Verdict = None
    asked: bool = False

    def __str__(self) -> str:
        what = "answer to" if self.arrived else "hand-over of"
        return f"{self.owner} {what} {[event.id for event in self.events]}"

    @property
    def done(self) -> bool:
        return self.answer.done() and self.arrived

    def arrive(self) -> None:
        """It reaches the broker."""
        self.arrived = True
        self.verdict = self.broker.receive(self.events, self.read_at, self.topic)

    def proceed(self) -> None:
        """One way, or the other."""
        if not self.arrived:
            self.arrive()
        elif not self.answer.done():
            self.answer.set_result(self.verdict)

    def lose(self) -> None:
        """The connection breaks, whatever has arrived."""
        self.producer.close()


class Producer:
    """A connection. When it is closed, what it sent may still arrive."""

    def __init__(self, late: Callable[[Wire], None]) -> None:
        self.closed = False
        self.wires: list[Wire] = []
        self._late = late

    def close(self) -> None:
        """Nothing more is sent; who waits for an answer is told."""
        if self.closed:
            return
        self.closed = True
        for wire in self.wires:
            if wire.answer.done():
                continue
            wire.answer.set_result(CLOSED)
            if not wire.arrived:
                self._late(wire)
        self.wires = []


class SimulatedSink:
    """See `outboxd.ports.Sink`."""

    def __init__(
        self,
        owner: str,
        broker: SimulatedBroker,
        policy: OrderPolicy,
        read_at: dict[int, int],
        late: Callable[[Wire], None],
        before_hand_over: Callable[[Sequence[Event]], None],
    ) -> None:
        self._owner = owner
        self._broker = broker
        self._policy = policy
        self._read_at = read_at
        self._late = late
        self._before_hand_over = before_hand_over
        self._producer = Producer(late)

    @property
    def wires(self) -> list[Wire]:
        """What is under way."""
        self._producer.wires = [wire for wire in self._producer.wires if not wire.answer.done()]
        return self._producer.wires

    async def start(self) -> None:
        """Nothing to do."""

    async def check(self) -> None:
        if self._broker.down:
            raise SinkUnavailableError(DOWN)

    def refuse(self, event: Event) -> Failure | None:
        return None

    def sever(self) -> None:
        self._producer.close()

    async def close(self) -> None:
        self._producer.close()

    async def publish(self, events: Sequence[Event], permitted: Callable[[], bool]) -> Report:
        report = Report()
        deadline = asyncio.get_running_loop().time() + DELIVERY
        lots: defaultdict[tuple[str, int], list[Event]] = defaultdict(list)
        for event in events:
            lots[event.topic, crc32(event.aggregate_id.encode()) % PARTITIONS].append(event)
        await asyncio.gather(*(self._send(topic, lot, permitted, deadline, report) for (topic, _), lot in lots.items()))
        return report

    async def _send(
        self, topic: str, rest: list[Event], permitted: Callable[[], bool], deadline: float, report: Report
    ) -> None:
        time, size = asyncio.get_running_loop().time, GROUP
        while rest:
            if not permitted() or time() >= deadline:
                report.unsent += rest
                report.trouble = report.trouble or NOT_PERMITTED
                return
            group = rest[:size]
            verdict, known = await self._hand_over(topic, group, deadline)
            if not known:
                report.unknown += group
                report.unsent += rest[len(group) :]
                report.trouble = report.trouble or verdict
                return
            if verdict is DELIVERED:
                report.delivered += group
                rest = rest[len(group) :]
            elif verdict.kind not in {FailureKind.PERMANENT, FailureKind.CAPPED}:
                report.unsent += rest
                self._note(topic, rest, verdict, report)
                return
            elif len(group) > 1:
                size = 1
            else:
                rest = self._blame(group[0], rest[1:], verdict, report)

    async def _hand_over(self, topic: str, group: Sequence[Event], deadline: float) -> tuple[Verdict, bool]:
        """The broker's answer, and whether there is one."""
        self._before_hand_over(group)
        if self._producer.closed:
            self._producer = Producer(self._late)
        producer, loop = self._producer, asyncio.get_running_loop()
        versions = [self._read_at[event.id] for event in group]
        answer: asyncio.Future[Verdict] = loop.create_future()
        producer.wires.append(Wire(self._owner, producer, topic, group, versions, self._broker, answer))
        await asyncio.wait({answer}, timeout=max(0.0, deadline - loop.time()))
        if not answer.done():
            producer.close()
            return TIMEOUT, False
        verdict = answer.result()
        return verdict, verdict is not CLOSED

    @staticmethod
    def _note(topic: str, events: Sequence[Event], verdict: Failure, report: Report) -> None:
        if verdict is NO_TOPIC:
            report.paused[topic] = verdict
        else:
            report.trouble = report.trouble or verdict

    def _blame(self, event: Event, rest: list[Event], failure: Failure, report: Report) -> list[Event]:
        """Returns what goes on behind an event that was refused."""
        report.failed.append((event, failure))
        if failure.kind is FailureKind.PERMANENT and not self._policy.holds(event.topic, event.event_type):
            return rest
        behind = [other for other in rest if other.aggregate_id == event.aggregate_id]
        report.behind += [(other, event) for other in behind]
        return [other for other in rest if other not in behind]
