"""What other applications write. It fills the binary log, which the daemon's doorbell reads."""

import threading
import time
from collections.abc import Sequence
from contextlib import closing
from types import TracebackType
from typing import Final, Self

import pymysql

from tests.servers.sql import SqlServer

PER_SECOND: Final = 50_000_000
"""Bytes that the log grows by, where the server keeps up."""
TRANSACTION: Final = 1_000_000
"""Bytes of the log: half of them rows that are inserted, half the same rows that are deleted."""
CONNECTIONS: Final = 8
SCHEMA: Final = "traffic"


class Traffic:
    """Connections that write rows of `row_bytes` to tables of a schema of their own. The tables stay small."""

    def __init__(self, server: SqlServer, row_bytes: int) -> None:
        self._server = server
        self._row_bytes = row_bytes
        self._over = threading.Event()
        self._threads: Sequence[threading.Thread] = ()
        self._errors: list[pymysql.Error] = []

    def __enter__(self) -> Self:
        self._server.create_database(SCHEMA)
        with closing(self._server.connect(SCHEMA)) as connection, connection.cursor() as cursor:
            cursor.execute("CREATE TABLE numbers (number INT PRIMARY KEY)")
            rows = TRANSACTION // 2 // self._row_bytes
            cursor.executemany("INSERT INTO numbers VALUES (%s)", [(number,) for number in range(rows)])
            for number in range(CONNECTIONS):
                cursor.execute(f"CREATE TABLE rows_{number} (id BIGINT AUTO_INCREMENT PRIMARY KEY, body LONGTEXT)")
        start = time.monotonic()
        self._threads = [
            threading.Thread(target=self._write, args=(number, start), daemon=True) for number in range(CONNECTIONS)
        ]
        for thread in self._threads:
            thread.start()
        return self

    def _write(self, number: int, start: float) -> None:
        interval = CONNECTIONS * TRANSACTION / PER_SECOND
        due = start + number / CONNECTIONS * interval
        insert = f"INSERT INTO rows_{number} (body) SELECT REPEAT('x', {self._row_bytes}) FROM numbers"
        try:
            with closing(self._server.connect(SCHEMA)) as connection, connection.cursor() as cursor:
                while not self._over.wait(max(0.0, due - time.monotonic())):
                    cursor.execute("START TRANSACTION")
                    cursor.execute(insert)
                    cursor.execute(f"DELETE FROM rows_{number}")
                    cursor.execute("COMMIT")
                    due += interval
        except pymysql.Error as error:
            self._errors.append(error)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        for thread in self._threads:
            thread.join()
        self._server.drop_database(SCHEMA)
        if self._errors and error is None:
            raise RuntimeError(f"the traffic has ended: {self._errors[0]}")
