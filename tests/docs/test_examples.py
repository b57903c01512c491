"""What the documentation shows of writing events, run as it stands there, on MariaDB and MySQL."""

import json
import uuid
from contextlib import closing
from decimal import Decimal

from pymysql.constants import CLIENT

from outboxd.model import Status
from tests.conftest import Database
from tests.docs.toolchains import EXAMPLES, Example
from tests.migrate.support import Sql

ORDERS = "SELECT id, total FROM orders"
EVENTS = "SELECT event_id, event_type, aggregate_type, aggregate_id, topic, payload, status FROM outbox_events"


def run_file(database: Database, name: str) -> None:
    """Runs an example in SQL as a client would: the file as it is, on one connection."""
    with closing(database.connect(client_flag=CLIENT.MULTI_STATEMENTS)) as connection, connection.cursor() as cursor:
        cursor.execute((EXAMPLES / "sql" / name).read_text())
        while cursor.nextset():
            pass


def assert_placed(sql: Sql, order: int, total: str) -> None:
    """The order is there, and its event, complete and new."""
    assert sql(ORDERS) == [(order, Decimal(total))]
    [(event_id, *names, payload, status)] = sql(EVENTS)
    assert str(uuid.UUID(event_id)) == event_id
    assert names == ["order.placed", "order", str(order), "orders"]
    assert json.loads(payload) == {"order": order, "total": total}
    assert status == Status.NEW


def test_an_order_and_its_event_are_committed_together(example: Example, database: Database, shop: Sql) -> None:
    """The example commits a row of the application and its event."""
    done = example.run(database, 42, "99.50")
    assert done.returncode == 0, done.stderr
    assert_placed(shop, 42, "99.50")


def test_without_its_event_no_order_is_committed(example: Example, database: Database, shop: Sql) -> None:
    """When the event cannot be written, the example fails, and the row before it is rolled back."""
    shop("ALTER TABLE outbox_events ADD CONSTRAINT closed CHECK (aggregate_id <> '42')")
    done = example.run(database, 42, "99.50")
    assert done.returncode != 0
    assert "closed" in done.stderr + done.stdout
    assert shop(ORDERS) == []
    assert shop(EVENTS) == []


def test_sql_places_an_order(database: Database, shop: Sql) -> None:
    """The transaction in plain SQL."""
    run_file(database, "place_order.sql")
    assert_placed(shop, 42, "99.50")


def test_sql_changes_an_order(database: Database, shop: Sql) -> None:
    """The transaction that takes the aggregate's lock first."""
    run_file(database, "place_order.sql")
    run_file(database, "in_order.sql")
    assert shop(ORDERS) == [(42, Decimal("89.50"))]
    assert [row[1] for row in shop(f"{EVENTS} ORDER BY id")] == ["order.placed", "order.changed"]


def test_sql_writes_headers(database: Database, shop: Sql) -> None:
    """An event with headers of the application's own."""
    run_file(database, "headers.sql")
    [(headers,)] = shop("SELECT headers FROM outbox_events")
    assert json.loads(headers) == {"tenant": "acme", "version": 2}


def test_sql_delays_an_event(database: Database, shop: Sql) -> None:
    """An event that is due in a day."""
    run_file(database, "delayed.sql")
    [(status, hours)] = shop("SELECT status, TIMESTAMPDIFF(SECOND, NOW(), next_attempt_at) / 3600 FROM outbox_events")
    assert status == Status.RETRY
    assert 23 < hours <= 24


def test_sql_requeues_a_dead_letter(database: Database, shop: Sql) -> None:
    """The dead letter becomes a new event under its own id, with its headers, and is a dead letter no more."""
    shop(
        "INSERT INTO outbox_deadletters (id, event_id, event_type, aggregate_type, aggregate_id, topic, payload,"
        " attempt_count, last_error, headers, moved_at, reason) VALUES (210, UUID(), 'order.placed', 'order', '42',"
        " 'bad topic', '{}', 3, 'invalid_topic: wrong', '{\"tenant\": \"acme\"}', NOW(6), 'invalid_topic')"
    )
    before = shop("SELECT id, event_id, headers, created_at FROM outbox_deadletters")
    run_file(database, "requeue.sql")
    assert shop("SELECT id, event_id, headers, created_at FROM outbox_events") == before
    assert shop("SELECT topic, status, attempt_count FROM outbox_events") == [("orders", Status.NEW, 0)]
    assert shop("SELECT COUNT(*) FROM outbox_deadletters") == [(0,)]
