"""What `down` refuses: whatever would lose a row or a header, or pull the tables away under a daemon."""

from collections.abc import Callable

import pytest
from alembic.script import ScriptDirectory

from outboxd.errors import SchemaError
from outboxd.model import HELD_UNTIL
from outboxd.store.ddl import Steps
from outboxd.store.migrator import Migrator, scripts_folder
from tests.conftest import Database
from tests.migrate.support import NAMES, Sql, connected, migrate

Prepare = Callable[[Sql], None]


def insert_event_with_headers(sql: Sql) -> None:
    """An event in retry."""
    sql.insert_event(2)
    sql("UPDATE outbox_events SET headers = '{}'")


def insert_dead_letter_with_headers(sql: Sql) -> None:
    """A dead letter that could be requeued."""
    sql.insert_dead_letter()
    sql("UPDATE outbox_deadletters SET headers = '{}'")


def insert_holding_dead_letter(sql: Sql) -> None:
    """A dead letter behind which its aggregate waits."""
    sql.insert_dead_letter()
    sql("UPDATE outbox_deadletters SET holds = 1")


def insert_held_event(sql: Sql) -> None:
    """An event that is held, whose dead letter has gone."""
    sql.insert_event(2)
    sql("UPDATE outbox_events SET next_attempt_at = %s", HELD_UNTIL)


REFUSED: list[tuple[str, str, Prepare]] = [
    ("0001", "1 instance is running: stop the daemon first", lambda sql: sql.insert_instance()),
    ("0002", "1 instance is running: stop the daemon first", lambda sql: sql.insert_instance()),
    ("0002", "outbox_deadletters holds back aggregates", insert_holding_dead_letter),
    ("0002", "outbox_events has events that are held behind a dead letter", insert_held_event),
    ("0001", "outbox_events holds events that were not delivered with headers", insert_event_with_headers),
    ("0001", "outbox_deadletters holds dead letters with headers", insert_dead_letter_with_headers),
    ("base", "outbox_events holds events that were not delivered", lambda sql: sql.insert_event(0)),
    ("base", "outbox_events holds events that were not delivered", lambda sql: sql.insert_event(4)),
    ("base", "outbox_events holds events that were not delivered", lambda sql: sql.insert_event(-1)),
    ("base", "outbox_deadletters holds dead letters", lambda sql: sql.insert_dead_letter()),
]


@pytest.mark.parametrize(("to", "said", "prepare"), REFUSED)
def test_what_is_needed_is_not_taken_away(database: Database, sql: Sql, to: str, said: str, prepare: Prepare) -> None:
    """The refusal comes before the first change, also where only a later step would do harm."""
    migrate(database.url)
    prepare(sql)
    before = sql.definitions()
    with pytest.raises(SchemaError) as caught:
        Migrator(database.url, NAMES).downgrade(to)
    assert said in str(caught.value)
    assert sql.definitions() == before
    assert Migrator(database.url, NAMES).current() == "0003"


def test_adopted_tables_are_never_dropped(database: Database, sql: Sql) -> None:
    """Not even empty ones."""
    sql.make_go_tables()
    migrate(database.url)
    with pytest.raises(SchemaError, match="outbox_events was adopted"):
        Migrator(database.url, NAMES).downgrade("base")
    Migrator(database.url, NAMES).downgrade("0001")
    with pytest.raises(SchemaError, match="outbox_deadletters was adopted"):
        Migrator(database.url, NAMES).downgrade()
    assert sql.tables() >= {NAMES.events, NAMES.dead_letters}


def test_what_is_done_with_is_dropped(database: Database, sql: Sql) -> None:
    """Sent rows with headers and an expired instance do not keep the tables."""
    migrate(database.url)
    sql.insert_event(1)
    sql("UPDATE outbox_events SET headers = '{}'")
    sql.insert_instance(-1)
    Migrator(database.url, NAMES).downgrade("base")
    assert sql.tables() == {"outbox_events_version"}


@pytest.mark.parametrize("table", ["events", "dead_letters"])
def test_a_row_that_comes_in_after_the_check_is_not_lost(database: Database, sql: Sql, table: str) -> None:
    """The step itself finds it, drops nothing, and leaves the tables open for writers."""
    migrate(database.url, "0001")
    script = ScriptDirectory(str(scripts_folder())).get_revision("0001")
    with connected(database.url) as connection:
        steps = Steps(NAMES, connection.exec_driver_sql, connection, report=lambda line: None, patience=0)
        script.module.check_downgrade(steps)
        if table == "events":
            sql.insert_event(0)
        else:
            sql.insert_dead_letter()
        with pytest.raises(SchemaError, match=f"a row came into {getattr(NAMES, table)} meanwhile"):
            script.module.downgrade(steps)
    sql.insert_event(0)
    sql.insert_dead_letter(2)
    assert sql.one("SELECT COUNT(*) FROM outbox_events") + sql.one("SELECT COUNT(*) FROM outbox_deadletters") == 3


def test_wrong_directions_are_refused(database: Database) -> None:
    """Up to a revision below, and down to one that is not below, each name the way."""
    migrate(database.url)
    with pytest.raises(SchemaError, match="beyond 0001: `outboxd migrate down --to 0001` goes back"):
        migrate(database.url, "0001")
    with pytest.raises(SchemaError, match="at revision 0003: 0003 is not below it"):
        Migrator(database.url, NAMES).downgrade("0003")
