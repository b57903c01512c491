"""A client of the topic: reads everything from the beginning, and notes what came when."""

import threading
import time
from collections.abc import Mapping
from typing import Any, Final

import confluent_kafka
from confluent_kafka import OFFSET_BEGINNING, KafkaError, KafkaException, TopicPartition

from outboxd.demo.child import BrokenError
from outboxd.demo.ledger import Arrival

POLL: Final = 0.1
ANSWER: Final = 10.0
"""Seconds that a broker gets for an answer."""
REFUSED: Final = frozenset(
    {
        KafkaError._AUTHENTICATION,
        KafkaError.TOPIC_AUTHORIZATION_FAILED,
        KafkaError.GROUP_AUTHORIZATION_FAILED,
        KafkaError.SASL_AUTHENTICATION_FAILED,
    }
)
"""What does not pass by itself."""


class Consumer:
    """Reads in a thread of its own."""

    def __init__(self, client: Mapping[str, Any], topic: str) -> None:
        self.arrivals: list[Arrival] = []
        self.delivered: set[str] = set()
        """The event ids that arrived."""
        self._client = {**client, "group.id": topic, "enable.auto.commit": False}
        self._topic = topic
        self._consumer = confluent_kafka.Consumer(self._client)
        self._partitions: list[TopicPartition] = []
        self._ending = threading.Event()
        self._abandoned = threading.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def start(self) -> None:
        """Begins to read. Raises BrokenError when the topic cannot be seen."""
        deadline = time.monotonic() + ANSWER
        while not self._partitions:
            if time.monotonic() > deadline:
                raise BrokenError(f"the consumer does not see the topic {self._topic}")
            self._partitions = [TopicPartition(self._topic, number, OFFSET_BEGINNING) for number in self._look()]
        self._consumer.assign(self._partitions)
        self._thread.start()

    def check(self) -> None:
        """Raises BrokenError when it cannot go on."""
        if isinstance(self._error, KafkaException):
            raise BrokenError(f"the consumer: {self._error.args[0].str()}") from self._error
        if self._error is not None:
            raise self._error

    def drain(self) -> None:
        """Reads up to where the partitions end now, and stops."""
        self._ending.set()
        self._thread.join()
        self.check()

    def stop(self) -> None:
        """Stops at once."""
        self._abandoned.set()
        self._ending.set()
        if self._thread.is_alive():
            self._thread.join()

    def _look(self) -> list[int]:
        """The topic's partitions; none as long as it is being made."""
        try:
            return list(self._consumer.list_topics(self._topic, timeout=ANSWER).topics[self._topic].partitions)
        except KafkaException as error:
            raise BrokenError(f"the consumer: {error.args[0].str()}") from error

    def _run(self) -> None:
        try:
            while not self._ending.is_set():
                self._take()
            self._read_to_end()
        except BaseException as error:
            self._error = error
        finally:
            self._consumer.close()

    def _read_to_end(self) -> None:
        if self._abandoned.is_set():
            return
        ends = self._ends()
        deadline = time.monotonic() + ANSWER
        while self._behind(ends):
            if time.monotonic() > deadline or self._abandoned.is_set():
                return
            self._take()

    def _ends(self) -> dict[int, int]:
        """Where the partitions end.

        Asked on a connection of its own: behind the consumer's fetches each question would wait for half a second.
        """
        other = confluent_kafka.Consumer(self._client)
        try:
            return {each.partition: other.get_watermark_offsets(each, timeout=ANSWER)[1] for each in self._partitions}
        finally:
            other.close()

    def _behind(self, ends: Mapping[int, int]) -> bool:
        """A position is negative before the first message."""
        return any(max(0, each.offset) < ends[each.partition] for each in self._consumer.position(self._partitions))

    def _take(self) -> None:
        message = self._consumer.poll(POLL)
        if message is None:
            return
        if (error := message.error()) is not None:
            if error.code() in REFUSED:
                raise KafkaException(error)
            return
        headers = dict(message.headers() or [])
        event_id, key, value = _text(headers.get("event_id")), _text(message.key()), message.value() or b""
        arrival = Arrival(event_id, key, value, time.monotonic())
        self.arrivals.append(arrival)
        self.delivered.add(arrival.event_id)


def _text(value: str | bytes | None) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value or ""
