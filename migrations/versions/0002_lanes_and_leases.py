"""lanes and their leases, message headers, when and why an event was given up"""

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from outboxd.model import TableNames
from outboxd.store.catalog import IndexShape, column_differences, differences, shape_of
from outboxd.store.ddl import Steps, quote, refuse

revision = "0002"
down_revision = "0001"

NOW = "CURRENT_TIMESTAMP(6)"
INVISIBLE = {"invisible": True}
LANE_INDEX = ("idx_status_lane_next_attempt", ("status", "lane", "next_attempt_at"))
REPLACED_INDEX = ("idx_status_next_attempt", ("status", "next_attempt_at"))


def added_columns(names: TableNames) -> tuple[sa.Table, sa.Table]:
    """What the two existing tables get, as tables of only these columns."""
    metadata = sa.MetaData()
    lane = sa.Computed("crc32(aggregate_id) & 63", persisted=False)
    return (
        sa.Table(
            names.events,
            metadata,
            sa.Column("lane", mysql.TINYINT(unsigned=True), lane, info=INVISIBLE),
            sa.Column("headers", sa.JSON, info=INVISIBLE),
        ),
        sa.Table(
            names.dead_letters,
            metadata,
            sa.Column("headers", sa.JSON, info=INVISIBLE),
            sa.Column("moved_at", mysql.TIMESTAMP(fsp=6), info=INVISIBLE),
            sa.Column("reason", sa.String(64), info=INVISIBLE),
        ),
    )


def new_tables(names: TableNames) -> tuple[sa.Table, sa.Table]:
    """Instances and lanes. Every time has a default, as MariaDB may give the first one ON UPDATE of its own accord."""
    metadata = sa.MetaData()
    binary = {"mysql_collate": "utf8mb4_bin"}
    return (
        sa.Table(
            names.instances,
            metadata,
            sa.Column("id", sa.String(80), primary_key=True),
            sa.Column("name", sa.String(64), unique=True),
            sa.Column("host", sa.String(255), nullable=False),
            sa.Column("pid", mysql.INTEGER(unsigned=True), nullable=False),
            sa.Column("version", sa.String(32), nullable=False),
            _time("started_at", NOW),
            _time("expires_at", NOW),
            **binary,
        ),
        sa.Table(
            names.lanes,
            metadata,
            sa.Column("lane", mysql.TINYINT(unsigned=True), primary_key=True, autoincrement=False),
            sa.Column("owner", sa.String(80)),
            sa.Column("deaths", mysql.INTEGER(unsigned=True), nullable=False, server_default=sa.text("0")),
            sa.Column("alone_id", sa.BigInteger),
            _time("updated_at", f"{NOW} ON UPDATE {NOW}"),
            sa.Index("idx_owner", "owner"),
            **binary,
        ),
    )


def _time(name: str, default: str) -> sa.Column:
    return sa.Column(name, mysql.TIMESTAMP(fsp=6), nullable=False, server_default=sa.text(default))


def check_upgrade(steps: Steps) -> None:
    """The user must not have something else under the names of what is added."""
    refuse(_conflicts(steps), "what is there has the names of what outboxd adds")


def _conflicts(steps: Steps) -> Iterator[str]:
    for table in added_columns(steps.names):
        actual = steps.shape(table.name)
        if actual is not None:
            yield from column_differences(table.name, actual, shape_of(table).columns, missing_is_different=False)
    events = steps.shape(steps.names.events)
    name, columns = LANE_INDEX
    if events is not None and events.indexes.get(name, IndexShape(False, columns)) != IndexShape(False, columns):
        yield f"{steps.names.events} has an index {name} that is not on ({', '.join(columns)})"
    for table in new_tables(steps.names):
        actual = steps.shape(table.name)
        if actual is not None:
            yield from differences(table.name, actual, shape_of(table))


def upgrade(steps: Steps) -> None:
    """The lane index is there before the one that it replaces goes."""
    for table in added_columns(steps.names):
        steps.add_columns(table)
    steps.add_index(steps.names.events, *LANE_INDEX)
    steps.drop_index(steps.names.events, *REPLACED_INDEX)
    for table in new_tables(steps.names):
        steps.create_table(table)
    lanes = ", ".join(f"({lane})" for lane in range(64))
    steps.execute(f"INSERT IGNORE INTO {quote(steps.names.lanes)} (lane) VALUES {lanes}")


def check_downgrade(steps: Steps) -> None:
    """No daemon may be running, and nothing that still has to be delivered may lose its headers."""
    refuse(_still_needed(steps), "this revision is in use")


def _still_needed(steps: Steps) -> Iterator[str]:
    names = steps.names
    if steps.shape(names.instances) is not None:
        living = steps.scalar(f"SELECT COUNT(*) FROM {quote(names.instances)} WHERE expires_at > NOW(6)")
        if living:
            yield f"{living} {'instance is' if living == 1 else 'instances are'} running: stop the daemon first"
    kept = {
        names.events: ("(status < 1 OR status > 1) AND", "events that were not delivered"),
        names.dead_letters: ("", "dead letters"),
    }
    for table, (condition, what) in kept.items():
        shape = steps.shape(table)
        query = f"SELECT EXISTS (SELECT 1 FROM {quote(table)} WHERE {condition} headers IS NOT NULL)"
        if shape is not None and "headers" in shape.columns and steps.scalar(query):
            yield f"{table} holds {what} with headers, which would be lost"


def downgrade(steps: Steps) -> None:
    """The old index is there before the lane index goes."""
    for table in new_tables(steps.names):
        steps.drop_table(table.name)
    steps.add_index(steps.names.events, *REPLACED_INDEX)
    steps.drop_index(steps.names.events, *LANE_INDEX)
    for table in added_columns(steps.names):
        steps.drop_columns(table)
