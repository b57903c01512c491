"""One database connection in a thread of its own, so that a slow statement never stops the event loop."""

import asyncio
import random
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Final, TypeVar

from sqlalchemy import Connection, Engine
from sqlalchemy.exc import DBAPIError, OperationalError

from outboxd.errors import DatabaseUnavailableError, LeaseLostError
from outboxd.store.engine import RETRYABLE, error_code

T = TypeVar("T")

ATTEMPTS: Final = 5
"""How often a transaction is tried when the server rolls it back for a deadlock or a lock time-out."""


class Session:
    """Runs work on a connection that is opened when needed and dropped after any error that leaves it in doubt.

    All methods raise DatabaseUnavailableError when the server cannot be reached or the connection was lost: then the
    outcome of a write is unknown.
    """

    def __init__(self, engine: Engine, name: str) -> None:
        self._engine = engine
        self._connection: Connection | None = None
        self._thread = ThreadPoolExecutor(max_workers=1, thread_name_prefix=f"db-{name}")

    async def run(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in autocommit: each statement stands alone."""
        return await self._submit(work)

    async def transaction(self, work: Callable[[Connection], T]) -> T:
        """Runs `work` in one transaction; repeats all of it when the server rolled it back for a lock's sake."""

        def transact(connection: Connection) -> T:
            connection.exec_driver_sql("START TRANSACTION")
            try:
                result = work(connection)
                connection.exec_driver_sql("COMMIT")
            except (DBAPIError, LeaseLostError):
                if not connection.invalidated:
                    connection.exec_driver_sql("ROLLBACK")
                raise
            return result

        return await self._submit(transact)

    async def close(self) -> None:
        """Closes the connection. A statement that hangs is left to its time-out."""
        await asyncio.get_running_loop().run_in_executor(self._thread, self._drop)
        self._thread.shutdown(wait=False)

    async def _submit(self, work: Callable[[Connection], T]) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._thread, self._attempt, work)

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
        if self._connection is None:
            self._connection = self._engine.connect()
        return self._connection

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is None:
            return
        with suppress(DBAPIError):  # it is lost already
            connection.invalidate()
            connection.close()


def describe(error: DBAPIError) -> str:
    """The server's or driver's own words, without the statement and its values."""
    args = error.orig.args if error.orig is not None else ()
    return " ".join(str(part) for part in args) or type(error.orig or error).__name__
