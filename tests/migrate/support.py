"""The Go library's tables, rows for them, and short ways to ask a server."""

import re
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import sqlalchemy as sa

from outboxd.model import TableNames
from outboxd.store.catalog import TableShape, read_table, shape_of
from outboxd.store.engine import open_engine
from outboxd.store.migrator import Migrator
from outboxd.store.schema import tables

NAMES = TableNames()

GO_EVENTS = """CREATE TABLE {name} (
    id bigint AUTO_INCREMENT PRIMARY KEY, event_id char(36) NOT NULL UNIQUE, event_type varchar(255) NOT NULL,
    aggregate_type varchar(255) NOT NULL, aggregate_id varchar(255) NOT NULL, status int NOT NULL DEFAULT 0,
    topic varchar(255) NOT NULL, payload json NOT NULL, trace_id char(36) NULL, span_id char(36) NULL,
    attempt_count int NOT NULL DEFAULT 0, next_attempt_at timestamp NULL, last_error text NULL,
    created_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6),
    updated_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6) ON UPDATE CURRENT_TIMESTAMP(6),
    INDEX idx_status_next_attempt (status, next_attempt_at), INDEX idx_aggregate (aggregate_type, aggregate_id),
    INDEX idx_created_at (created_at)
) ENGINE=InnoDB {charset}"""

GO_DEAD_LETTERS = """CREATE TABLE {name} (
    id bigint PRIMARY KEY, event_id char(36) NOT NULL UNIQUE, event_type varchar(255) NOT NULL,
    aggregate_type varchar(255) NOT NULL, aggregate_id varchar(255) NOT NULL, topic varchar(255) NOT NULL,
    payload json NOT NULL, trace_id char(36) NULL, span_id char(36) NULL, attempt_count int NOT NULL,
    last_error varchar(2000) NULL, created_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)
) ENGINE=InnoDB {charset}"""

UTF8 = "DEFAULT CHARSET=utf8mb4 COLLATE=utf8mb4_unicode_ci"


class Sql:
    """A connection in autocommit, with statements as one-liners."""

    def __init__(self, connection: Any) -> None:
        self._connection = connection

    def __call__(self, statement: str, *values: Any) -> list[tuple[Any, ...]]:
        """The rows of one statement."""
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values or None)
            return list(cursor.fetchall())

    def one(self, statement: str, *values: Any) -> Any:
        """The first value of the first row."""
        return self(statement, *values)[0][0]

    def tables(self) -> set[str]:
        """The names of all tables."""
        return {row[0] for row in self("SHOW TABLES")}

    def definitions(self) -> dict[str, str]:
        """What every table looks like, as the server says it, without the counter."""
        shown = {name: self(f"SHOW CREATE TABLE `{name}`")[0][1] for name in self.tables()}
        return {name: re.sub(r" AUTO_INCREMENT=\d+", "", text) for name, text in shown.items()}

    def parts(self, *names: str) -> list[list[str]]:
        """The lines of these tables' definitions, in any order: an index that was made again stands last."""
        found = self.definitions()
        return [sorted(line.rstrip(",") for line in found[name].splitlines()) for name in names]

    def make_go_tables(self, names: TableNames = NAMES, charset: str = UTF8) -> None:
        """As the Go library does."""
        self(GO_EVENTS.format(name=names.events, charset=charset))
        self(GO_DEAD_LETTERS.format(name=names.dead_letters, charset=charset))

    def insert_event(self, status: int = 0, names: TableNames = NAMES) -> None:
        """As the Go library does, with a list of columns."""
        self(
            f"INSERT INTO {names.events} (event_id, event_type, aggregate_type, aggregate_id, status, topic, payload) "
            "VALUES (%s, 'made', 'order', 'o-1', %s, 'orders', '{\"a\": 1}')",
            str(uuid.uuid4()),
            status,
        )

    def insert_dead_letter(self, key: int = 1) -> None:
        """One dead letter, with a list of columns."""
        self(
            "INSERT INTO outbox_deadletters (id, event_id, event_type, aggregate_type, aggregate_id, topic, payload, "
            "attempt_count) VALUES (%s, UUID(), 'made', 'order', 'o-1', 'orders', '{}', 3)",
            key,
        )

    def insert_instance(self, seconds: int = 60) -> None:
        """An instance whose lease ends that many seconds from now."""
        self(
            "INSERT INTO outbox_instances (id, host, pid, version, expires_at) "
            "VALUES ('i', 'h', 1, '1', NOW(6) + INTERVAL %s SECOND)",
            seconds,
        )


@contextmanager
def connected(url: str) -> Iterator[sa.Connection]:
    """A connection as the daemon has it."""
    with open_engine(url).connect() as connection:
        yield connection


def shapes(url: str, names: TableNames = NAMES) -> dict[str, TableShape | None]:
    """The four tables as the server has them, by the names' fields."""
    with connected(url) as connection:
        return {field: read_table(connection, name) for field, name in names._asdict().items()}


def model(names: TableNames = NAMES) -> dict[str, TableShape]:
    """The four tables as the model wants them."""
    schema = tables(names)
    return {field: shape_of(getattr(schema, field)) for field in TableNames._fields}


def in_order(shape: TableShape | None) -> Any:
    """A shape such that == also compares the order of the columns."""
    assert shape is not None
    return list(shape.columns.items()), dict(shape.indexes), shape.kind


def migrate(url: str, to: str = "head", names: TableNames = NAMES) -> list[str]:
    """Goes up; returns what was reported."""
    lines: list[str] = []
    Migrator(url, names, report=lines.append).upgrade(to)
    return lines
