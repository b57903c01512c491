"""Dead letters and events for the tests."""

import uuid
from typing import Any

from tests.migrate.support import Sql

DEAD = {
    "event_type": "order.placed",
    "aggregate_type": "order",
    "aggregate_id": "order-1",
    "topic": "orders",
    "payload": '{"n": 1}',
    "attempt_count": 3,
    "last_error": "message_too_large: the payload has 1100000 bytes; raise kafka.max_message_bytes",
    "reason": "message_too_large",
    "moved_at": "2026-01-31 12:00:00.5",
    "created_at": "2026-01-31 11:00:00",
}


def insert_dead(sql: Sql, key: int, **columns: Any) -> str:
    """A dead letter; other columns override. Returns its event_id."""
    values = {"id": key, "event_id": str(uuid.uuid4())} | DEAD | columns
    insert(sql, "outbox_deadletters", values)
    return str(values["event_id"])


def insert_event(sql: Sql, key: int, **columns: Any) -> None:
    """An event; other columns override."""
    kept = {name: DEAD[name] for name in ("event_type", "aggregate_type", "aggregate_id", "topic", "payload")}
    insert(sql, "outbox_events", {"id": key, "event_id": str(uuid.uuid4())} | kept | columns)


def insert(sql: Sql, table: str, values: dict[str, Any]) -> None:
    """One row."""
    sql(f"INSERT INTO {table} ({', '.join(values)}) VALUES ({', '.join(['%s'] * len(values))})", *values.values())


def fill_dead(sql: Sql, count: int, first: int = 1, aggregates: int = 100) -> None:
    """Many dead letters with ids from `first` on."""
    sql("BEGIN")
    for start in range(first, first + count, 1000):
        rows = [
            (number, str(uuid.uuid4()), f"order-{number % aggregates}", f'{{"n": {number}}}')
            for number in range(start, min(start + 1000, first + count))
        ]
        values = ", ".join(["(%s, %s, 'order.placed', 'order', %s, 'orders', %s, 3, 'broken', NOW(6))"] * len(rows))
        sql(
            "INSERT INTO outbox_deadletters (id, event_id, event_type, aggregate_type, aggregate_id, topic, payload, "
            f"attempt_count, reason, moved_at) VALUES {values}",
            *(value for row in rows for value in row),
        )
    sql("COMMIT")


def ids(sql: Sql, table: str = "outbox_deadletters") -> list[int]:
    """The ids of a table, in order."""
    return [row[0] for row in sql(f"SELECT id FROM {table} ORDER BY id")]
