"""Writers that outlast their database, and the proof that everything they committed was delivered."""

import random
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pymysql

from tests.conftest import Database
from tests.end_to_end.application import INSERT, Ledger, insert
from tests.end_to_end.checker import Verdict, check, consume
from tests.end_to_end.daemon import Daemon, until

ACCOUNT = "daemon"
"""The daemon's user: without the rights by which root passes read-only servers and full connection tables."""


class SteadfastWriter(threading.Thread):
    """Writes small transactions through any fault. A transaction whose end it did not hear is looked up."""

    def __init__(
        self, connect: Callable[[], "pymysql.Connection[Any]"], topic: str, name: str, size: int = 200
    ) -> None:
        super().__init__(daemon=True)
        self._connect = connect
        self._topic = topic
        self._prefix = name
        self._size = size
        self._stopping = threading.Event()
        self.ledger = Ledger()
        self.failures = 0

    def run(self) -> None:
        dice = random.Random(self._prefix)
        connection = self._reconnect()
        while not self._stopping.wait(0.003):
            numbers = self.ledger.numbers.copy()
            names = [f"{self._prefix}-{dice.randrange(50)}" for _ in range(dice.randint(1, 5))]
            rows = [self.ledger.row(name, self._topic, size=self._size) for name in names]
            try:
                connection.begin()
                with connection.cursor() as cursor:
                    cursor.executemany(INSERT, rows)
                connection.commit()
            except pymysql.Error:
                self.failures += 1
                connection, committed = self._look_up(rows)
                if not committed:
                    self.ledger.numbers = numbers
                    continue
            self.ledger.commit(rows)

    def _reconnect(self) -> "pymysql.Connection[Any]":
        while True:
            try:
                return self._connect()
            except pymysql.Error:
                time.sleep(0.05)

    def _look_up(self, rows: list[tuple[str, ...]]) -> tuple["pymysql.Connection[Any]", bool]:
        while True:
            connection = self._reconnect()
            try:
                with connection.cursor() as cursor:
                    found = cursor.execute("SELECT 1 FROM outbox_events WHERE event_id = %s", (rows[0][0],))
            except pymysql.Error:
                continue
            return connection, bool(found)

    def stop(self) -> Ledger:
        """Ends it; its ledger."""
        self._stopping.set()
        self.join()
        return self.ledger


@dataclass
class Load:
    """A database under load, and the daemon's own account in it."""

    outbox: Database
    bootstrap: str
    topic: str
    writers: list[SteadfastWriter]
    ledger: Ledger = field(default_factory=Ledger)
    """What the test itself has committed."""

    def count(self, where: str = "TRUE", *values: object, table: str = "outbox_events") -> int:
        """How many rows; on a connection of its own, so that it works after any fault."""
        found = self.outbox.server.query(f"SELECT COUNT(*) FROM `{self.outbox.name}`.{table} WHERE {where}", *values)
        return int(found[0][0])

    def until_more_is_sent(self, number: int = 500) -> None:
        """The daemon delivers, now."""
        before = self.count("status = 1")
        until(lambda: self.count("status = 1") >= before + number, "it delivers")

    def connections(self) -> list[int]:
        """The server's ids of the daemon's connections."""
        return [
            row[0]
            for row in self.outbox.server.query(
                "SELECT id FROM information_schema.processlist WHERE user = %s AND db = %s", ACCOUNT, self.outbox.name
            )
        ]

    def prove(self, daemon: Daemon, most_duplicates: int | None = None) -> Verdict:
        """Nothing lost, nothing reordered, no attempt spent, no dead letter; and the daemon is as it was.

        A retry that comes due shows that the connection for upkeep works, as well as those that read and settle.
        """
        ledger = self.ledger
        for writer in self.writers:
            ledger.events |= writer.stop().events
        with self.outbox.connect() as connection:
            due = insert(connection, ledger, "due", self.topic, status=2, next_attempt_at="2020-01-01 00:00:00")
        until(lambda: self.count("status = 1 AND event_id = %s", due) == 1, "a retry that is due is delivered")
        until(lambda: self.count("status = 1") == len(ledger.events), "everything is sent", 60)
        assert self.count() == len(ledger.events)
        assert self.count(table="outbox_deadletters") == 0
        assert self.count("attempt_count <> 0") == 0
        until(lambda: daemon.get("/readyz").status_code == 200, "it is ready")
        assert daemon.process.poll() is None
        assert not daemon.events("worker.failed")
        assert not daemon.events("relay.batch_failed")
        until(lambda: len(self.connections()) <= 4, "no connection is left behind")
        verdict = check(consume(self.bootstrap, self.topic), ledger)
        assert verdict.clean, verdict
        assert most_duplicates is None or verdict.duplicates <= most_duplicates, verdict
        return verdict


def threads(daemon: Daemon) -> int:
    """How many threads its process has."""
    return len(list(Path(f"/proc/{daemon.process.pid}/task").iterdir()))
