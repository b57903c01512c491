"""Applications that go on writing whatever happens to their database, and know what they committed."""

import random
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from typing import Any

import pymysql

from tests.end_to_end.application import INSERT, Ledger

Connect = Callable[[], "pymysql.Connection[Any]"]
Rows = list[tuple[str, ...]]

RECONNECT_PAUSE = 0.05
ROLLED_BACK = 0.1
"""The share of transactions that end with ROLLBACK."""


class Writer(threading.Thread):
    """Small transactions on its own aggregates and its own connection, until it is told to stop.

    Each of its aggregates is nobody else's, so the ids of their events grow with their numbers.
    """

    def __init__(
        self,
        connect: Connect,
        topics: Sequence[str],
        name: str,
        dice: random.Random,
        *,
        pace: float,
        aggregates: int = 40,
        sizes: Sequence[int] = (20, 200, 1000),
    ) -> None:
        """`pace` in events per second; `sizes` of the payloads' text, one of them by chance."""
        super().__init__(daemon=True, name=name)
        self._connect = connect
        self._topics = topics
        self._dice = dice
        self._pace = pace
        self._aggregates = aggregates
        self._sizes = sizes
        self._connection: pymysql.Connection[Any] | None = None
        self._stopping = threading.Event()
        self._resting = threading.Event()
        self._due = 0.0
        self.ledger = Ledger()
        self.unknown: Rows = []
        """Of transactions whose COMMIT got no answer."""
        self.errors: list[Exception] = []

    def run(self) -> None:
        self._due = time.monotonic()
        while not self._stopping.wait(max(0.0, self._due - time.monotonic())):
            try:
                self._transaction()
            except (pymysql.Error, OSError) as error:
                self.errors.append(error)
                self._disconnect()
                self._stopping.wait(RECONNECT_PAUSE)
        self._disconnect()

    def stop(self) -> None:
        """Ends it behind its transaction."""
        self._stopping.set()

    def _transaction(self) -> None:
        if self._connection is None:
            self._connection = self._connect()
        dice, connection = self._dice, self._connection
        rows = [self._row() for _ in range(dice.randint(1, 9))]
        # What was missed in an outage is not made up for.
        self._due = max(self._due, time.monotonic() - 0.5) + len(rows) / self._pace
        connection.begin()
        with connection.cursor() as cursor:
            cursor.executemany(INSERT, rows)
        if dice.random() < ROLLED_BACK:
            connection.rollback()
            return
        try:
            connection.commit()
        except (pymysql.Error, OSError):
            self.unknown += rows
            raise
        self.ledger.commit(rows)

    def _row(self) -> tuple[str, ...]:
        aggregate = self._dice.randrange(self._aggregates)
        topic = self._topics[aggregate % len(self._topics)]
        return self.ledger.row(f"{self.name}-{aggregate}", topic, size=self._dice.choice(self._sizes))

    def _disconnect(self) -> None:
        if self._connection is not None:
            with suppress(pymysql.Error, OSError):
                self._connection.close()
            self._connection = None


class Writers:
    """Several of them, and what they and others committed together."""

    def __init__(self) -> None:
        self.all: list[Writer] = []
        self.ledger = Ledger()
        """Of the scenario's own transactions."""

    def start(self, writers: Iterable[Writer]) -> None:
        """Adds writers, and starts them."""
        for writer in writers:
            self.all.append(writer)
            writer.start()

    def stop(self) -> None:
        """Ends all, and waits for it."""
        for writer in self.all:
            writer.stop()
        for writer in self.all:
            writer.join()

    @property
    def committed(self) -> int:
        """How many events so far, by the connections' own answers."""
        return len(self.ledger.events) + sum(len(writer.ledger.events) for writer in self.all)

    def settled(self, found: Callable[[Sequence[str]], set[str]]) -> Ledger:
        """One ledger of all that was committed; `found` tells which event ids of unknown outcome are there."""
        whole = Ledger(dict(self.ledger.events))
        for writer in self.all:
            whole.events |= writer.ledger.events
            there = found([row[0] for row in writer.unknown])
            whole.commit([row for row in writer.unknown if row[0] in there])
        return whole
