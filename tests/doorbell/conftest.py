"""Servers that write a binary log, a migrated database, and what a doorbell says."""

import asyncio
import time
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field

import pymysql
import pytest

from outboxd.model import TableNames
from outboxd.store.binlog import BinlogDoorbell
from outboxd.store.engine import ConnectOptions
from outboxd.store.migrator import Migrator
from tests.conftest import Database
from tests.end_to_end.daemon import PATIENCE
from tests.servers.mariadb import MariaDB
from tests.servers.sql import SqlServer

LOGGING = ("--log-bin", "--server-id=1", "--binlog-format=ROW")


@pytest.fixture(scope="module", params=["mariadb", "mysql"])
def logging_server(request: pytest.FixtureRequest) -> Iterator[SqlServer]:
    """MariaDB with a binary log, which it has not by default, and MySQL 9.7 as it is. Both have GTIDs by default."""
    plain: SqlServer = request.getfixturevalue(request.param)
    if request.param == "mysql":
        yield plain
        return
    with MariaDB(*LOGGING) as server:
        yield server


def begin_log_anew(server: SqlServer) -> None:
    """Files and numbers of transactions begin again, as if nothing had been written yet."""
    server.query("RESET MASTER" if server.product == "mariadb" else "RESET BINARY LOGS AND GTIDS")


@pytest.fixture(scope="module")
def migrated(logging_server: SqlServer) -> Iterator[Database]:
    """A database with the tables, and others in it and beside it."""
    logging_server.start()
    logging_server.create_database("bell")
    database = Database(logging_server, "bell")
    Migrator(database.url, TableNames()).upgrade()
    logging_server.query("CREATE TABLE bell.other (id INT AUTO_INCREMENT PRIMARY KEY, body LONGTEXT)")
    logging_server.query("CREATE TABLE bell.outbox_events_2 (id INT)")
    logging_server.create_database("bell_2")
    logging_server.query("CREATE TABLE bell_2.outbox_events (id INT)")
    yield database
    logging_server.start()
    for name in ("bell", "bell_2"):
        logging_server.drop_database(name)


@pytest.fixture
def outbox(migrated: Database) -> Database:
    """That database, without events, and without the leases of daemons that were killed."""
    migrated.server.start()  # an earlier test may have ended it
    migrated.server.query("UPDATE bell.outbox_lanes SET owner = NULL")
    migrated.server.query("DELETE FROM bell.outbox_instances")
    migrated.server.query("DELETE FROM bell.outbox_events")
    return migrated


@dataclass
class HeardBell:
    """Notes what it is told, in order."""

    said: list[str] = field(default_factory=list)
    rings: int = 0

    def hung(self, row_format: str) -> None:
        self.said.append(f"hung {row_format}")

    def ring(self, *, certain: bool = True) -> None:
        self.rings += 1

    def lost(self, reason: str) -> None:
        self.said.append(reason)

    @property
    def hangs(self) -> int:
        """How often it was hung."""
        return sum(line.startswith("hung") for line in self.said)

    async def until(self, condition: Callable[["HeardBell"], object]) -> None:
        """Waits until the condition holds."""
        end = time.monotonic() + PATIENCE
        while not condition(self):
            assert time.monotonic() < end, self
            await asyncio.sleep(0.01)


Hang = Callable[..., HeardBell]


@pytest.fixture
async def hang() -> AsyncIterator[Hang]:
    """`hang(url)` starts a doorbell, and returns the bell. All are stopped behind the test."""
    doorbells: list[BinlogDoorbell] = []

    def start(url: str, options: ConnectOptions | None = None) -> HeardBell:
        bell = HeardBell()
        doorbells.append(BinlogDoorbell(url, "outbox_events", options or ConnectOptions()))
        doorbells[-1].start(bell)
        return bell

    yield start
    for doorbell in doorbells:
        doorbell.stop()


def kill_streams(server: SqlServer) -> None:
    """Ends all connections that follow the log; a server keeps those of clients that have gone until it next writes."""
    for (connection,) in server.query(
        "SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"
    ):
        with suppress(pymysql.OperationalError):  # it has just ended by itself
            server.query(f"KILL {connection}")
