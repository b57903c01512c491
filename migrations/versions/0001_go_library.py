"""the two tables of the Go library overtonx/outbox, made or adopted"""

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.dialects import mysql
from sqlalchemy.exc import DBAPIError

from outboxd.model import TableNames
from outboxd.store.catalog import differences, shape_of
from outboxd.store.ddl import OURS, Steps, quote, refuse
from outboxd.store.engine import error_code

revision = "0001"
down_revision = None

NOW = "CURRENT_TIMESTAMP(6)"
COUNTED = 100_000
"""Up to how many rows are counted for the report."""
VIOLATED = frozenset({3819, 4025})
"""MySQL's and MariaDB's number for: a row does not satisfy a CHECK constraint."""
DUPLICATE_NAME = frozenset({3822, 1826})
NO_SUCH_CONSTRAINT = frozenset({3821, 3940, 1091})


def go_tables(names: TableNames) -> tuple[sa.Table, sa.Table]:
    """Events and dead letters, as the Go library creates them."""
    metadata = sa.MetaData()
    return _events(metadata, names.events), _dead_letters(metadata, names.dead_letters)


def _addressed() -> list[sa.Column]:
    return [
        sa.Column("event_id", sa.CHAR(36), nullable=False, unique=True),
        sa.Column("event_type", sa.String(255), nullable=False),
        sa.Column("aggregate_type", sa.String(255), nullable=False),
        sa.Column("aggregate_id", sa.String(255), nullable=False),
    ]


def _content() -> list[sa.Column]:
    return [
        sa.Column("topic", sa.String(255), nullable=False),
        sa.Column("payload", sa.JSON, nullable=False),
        sa.Column("trace_id", sa.CHAR(36)),
        sa.Column("span_id", sa.CHAR(36)),
    ]


def _time(name: str, default: str) -> sa.Column:
    return sa.Column(name, mysql.TIMESTAMP(fsp=6), nullable=False, server_default=sa.text(default))


def _events(metadata: sa.MetaData, name: str) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("id", sa.BigInteger, primary_key=True),
        *_addressed(),
        sa.Column("status", sa.Integer, nullable=False, server_default=sa.text("0")),
        *_content(),
        sa.Column("attempt_count", sa.Integer, nullable=False, server_default=sa.text("0")),
        sa.Column("next_attempt_at", sa.TIMESTAMP),
        sa.Column("last_error", sa.Text),
        _time("created_at", NOW),
        _time("updated_at", f"{NOW} ON UPDATE {NOW}"),
        sa.Index("idx_status_next_attempt", "status", "next_attempt_at"),
        sa.Index("idx_aggregate", "aggregate_type", "aggregate_id"),
        sa.Index("idx_created_at", "created_at"),
    )


def _dead_letters(metadata: sa.MetaData, name: str) -> sa.Table:
    return sa.Table(
        name,
        metadata,
        sa.Column("id", sa.BigInteger, primary_key=True, autoincrement=False),
        *_addressed(),
        *_content(),
        sa.Column("attempt_count", sa.Integer, nullable=False),
        sa.Column("last_error", sa.String(2000)),
        _time("created_at", NOW),
    )


def check_upgrade(steps: Steps) -> None:
    """Tables that are there must be the Go library's."""
    problems = []
    for wanted in go_tables(steps.names):
        actual = steps.shape(wanted.name)
        if actual is not None:
            problems += differences(wanted.name, actual, shape_of(wanted))
    refuse(problems, "the tables that are there are not those of the Go library overtonx/outbox")


def upgrade(steps: Steps) -> None:
    """Makes what is missing; leaves what is there as it is."""
    for table in go_tables(steps.names):
        actual = steps.shape(table.name)
        if actual is None:
            steps.create_table(table)
            steps.report(f"{table.name}: made")
        elif actual.comment != OURS:
            steps.report(f"{table.name}: adopted ({_count(steps, table.name)})")


def _count(steps: Steps, table: str) -> str:
    rows = steps.scalar(f"SELECT COUNT(*) FROM (SELECT 1 FROM {quote(table)} LIMIT {COUNTED + 1}) AS some")
    return f"more than {COUNTED:,} rows" if rows > COUNTED else f"{rows:,} {'row' if rows == 1 else 'rows'}"


def check_downgrade(steps: Steps) -> None:
    """Tables go only when outboxd made them and nothing in them waits for anybody."""
    refuse(_in_use(steps), "the tables cannot be dropped")


def _in_use(steps: Steps) -> Iterator[str]:
    for table in (steps.names.events, steps.names.dead_letters):
        shape = steps.shape(table)
        if shape is not None and shape.comment != OURS:
            yield f"{table} was adopted: whoever made it may drop it"
    events, dead_letters = steps.names.events, steps.names.dead_letters
    undelivered = f"SELECT EXISTS (SELECT 1 FROM {quote(events)} WHERE status < 1 OR status > 1)"
    if steps.shape(events) is not None and steps.scalar(undelivered):
        yield f"{events} holds events that were not delivered"
    if steps.shape(dead_letters) is not None and steps.scalar(f"SELECT EXISTS (SELECT 1 FROM {quote(dead_letters)})"):
        yield f"{dead_letters} holds dead letters"


def downgrade(steps: Steps) -> None:
    """Drops the tables.

    Between the check and the DROP a row may come in: a CHECK constraint finds it, and lets no other in. Where the
    DROP fails, the tables are opened again.
    """
    dead_letters, events = steps.names.dead_letters, steps.names.events
    tables = ((dead_letters, f"{events}_shut_d", "id IS NULL"), (events, f"{events}_shut_e", "status = 1"))
    try:
        for table, constraint, condition in tables:
            _close(steps, table, constraint, condition)
        for table, _, _ in tables:
            steps.drop_table(table)
    except Exception:
        for table, constraint, _ in tables:
            _reopen(steps, table, constraint)
        raise


def _close(steps: Steps, table: str, constraint: str, condition: str) -> None:
    """From now on, and for all rows that are there, the condition holds."""
    if steps.shape(table) is None:
        return
    try:
        steps.execute(f"ALTER TABLE {quote(table)} ADD CONSTRAINT {quote(constraint)} CHECK ({condition})")
    except DBAPIError as error:
        if error_code(error) in VIOLATED:
            refuse([f"a row came into {table} meanwhile"], "the tables cannot be dropped")
        if error_code(error) not in DUPLICATE_NAME:
            raise


def _reopen(steps: Steps, table: str, constraint: str) -> None:
    if steps.shape(table) is None:
        return
    try:
        steps.execute(f"ALTER TABLE {quote(table)} DROP CONSTRAINT {quote(constraint)}")
    except DBAPIError as error:
        if error_code(error) not in NO_SUCH_CONSTRAINT:
            raise
