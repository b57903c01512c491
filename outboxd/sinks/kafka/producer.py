"""Producers come and go: an idempotent one whose sequence is broken, or whose broker is silent, is of no more use.

`ProducerPool` holds the one in use. Who finds it broken retires it: nobody new gets it, those at work with it finish,
and it is closed, within a bound, before anything of theirs is sent again.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import structlog
from aiokafka import AIOKafkaProducer
from aiokafka.errors import KafkaConnectionError, ProducerClosed

from outboxd.sinks.kafka.sender import PATIENCE, SenderWatch

log = structlog.get_logger(__name__)


class ProducerLease:
    """A producer, how many are at work with it, and whether it is still good."""

    def __init__(self, producer: AIOKafkaProducer, watch: SenderWatch) -> None:
        self.producer = producer
        self.watch = watch
        self.users = 0
        self.retired = False
        self.unused = asyncio.Event()
        self.closing: asyncio.Task[None] | None = None
        """Its one end, whoever asked for it; not cancelled with them."""


class ProducerPool:
    """Builds producers by `build`, one at a time. `start_timeout` and `close_timeout` in seconds.

    `diagnose` finds the reason behind a connection that failed, where it can. `permitted` says whether anything may be
    sent.
    """

    def __init__(
        self,
        build: Callable[[], AIOKafkaProducer],
        diagnose: Callable[[], Awaitable[Exception | None]],
        permitted: Callable[[], bool],
        start_timeout: float,
        close_timeout: float,
    ) -> None:
        self._build = build
        self._diagnose = diagnose
        self._permitted = permitted
        self._start_timeout = start_timeout
        self._close_timeout = close_timeout
        self._current: ProducerLease | None = None
        self._starting = asyncio.Lock()
        self._closed = False

    @asynccontextmanager
    async def use(self) -> AsyncIterator[ProducerLease]:
        """The producer in use, or a new one. Raises what its start raises, TimeoutError, and ProducerClosed."""
        lease = await self._lease()
        lease.users += 1
        try:
            yield lease
        finally:
            lease.users -= 1
            if not lease.users:
                lease.unused.set()

    async def _lease(self) -> ProducerLease:
        async with self._starting:
            if self._closed:
                raise ProducerClosed
            lease = self._current
            if lease is None or lease.retired:
                producer = await self._start()
                patience = min(PATIENCE, self._start_timeout / 2)
                self._current = lease = ProducerLease(producer, SenderWatch(producer, self._permitted, patience))
            lease.unused.clear()
            return lease

    async def _start(self) -> AIOKafkaProducer:
        producer = self._build()
        try:
            async with asyncio.timeout(self._start_timeout):
                await self._connect(producer)
        except BaseException:
            await asyncio.shield(asyncio.ensure_future(self._close(producer)))
            raise
        return producer

    async def _connect(self, producer: AIOKafkaProducer) -> None:
        try:
            await producer.start()
        except KafkaConnectionError as error:
            reason = await self._diagnose()
            if reason is None:
                raise
            raise reason from error

    async def retire(self, lease: ProducerLease, *, abort: bool) -> None:
        """Takes a producer out of use, and returns when it is closed. Not to be called from within `use`.

        `abort`: do not wait for those at work with it; what they have no answer to fails with ProducerClosed.
        """
        lease.retired = True
        if not abort and lease.users and lease.closing is None:
            await lease.unused.wait()
        if lease.closing is None:
            lease.closing = asyncio.ensure_future(self._close(lease.producer, lease.watch))
        await asyncio.shield(lease.closing)

    def sever(self) -> None:
        """Cuts the producer in use off, at once. What waited for an answer of it fails with ProducerClosed."""
        lease = self._current
        if lease is not None and lease.closing is None:
            lease.retired = True
            lease.watch.sever()
            lease.closing = asyncio.ensure_future(self._close(lease.producer, lease.watch))

    async def _close(self, producer: AIOKafkaProducer, watch: SenderWatch | None = None) -> None:
        """`stop()` would wait for the broker for ever: it gets its time, then the sender and its sockets go."""
        try:
            async with asyncio.timeout(self._close_timeout):
                await producer.stop()
        except Exception as error:  # a broken producer may fail to stop in any way; it has to go all the same
            log.debug("kafka.producer_stop_failed", error=type(error).__name__)
        finally:
            if watch is not None:
                watch.sever()
            with suppress(Exception):
                async with asyncio.timeout(self._close_timeout):
                    await producer.client.close()

    async def close(self) -> None:
        """Closes the producer in use; there is none after it."""
        self._closed = True
        lease, self._current = self._current, None
        if lease is not None:
            await self.retire(lease, abort=True)
