"""The daemon's memory has a bound, whatever the backlog and the sizes of its rows."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.conftest import Database
from tests.end_to_end.checker import consume
from tests.end_to_end.daemon import Daemon, until
from tests.servers.kafka import Kafka

Count = Callable[..., int]
StartDaemon = Callable[..., Daemon]
NewTopic = Callable[..., str]

BOUND = 150 * 2**20
WIDE = "\N{GRINNING FACE}"

DIGITS = "(SELECT 0 AS d UNION ALL " + " UNION ALL ".join(f"SELECT {digit}" for digit in range(1, 10)) + ")"
NUMBERS = (
    "(SELECT "
    + " + ".join(f"{10**place} * t{place}.d" for place in range(6))
    + " AS n FROM "
    + ", ".join(f"{DIGITS} AS t{place}" for place in range(6))
    + ") AS numbers"
)


class Rows(NamedTuple):
    """So many rows, of as many aggregates; texts are SQL expressions. `tail` ends the aggregate's id and the types."""

    count: int
    payload: str = "'{}'"
    headers: str = "NULL"
    status: int = 0
    last_error: str = "NULL"
    tail: str = "''"


def text(size: int, *, wide: bool = False) -> str:
    """A JSON text of so many bytes; one wide character would make Python's text four times as large."""
    last = WIDE if wide else ""
    return f"CONCAT('\"', REPEAT('x', {size}), '{last}\"')"


def fill(database: Database, topic: str, backlog: Sequence[Rows]) -> None:
    """By the server itself, which is quick."""
    with database.connect() as connection, connection.cursor() as cursor:
        for number, rows in enumerate(backlog):
            cursor.execute(
                "INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload, "
                "headers, status, next_attempt_at, last_error) "
                f"SELECT UUID(), CONCAT('changed', {rows.tail}), CONCAT('order', {rows.tail}), "
                f"CONCAT('{number}-', n, {rows.tail}), %s, {rows.payload}, {rows.headers}, "
                f"{rows.status}, IF({rows.status} = 2, '2037-01-01', NULL), {rows.last_error} "
                f"FROM {NUMBERS} WHERE n < {rows.count}",
                (topic,),
            )


def peak(daemon: Daemon) -> int:
    """The most that it ever held, in bytes."""
    status = Path(f"/proc/{daemon.process.pid}/status").read_text()
    return next(int(line.split()[1]) * 1024 for line in status.splitlines() if line.startswith("VmHWM"))


def headers(size: int) -> str:
    """A JSON object of about so many bytes."""
    return "CONCAT('{\"a\": ', " + text(size) + ", '}')"


BACKLOGS = {
    "large and small": (Rows(200, text(1_000_000)), Rows(20_000, text(300))),
    "900 KB": (Rows(100, text(900_000)),),
    "900 KB, wide": (Rows(100, text(900_000, wide=True)),),
    "just small enough to be read with their rows": (Rows(5000, text(8200, wide=True)),),
    "large headers": (Rows(500, headers=headers(65_000)), Rows(5000, headers=headers(8000))),
    "control characters": (Rows(4000, "JSON_QUOTE(REPEAT(CHAR(1 USING utf8mb4), 4000))"),),
    "long ids and types, no two alike": (Rows(20_000, tail=f"CONCAT(n, REPEAT('{WIDE}', 235))"),),
}


@pytest.mark.parametrize("backlog", BACKLOGS.values(), ids=list(BACKLOGS))
def test_large_rows(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count, backlog: Sequence[Rows]
) -> None:
    """Everything is delivered."""
    name = topic(6)
    fill(outbox, name, backlog)
    total = sum(rows.count for rows in backlog)
    running = daemon(LEASE__TTL="15s")
    until(lambda: count("status = 1") == total, "everything is sent", patience=300)
    print(f"peak: {peak(running) / 2**20:.0f} MB")
    assert peak(running) < BOUND
    assert len({dict(message.headers() or [])["event_id"] for message in consume(kafka.bootstrap, name)}) == total


def test_headers_that_are_far_too_large(outbox: Database, daemon: StartDaemon, count: Count) -> None:
    """They are dead letters."""
    fill(outbox, "orders", [Rows(100, headers=headers(900_000)), Rows(5, headers=headers(4_000_000))])
    running = daemon(LEASE__TTL="15s")
    until(lambda: count(table="outbox_deadletters") == 105, "all are dead letters", patience=300)
    assert count("reason = 'bad_headers'", table="outbox_deadletters") == 100
    print(f"peak: {peak(running) / 2**20:.0f} MB")
    assert peak(running) < BOUND


def test_long_reasons_of_dead_letters(outbox: Database, daemon: StartDaemon, count: Count) -> None:
    """What another dispatcher wrote may be long: 64 KB a row, and a thousand rows at once."""
    fill(outbox, "orders", [Rows(3000, status=3, last_error="REPEAT('x', 65000)")])
    running = daemon(LEASE__TTL="15s")
    until(lambda: count(table="outbox_deadletters") == 3000, "all are moved")
    print(f"peak: {peak(running) / 2**20:.0f} MB")
    assert peak(running) < BOUND


def test_many_blocked_aggregates(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """250,000 of them wait; the events of others pass."""
    name = topic(6)
    fill(outbox, name, [Rows(250_000, status=2), Rows(5000)])
    running = daemon(LEASE__TTL="15s")
    until(lambda: count("status = 1") == 5000, "the others are sent", patience=300)
    print(f"peak: {peak(running) / 2**20:.0f} MB")
    assert peak(running) < BOUND
    assert count("status = 2") == 250_000
