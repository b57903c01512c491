"""A hold on aiokafka's sender: what each partition suffers from while it is tried again, and a way to cut all off.

aiokafka tries an idempotent batch again for ever, and keeps to itself why. And a process that was frozen past its
lease must send nothing more when it wakes: neither what waits in the producer, nor what waits to be written.
"""

import asyncio
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from aiokafka import AIOKafkaProducer
from aiokafka.errors import (
    KafkaError,
    LeaderNotAvailableError,
    NotEnoughReplicasAfterAppendError,
    NotEnoughReplicasError,
    NotLeaderForPartitionError,
    ProducerClosed,
    UnknownTopicOrPartitionError,
)
from aiokafka.producer.sender import SendProduceReqHandler
from aiokafka.structs import TopicPartition

PATIENCE: Final = 2.0
"""Seconds of patience where the deadline leaves so much: enough for a change of leader."""

IMPATIENT: Final = (UnknownTopicOrPartitionError, NotEnoughReplicasError, NotEnoughReplicasAfterAppendError)
"""Errors of one topic that nobody mends by trying again for long; other topics wait meanwhile."""


class _Handler(SendProduceReqHandler):  # type: ignore[misc]  # aiokafka has no types
    """Takes note of each error, and gives up after some patience."""

    def __init__(self, watch: "SenderWatch", batches: Any) -> None:
        super().__init__(watch.sender, batches)
        self._watch = watch

    def _can_retry(self, error: KafkaError, batch: Any) -> bool:
        return self._watch.may_retry(batch, error) and bool(super()._can_retry(error, batch))


class SenderWatch:
    """Of one producer. `permitted` says whether anything may be sent; it is asked before each request. `patience`, in
    seconds: for so long a batch is tried again where the topic is to blame."""

    def __init__(self, producer: AIOKafkaProducer, permitted: Callable[[], bool], patience: float) -> None:
        self.sender = producer._sender
        self._producer = producer
        self._permitted = permitted
        self._patience = patience
        self._requests: set[asyncio.Future[None]] = set()
        self._errors: dict[TopicPartition, KafkaError] = {}
        self._since: dict[Any, float] = {}
        # The one place that every produce request passes.
        self.sender._send_produce_req = self._send
        # aiokafka's own callback trips over the transaction that there is none of.
        self.sender.sender_task.remove_done_callback(self.sender._fail_all)
        self.sender.sender_task.add_done_callback(self._ended)

    async def _send(self, node_id: int, batches: dict[TopicPartition, Any]) -> None:
        if not self._permitted():
            self.sever()
            return
        request = asyncio.ensure_future(_Handler(self, batches).do(node_id))
        self._requests.add(request)
        try:
            with suppress(asyncio.CancelledError):
                await request
        finally:
            self._requests.discard(request)
            self.sender._in_flight.discard(node_id)
            self.sender._muted_partitions.difference_update(batches)

    def _ended(self, task: asyncio.Task[None]) -> None:
        """A sender that failed sends nothing any more: who waits for an answer has to know."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self._fail_all(error)

    def may_retry(self, batch: Any, error: KafkaError) -> bool:
        """Whether a batch that met this error is tried again."""
        now = time.monotonic()
        if batch not in self._since:
            self._since[batch] = now
            batch.future.add_done_callback(lambda _: self._since.pop(batch, None))
            batch.future.add_done_callback(lambda answer: self._delivered(batch.tp, answer))
        self._errors[batch.tp] = error
        return not isinstance(error, IMPATIENT) or now - self._since[batch] < self._patience

    def _delivered(self, place: TopicPartition, answer: "asyncio.Future[Any]") -> None:
        if not answer.cancelled() and answer.exception() is None:
            self._errors.pop(place, None)

    def trouble(self, topic: str, partition: int) -> KafkaError | None:
        """What is known of a partition that does not answer."""
        place = TopicPartition(topic, partition)
        leader = self._producer.client.cluster.leader_for_partition(place)
        if place in self._errors:
            return self._errors[place]
        if leader is None:
            return NotLeaderForPartitionError()
        return LeaderNotAvailableError() if leader == -1 else None

    def sever(self) -> None:
        """Cuts all off, now: what is not in the kernel's hands is never sent. Who waits for an answer gets
        ProducerClosed."""
        if not self.sender.sender_task.done():
            self.sender.sender_task.cancel()
        for request in tuple(self._requests):
            request.cancel()
        for connection in tuple(self._producer.client._conns.values()):
            writer = connection._writer
            if writer is not None:
                writer.transport.abort()
        self._fail_all(ProducerClosed())

    def _fail_all(self, error: BaseException) -> None:
        accumulator = self._producer._message_accumulator
        batches = [batch for queue in accumulator._batches.values() for batch in queue]
        # aiokafka takes each batch that is answered out of this set, also those that wait to be tried again.
        accumulator._pending_batches.update(batches)
        accumulator.fail_all(error)
        for batch in (*batches, *accumulator._pending_batches):
            if batch._drain_waiter.done():
                batch._drain_waiter.exception()  # nobody waits for it, so nobody would have asked
