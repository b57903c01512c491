"""A replication stream from the present end of the binary log."""

import io
import secrets
import socket
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Final

from pymysql.err import Error, OperationalError
from pymysqlreplication import BinLogStreamReader
from pymysqlreplication.event import RotateEvent
from sqlalchemy import Engine

from outboxd.store.binlog.sieve import LOST, Sieve
from outboxd.store.engine import READ_BUFFER

HEARTBEAT: Final = 5.0
"""Seconds of silence after which the server shows that it is there."""

SILENCE: Final = 15.0
"""Seconds of silence after which the connection counts as lost."""

SERVER_IDS: Final = range(2**30, 2**32 - 1)
"""A server ends the stream of a replica when another comes with the same id: ours is by chance, and high."""


class Stream:
    """mysql-replication opens it, up to the first event, which says where the log stands; then the sieve reads.

    It remembers nothing of where another one ended: what was written in between costs a look, and no old log is needed.
    """

    def __init__(self, engine: Engine, caught_up: Callable[[], None]) -> None:
        """`engine`, of PyMySQL and with `SILENCE` as its read time-out, knows how to log in. `caught_up` is called by
        the reading thread each time it has looked at all that it had received, before it receives more."""
        self._engine = engine
        self._caught_up = caught_up
        self._connections: list[Any] = []
        self._closed = False
        self.row_format = ""
        """The server's `binlog_format`."""

    def open(self, schema: str, table: str) -> Sieve:
        """Begins. Raises the driver's errors, and BinLogNotEnabled."""
        reader = BinLogStreamReader(
            {"read_timeout": SILENCE},
            SERVER_IDS[secrets.randbelow(len(SERVER_IDS))],
            blocking=True,
            resume_stream=True,
            only_events=[RotateEvent],
            slave_heartbeat=HEARTBEAT,
            pymysql_wrapper=self._connect,
            enable_logging=False,
        )
        if reader.fetchone() is None:
            raise OperationalError(LOST, "the server has ended the replication stream")
        stream, beside = self._connections
        self.row_format = _row_format(beside)
        beside.close()
        return Sieve(stream._rfile.read, schema, table)

    def _connect(self, **arguments: Any) -> Any:
        """One connection for the stream, and one beside it. The library would dial again, which is not for it to do."""
        if len(self._connections) == 2:
            raise ConnectionAbortedError("the server has ended the replication stream")
        borrowed = self._engine.raw_connection()
        connection: Any = borrowed.driver_connection
        borrowed.detach()
        received = _Received(connection._sock.makefile("rb", 0), self._caught_up)
        connection._rfile = io.BufferedReader(received, READ_BUFFER)
        connection.cursorclass = arguments.get("cursorclass", connection.cursorclass)
        self._connections.append(connection)
        if self._closed:
            raise ConnectionAbortedError("interrupted")
        return connection

    def interrupt(self) -> None:
        """Another thread that waits for the next event waits no longer."""
        self._closed = True
        for connection in self._connections:
            with suppress(OSError, AttributeError):  # it is closed already
                connection._sock.shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        """Lets go of the connections."""
        self._closed = True
        for connection in self._connections:
            with suppress(Error):  # it is closed already
                connection.close()


class _Received(io.RawIOBase):
    """A socket's file, and what to do before more is received."""

    def __init__(self, raw: io.RawIOBase, before: Callable[[], None]) -> None:
        self._raw = raw
        self._before = before

    def readable(self) -> bool:
        """It is."""
        return True

    def readinto(self, buffer: Any) -> int | None:
        """As the socket's file does."""
        self._before()
        return self._raw.readinto(buffer)

    def close(self) -> None:
        """Closes the socket's file, too."""
        self._raw.close()
        super().close()


def _row_format(connection: Any) -> str:
    with connection.cursor() as cursor:
        cursor.execute("SHOW GLOBAL VARIABLES LIKE 'binlog_format'")
        found = cursor.fetchone()
    return str(found["Value"]) if found else "ROW"
