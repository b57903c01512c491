"""What a consumer finds in the topic, compared with what was written."""

import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing
from functools import lru_cache
from itertools import count
from typing import Any, Final, NamedTuple

from confluent_kafka import OFFSET_BEGINNING, Consumer, KafkaError, KafkaException, TopicPartition
from confluent_kafka.admin import AdminClient, OffsetSpec

from bench.backlog import WrittenEvent
from tests.servers.kafka import Kafka

PARTITIONS: Final = 6
PATIENCE: Final = 10.0
"""Seconds until a topic that nobody leads has failed."""

_serial = count(1)


class Message(NamedTuple):
    """A message. `appended_ms` is the broker's time, in milliseconds since the epoch."""

    event_id: str
    key: str
    appended_ms: int


class Delivery(NamedTuple):
    """The messages against the ledger of what was written."""

    delivered: int
    missing: int
    duplicates: int
    out_of_order: int
    foreign: int

    @property
    def flawless(self) -> bool:
        """Everything once, in order, and nothing else."""
        return not (self.missing or self.duplicates or self.out_of_order or self.foreign)


def create_topic(kafka: Kafka) -> str:
    """A new topic whose timestamps are the broker's."""
    name = f"bench-{next(_serial)}"
    kafka.create_topic(name, PARTITIONS, message_timestamp_type="LogAppendTime")
    return name


def count_messages(kafka: Kafka, topic: str) -> int:
    """How many messages are in the topic: one cheap request."""
    ends = {TopicPartition(topic, partition): OffsetSpec.latest() for partition in range(PARTITIONS)}
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            return sum(answer.result(30).offset for answer in _admin(kafka).list_offsets(ends).values())
        except KafkaException as error:
            # The broker tells of a new topic a moment before it leads its partitions.
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION or time.monotonic() > deadline:
                raise
        time.sleep(0.01)


@lru_cache(maxsize=1)
def _admin(kafka: Kafka) -> AdminClient:
    """One that is kept: to connect costs more than the request."""
    return kafka.admin()


def consumer_of(kafka: Kafka, topic: str) -> Consumer:
    """A consumer of the whole topic from its beginning."""
    consumer = Consumer(
        {
            "bootstrap.servers": kafka.bootstrap,
            "group.id": "bench",
            "enable.auto.commit": False,
            "enable.partition.eof": True,
            "log_level": 0,
        }
    )
    consumer.assign([TopicPartition(topic, partition, OFFSET_BEGINNING) for partition in range(PARTITIONS)])
    return consumer


def parse(message: Any) -> Message:
    """A message of confluent-kafka."""
    event_id = dict(message.headers())["event_id"].decode()
    return Message(event_id, message.key().decode(), message.timestamp()[1])


def read_topic(kafka: Kafka, topic: str) -> Iterator[Message]:
    """All messages of the topic, those of a partition in order."""
    with closing(consumer_of(kafka, topic)) as consumer:
        ended = 0
        while ended < PARTITIONS:
            # It waits for all 1,000, or until the time is over: at the end of the topic, always.
            for message in consumer.consume(1000, timeout=0.1):
                error = message.error()
                if error is None:
                    yield parse(message)
                elif error.code() == KafkaError._PARTITION_EOF:
                    ended += 1
                else:
                    raise RuntimeError(f"cannot read {topic}: {error}")


def compare(messages: Iterable[Message], written: Sequence[WrittenEvent]) -> Delivery:
    """Counts what is missing, repeated, behind a younger event of its aggregate, or nobody's.

    `written` is in the order of commit. Only an event's first delivery is looked at for order: a repeat is a repeat.
    """
    place = {event.event_id: number for number, event in enumerate(written)}
    seen: set[str] = set()
    newest: dict[str, int] = {}
    duplicates = out_of_order = foreign = 0
    for message in messages:
        number = place.get(message.event_id)
        if number is None or written[number].aggregate_id != message.key:
            foreign += 1
        elif message.event_id in seen:
            duplicates += 1
        else:
            seen.add(message.event_id)
            out_of_order += number < newest.get(message.key, -1)
            newest[message.key] = max(number, newest.get(message.key, -1))
    return Delivery(len(seen), len(written) - len(seen), duplicates, out_of_order, foreign)
