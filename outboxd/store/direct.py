"""A connection of a command's own, used in the foreground. (The daemon's are in threads: see `session`.)"""

import random
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from outboxd.errors import DatabaseUnavailableError, SchemaError
from outboxd.model import TableNames
from outboxd.store.engine import READ_ONLY, RETRYABLE, ConnectOptions, error_code, open_engine
from outboxd.store.servers import check_server
from outboxd.store.session import ATTEMPTS, describe
from outboxd.store.version import require_current

T = TypeVar("T")

DUPLICATE_KEY: Final = 1062
_DENIED: Final = frozenset({1044, 1045, 1142, 1143, 1227})


@contextmanager
def connected(url: str, names: TableNames, options: ConnectOptions) -> Iterator[Connection]:
    """A connection in autocommit to a supported server whose tables are of the newest revision.

    Raises DatabaseUnavailableError, UnsupportedServerError and SchemaError, also for what happens in the body.
    """
    engine = open_engine(url, replace(options, unchecked=True))
    with in_plain_words(), engine.connect() as connection:
        check_server(str(connection.exec_driver_sql("SELECT VERSION()").scalar_one()))
        require_current(connection, names)
        # A dead letter of id 0 is put back under that id.
        connection.exec_driver_sql("SET SESSION sql_mode = CONCAT(@@sql_mode, ',NO_AUTO_VALUE_ON_ZERO')")
        yield connection


@contextmanager
def in_plain_words() -> Iterator[None]:
    """Database errors become ours."""
    try:
        yield
    except DBAPIError as error:
        code = error_code(error)
        if code in _DENIED:
            raise SchemaError(
                f"the database refuses: {describe(error)}; `outboxd grants` prints what is needed"
            ) from error
        if error.connection_invalidated or code in READ_ONLY or (code is not None and 2000 <= code < 3000):
            raise DatabaseUnavailableError(f"database: {describe(error)}") from error
        raise SchemaError(f"the database refuses: {describe(error)}") from error


def transaction(connection: Connection, work: Callable[[], T]) -> T:
    """Runs `work` in one transaction.

    All of it is repeated when the server rolled it back for a lock's sake, or when a key that was free when `work`
    looked had been taken when it wrote.
    """
    for attempt in range(1, ATTEMPTS + 1):
        try:
            return _attempt(connection, work)
        except DBAPIError as error:
            if error_code(error) not in RETRYABLE | {DUPLICATE_KEY} or attempt == ATTEMPTS:
                raise
            time.sleep(random.uniform(0, 0.02 * 2**attempt))  # noqa: S311 - jitter, not a secret
    raise AssertionError("unreachable")


def _attempt(connection: Connection, work: Callable[[], T]) -> T:
    connection.exec_driver_sql("START TRANSACTION")
    try:
        result = work()
        connection.exec_driver_sql("COMMIT")
    except DBAPIError:
        if not connection.invalidated:
            connection.exec_driver_sql("ROLLBACK")
        raise
    except BaseException:
        # Ctrl-C in the middle of an answer: only the end of the connection surely ends the transaction.
        connection.invalidate()
        raise
    return result
