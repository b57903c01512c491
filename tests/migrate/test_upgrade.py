"""From nothing, from the Go library's tables, from half of a run; up and down."""

from collections.abc import Callable

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from outboxd.errors import SchemaError
from outboxd.model import TableNames
from outboxd.store.ddl import Steps
from outboxd.store.migrator import Migrator, scripts_folder
from tests.conftest import Database
from tests.migrate.support import NAMES, UTF8, Sql, connected, in_order, migrate, model, shapes

GO_NAMES = TableNames("go_events", "go_deadletters")
LANES = [(lane, None, 0, None) for lane in range(64)]


def assert_newest(database: Database, sql: Sql, names: TableNames = NAMES) -> None:
    """The tables are those of the model, and the lanes are there, free."""
    found, wanted = shapes(database.url, names), model(names)
    assert {table: in_order(shape) for table, shape in found.items()} == {
        table: in_order(shape) for table, shape in wanted.items()
    }
    assert sql(f"SELECT lane, owner, deaths, alone_id FROM {names.lanes} ORDER BY lane") == LANES


def test_from_nothing_the_tables_are_those_of_the_model(database: Database, sql: Sql) -> None:
    """Columns (type, nullability, default, expression, visibility) in their order, and all indexes."""
    migrate(database.url)
    assert_newest(database, sql)
    assert sql.tables() == {*NAMES, "outbox_events_version"}


def test_the_first_revision_makes_the_go_librarys_tables(database: Database, sql: Sql) -> None:
    """No difference to those that the library's own DDL makes, character sets included."""
    sql.make_go_tables(GO_NAMES)
    migrate(database.url, "0001")
    found, wanted = shapes(database.url), shapes(database.url, GO_NAMES)
    for table in ("events", "dead_letters"):
        assert in_order(found[table]) == in_order(wanted[table])
    charsets = """SELECT column_name, character_set_name, collation_name FROM information_schema.columns
                   WHERE table_schema = DATABASE() AND table_name = %s ORDER BY ordinal_position"""
    assert sql(charsets, NAMES.events) == sql(charsets, GO_NAMES.events)
    assert sql(charsets, NAMES.dead_letters) == sql(charsets, GO_NAMES.dead_letters)


def test_down_and_up_again(database: Database, sql: Sql) -> None:
    """Down gives the first revision's tables, down to base nothing but the version table; up the model."""
    migrate(database.url, "0001")
    first = sql.parts(NAMES.events, NAMES.dead_letters)
    migrate(database.url)
    migrator = Migrator(database.url, NAMES)
    migrator.downgrade("0001")
    assert migrator.current() == "0001"
    assert sql.parts(NAMES.events, NAMES.dead_letters) == first
    assert sql.tables() == {NAMES.events, NAMES.dead_letters, "outbox_events_version"}
    migrate(database.url)
    assert_newest(database, sql)
    migrator.downgrade("base")
    assert sql.tables() == {"outbox_events_version"}
    assert migrator.current() is None
    migrate(database.url)
    assert_newest(database, sql)


def test_writers_that_name_no_columns_go_on(database: Database, sql: Sql) -> None:
    """A positional INSERT and SELECT * see the 15 and 12 columns of the Go library."""
    sql.make_go_tables()
    migrate(database.url)
    sql(
        "INSERT INTO outbox_events VALUES (7, UUID(), 'made', 'order', 'o-1', 0, 'orders', '{}', NULL, NULL, 0, NULL, "
        "NULL, NOW(6), NOW(6))"
    )
    assert len(sql("SELECT * FROM outbox_events")[0]) == 15
    sql("INSERT INTO outbox_deadletters VALUES (8, UUID(), 't', 'a', 'o', 'x', '{}', NULL, NULL, 1, 'e', NOW(6))")
    assert len(sql("SELECT * FROM outbox_deadletters")[0]) == 12
    assert sql("SELECT lane = crc32('o-1') & 63, headers FROM outbox_events") == [(1, None)]


# --- adoption ---------------------------------------------------------------------------------------------------


def test_tables_of_the_go_library_are_adopted_with_their_rows(database: Database, sql: Sql) -> None:
    """Rows in every status stay as they are, to the microsecond, up and down; going up says how many there are."""
    sql.make_go_tables()
    for status in (0, 1, 2, 3, 4):
        sql.insert_event(status)
    sql("UPDATE outbox_events SET next_attempt_at = NOW(), attempt_count = 2, last_error = 'x' WHERE status = 2")
    sql.insert_dead_letter()
    before = sql("SELECT * FROM outbox_events ORDER BY id"), sql("SELECT * FROM outbox_deadletters")
    definitions = sql.parts(NAMES.events, NAMES.dead_letters)
    lines = migrate(database.url)
    assert "outbox_events: adopted (5 rows)" in lines
    assert "outbox_deadletters: adopted (1 row)" in lines
    assert_newest(database, sql)
    assert before == (sql("SELECT * FROM outbox_events ORDER BY id"), sql("SELECT * FROM outbox_deadletters"))
    Migrator(database.url, NAMES).downgrade("0001")
    assert before == (sql("SELECT * FROM outbox_events ORDER BY id"), sql("SELECT * FROM outbox_deadletters"))
    assert sql.parts(NAMES.events, NAMES.dead_letters) == definitions


@pytest.mark.parametrize(
    "change",
    [
        "ADD COLUMN tenant varchar(36) NULL",
        "ADD COLUMN tenant varchar(36) NOT NULL DEFAULT 'x'",
        "ADD COLUMN tenant varchar(36) NULL INVISIBLE",
        "ADD COLUMN tenant varchar(255) AS (upper(topic)) STORED",
        "ADD INDEX idx_topic (topic)",
        "DROP INDEX idx_status_next_attempt, DROP INDEX idx_aggregate, DROP INDEX idx_created_at",
        "RENAME INDEX event_id TO ux_event",
        "CONVERT TO CHARACTER SET latin1",
    ],
)
def test_what_a_user_may_have_added_is_tolerated(database: Database, sql: Sql, change: str) -> None:
    """Columns that an INSERT may leave out, indexes, the character set: they stay as they are."""
    sql.make_go_tables()
    sql(f"ALTER TABLE outbox_events {change}")
    migrate(database.url)
    found, wanted = shapes(database.url)["events"], model()["events"]
    assert found is not None
    assert found.columns.items() >= wanted.columns.items()
    assert "idx_relay" in found.indexes
    assert ("tenant" in found.columns) == ("COLUMN" in change)


def test_the_databases_default_character_set_does_not_matter(database: Database, sql: Sql) -> None:
    """Tables made without naming one are adopted."""
    sql(f"ALTER DATABASE `{database.name}` CHARACTER SET latin1")
    sql.make_go_tables(charset="")
    migrate(database.url)
    assert_newest(database, sql)


DIFFERENT = [
    ("events", "MODIFY aggregate_id varchar(64) NOT NULL", "outbox_events.aggregate_id is varchar(64) not null"),
    ("events", "MODIFY aggregate_id varchar(255) NULL", "aggregate_id is varchar(255) null, it must be varchar(255) n"),
    ("events", "MODIFY status int NOT NULL", "outbox_events.status is int not null, it must be int not null default 0"),
    ("events", "MODIFY payload blob NOT NULL", "outbox_events.payload is blob not null, it must be json not null"),
    ("events", "MODIFY id bigint NOT NULL", "outbox_events.id is bigint not null, it must be bigint not null auto_inc"),
    (
        "events",
        "MODIFY updated_at timestamp(6) NOT NULL DEFAULT CURRENT_TIMESTAMP(6)",
        "on update current_timestamp(6)",
    ),
    ("events", "DROP COLUMN trace_id", "outbox_events.trace_id is missing, it must be char(36) null"),
    ("events", "DROP INDEX event_id", "outbox_events has no unique index on (event_id)"),
    ("events", "ADD COLUMN tenant int NOT NULL", "outbox_events.tenant (int not null) is not known to outboxd"),
    ("events", "ADD COLUMN lane int NULL", "outbox_events.lane is int null, it must be tinyint unsigned as (crc32"),
    ("events", "ADD COLUMN headers json NULL", "outbox_events.headers is json null, it must be json null invisible"),
    ("events", "ADD INDEX idx_status_lane_next_attempt (status)", "has an index idx_status_lane_next_attempt that"),
    ("dead_letters", "MODIFY last_error text NULL", "outbox_deadletters.last_error is text null, it must be varchar"),
    ("dead_letters", "DROP PRIMARY KEY", "outbox_deadletters has no unique index on (id)"),
    ("dead_letters", "ADD COLUMN reason int NULL", "outbox_deadletters.reason is int null, it must be varchar(64)"),
    ("dead_letters", "ENGINE=MyISAM", "outbox_deadletters is a MyISAM table, it must be an InnoDB table"),
]


@pytest.mark.parametrize(("table", "change", "said"), DIFFERENT, ids=[change for _, change, _ in DIFFERENT])
def test_a_table_that_differs_is_refused_and_nothing_is_changed(
    database: Database, sql: Sql, table: str, change: str, said: str
) -> None:
    """The error says in what; no table is made or altered, not even the version table."""
    sql.make_go_tables()
    sql(f"ALTER TABLE {getattr(NAMES, table)} {change}")
    before = sql.definitions()
    with pytest.raises(SchemaError) as caught:
        migrate(database.url)
    assert said in str(caught.value)
    assert "nothing was changed" in str(caught.value)
    assert sql.definitions() == before


def test_every_difference_is_listed(database: Database, sql: Sql) -> None:
    """Also those of the second table, and of names that only a later revision uses."""
    sql.make_go_tables()
    sql("ALTER TABLE outbox_events DROP COLUMN span_id, MODIFY topic varchar(100) NOT NULL")
    sql("ALTER TABLE outbox_deadletters DROP COLUMN span_id")
    with pytest.raises(SchemaError) as caught:
        migrate(database.url)
    for said in ("outbox_events.span_id is", "outbox_events.topic is", "outbox_deadletters.span_id is"):
        assert said in str(caught.value)


@pytest.mark.parametrize("name", ["outbox_instances", "outbox_lanes"])
def test_a_foreign_table_under_our_name_is_refused(database: Database, sql: Sql, name: str) -> None:
    """It is found before the first change."""
    sql(f"CREATE TABLE {name} (id int PRIMARY KEY)")
    with pytest.raises(SchemaError, match=f"{name}.* is missing"):
        migrate(database.url)
    assert sql.tables() == {name}


def test_a_view_is_refused(database: Database, sql: Sql) -> None:
    """A view of the right columns is no table to adopt."""
    sql.make_go_tables(GO_NAMES)
    sql("CREATE VIEW outbox_events AS SELECT * FROM go_events")
    with pytest.raises(SchemaError, match="outbox_events is a view, it must be an InnoDB table"):
        migrate(database.url)


def test_two_sources_in_one_database(database: Database, sql: Sql) -> None:
    """Each has its own tables and its own version."""
    other = TableNames("billing", "billing_dead", "billing_instances", "billing_lanes")
    migrate(database.url)
    migrate(database.url, names=other)
    Migrator(database.url, NAMES).downgrade("base")
    assert sql.tables() == {*other, "outbox_events_version", "billing_version"}
    assert_newest(database, sql, other)


# --- half of a run ----------------------------------------------------------------------------------------------


class Crash(BaseException):
    """The process dies here."""


def crashing(connection: Connection, after: int) -> Callable[[str], None]:
    """Runs that many statements, and no more."""
    left = after

    def run(statement: str) -> None:
        nonlocal left
        if not left:
            raise Crash
        left -= 1
        connection.exec_driver_sql(statement)

    return run


@pytest.mark.parametrize("direction", ["upgrade", "downgrade"])
@pytest.mark.parametrize(
    ("revision", "below", "least"), [("0001", "base", 2), ("0002", "0001", 9), ("0003", "0002", 6)]
)
def test_a_run_that_died_is_finished_by_the_next(
    database: Database, sql: Sql, revision: str, below: str, least: int, direction: str
) -> None:
    """Dead before, between and behind any two statements of a revision, whose number was not written any more."""
    script = ScriptDirectory(str(scripts_folder())).get_revision(revision)
    reference = TableNames(*"abcd")
    if below != "base":
        Migrator(database.url, reference).upgrade(below)
    before = shapes(database.url, reference)
    died = -1
    with connected(database.url) as connection:
        crashed = True
        while crashed:
            died += 1
            names = TableNames(*(f"t{died}_{name}" for name in NAMES))
            migrator = Migrator(database.url, names)
            start = below if direction == "upgrade" else revision
            if start != "base":
                migrator.upgrade(start)
            steps = Steps(names, crashing(connection, died), connection, report=lambda line: None, patience=0)
            try:
                getattr(script.module, direction)(steps)
                crashed = False
            except Crash:
                pass
            if direction == "upgrade":
                migrator.upgrade()
                assert_newest(database, sql, names)
            else:
                migrator.downgrade(below)
                assert shapes(database.url, names) == before
    assert died >= least


def test_a_lost_version_table_is_written_again(database: Database, sql: Sql) -> None:
    """Everything is found done: the tables are adopted as they are."""
    migrate(database.url)
    sql("DROP TABLE outbox_events_version")
    migrate(database.url)
    assert Migrator(database.url, NAMES).current() == "0003"
    assert_newest(database, sql)
    assert UTF8 in sql.definitions()["outbox_events"]
