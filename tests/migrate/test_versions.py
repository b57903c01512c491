"""Which servers, and which revisions, are accepted. No server is needed for the first."""

import pytest
from alembic.script import ScriptDirectory

from outboxd.errors import ConfigError, SchemaError, UnsupportedServerError
from outboxd.model import TableNames
from outboxd.store.migrator import Migrator, scripts_folder
from outboxd.store.servers import Server, check_server
from outboxd.store.version import NEWEST, require_current
from tests.conftest import Database
from tests.migrate.support import NAMES, Sql, connected, migrate


@pytest.mark.parametrize(
    ("version", "server"),
    [
        ("8.0.23", Server("mysql", (8, 0, 23))),
        ("8.0.35-27", Server("mysql", (8, 0, 35))),
        ("8.4.3-log", Server("mysql", (8, 4, 3))),
        ("9.7.4-2", Server("mysql", (9, 7, 4))),
        ("10.6.0-MariaDB", Server("mariadb", (10, 6, 0))),
        ("10.11.19-MariaDB-0+deb12u1", Server("mariadb", (10, 11, 19))),
        ("5.5.5-10.6.12-MariaDB-log", Server("mariadb", (10, 6, 12))),
        ("11.4.2-MariaDB-ubu2404", Server("mariadb", (11, 4, 2))),
    ],
)
def test_supported_servers_are_recognised(version: str, server: Server) -> None:
    """Flavour and version are read out of what SELECT VERSION() says, vendors' suffixes and all."""
    assert check_server(version) == server


@pytest.mark.parametrize(
    ("version", "named"),
    [
        ("8.0.22", "MySQL 8.0.22 is too old"),
        ("5.7.44-log", "MySQL 5.7.44 is too old"),
        ("10.5.29-MariaDB", "MariaDB 10.5.29 is too old"),
        ("5.5.5-10.3.39-MariaDB", "MariaDB 10.3.39 is too old"),
        ("8.0.11-TiDB-v8.5.0", "'8.0.11-TiDB-v8.5.0'"),
        ("8.0.30-Vitess", "'8.0.30-Vitess'"),
        ("PostgreSQL 16.2", "'PostgreSQL 16.2'"),
        ("", "''"),
    ],
)
def test_other_servers_are_refused_in_one_line(version: str, named: str) -> None:
    """The line names what was found and what is needed."""
    with pytest.raises(UnsupportedServerError) as caught:
        check_server(version)
    text = str(caught.value)
    assert named in text
    assert "needs MySQL 8.0.23 or later, or MariaDB 10.6 or later" in text
    assert "\n" not in text


def test_the_newest_revision_is_the_head_of_the_scripts() -> None:
    """The daemon compares with a constant, so that it need not load Alembic; this holds the two together."""
    scripts = ScriptDirectory(str(scripts_folder()))
    assert scripts.get_heads() == [NEWEST]
    numbers = [script.revision for script in scripts.walk_revisions()]
    assert numbers == sorted(numbers, reverse=True)


def test_a_name_without_room_for_the_version_table_is_refused() -> None:
    """MySQL's names have 64 characters."""
    Migrator("mysql://h/d", TableNames(events="e" * 56))
    with pytest.raises(ConfigError, match=r"tables\.events: .* at most 56"):
        Migrator("mysql://h/d", TableNames(events="e" * 57))


def test_the_daemon_starts_only_on_tables_that_are_not_behind(database: Database, sql: Sql) -> None:
    """Not migrated and behind are refused with the cure; the newest and a later one are accepted."""
    with connected(database.url) as connection:
        with pytest.raises(SchemaError, match="outbox_events has not been migrated: run `outboxd migrate`"):
            require_current(connection, NAMES)
        migrate(database.url, "0001")
        with pytest.raises(SchemaError, match="at revision 0001, behind 0003: run `outboxd migrate`"):
            require_current(connection, NAMES)
        migrate(database.url)
        require_current(connection, NAMES)
        sql("UPDATE outbox_events_version SET version_num = '0099'")
        require_current(connection, NAMES)


def test_tables_of_a_later_outboxd_are_left_alone(database: Database, sql: Sql) -> None:
    """An older `outboxd migrate` has nothing to do on them, and says that it cannot take them down."""
    migrate(database.url)
    sql("UPDATE outbox_events_version SET version_num = '0099'")
    migrator = Migrator(database.url, NAMES)
    assert not migrator.behind()
    assert migrate(database.url) == ["outbox_events: nothing to do, at revision 0099"]
    with pytest.raises(SchemaError, match="knows no revision 0099"):
        migrator.downgrade()


def test_a_revision_that_does_not_exist_is_refused(database: Database, sql: Sql) -> None:
    """Nothing is made for it."""
    for attempt in (lambda: migrate(database.url, "0042"), lambda: Migrator(database.url, NAMES).sql(to="0042")):
        with pytest.raises(SchemaError, match="knows no revision 0042"):
            attempt()
    assert sql.tables() == set()
