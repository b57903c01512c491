"""An application that writes events, as a process of its own: at a set rate, or with a set pause between transactions.

It renders its statements first, says `ready`, waits for a line, writes, and puts its ledger into a file: what was
committed when, and how long each transaction took.
"""

import argparse
import json
import random
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Self

import pymysql
from sqlalchemy.engine import make_url

from bench.backlog import INSERT, PAYLOAD, WrittenEvent, make_events

AGGREGATES: Final = 1000
CONNECTIONS: Final = 8
SINGLE: Final = 500
"""Events per second up to which each has a transaction of its own."""
PER_SECOND: Final = 200
"""Transactions of all connections together where there are more events: several each."""
TIMEOUT: Final = 120.0
"""Seconds until a writer that does not answer has failed."""


@dataclass(frozen=True)
class Load:
    """What is written. `per_second` paces the events; None: a transaction follows the last one after `pause`."""

    events: int
    rows: int
    """Per transaction."""
    connections: int
    per_second: float | None = None
    pause: float = 0.0
    seed: int = 1
    seconds: float | None = None
    """Writes no longer than this."""


def steady(per_second: int, seconds: float, seed: int = 1) -> Load:
    """A set rate: one event a transaction up to SINGLE, then larger ones, so that not the writers are the limit."""
    rows = rows_at(per_second)
    connections = min(CONNECTIONS, max(1, per_second // 50))
    return Load(max(2, round(per_second * seconds)), rows, connections, per_second=per_second, seed=seed)


def rows_at(per_second: int) -> int:
    """Per transaction."""
    return 1 if per_second <= SINGLE else round(per_second / PER_SECOND)


class Ledger(NamedTuple):
    """What a writer has done. `committed`: the answer to COMMIT by event id, by `time.monotonic`, in order of commit
    for each aggregate; `transactions`: the seconds that each took."""

    committed: dict[str, float]
    keys: list[str]
    transactions: list[float]
    began: float
    ended: float

    @property
    def written(self) -> list[WrittenEvent]:
        """For `bench.topic.compare`."""
        return [WrittenEvent(event, key, "") for event, key in zip(self.committed, self.keys, strict=True)]

    @property
    def rate(self) -> float:
        """Events per second."""
        return len(self.committed) / (self.ended - self.began)


class Writer:
    """The process. As a context manager it does not outlive the block."""

    def __init__(self, database_url: str, topic: str, load: Load, ledger: Path) -> None:
        self._ledger = ledger
        command = [sys.executable, "-m", "bench.writer", database_url, topic, json.dumps(load.__dict__), str(ledger)]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def start(self) -> None:
        """Returns when it has rendered its statements, and begins to write."""
        assert self._process.stdout
        assert self._process.stdin
        if self._process.stdout.readline() != "ready\n":
            raise RuntimeError(f"the writer has ended with {self._process.wait()}")
        self._process.stdin.write("go\n")
        self._process.stdin.flush()

    @property
    def running(self) -> bool:
        """Whether it still writes."""
        return self._process.poll() is None

    def finish(self) -> Ledger:
        """Waits until it has written everything."""
        if code := self._process.wait(TIMEOUT):
            raise RuntimeError(f"the writer has failed with {code}")
        return Ledger(**json.loads(self._ledger.read_text()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe:
                pipe.close()


Transaction = tuple[str, Sequence[WrittenEvent]]
"""An INSERT of several rows, and the rows."""


class Connection:
    """One of the writer's connections, with its own aggregates."""

    def __init__(self, url: str, topic: str, load: Load, number: int) -> None:
        parsed = make_url(url)
        self._connection = pymysql.connect(
            host=parsed.host, port=parsed.port or 3306, user=parsed.username, database=parsed.database, autocommit=True
        )
        self._load = load
        self._number = number
        own = [
            event._replace(aggregate_id=f"order-{int(event.aggregate_id[-6:]) * load.connections + number:06d}")
            for event in make_events(
                load.events // load.connections, AGGREGATES // load.connections, load.seed * 100 + number, PAYLOAD
            )
        ]
        self._transactions = [
            (self._render(own[start : start + load.rows], topic), own[start : start + load.rows])
            for start in range(0, len(own), load.rows)
        ]
        self.committed: list[tuple[str, str, float]] = []
        self.transactions: list[float] = []

    def _render(self, events: Sequence[WrittenEvent], topic: str) -> str:
        head, _, _ = INSERT.partition("(%s")
        rows = (",".join(self._connection.escape(value) for value in event.row(topic)) for event in events)
        return head + ",".join(f"({row})" for row in rows)

    def write(self, start: float) -> None:
        """Writes everything, from `start` on."""
        due = self._schedule(start)
        end = start + (self._load.seconds or float("inf"))
        with self._connection.cursor() as cursor:
            for place, (statement, events) in enumerate(self._transactions):
                time.sleep(max(0.0, due(place) - time.monotonic()))
                began = time.monotonic()
                if began >= end:
                    return
                cursor.execute("START TRANSACTION")
                cursor.execute(statement)
                cursor.execute("COMMIT")
                now = time.monotonic()
                self.transactions.append(now - began)
                self.committed += [(event.event_id, event.aggregate_id, now) for event in events]

    def _schedule(self, start: float) -> Callable[[int], float]:
        """When a transaction is due. Irregular, so that they are not in step with anybody's polls."""
        chance = random.Random(self._number)
        if self._load.per_second is None:
            return lambda place: time.monotonic() + self._load.pause if place else start
        interval = self._load.connections * self._load.rows / self._load.per_second
        return lambda place: start + (place + chance.random()) * interval


def write(database_url: str, topic: str, load: Load) -> dict[str, Any]:
    """Prepares, waits for a line, and writes. Returns the ledger."""
    connections = [Connection(database_url, topic, load, number) for number in range(load.connections)]
    threads = []
    print("ready", flush=True)
    sys.stdin.readline()
    start = time.monotonic() + 0.01
    for connection in connections:
        threads.append(threading.Thread(target=connection.write, args=(start,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    ended = time.monotonic()
    committed = [entry for connection in connections for entry in connection.committed]
    return {
        "committed": {event: at for event, _, at in committed},
        "keys": [key for _, key, _ in committed],
        "transactions": [seconds for connection in connections for seconds in connection.transactions],
        "began": start,
        "ended": ended,
    }


def main() -> None:
    """`python -m bench.writer URL TOPIC LOAD FILE`."""
    parser = argparse.ArgumentParser(prog="python -m bench.writer", description=__doc__)
    parser.add_argument("database_url")
    parser.add_argument("topic")
    parser.add_argument("load", help="the fields of Load as JSON")
    parser.add_argument("ledger", type=Path)
    arguments = parser.parse_args()
    load = Load(**json.loads(arguments.load))
    arguments.ledger.write_text(json.dumps(write(arguments.database_url, arguments.topic, load)))


if __name__ == "__main__":
    main()
