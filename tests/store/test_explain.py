"""How both servers execute every recurring statement, with 200,000 sent rows in the table."""

import json
from collections.abc import Iterator
from typing import Any

import pymysql
import pytest

from outboxd.model import HELD_UNTIL, Status, TableNames
from outboxd.ports import TopicFilter
from outboxd.store.migrator import Migrator
from outboxd.store.statements import HOLDS_INDEX, LANE_INDEX, Statements, these
from tests.conftest import Database
from tests.servers.sql import SqlServer

SENT = 200_000
LANES = range(64)
IDS = range(1, 1001)
AGE = (60_000_000,)

FILL = """
INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload, status, next_attempt_at)
SELECT UUID(), 'created', 'order', CONCAT('order-', seq MOD 1000), 'orders', '{"n": 1}', %s, %s FROM numbers LIMIT %s
"""


@pytest.fixture(scope="module")
def full(database_server: SqlServer) -> Iterator[Database]:
    """Sent rows, and a few of every other status."""
    database_server.start()
    database_server.create_database("explain")
    full = Database(database_server, "explain")
    Migrator(full.url, TableNames()).upgrade()
    with full.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE numbers (seq INT PRIMARY KEY)")
        cursor.executemany("INSERT INTO numbers VALUES (%s)", [(number,) for number in range(1000)])
        connection.begin()
        cursor.execute(
            "INSERT INTO numbers SELECT a.seq + 1000 * (b.seq + 1) FROM numbers a, numbers b WHERE b.seq < 199"
        )
        cursor.execute(FILL, (Status.SENT, None, SENT))
        for status in (Status.NEW, Status.ERROR, Status.PROCESSING):
            cursor.execute(FILL, (status, None, 2000))
        for unknown in (-1, 99):
            cursor.execute(FILL, (unknown, None, 2000))
        cursor.execute(FILL, (Status.RETRY, "2037-01-01", 2000))
        cursor.execute(FILL, (Status.RETRY, "2020-01-01", 1000))
        columns = "id, event_id, event_type, aggregate_type, aggregate_id, topic, payload, attempt_count"
        cursor.execute(FILL, (Status.RETRY, HELD_UNTIL, 1000))
        cursor.execute(f"INSERT INTO outbox_deadletters ({columns}) SELECT {columns} FROM outbox_events LIMIT 20000")
        cursor.execute("UPDATE outbox_deadletters SET holds = 1 WHERE id % 20 = 0")
        connection.commit()
        cursor.execute("ANALYZE TABLE outbox_events, outbox_deadletters")
    yield full
    database_server.drop_database("explain")


def statements(mariadb: bool) -> dict[str, tuple[str, tuple[Any, ...]]]:
    """Every statement that runs again and again, with values."""
    made = Statements(TableNames(), mariadb=mariadb, batch_bytes=8_000_000, keep_sent=True, may_hold=True)
    deleting = Statements(TableNames(), mariadb=mariadb, batch_bytes=8_000_000, keep_sent=False, may_hold=False)
    return {
        "read": (made.read(LANES, 1000), ()),
        "read one lane": (made.read([3], 1000), ()),
        "read some topics": (made.read(LANES, 1000, TopicFilter(without=("a", "b"))), (b"a", b"b")),
        "read one topic": (made.read(LANES, 1, TopicFilter(only="a")), (b"a",)),
        "any_new": (made.any_new(LANES), ()),
        "any_new of some lanes": (made.any_new([1, 3, 5]), ()),
        "payloads": (made.payloads(IDS), ()),
        "signatures": (made.signatures(LANES), ()),
        "holding": (made.holding(LANES), ()),
        "holding_rows": (made.holding_rows(3), ()),
        "held_lanes": (made.held_lanes(LANES), ()),
        "held": (made.held(3, 17, 1000), ()),
        "release_held": (made.release_held(IDS), ()),
        "dated": (made.dated(3), ()),
        "blocked": (made.blocked([3, 4]), ()),
        "sent": (made.sent(IDS), ()),
        "sent, after a failover": (made.sent(IDS) + these(len(IDS)), tuple(map(str, IDS))),
        "sent, deleting": (deleting.sent(IDS), ()),
        "sent, deleting, after a failover": (deleting.sent(IDS) + these(len(IDS)), tuple(map(str, IDS))),
        "fence": (made.fence(), ("instance",)),
        "retry": (made.reject(IDS, Status.RETRY, 1, retry=True), (1, "code: text")),
        "error": (made.reject(IDS, Status.ERROR, 1, retry=False), ("code: text",)),
        "due_of": (made.due_of(1), ()),
        "hold": (made.hold(IDS), ("2037-01-01",)),
        "recount": (made.recount(IDS, 1, 2), ()),
        "due_lanes": (made.due_lanes(LANES), ()),
        "due": (made.due(3, 1000), ()),
        "promote": (made.promote(IDS), ()),
        "dated_ids": (made.dated_ids(3, 1000), ()),
        "undate": (made.undate(IDS), ()),
        "stuck_lanes": (made.stuck_lanes(LANES), AGE),
        "stuck": (made.stuck(LANES, 1000), AGE),
        "release": (made.release(IDS, Status.NEW), ("text",)),
        "unknown_status": (made.unknown_status(LANES, 1000), ()),
        "give_up": (made.give_up(IDS, Status.ERROR), ("text",)),
        "failed": (made.failed(LANES, (-1, 0), 1000), ()),
        "lock_failed": (made.lock_failed(IDS), ()),
        "copy_dead": (made.copy_dead(IDS), ("code", 1)),
        "delete_moved": (made.delete_moved(IDS), ()),
        "old_sent": (made.old_sent(1000, 1000), AGE * 2),
        "old_dead": (made.old_dead(1000, 1000), AGE * 2),
        "delete_sent": (made.delete_sent(IDS), ()),
        "delete_dead": (made.delete_dead(IDS), ()),
        "look": (made.look(LANES), ()),
        "look, some lanes": (made.look([1, 3, 5]), ()),
        "counts": (made.counts([Status.NEW, Status.RETRY], LANES, 100_000), ()),
        "heads": (made.heads(Status.NEW, LANES), ()),
    }


def test_no_statement_is_forgotten() -> None:
    """Whatever builds SQL in `Statements` is explained here."""
    built = {name for name, value in vars(Statements).items() if callable(value) and not name.startswith("_")}
    explained = {name.split(",")[0].split(" ")[0] for name in statements(False)}
    assert built == (explained - {"retry", "error"}) | {"reject"}


@pytest.mark.parametrize("name", statements(False))
def test_an_index_range_no_sort_and_no_full_scan(full: Database, name: str) -> None:
    """By EXPLAIN of MariaDB 10.11 and MySQL 9.7."""
    mariadb = full.server.name == "MariaDB"
    statement, values = statements(mariadb)[name]
    with full.connect() as connection:
        steps = explained(connection, statement, values)
    for step in steps:
        # The table that an INSERT fills is not searched, nor is a derived one.
        if step["table"] is None or step["table"].startswith("<") or step["select_type"] == "INSERT":
            continue
        extra = step["Extra"] or ""
        assert step["type"] in {"range", "ref", "eq_ref", "const"}, (step, statement[:200])
        assert "filesort" not in extra, (step, statement[:200])
        if "lane" in (step["key"] or ""):
            assert step["key"] in {LANE_INDEX, HOLDS_INDEX}


def explained(connection: "pymysql.Connection[Any]", statement: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
    """The rows of EXPLAIN in their traditional form."""
    with connection.cursor(pymysql.cursors.DictCursor) as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        if connection.server_version and "MariaDB" not in str(connection.server_version):
            cursor.execute("SET SESSION explain_format = 'TRADITIONAL'")
        cursor.execute(f"EXPLAIN {statement}", values or None)
        steps: list[dict[str, Any]] = list(cursor.fetchall())
    assert steps
    print(json.dumps(steps, indent=1, default=str))
    return steps
