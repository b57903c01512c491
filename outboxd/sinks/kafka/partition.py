"""Delivering records to one partition, in order, and finding the one that the broker refuses."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaProducer
from aiokafka.errors import NotEnoughReplicasAfterAppendError

from outboxd.errors import Failure, FailureKind
from outboxd.sinks.kafka.classify import classify
from outboxd.sinks.kafka.message import Record, column_headers
from outboxd.sinks.kafka.sender import SenderWatch

Group = list[Record]


class Destination(NamedTuple):
    """A partition of a topic."""

    topic: str
    partition: int


class HandOver(NamedTuple):
    """The terms on which records are given to a producer. `deadline` by the loop's time."""

    producer: AIOKafkaProducer
    watch: SenderWatch
    timestamp_ms: int
    deadline: float
    permitted: Callable[[], bool]


UNCERTAIN: Final = frozenset({"producer_closed", "request_timed_out"})
"""Codes behind which a batch may have been written all the same."""

NOT_PERMITTED: Final = Failure(
    FailureKind.OUTAGE, "lease_or_deadline_passed", "the lease or the delivery deadline passed before all was sent"
)


def _retrieve(answer: "asyncio.Future[Any]") -> None:
    """An answer that comes when nobody waits any more is no news."""
    if not answer.cancelled():
        answer.exception()


class Lot:
    """What is to be delivered to a partition: groups of records, in order; a batch never crosses a group's end."""

    def __init__(self, destination: Destination, records: Group) -> None:
        self.destination = destination
        self.groups: list[Group] = [records]
        self.delivered: Group = []
        self.failure: Failure | None = None
        """Why the first of the groups was not delivered by the last send."""
        self._answer: asyncio.Future[Any] | None = None
        self._watch: SenderWatch | None = None

    @property
    def rest(self) -> Group:
        """What is not delivered."""
        return [record for group in self.groups for record in group]

    @property
    def unanswered(self) -> Group:
        """The first group, when it was handed over and no answer came."""
        return self.groups[0] if self.groups and self._answer is not None else []

    async def send(self, handing: HandOver) -> None:
        """Sends group after group until one fails, the deadline passes, or it is no longer permitted.

        The next batch is sent when the one before it is acknowledged. It costs nothing, since the producer has one
        request for a partition on its way at most; and a broker that does not know the producer yet (or no more)
        would accept a batch behind a refused one.
        """
        self.failure, self._watch = None, handing.watch
        loop = asyncio.get_running_loop()
        while self.groups and self.failure is None:
            if not handing.permitted() or loop.time() >= handing.deadline:
                self.failure = NOT_PERMITTED
                return
            try:
                answer = await self._hand_over(handing)
            except Exception as error:
                self.failure = classify(error, self.destination.topic)
                return
            answer.add_done_callback(_retrieve)
            self._answer = answer
            await asyncio.wait({answer}, timeout=max(0.0, handing.deadline - loop.time()))
            self.look()

    async def _hand_over(self, handing: HandOver) -> "asyncio.Future[Any]":
        """Gives the producer as much of the first group as one batch takes; that is the first group then."""
        topic, partition = self.destination
        group = self.groups[0]
        batch, size = fill(handing.producer, group, handing.timestamp_ms)
        if size < len(group):
            self.groups[:1] = [group[:size], group[size:]]
        async with asyncio.timeout_at(handing.deadline):
            answer: asyncio.Future[Any] = await handing.producer.send_batch(batch, topic, partition=partition)
        return answer

    def look(self) -> None:
        """Takes note of the answer to the batch that was sent last, if one has come."""
        answer = self._answer
        if answer is None:
            return
        topic, partition = self.destination
        if not answer.done():
            trouble = self._watch.trouble(topic, partition) if self._watch else None
            self.failure = classify(trouble, topic) if trouble else classify(TimeoutError())
            return
        error = answer.exception()
        if error is None:
            self._answer = None
            self.delivered += self.groups.pop(0)
            self.failure = None
            return
        self.failure = classify(error, topic)
        if self.failure.code not in UNCERTAIN and not isinstance(error, NotEnoughReplicasAfterAppendError):
            self._answer = None

    def split(self) -> Record | None:
        """The first group was refused: halves it, or returns its only record, which is then out of the lot."""
        group = self.groups.pop(0)
        if len(group) == 1:
            return group[0]
        middle = len(group) // 2
        self.groups[:0] = [group[:middle], group[middle:]]
        return None

    def without(self, aggregate_id: str) -> Group:
        """Takes the events of an aggregate out of the lot, and returns them."""
        taken = [record for record in self.rest if record.event.aggregate_id == aggregate_id]
        kept = [[record for record in group if record.event.aggregate_id != aggregate_id] for group in self.groups]
        self.groups = [group for group in kept if group]
        return taken

    @property
    def blamed(self) -> bool:
        """The last failure is about the records, not about the broker or the producer."""
        return self.failure is not None and self.failure.kind in {FailureKind.PERMANENT, FailureKind.CAPPED}

    @property
    def resumable(self) -> bool:
        """What is left may be sent again at once, with a new producer."""
        return (
            bool(self.groups)
            and self._answer is None
            and (self.blamed or (self.failure is not None and self.failure.kind is FailureKind.REBUILD))
        )


def fill(producer: AIOKafkaProducer, records: Sequence[Record], timestamp_ms: int) -> tuple[Any, int]:
    """A batch of the first records, as many as it takes (at least one), and how many that are."""
    batch = producer.create_batch()
    for count, (event, special) in enumerate(records):
        key = event.aggregate_id.encode()
        headers = special or column_headers(event, key)
        if batch.append(timestamp=timestamp_ms, key=key, value=event.payload or b"", headers=headers) is None:
            return batch, count
    return batch, len(records)
