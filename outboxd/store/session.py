"""One database connection in a thread of its own, so that a slow statement never stops the event loop."""

import asyncio
import random
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any, Final, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from outboxd.errors import DatabaseUnavailableError
from outboxd.store.engine import RETRYABLE, error_code

T = TypeVar("T")

LOOK_REST: Final = 4.0
"""How many times as long as a look of its own the thread leaves the database alone behind it."""

ATTEMPTS: Final = 5
"""How often a transaction is tried when the server rolls it back for a deadlock or a lock time-out."""


@dataclass
class _Watch:
    """What the thread does while there is no work."""

    interval: float
    look: Callable[[Connection], bool]
    found: Callable[[], None]
    loop: asyncio.AbstractEventLoop
    due: float
    ends: float
    """Both by `time.monotonic`."""


class Session:
    """Runs work on a connection that is opened when needed and dropped after any error that leaves it in doubt.

    `idle_limit`: after so many seconds without work the connection is opened anew, because the server may have ended
    it. All methods raise DatabaseUnavailableError when the server cannot be reached or the connection was lost: then
    the outcome of a write is unknown.
    """

    def __init__(self, engine: Engine, name: str, idle_limit: float = float("inf")) -> None:
        self._engine = engine
        self._idle_limit = idle_limit
        self._used_at = 0.0
        self.opened_at = 0.0
        """When its connection was opened, by `time.monotonic`."""
        self._connection: Connection | None = None
        self._work: SimpleQueue[Callable[[], None] | None] = SimpleQueue()
        self._watch: _Watch | None = None
        # A daemon thread: a statement that hangs must not keep the process from ending.
        self._thread = threading.Thread(target=self._serve, name=f"db-{name}", daemon=True)
        self._thread.start()

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in autocommit: each statement stands alone."""
        return await self._submit(lambda: self._attempt(work))

    async def transaction(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in one transaction; repeats all of it when the server rolled it back for a lock's sake."""
        return await self._transact(work, "START TRANSACTION")

    async def snapshot(self, work: Callable[[Connection], T]) -> T:
        """Runs `work`, which only reads, on a view of one moment."""
        return await self._transact(
            work, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "START TRANSACTION READ ONLY"
        )

    async def _transact(self, work: Callable[[Connection], T], *opening: str) -> T:
        def transact(connection: Connection) -> T:
            for statement in opening:
                connection.exec_driver_sql(statement)
            try:
                result = work(connection)
                connection.exec_driver_sql("COMMIT")
            except BaseException:
                if not connection.invalidated:
                    connection.exec_driver_sql("ROLLBACK")
                raise
            return result

        return await self._submit(lambda: self._attempt(transact))

    def watch(
        self, interval: float, look: Callable[[Connection], bool], found: Callable[[], None], *, seconds: float
    ) -> None:
        """For so many seconds the thread runs `look` every `interval` by itself, the first time after one; once it
        returns True, or fails, `found` is called in the event loop, and that ends it, as does another watch. (To wake
        the event loop for each look would double what a look costs.)"""
        now = time.monotonic()
        watch = _Watch(interval, look, found, asyncio.get_running_loop(), now + interval, now + seconds)

        def begin() -> None:
            self._watch = watch

        self._work.put(begin)

    async def close(self) -> None:
        """Closes the connection, when the statement under way has ended."""
        await self._submit(self._end)
        self._work.put(None)

    # --- between the event loop and the thread

    async def _submit(self, work: Callable[[], T]) -> T:
        loop = asyncio.get_running_loop()
        answer: asyncio.Future[T] = loop.create_future()

        def perform() -> None:
            try:
                result = work()
            except BaseException as error:
                loop.call_soon_threadsafe(_settle, answer, None, error)
            else:
                loop.call_soon_threadsafe(_settle, answer, result, None)

        self._work.put(perform)
        return await answer

    def _serve(self) -> None:
        while self._serve_once():
            pass

    def _serve_once(self) -> bool:
        """A function of its own, so that nothing of the work, a batch of events, is kept while there is no other."""
        perform = self._next()
        if perform is None:
            return False
        with suppress(RuntimeError):  # the event loop is closed: nobody waits for the answer
            perform()
        return True

    def _next(self) -> Callable[[], None] | None:
        """Waits for work, and looks meanwhile."""
        while (watch := self._watch) is not None:
            try:
                return self._work.get(timeout=max(0.0, watch.due - time.monotonic()))
            except Empty:
                began = time.monotonic()
                if began > watch.ends:
                    self._watch = None
                    break
                self._look(watch)
                now = time.monotonic()
                watch.due = now + max(watch.interval, LOOK_REST * (now - began))
        return self._work.get()

    def _look(self, watch: "_Watch") -> None:
        try:
            found = self._attempt(watch.look)
        except Exception:  # whoever asks next meets it, too
            found = True
        if found:
            self._watch = None
            with suppress(RuntimeError):  # the event loop is closed
                watch.loop.call_soon_threadsafe(watch.found)

    # --- in the thread

    def _attempt(self, work: Callable[[Connection], T]) -> T:
        for attempt in range(1, ATTEMPTS + 1):
            try:
                return work(self._connect())
            except DBAPIError as error:
                code = error_code(error)
                if code in RETRYABLE and attempt < ATTEMPTS:
                    time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 — jitter, not a secret
                    continue
                if error.connection_invalidated or isinstance(error, OperationalError):
                    self._drop()
                    raise DatabaseUnavailableError(f"database: {describe(error)}") from error
                raise
        raise AssertionError("unreachable")

    def _connect(self) -> Connection:
        now = time.monotonic()
        if self._connection is not None and now - self._used_at > self._idle_limit:
            self._drop()
        self._used_at = now
        if self._connection is None:
            self._connection, self.opened_at = self._engine.connect(), time.monotonic()
        return self._connection

    def _end(self) -> None:
        self._watch = None  # or its next look would open another
        self._drop()

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with suppress(DBAPIError):  # it is lost already
            connection.invalidate()
            connection.close()


def _settle(answer: "asyncio.Future[Any]", result: object, error: BaseException | None) -> None:
    if answer.done():
        return  # whoever asked has gone
    if error is not None:
        answer.set_exception(error)
    else:
        answer.set_result(result)


def describe(error: DBAPIError) -> str:
    """The server's or driver's own words, without the statement and its values."""
    args = error.orig.args if error.orig is not None else ()
    return " ".join(str(part) for part in args) or type(error.orig or error).__name__
