"""Topic names are checked here: a broker asked for a bad one does not refuse it, the request times out. And a topic's
partitions are found here: a broker that does not know a topic may be creating it.
"""

import asyncio
import re
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, TopicAuthorizationFailedError, UnknownTopicOrPartitionError

from outboxd.errors import Failure, FailureKind

MAX_LENGTH: Final = 249
_LEGAL: Final = re.compile(r"[a-zA-Z0-9._-]+")

PATIENCE: Final = 2.0
"""Seconds until a topic that the brokers do not know counts as unknown."""

VERDICT: Final = 300.0
"""Seconds for which a topic that was unknown stays so, without waiting for it again."""


def topic_failure(name: str) -> Failure | None:
    """What is wrong with a topic name, or None. The rules are those of Kafka's own `Topic.validate`."""
    if not name:
        problem = "is empty"
    elif name in {".", ".."}:
        problem = f"is {name!r}, which Kafka does not allow"
    elif len(name) > MAX_LENGTH:
        problem = f"has {len(name)} characters, Kafka allows {MAX_LENGTH}"
    elif not _LEGAL.fullmatch(name):
        problem = "has characters other than letters, digits, '.', '_' and '-'"
    else:
        return None
    return Failure(
        FailureKind.PERMANENT,
        "invalid_topic",
        f"column topic {problem}; correct the row's topic and requeue it"
        + (", or set kafka.default_topic" if not name else ""),
    )


class TopicDirectory:
    """The partitions of topics. Those that are missing are looked up by one, however many ask."""

    def __init__(self) -> None:
        self._unknown: dict[str, float] = {}
        self._looking: dict[str, asyncio.Lock] = {}

    async def partitions(self, producer: AIOKafkaProducer, topic: str, deadline: float) -> list[int]:
        """The topic's partitions, sorted. Raises UnknownTopicOrPartitionError only when the brokers said so, else
        TopicAuthorizationFailedError, KafkaConnectionError, or TimeoutError at `deadline` by the loop's time."""
        if known := known_partitions(producer, topic):
            return known
        try:
            async with asyncio.timeout_at(deadline), self._looking.setdefault(topic, asyncio.Lock()):
                return known_partitions(producer, topic) or await self._look(producer, topic, deadline)
        finally:
            self._looking.pop(topic, None)

    async def _look(self, producer: AIOKafkaProducer, topic: str, deadline: float) -> list[int]:
        client, now = producer.client, asyncio.get_running_loop().time
        # The other half of the time is for the topics that are there.
        wait = 0.0 if now() < self._unknown.get(topic, 0.0) else min(PATIENCE, (deadline - now()) / 2)
        patience = now() + wait
        client.add_topic(topic)
        while True:
            # Without an answer from a broker nothing is known of the topic.
            if not await client.force_metadata_update():
                raise KafkaConnectionError
            if known := known_partitions(producer, topic):
                self._unknown.pop(topic, None)
                return known
            if topic in client.cluster.unauthorized_topics:
                raise TopicAuthorizationFailedError(topic)
            if now() >= patience:
                self._unknown[topic] = now() + VERDICT
                raise UnknownTopicOrPartitionError
            await asyncio.sleep(0.1)


def known_partitions(producer: AIOKafkaProducer, topic: str) -> list[int]:
    """Those that the producer has heard of, sorted."""
    return sorted(producer.client.cluster.partitions_for_topic(topic) or ())
