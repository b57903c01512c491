"""A consumer that holds what arrived against the ledger: byte for byte, and in order."""

import json
import time
import uuid
from collections.abc import Iterable, Iterator
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, field

from confluent_kafka import OFFSET_BEGINNING, Consumer, Message, TopicPartition

from tests.end_to_end.application import Committed, Ledger

DIFFERENCES = 20
"""How many are told."""


@dataclass
class Verdict:
    """What arrived."""

    delivered: int = 0
    """Different events."""
    missing: int = 0
    reordered: int = 0
    """First deliveries behind a younger event of their aggregate, or in another partition than it."""
    duplicates: int = 0
    changed: int = 0
    """Messages whose topic, key, headers or payload differ from what was committed."""
    strangers: int = 0
    """Messages of no committed event."""
    differences: list[str] = field(default_factory=list, compare=False)
    """What is wrong, event by event; the first of them."""

    @property
    def clean(self) -> bool:
        """Nothing is lost, moved or altered; duplicates are allowed."""
        return not (self.missing or self.reordered or self.changed or self.strangers)

    def tell(self, what: str) -> None:
        """Notes a difference."""
        if len(self.differences) < DIFFERENCES:
            self.differences.append(what)


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


def check(messages: Iterable[Message], ledger: Ledger, dead: AbstractSet[str] = frozenset()) -> Verdict:
    """Compares; messages of one partition are in its order. `dead` letters are not missing."""
    verdict = Verdict()
    seen: set[str] = set()
    latest: dict[tuple[str, str], tuple[int, int]] = {}
    for message in messages:
        event_id = _text(dict(message.headers() or []).get("event_id"))
        committed = ledger.events.get(event_id)
        if committed is None:
            verdict.strangers += 1
            verdict.tell(f"{_place(message)}: a stranger, event_id {event_id!r}, key {message.key()!r}")
            continue
        for problem in _alterations(message, event_id, committed):
            verdict.changed += 1
            verdict.tell(f"{_place(message)}: event {event_id}: {problem}")
            break
        if event_id in seen:
            verdict.duplicates += 1
            continue
        seen.add(event_id)
        aggregate = str(message.topic()), committed.aggregate_id
        number, partition = latest.get(aggregate, (-1, message.partition()))
        if number > committed.number or partition != message.partition():
            verdict.reordered += 1
            verdict.tell(
                f"{_place(message)}: event {event_id} is number {committed.number} of {committed.aggregate_id}, and "
                f"comes behind number {number} in partition {partition}"
            )
        latest[aggregate] = max(committed.number, number), partition
    lost = ledger.events.keys() - seen - dead
    verdict.delivered, verdict.missing = len(seen), len(lost)
    for event_id in sorted(lost, key=lambda lost: ledger.events[lost].number)[:DIFFERENCES]:
        committed = ledger.events[event_id]
        verdict.tell(f"missing: event {event_id}, number {committed.number} of {committed.aggregate_id}")
    return verdict


def _alterations(message: Message, event_id: str, committed: Committed) -> Iterator[str]:
    """What is not as it was committed. Payloads are not told, only their sizes."""
    key, value = message.key(), message.value()
    if committed.topic and message.topic() != committed.topic:
        yield f"topic {message.topic()!r} instead of {committed.topic!r}"
    if key != committed.aggregate_id.encode():
        yield f"key {key!r} instead of {committed.aggregate_id!r}"
    expected = {
        "event_id": event_id,
        "event_type": committed.event_type,
        "aggregate_type": committed.aggregate_type,
        "aggregate_id": committed.aggregate_id,
    }
    names = [name for name, _ in message.headers() or []]
    for name, text in expected.items():
        found = _text(dict(message.headers() or []).get(name))
        if found != text or names.count(name) != 1:
            yield f"header {name} {found!r}, {names.count(name)} times, instead of {text!r}"
    if not isinstance(value, bytes):
        yield "no payload"
    elif committed.stored is not None and value != committed.stored:
        yield f"a payload of {len(value)} bytes that is not the {len(committed.stored)} stored ones"
    elif committed.stored is None and not same_json(value, committed.payload):
        yield f"a payload of {len(value)} bytes that is not the committed one"


def _text(value: object) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value or "")


def _place(message: Message) -> str:
    return f"{message.topic()}[{message.partition()}]@{message.offset()}"


def same_json(value: bytes, payload: str) -> bool:
    """MySQL stores JSON as a value, with its own spacing and order of keys."""
    if value == payload.encode():
        return True
    try:
        return bool(json.loads(value) == json.loads(payload))
    except ValueError:
        return False
