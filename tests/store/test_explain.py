"""How both servers execute every recurring statement: with 200,000 sent rows in the table, and with a few thousand.

Of a large table a server looks up what it is given the ids of. A small one it would rather read whole, and a locking
statement that does so waits for every application whose transaction has written a row.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import pytest
from annotated_types import Le

from outboxd.config.sections import RelaySettings
from outboxd.model import HELD_UNTIL, Status, TableNames
from outboxd.ports import TopicFilter
from outboxd.store.engine import ConnectOptions, open_engine
from outboxd.store.migrator import Migrator
from outboxd.store.statements import HOLDS_INDEX, LANE_INDEX, Statements, these
from tests.conftest import Database
from tests.servers.sql import SqlServer

SENT = 200_000
LANES = range(64)
BATCH: Final[int] = RelaySettings.model_fields["batch_size"].default
LARGEST_BATCH = next(
    int(str(bound.le)) for bound in RelaySettings.model_fields["batch_size"].metadata if isinstance(bound, Le)
)
AGE = (60_000_000,)

FILL = """
INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload, status, next_attempt_at)
SELECT UUID(), 'created', 'order', CONCAT('order-', seq MOD 1000), 'orders', '{"n": 1}', %s, %s FROM numbers LIMIT %s
"""


@pytest.fixture(scope="module")
def full(database_server: SqlServer) -> Iterator[Database]:
    """Sent rows, and a few of every other status."""
    with filled(database_server, "explain", sent=SENT, failed=2000, others=2000) as full:
        yield full


@pytest.fixture(scope="module")
def small(database_server: SqlServer) -> Iterator[Database]:
    """Six thousand rows or so, half of them in error."""
    with filled(database_server, "explain_small", sent=300, failed=3000, others=300) as small:
        yield small


@contextmanager
def filled(server: SqlServer, name: str, *, sent: int, failed: int, others: int) -> Iterator[Database]:
    """A database with so many sent rows, rows in error, and rows of every other status."""
    server.start()
    server.create_database(name)
    filled = Database(server, name)
    Migrator(filled.url, TableNames()).upgrade()
    with filled.connect() as connection, connection.cursor() as cursor:
        cursor.execute("CREATE TABLE numbers (seq INT PRIMARY KEY)")
        cursor.executemany("INSERT INTO numbers VALUES (%s)", [(number,) for number in range(1000)])
        connection.begin()
        cursor.execute(
            "INSERT INTO numbers SELECT a.seq + 1000 * (b.seq + 1) FROM numbers a, numbers b WHERE b.seq < %s",
            (max(sent, failed, others) // 1000,),
        )
        cursor.execute(FILL, (Status.SENT, None, sent))
        cursor.execute(FILL, (Status.ERROR, None, failed))
        for status in (Status.NEW, Status.PROCESSING, -1, 99):
            cursor.execute(FILL, (status, None, others))
        cursor.execute(FILL, (Status.RETRY, "2037-01-01", others))
        for due in ("2020-01-01", HELD_UNTIL):
            cursor.execute(FILL, (Status.RETRY, due, others // 2))
        columns = "id, event_id, event_type, aggregate_type, aggregate_id, topic, payload, attempt_count"
        cursor.execute(f"INSERT INTO outbox_deadletters ({columns}) SELECT {columns} FROM outbox_events LIMIT 20000")
        cursor.execute("UPDATE outbox_deadletters SET holds = 1 WHERE id % 20 = 0")
        connection.commit()
        cursor.execute("ANALYZE TABLE outbox_events, outbox_deadletters")
    yield filled
    server.drop_database(name)


def statements(mariadb: bool, ids: Sequence[int] = range(1, 1001)) -> dict[str, tuple[str, tuple[Any, ...]]]:
    """Every statement that runs again and again, with values."""
    made = Statements(TableNames(), mariadb=mariadb, batch_bytes=8_000_000, keep_sent=True, may_hold=True)
    deleting = Statements(TableNames(), mariadb=mariadb, batch_bytes=8_000_000, keep_sent=False, may_hold=False)
    return {
        "read": (made.reading.read(LANES, 1000), ()),
        "read one lane": (made.reading.read([3], 1000), ()),
        "read some topics": (made.reading.read(LANES, 1000, TopicFilter(without=("a", "b"))), (b"a", b"b")),
        "read one topic": (made.reading.read(LANES, 1, TopicFilter(only="a")), (b"a",)),
        "read_with_signatures": (made.reading.read_with_signatures(LANES, 1000), ()),
        "any_new": (made.reading.any_new(LANES), ()),
        "any_new of some lanes": (made.reading.any_new([1, 3, 5]), ()),
        "payloads": (made.reading.payloads(ids), ()),
        "signatures": (made.reading.signatures(LANES), ()),
        "holding": (made.retries.holding(LANES), ()),
        "holding_rows": (made.retries.holding_rows(3), ()),
        "held_lanes": (made.retries.held_lanes(LANES), ()),
        "held": (made.retries.held(3, 17, 1000), ()),
        "release_held": (made.retries.release_held(ids), ()),
        "dated": (made.reading.dated(3), ()),
        "blocked": (made.reading.blocked([3, 4]), ()),
        "sent": (made.settling.sent(ids), ()),
        "sent, after a failover": (made.settling.sent(ids) + these(len(ids)), tuple(map(str, ids))),
        "sent, deleting": (deleting.settling.sent(ids), ()),
        "sent, deleting, after a failover": (deleting.settling.sent(ids) + these(len(ids)), tuple(map(str, ids))),
        "fence": (made.settling.fence(), ("instance",)),
        "retry": (made.settling.reject(ids, Status.RETRY, 1, retry=True), (1, "code: text")),
        "error": (made.settling.reject(ids, Status.ERROR, 1, retry=False), ("code: text",)),
        "due_of": (made.settling.due_of(1), ()),
        "hold": (made.settling.hold(ids), ("2037-01-01",)),
        "recount": (made.settling.recount(ids, 1, 2), ()),
        "due_lanes": (made.retries.due_lanes(LANES), ()),
        "due": (made.retries.due(3, 1000), ()),
        "promote": (made.retries.promote(ids), ()),
        "dated_ids": (made.retries.dated_ids(3, 1000), ()),
        "undate": (made.retries.undate(ids), ()),
        "lock_free": (made.recovery.lock_free(ids), ()),
        "stuck_lanes": (made.recovery.stuck_lanes(LANES), AGE),
        "stuck": (made.recovery.stuck(LANES, 1000), AGE),
        "release": (made.recovery.release(ids, Status.NEW), ("text",)),
        "unknown_status": (made.recovery.unknown_status(LANES, 1000), ()),
        "give_up": (made.recovery.give_up(ids, Status.ERROR), ("text",)),
        "failed": (made.dead_letters.failed(LANES, (-1, 0), 1000), ()),
        "lock_failed": (made.dead_letters.lock_failed(ids), ()),
        "copy_dead": (made.dead_letters.copy_dead(ids), ("code", 1)),
        "delete_moved": (made.dead_letters.delete_moved(ids), ()),
        "old_sent": (made.retention.old_sent(1000, 1000), AGE * 2),
        "old_dead": (made.retention.old_dead(1000, 1000), AGE * 2),
        "delete_sent": (made.retention.delete_sent(ids), ()),
        "lock_dead": (made.retention.lock_dead(ids), ()),
        "delete_dead": (made.retention.delete_dead(ids), ()),
        "look": (made.backlog.look(LANES), ()),
        "look, some lanes": (made.backlog.look([1, 3, 5]), ()),
        "counts": (made.backlog.counts([Status.NEW, Status.RETRY], LANES, 100_000), ()),
        "heads": (made.backlog.heads(Status.NEW, LANES), ()),
    }


def test_no_statement_is_forgotten() -> None:
    """Whatever builds SQL in the groups of `Statements` is explained here."""
    groups = vars(Statements(TableNames(), mariadb=False, batch_bytes=1, keep_sent=True, may_hold=True)).values()
    methods = [method for group in groups for method in vars(type(group)).items()]
    built = {name for name, value in methods if callable(value) and not name.startswith("_")}
    explained = {name.split(",")[0].split(" ")[0] for name in statements(False)}
    assert built == (explained - {"retry", "error"}) | {"reject"}


@pytest.mark.parametrize("name", statements(False))
def test_an_index_range_no_sort_and_no_full_scan(full: Database, name: str) -> None:
    """By EXPLAIN of MariaDB 10.11 and MySQL 9.7."""
    check(full, *statements(full.server.product == "mariadb")[name])


BY_ID: Final = [name for name, (one, _) in statements(False, [1]).items() if one != statements(False, [2])[name][0]]


@pytest.mark.parametrize("name", BY_ID)
@pytest.mark.parametrize("most", [BATCH, LARGEST_BATCH])
def test_rows_are_found_by_their_ids_in_a_small_table_too(small: Database, name: str, most: int) -> None:
    """However many ids there are: of rows that are few, and of rows that are gone."""
    check(small, *statements(small.server.product == "mariadb", range(1, most + 1))[name])


def check(database: Database, statement: str, values: tuple[Any, ...]) -> None:
    """No sort, no full scan, and no index but the relay's own."""
    for step in explained(database, statement, values):
        # The table that an INSERT fills is not searched, nor is a derived one.
        if step["table"] is None or step["table"].startswith("<") or step["select_type"] == "INSERT":
            continue
        extra = step["Extra"] or ""
        assert step["type"] in {"range", "ref", "eq_ref", "const"}, (step, statement[:200])
        assert "filesort" not in extra, (step, statement[:200])
        if "lane" in (step["key"] or ""):
            assert step["key"] in {LANE_INDEX, HOLDS_INDEX}


def explained(database: Database, statement: str, values: tuple[Any, ...]) -> list[dict[str, Any]]:
    """The rows of EXPLAIN in their traditional form, on a connection as the daemon's are."""
    with open_engine(database.url, ConnectOptions(unchecked=True)).connect() as connection:
        if database.server.product == "mysql":
            connection.exec_driver_sql("SET SESSION explain_format = 'TRADITIONAL'")
        found = connection.exec_driver_sql(f"EXPLAIN {statement}", values or None).mappings()
        steps = [dict(step) for step in found]
    assert steps
    print(json.dumps(steps, indent=1, default=str))
    return steps
