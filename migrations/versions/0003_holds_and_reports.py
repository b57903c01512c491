"""dead letters that hold their aggregate, reads past paused topics, and what an instance reports"""

from collections.abc import Iterator

import sqlalchemy as sa
from sqlalchemy.dialects import mysql

from outboxd.model import TableNames
from outboxd.store.catalog import IndexShape, column_differences, shape_of
from outboxd.store.ddl import Steps, quote, refuse

revision = "0003"
down_revision = "0002"

INVISIBLE = {"invisible": True}
HOLDS_INDEX = ("idx_holds_lane", ("holds", "lane"))
HELD_UNTIL = "2038-01-17 13:37:11"
RELAY_INDEX = ("idx_relay", ("status", "lane", "next_attempt_at", "id", "topic"))
REPLACED_INDEX = ("idx_status_lane_next_attempt", ("status", "lane", "next_attempt_at"))


def added_columns(names: TableNames) -> tuple[sa.Table, sa.Table]:
    """What two of the tables get, as tables of only these columns."""
    metadata = sa.MetaData()
    lane = sa.Computed("crc32(aggregate_id) & 63", persisted=False)
    return (
        sa.Table(
            names.dead_letters,
            metadata,
            sa.Column("lane", mysql.TINYINT(unsigned=True), lane, info=INVISIBLE),
            sa.Column("holds", mysql.TINYINT(unsigned=True), info=INVISIBLE),
        ),
        sa.Table(names.instances, metadata, sa.Column("report", sa.JSON)),
    )


def check_upgrade(steps: Steps) -> None:
    """The user must not have something else under the names of what is added."""
    refuse(_conflicts(steps), "what is there has the names of what outboxd adds")


def _conflicts(steps: Steps) -> Iterator[str]:
    for table in added_columns(steps.names):
        actual = steps.shape(table.name)
        if actual is not None:
            yield from column_differences(table.name, actual, shape_of(table).columns, missing_is_different=False)
    for table, (name, columns) in ((steps.names.dead_letters, HOLDS_INDEX), (steps.names.events, RELAY_INDEX)):
        shape, wanted = steps.shape(table), IndexShape(False, columns)
        if shape is not None and shape.indexes.get(name, wanted) != wanted:
            yield f"{table} has an index {name} that is not on ({', '.join(columns)})"


def upgrade(steps: Steps) -> None:
    """Adds the columns, then the index on them. The relay's index is there before the one that it replaces goes."""
    for table in added_columns(steps.names):
        steps.add_columns(table)
    steps.add_index(steps.names.dead_letters, *HOLDS_INDEX)
    steps.add_index(steps.names.events, *RELAY_INDEX)
    steps.drop_index(steps.names.events, *REPLACED_INDEX)


def check_downgrade(steps: Steps) -> None:
    """No daemon may be running, and no event may wait for something that the revision below does not know."""
    refuse(_still_needed(steps), "this revision is in use")


def _still_needed(steps: Steps) -> Iterator[str]:
    names = steps.names
    living = steps.scalar(f"SELECT COUNT(*) FROM {quote(names.instances)} WHERE expires_at > NOW(6)")
    if living:
        yield f"{living} {'instance is' if living == 1 else 'instances are'} running: stop the daemon first"
    dead_letters = steps.shape(names.dead_letters)
    holding = f"SELECT EXISTS (SELECT 1 FROM {quote(names.dead_letters)} WHERE holds = 1)"
    if dead_letters is not None and "holds" in dead_letters.columns and steps.scalar(holding):
        yield f"{names.dead_letters} holds back aggregates: requeue or discard these dead letters first"
    held = f"SELECT EXISTS (SELECT 1 FROM {quote(names.events)} WHERE status = 2 AND next_attempt_at = '{HELD_UNTIL}')"
    if steps.scalar(held):
        yield f"{names.events} has events that are held behind a dead letter: let the daemon release them first"


def downgrade(steps: Steps) -> None:
    """The index goes before its columns; the old one of the relay is there before the new one goes."""
    steps.add_index(steps.names.events, *REPLACED_INDEX)
    steps.drop_index(steps.names.events, *RELAY_INDEX)
    steps.drop_index(steps.names.dead_letters, *HOLDS_INDEX)
    for table in added_columns(steps.names):
        steps.drop_columns(table)
