"""A consumer that holds what arrived against the ledger: byte for byte, and in order."""

import json
import time
import uuid
from dataclasses import dataclass

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from tests.end_to_end.application import Ledger


@dataclass
class Verdict:
    """What arrived."""

    delivered: int = 0
    """Different events."""
    missing: int = 0
    reordered: int = 0
    """First deliveries behind a younger event of their aggregate."""
    duplicates: int = 0
    changed: int = 0
    """Key or payload differ from what was committed."""
    strangers: int = 0
    """Messages of no committed event."""

    @property
    def clean(self) -> bool:
        """Nothing is lost, moved or altered; duplicates are allowed."""
        return not (self.missing or self.reordered or self.changed or self.strangers)


def consume(bootstrap: str, topic: str, quiet: float = 1.0) -> list[Message]:
    """All messages of the topic, up to where its partitions end now. Fails when none comes for `quiet` times ten."""
    consumer = Consumer({"bootstrap.servers": bootstrap, "group.id": str(uuid.uuid4()), "enable.auto.commit": False})
    try:
        partitions = consumer.list_topics(topic, timeout=10).topics[topic].partitions
        ends = {
            number: consumer.get_watermark_offsets(TopicPartition(topic, number), timeout=10)[1]
            for number in partitions
        }
        consumer.assign([TopicPartition(topic, number, OFFSET_BEGINNING) for number in partitions])
        messages: list[Message] = []
        heard = time.monotonic()
        while len(messages) < sum(ends.values()):
            batch = consumer.consume(5000, 0.2)
            messages += [message for message in batch if not message.error()]
            heard = time.monotonic() if batch else heard
            assert time.monotonic() - heard < quiet * 10, "the broker has messages that it does not give out"
        return messages
    finally:
        consumer.close()


def check(messages: list[Message], ledger: Ledger) -> Verdict:
    """Compares; messages of one partition are in its order."""
    verdict = Verdict()
    seen: set[str] = set()
    latest: dict[str, int] = {}
    for message in messages:
        headers = dict(message.headers() or [])
        event_id = headers.get("event_id", b"").decode()
        committed = ledger.events.get(event_id)
        if committed is None:
            verdict.strangers += 1
            continue
        if event_id in seen:
            verdict.duplicates += 1
            continue
        seen.add(event_id)
        if message.key() != committed.aggregate_id.encode() or not same_json(message.value(), committed.payload):
            verdict.changed += 1
        if latest.get(committed.aggregate_id, -1) > committed.number:
            verdict.reordered += 1
        latest[committed.aggregate_id] = max(committed.number, latest.get(committed.aggregate_id, -1))
    verdict.delivered = len(seen)
    verdict.missing = len(ledger.events.keys() - seen)
    return verdict


def same_json(value: bytes, payload: str) -> bool:
    """MySQL stores JSON as a value, with its own spacing and order of keys."""
    return bool(json.loads(value) == json.loads(payload))
