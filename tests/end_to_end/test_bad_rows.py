"""No row stops the daemon or touches its neighbours: each is delivered as stored, or a dead letter that says why."""

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pymysql
import pytest
from confluent_kafka import Message

from tests.conftest import Database
from tests.end_to_end.application import INSERT, Ledger
from tests.end_to_end.bad_rows import (
    COLUMNS,
    SECRET,
    Dead,
    Delivered,
    Kind,
    Stays,
    Stored,
    Topics,
    a_row,
    as_stored,
    decoded,
    kinds,
    lane_of,
    neighbours,
    permissive,
    store,
)
from tests.end_to_end.checker import check, consume
from tests.end_to_end.daemon import Daemon, until
from tests.servers.kafka import Kafka

StartDaemon = Callable[..., Daemon]

SETTINGS = {"RECOVERY__STUCK_TIMEOUT": "1s", "RECOVERY__INTERVAL": "50ms", "RETRY__INTERVAL": "50ms"}


@pytest.fixture
def topics(topic: Callable[..., str], kafka: Kafka) -> Topics:
    """The topics that the rows of `kinds` name."""
    orders = topic(3)
    mixed_case, longest = f"{orders}-MiXed", f"{orders}-{'x' * 249}"[:249]
    for name in (mixed_case, longest):
        kafka.create_topic(name, 1)
    return Topics(orders, mixed_case, longest, topic(1, max_message_bytes=500_000))


@pytest.fixture
def application(outbox: Database) -> Iterator["pymysql.Connection[Any]"]:
    """A connection that may write nearly anything."""
    with outbox.connect() as root, root.cursor() as cursor:
        cursor.execute("SELECT @@GLOBAL.max_allowed_packet")
        (before,) = cursor.fetchone() or ()
        cursor.execute("SET GLOBAL max_allowed_packet = 67108864")
        with outbox.connect() as connection:
            permissive(connection, mariadb=outbox.server.product == "mariadb")
            yield connection
        cursor.execute(f"SET GLOBAL max_allowed_packet = {before}")


def test_all_kinds_at_once_amid_good_ones(
    outbox: Database, application: "pymysql.Connection[Any]", kafka: Kafka, topics: Topics, daemon: StartDaemon
) -> None:
    """In the same lanes, and where it can be in the same aggregates: before, behind and beside each."""
    bad, good = kinds(topics, mariadb=outbox.server.product == "mariadb"), Ledger()
    assert len(bad) >= 40
    social = [kind.columns["aggregate_id"] for kind in bad if kind.social]
    beside = neighbours(lane_of(kind.columns["aggregate_id"]) for kind in bad)
    with application.cursor() as cursor:
        before = [good.row(name, topics.orders) for name in (*beside, *social)]
        cursor.executemany(INSERT, before)
        good.commit(before)
        stored = [store(application, kind) for kind in bad if "id" not in kind.columns]
        behind = [good.row(name, topics.orders) for name in (*social, *beside)]
        cursor.executemany(INSERT, behind)
        good.commit(behind)
    stored += [store(application, kind) for kind in bad if "id" in kind.columns]
    running = daemon(**SETTINGS)
    until(lambda: all(ended(application, row) for row in stored), "every bad row has ended")
    until(lambda: waiting(application) == 0, "every good row is sent")
    assert running.stop() == 0
    unharmed(running)
    messages = [message for name in topics for message in consume(kafka.bootstrap, name)]
    assert problems(application, stored, messages) == {}
    others = {row.columns["event_id"] for row in stored}
    verdict = check([message for message in messages if event_id_of(message) not in others], good)
    assert verdict.clean, verdict
    assert verdict.duplicates == 0


def test_each_kind_alone(
    outbox: Database, application: "pymysql.Connection[Any]", kafka: Kafka, topics: Topics, daemon: StartDaemon
) -> None:
    """One after the other, each in an otherwise empty table; where nothing can be seen to happen, a good one passes."""
    bad, good = kinds(topics, mariadb=outbox.server.product == "mariadb"), Ledger()
    running = daemon(**SETTINGS)
    running.wait_for("source.started")
    stored = []
    for kind in bad:
        row = store(application, kind)
        stored.append(row)
        if isinstance(kind.end, Stays):
            [beside] = neighbours([lane_of(kind.columns["aggregate_id"])])
            fill_one(application, good, beside, topics.orders)
        until(lambda row=row: ended(application, row), f"the end of the {kind.name}")  # type: ignore[misc]
        if isinstance(kind.end, Stays):
            until(lambda: waiting(application) == 0, f"the end of the row beside the {kind.name}")
    assert running.stop() == 0
    unharmed(running)
    messages = [message for name in topics for message in consume(kafka.bootstrap, name)]
    assert problems(application, stored, messages) == {}


def test_retention_reaches_ids_below_zero(
    application: "pymysql.Connection[Any]", topics: Topics, daemon: StartDaemon
) -> None:
    """An application that chooses its ids may choose such."""
    store(application, Kind("id -5", Delivered(), a_row("bad", topics.orders) | {"id": -5}))
    daemon(RETENTION__SENT="1s", RETENTION__INTERVAL="50ms")
    until(lambda: not rows(application, "SELECT 1 FROM outbox_events"), "the sent row is deleted")


def test_documents_are_sent_in_utf_8(
    outbox: Database, application: "pymysql.Connection[Any]", kafka: Kafka, topics: Topics, daemon: StartDaemon
) -> None:
    """An adopted table may keep them in another character set, as text: the large ones are loaded by themselves."""
    payloads = ['{"city": "Zürich"}', json.dumps("ü" * 400_000, ensure_ascii=False), "not JSON: ü"]
    with application.cursor() as cursor:
        for column, null in (("payload", "NOT NULL"), ("headers", "NULL")):
            text = f"LONGTEXT CHARACTER SET latin1 {null}"
            cursor.execute(f"ALTER TABLE outbox_events MODIFY {column} {text}")
    for number, payload in enumerate(payloads):
        row = a_row(f"bad-{number}", topics.orders) | {"payload": payload, "headers": '{"sender": "Jörg"}'}
        store(application, Kind("latin1", Delivered(), row))
    running = daemon(**SETTINGS)
    until(lambda: not rows(application, "SELECT 1 FROM outbox_events WHERE status <> 1"), "all are sent")
    assert running.stop() == 0
    arrived = {event_id_of(message): message for message in consume(kafka.bootstrap, topics.orders)}
    for number, payload in enumerate(payloads):
        message = arrived[f"bad-{number}"]
        assert (message.value(), dict(message.headers() or [])["sender"]) == (payload.encode(), "Jörg".encode())


def fill_one(connection: "pymysql.Connection[Any]", ledger: Ledger, aggregate_id: str, topic: str) -> None:
    """A good event."""
    row = ledger.row(aggregate_id, topic)
    with connection.cursor() as cursor:
        cursor.execute(INSERT, row)
    ledger.commit([row])


def rows(connection: "pymysql.Connection[Any]", statement: str, *values: object) -> list[dict[str, Any]]:
    """What a query returns."""
    with connection.cursor(pymysql.cursors.DictCursor) as cursor:
        cursor.execute(statement, values)
        return list(cursor.fetchall())


def ended(connection: "pymysql.Connection[Any]", row: Stored) -> bool:
    """Whether nothing more will happen to the row."""
    if isinstance(row.kind.end, Dead):
        return bool(rows(connection, "SELECT 1 FROM outbox_deadletters WHERE id = %s", row.id))
    status = row.kind.end.status if isinstance(row.kind.end, Stays) else 1
    return bool(rows(connection, "SELECT 1 FROM outbox_events WHERE id = %s AND status = %s", row.id, status))


def waiting(connection: "pymysql.Connection[Any]") -> int:
    """How many good rows are not sent."""
    return len(rows(connection, "SELECT 1 FROM outbox_events WHERE status <> 1 AND event_id NOT LIKE 'bad-%%'"))


def unharmed(running: Daemon) -> None:
    """Nothing of the daemon's failed, and no payload is in its log."""
    assert [line for line in running.log if line["event"] in {"worker.failed", "relay.batch_failed"}] == []
    assert SECRET not in json.dumps(running.log)


def event_id_of(message: Message) -> str:
    """From its headers."""
    return dict(message.headers() or [])["event_id"].decode()


def problems(
    connection: "pymysql.Connection[Any]", stored: Sequence[Stored], messages: Sequence[Message]
) -> dict[str, str]:
    """What is not as it should be, by the kind's name."""
    arrived: dict[str, list[Message]] = {}
    for message in messages:
        arrived.setdefault(event_id_of(message), []).append(message)
    found = {}
    for row in stored:
        came = arrived.get(row.columns["event_id"], [])
        problem = delivered_otherwise(row, came) if isinstance(row.kind.end, Delivered) else ""
        if not isinstance(row.kind.end, Delivered) and came:
            problem = "it was delivered"
        if isinstance(row.kind.end, Dead):
            problem = problem or dead_otherwise(connection, row, row.kind.end)
        if problem:
            found[row.kind.name] = problem
    return found


def delivered_otherwise(row: Stored, messages: Sequence[Message]) -> str:
    """How the message differs from the row."""
    assert isinstance(row.kind.end, Delivered)
    if len(messages) != 1:
        return f"{len(messages)} messages"
    [message], columns = messages, row.columns
    named = ("event_id", "event_type", "aggregate_type", "aggregate_id")
    headers = [*((name, columns[name].encode()) for name in named), *row.kind.end.headers]
    if message.headers() != headers:
        return f"headers {message.headers()}"
    if (message.topic(), message.key(), message.value()) != (
        columns["topic"],
        columns["aggregate_id"].encode(),
        columns["payload"].encode(),
    ):
        return f"key {message.key()!r}, value {str(message.value())[:100]}"
    return ""


def dead_otherwise(connection: "pymysql.Connection[Any]", row: Stored, end: Dead) -> str:
    """How the dead letter differs from the row, or its reason from what it should be."""
    columns = as_stored(f"{COLUMNS}, reason, last_error")
    [letter] = map(decoded, rows(connection, f"SELECT {columns} FROM outbox_deadletters WHERE id = %s", row.id))
    changed = {name for name, value in row.columns.items() if letter[name] != value} - {"attempt_count"}
    if changed:
        return f"changed: {changed}"
    if letter["reason"] != end.reason or end.phrase not in (letter["last_error"] or ""):
        return f"{letter['reason']}, {letter['last_error']}"
    return ""
