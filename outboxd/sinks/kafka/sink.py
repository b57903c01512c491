"""The Kafka sink: from events to records to partitions, and from the broker's answers to a report."""

import asyncio
import time
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from contextlib import AsyncExitStack, suppress
from sys import getsizeof
from typing import Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, ProducerClosed
from aiokafka.partitioner import murmur2

from outboxd.config.settings import SourceSettings
from outboxd.errors import Failure, FailureKind, SinkUnavailableError
from outboxd.model import Event
from outboxd.ports import Report
from outboxd.sinks.kafka.classify import OF_TOPIC, classify
from outboxd.sinks.kafka.connection import producer_arguments, refusal
from outboxd.sinks.kafka.message import Record, UnfitEventError, record, too_large
from outboxd.sinks.kafka.partition import NOT_PERMITTED, Destination, HandOver, Lot
from outboxd.sinks.kafka.producer import ProducerLease, ProducerPool
from outboxd.sinks.kafka.topics import TopicDirectory, known_partitions, topic_failure
from outboxd.sinks.texts import bad_text

CLOSED: Final = classify(ProducerClosed()).code

REBUILDS: Final = (0.0, 0.1, 0.4)
"""Seconds before each new producer, after one broke for no reason of the records'; then the publish ends."""

KEY_CACHE: Final = 50_000
"""How many keys' hashes are remembered; murmur2 in Python is as dear as the rest of an event together."""

KEY_BYTES: Final = 256
"""The memory of a key that is remembered, at most: 200 characters of ASCII. Fifty thousand longer ones are too much."""


class KafkaSink:
    """See `ports.Sink`. `delivery_seconds` bound one `publish`, `close_seconds` the end of a producer."""

    def __init__(self, settings: SourceSettings) -> None:
        self._order = settings.order.policy
        self._default_topic = settings.kafka.default_topic
        self._max_bytes = int(settings.kafka.max_message_bytes)
        self._delivery_timeout = settings.delivery_seconds
        # Within the time that a lease leaves for closing the producer.
        self._answer_timeout = settings.close_seconds / 2
        self._hashes: dict[str, int] = {}
        self._topics = TopicDirectory()
        self._permitted: Callable[[], bool] = lambda: True
        arguments = producer_arguments(settings.kafka, settings.delivery_seconds)
        self._pool = ProducerPool(
            lambda: AIOKafkaProducer(**arguments),
            lambda: refusal(arguments),
            lambda: self._permitted(),  # noqa: PLW0108 — each publish brings its own
            settings.delivery_seconds,
            settings.close_seconds,
        )

    async def start(self) -> None:
        """Connects."""
        await self.check()

    async def check(self) -> None:
        """Asks for the cluster's metadata."""
        try:
            async with self._pool.use() as lease:
                async with asyncio.timeout(self._delivery_timeout):
                    reached = await lease.producer.client.force_metadata_update()
        except Exception as error:
            raise SinkUnavailableError(classify(error)) from error
        if not reached:
            raise SinkUnavailableError(classify(KafkaConnectionError()))

    def refuse(self, event: Event) -> Failure | None:
        """Neither a text that is not UTF-8, nor a payload beyond `kafka.max_message_bytes`: it need not be loaded."""
        size = event.payload_bytes
        return bad_text(event) or (too_large(size, self._max_bytes) if size > self._max_bytes else None)

    def sever(self) -> None:
        """Cuts the producer off."""
        self._pool.sever()

    async def close(self) -> None:
        """Closes the producer."""
        await self._pool.close()

    async def publish(self, events: Sequence[Event], permitted: Callable[[], bool]) -> Report:
        """Delivers, within `delivery_seconds` plus the producer's end if it has to go."""
        report = Report()
        self._permitted = permitted
        deadline = asyncio.get_running_loop().time() + self._delivery_timeout
        by_topic = self._records(events, report)
        lots: list[Lot] | None = None
        answering, rebuilds = False, 0
        while by_topic and (lots is None or any(lot.resumable for lot in lots)):
            try:
                async with AsyncExitStack() as stack:
                    async with asyncio.timeout_at(deadline):
                        lease = await stack.enter_async_context(self._pool.use())
                        if lots is None:
                            lots = await self._lots(lease.producer, by_topic, report, deadline)
                    sending = [lot for lot in lots if lot.groups and (lot.resumable or lot.failure is None)]
                    handing = HandOver(lease.producer, lease.watch, int(time.time() * 1000), deadline, permitted)
                    await asyncio.gather(*(lot.send(handing) for lot in sending))
            except Exception as error:
                report.trouble = classify(error)
                break
            answering = await self._answers(lease, sending)
            await self._clear_up(lease, sending, report, deadline)
            if any(lot.failure is not None and lot.failure.kind is FailureKind.REBUILD for lot in sending):
                rebuilds += 1
                if rebuilds > len(REBUILDS):
                    break
                await asyncio.sleep(REBUILDS[rebuilds - 1])
        self._account(by_topic, lots, report, answering=answering)
        return report

    async def _answers(self, lease: ProducerLease, lots: Sequence[Lot]) -> bool:
        """After a failure that may be a broker's: whether the brokers answer all the same, so that it is a topic's."""
        failed = [lot.failure for lot in lots if lot.failure is not None]
        if not failed or all(failure.code in OF_TOPIC or failure.kind is not FailureKind.OUTAGE for failure in failed):
            return True
        with suppress(TimeoutError):
            async with asyncio.timeout(self._answer_timeout):
                return bool(await lease.producer.client.force_metadata_update())
        return False

    def _records(self, events: Iterable[Event], report: Report) -> dict[str, list[Record]]:
        """The events as records by topic; those that cannot be one are reported."""
        by_topic: defaultdict[str, list[Record]] = defaultdict(list)
        bad_topics: dict[str, Failure] = {}
        stopped: dict[str, Event] = {}

        def fail(event: Event, failure: Failure) -> None:
            report.failed.append((event, failure))
            if self._order.holds(event.topic, event.event_type):
                stopped[event.aggregate_id] = event

        for event in events:
            if event.aggregate_id in stopped:
                report.behind.append((event, stopped[event.aggregate_id]))
                continue
            topic = event.topic or self._default_topic
            if topic not in by_topic and topic not in bad_topics:
                failure = topic_failure(topic)
                if failure:
                    bad_topics[topic] = failure
            if topic in bad_topics:
                fail(event, bad_topics[topic])
                continue
            try:
                by_topic[topic].append(record(event, self._max_bytes))
            except UnfitEventError as error:
                fail(event, error.failure)
        return {topic: records for topic, records in by_topic.items() if records}

    async def _lots(
        self, producer: AIOKafkaProducer, by_topic: dict[str, list[Record]], report: Report, deadline: float
    ) -> list[Lot]:
        """The records by partition. The events of a topic that is unknown or forbidden are reported."""
        found: list[list[int] | BaseException] = [known_partitions(producer, topic) for topic in by_topic]
        if not all(found):
            found = await asyncio.gather(
                *(self._topics.partitions(producer, topic, deadline) for topic in by_topic), return_exceptions=True
            )
        lots: list[Lot] = []
        for (topic, records), partitions in zip(by_topic.items(), found, strict=True):
            if isinstance(partitions, BaseException):
                _report_topic(records, classify(partitions, topic), report)
                continue
            shares: defaultdict[int, list[Record]] = defaultdict(list)
            for entry in records:
                shares[partitions[self._hash(entry.event.aggregate_id) % len(partitions)]].append(entry)
            lots += [Lot(Destination(topic, partition), share) for partition, share in shares.items()]
        return lots

    def _hash(self, aggregate_id: str) -> int:
        found = self._hashes.get(aggregate_id)
        if found is None:
            found = murmur2(aggregate_id.encode()) & 0x7FFFFFFF
            if getsizeof(aggregate_id) <= KEY_BYTES:
                if len(self._hashes) >= KEY_CACHE:
                    self._hashes.clear()
                self._hashes[aggregate_id] = found
        return found

    async def _clear_up(self, lease: ProducerLease, lots: Sequence[Lot], report: Report, deadline: float) -> None:
        """After a failure the producer goes, before anything of it may be sent again; and the blame is looked for."""
        if all(lot.failure is None for lot in lots):
            return
        late = asyncio.get_running_loop().time() >= deadline
        await self._pool.retire(lease, abort=late or any(lot.unanswered for lot in lots))
        for lot in lots:
            lot.look()
            if lot.failure is None or not lot.blamed:
                continue
            failure = lot.failure
            refused = lot.split()
            if refused is None:
                continue
            report.failed.append((refused.event, failure))
            holds = self._order.holds(refused.event.topic, refused.event.event_type)
            if holds or failure.kind is FailureKind.CAPPED:
                behind = lot.without(refused.event.aggregate_id)
                report.behind += [(entry.event, refused.event) for entry in behind]

    @staticmethod
    def _account(
        by_topic: dict[str, list[Record]], lots: Sequence[Lot] | None, report: Report, *, answering: bool
    ) -> None:
        """Every event ends in one list."""
        if lots is None:
            report.unsent += [entry.event for records in by_topic.values() for entry in records]
            return
        for lot in lots:
            report.delivered += [entry.event for entry in lot.delivered]
            unanswered = lot.unanswered
            report.unknown += [entry.event for entry in unanswered]
            report.unsent += [entry.event for entry in lot.rest[len(unanswered) :]]
            if lot.rest:
                # A search for the one to blame that the deadline ended blames nobody.
                failure = classify(TimeoutError()) if lot.failure is None or lot.blamed else lot.failure
                _note_trouble(lot.rest, lot.destination.topic, failure, report, answering=answering)


def _note_trouble(records: Iterable[Record], topic: str, failure: Failure, report: Report, *, answering: bool) -> None:
    """Why these were not delivered: their topic's trouble, or everybody's."""
    if failure.code == CLOSED:
        # Somebody else's trouble closed the producer: that one tells of it.
        return
    whole = failure.kind is FailureKind.REBUILD or failure.code == NOT_PERMITTED.code
    if failure.code not in OF_TOPIC and (whole or not answering):
        report.trouble = report.trouble or failure
        return
    named = failure if failure.text.startswith(topic) else failure._replace(text=f"{topic}: {failure.text}")
    report.paused |= dict.fromkeys({entry.event.topic for entry in records}, named)


def _report_topic(records: Sequence[Record], failure: Failure, report: Report) -> None:
    """A whole topic cannot be sent to."""
    if failure.kind is FailureKind.PERMANENT:
        report.failed += [(entry.event, failure) for entry in records]
        return
    report.unsent += [entry.event for entry in records]
    if failure.code in OF_TOPIC:
        report.paused |= dict.fromkeys({entry.event.topic for entry in records}, failure)
    else:
        report.trouble = report.trouble or failure
