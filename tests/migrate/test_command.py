"""`outboxd migrate` and `outboxd grants` as they are typed."""

import socket
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pymysql
import pytest
from click.testing import CliRunner, Result
from pymysql.constants import CLIENT
from sqlalchemy.engine import URL, make_url

from outboxd.cli import main
from outboxd.errors import ConfigError, SchemaError
from outboxd.model import TableNames
from outboxd.store.grants import Account, daemon_grants, migrator_grants
from outboxd.store.migrator import Migrator
from tests.conftest import Database
from tests.migrate.support import NAMES, Sql, migrate, model, shapes

Run = Callable[..., Result]


def run(url: str, *arguments: str) -> Result:
    """The command with a database URL from the environment, as a service has it."""
    return CliRunner().invoke(main, [*arguments], env={"OUTBOXD_DATABASE_URL": url})


def without_server() -> str:
    """The URL of a port where nobody listens."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return f"mysql://user:geheim@127.0.0.1:{free.getsockname()[1]}/shop"


def test_check_tells_by_its_exit_code(database: Database, sql: Sql) -> None:
    """1 while behind, 0 when there is nothing to do; it changes nothing."""
    result = run(database.url, "migrate", "--check")
    assert (result.exit_code, result.stdout) == (1, "outbox_events: behind, not migrated yet; run `outboxd migrate`\n")
    assert sql.tables() == set()
    assert run(database.url, "migrate", "--to", "0001").exit_code == 0
    result = run(database.url, "migrate", "--check")
    assert (result.exit_code, result.stdout) == (1, "outbox_events: behind, at revision 0001; run `outboxd migrate`\n")
    assert run(database.url, "migrate").exit_code == 0
    result = run(database.url, "migrate", "--check")
    assert (result.exit_code, result.stdout) == (0, "outbox_events: up to date, at revision 0003\n")


def test_check_finds_tables_that_cannot_be_adopted(database: Database, sql: Sql) -> None:
    """So that it is known before the maintenance window."""
    sql.make_go_tables()
    sql("ALTER TABLE outbox_events DROP COLUMN topic")
    result = run(database.url, "migrate", "--check")
    assert result.exit_code == 1
    assert "outbox_events.topic is missing" in result.stderr


def test_up_history_and_down(database: Database) -> None:
    """Each revision is a line of its own."""
    result = run(database.url, "migrate", "--to", "0001")
    assert [line.partition(" the two")[0] for line in result.stdout.splitlines()] == [
        "outbox_events: made",
        "outbox_deadletters: made",
        "0001",
    ]
    history = run(database.url, "migrate", "history").stdout.splitlines()
    assert [line.split()[:2] for line in history] == [["0001", "applied"], ["0002", "missing"], ["0003", "missing"]]
    assert run(database.url, "migrate").stdout.endswith(": done\n")
    assert run(database.url, "migrate", "down").stdout.endswith(": undone\n")
    assert run(database.url, "migrate", "down", "--to", "base").exit_code == 0
    assert run(database.url, "migrate", "down").stdout == "outbox_events: nothing to undo\n"


def test_all_sources_or_one(database: Database, sql: Sql, tmp_path: Path) -> None:
    """With several sources each line names its own; --source chooses one."""
    config = tmp_path / "outboxd.toml"
    config.write_text(
        f'[database]\nurl = "{database.url}"\n[sources.orders]\n[sources.billing.tables]\nevents = "billing_events"\n'
    )
    result = CliRunner().invoke(main, ["migrate", "--config", str(config), "--source", "billing"])
    assert result.exit_code == 0, result.output
    assert "outbox_events" not in sql.tables()
    result = CliRunner().invoke(main, ["migrate", "--config", str(config)])
    assert "[orders] outbox_events: made\n" in result.stdout
    assert "[billing] billing_events: nothing to do, at revision 0003\n" in result.stdout
    assert CliRunner().invoke(main, ["migrate", "--check", "--config", str(config)]).exit_code == 0


@pytest.mark.parametrize(
    "arguments",
    [("--sql", "--check"), ("down", "--sql"), ("--from", "0001"), ("history", "--to", "0001"), ("sideways",)],
)
def test_arguments_that_contradict_one_another(arguments: tuple[str, ...]) -> None:
    """A usage error, before any database is asked."""
    assert run(without_server(), "migrate", *arguments).exit_code == 2


def test_a_server_that_is_not_there(tmp_path: Path) -> None:
    """One line, no traceback, no password."""
    result = run(without_server(), "migrate")
    assert result.exit_code == 1
    assert result.stderr.startswith("outboxd: database: ")
    assert "2003" in result.stderr
    assert result.stderr.count("\n") == 1
    assert "geheim" not in result.output


# --- SQL for a DBA ----------------------------------------------------------------------------------------------


def run_script(database: Database, script: str) -> None:
    """Gives the whole text to the server, as a DBA's tool does; one that does not commit by itself."""
    url = make_url(database.url)
    connection = pymysql.connect(
        host=url.host or "",
        port=url.port or 3306,
        user=url.username,
        password=url.password or "",
        database=url.database,
        client_flag=CLIENT.MULTI_STATEMENTS,
    )
    with closing(connection), connection.cursor() as cursor:
        cursor.execute(script)
        while cursor.nextset():
            pass


@pytest.mark.parametrize("adopt", [False, True])
def test_the_printed_sql_does_what_migrate_does(database: Database, sql: Sql, adopt: bool) -> None:
    """On an empty database and on the Go library's tables: same tables, same version, same lanes."""
    if adopt:
        sql.make_go_tables()
    result = run(without_server(), "migrate", "--sql")
    assert result.exit_code == 0, result.output
    run_script(database, result.stdout)
    assert shapes(database.url) == model()
    assert sql.one("SELECT COUNT(*) FROM outbox_lanes WHERE owner IS NULL") == 64
    assert run(database.url, "migrate", "--check").exit_code == 0
    by_script = sql.definitions()
    Migrator(database.url, NAMES).downgrade("0001" if adopt else "base")
    migrate(database.url)
    assert {name: sorted(text.splitlines()) for name, text in sql.definitions().items()} == {
        name: sorted(text.splitlines()) for name, text in by_script.items()
    }


def test_the_printed_sql_can_start_in_the_middle(database: Database) -> None:
    """--from and --to bound it."""
    migrate(database.url, "0001")
    script = run(without_server(), "migrate", "--sql", "--from", "0001").stdout
    assert "CREATE TABLE outbox_events_version" not in script
    run_script(database, script)
    assert shapes(database.url) == model()
    assert "lane" not in run(without_server(), "migrate", "--sql", "--to", "0001").stdout


# --- grants -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "account"),
    [
        ("outboxd", "'outboxd'@'%'"),
        ("outboxd@10.0.0.%", "'outboxd'@'10.0.0.%'"),
        ("'out-boxd'@'%'", "'out-boxd'@'%'"),
        (" `outboxd`@`localhost` ", "'outboxd'@'localhost'"),
    ],
)
def test_accounts_are_read_as_people_write_them(text: str, account: str) -> None:
    """Quoted or not, with a host or without one."""
    assert str(Account.parse(text)) == account


@pytest.mark.parametrize("text", ["", "@host", "a'b", "x'; DROP TABLE t; --", "'a@'b'", "a@b@c"])
def test_other_accounts_are_refused(text: str) -> None:
    """Nothing that could end the quotes gets into the statements."""
    with pytest.raises(ConfigError, match="write it as 'outboxd'@'%'"):
        Account.parse(text)


class Users:
    """Two users who hold what `outboxd grants` prints, each at its time."""

    def __init__(self, database: Database, sql: Sql) -> None:
        self._database = database
        self._sql = sql
        self._printed = run(
            database.url, "grants", "--user", self.name("d"), "--migrate-user", self.name("m")
        ).stdout.splitlines()

    def name(self, role: str) -> str:
        return f"outboxd_{role}_{self._database.name}"[:32]

    def create(self, role: str) -> str:
        """Makes the user with its grants; returns the URL."""
        name = self.name(role)
        self._sql(f"DROP USER IF EXISTS '{name}'@'%'")
        self._sql(f"CREATE USER '{name}'@'%' IDENTIFIED BY 'pass'")
        statements = [line for line in self._printed if line.endswith(f" TO '{name}'@'%';")]
        assert len(statements) == 5
        for statement in statements:
            self._sql(statement)
        return make_url(self._database.url).set(username=name, password="pass").render_as_string(hide_password=False)

    def drop(self) -> None:
        for role in ("d", "m"):
            self._sql(f"DROP USER IF EXISTS '{self.name(role)}'@'%'")


@pytest.fixture
def users(database: Database, sql: Sql) -> Any:
    """See Users."""
    made = Users(database, sql)
    yield made
    made.drop()


def test_the_migrating_user_needs_no_more(database: Database, sql: Sql, users: Users) -> None:
    """With the printed grants alone: from nothing, down to the first revision, up again; adopted tables too."""
    url = users.create("m")
    migrate(url)
    Migrator(url, NAMES).downgrade()
    migrate(url)
    assert shapes(database.url) == model()
    assert not Migrator(url, NAMES).behind()
    Migrator(database.url, NAMES).downgrade("base")
    sql.make_go_tables()
    sql.insert_event()
    sql("DROP TABLE outbox_events_version")
    migrate(url)
    assert shapes(database.url) == model()


def test_the_migrating_user_cannot_drop_events(database: Database, sql: Sql, users: Users) -> None:
    """Going below the first revision is left to an administrator; the refusal names `outboxd grants`.

    What was prepared for the DROP is taken back: writers go on.
    """
    url = users.create("m")
    migrate(url)
    with pytest.raises(SchemaError, match=r"1142.* DROP command denied .*`outboxd grants`"):
        Migrator(url, NAMES).downgrade("base")
    sql.insert_event()
    sql.insert_dead_letter()


DAEMON_STATEMENTS = [
    "SELECT VERSION()",
    "SELECT version_num FROM outbox_events_version",
    "INSERT INTO outbox_instances (id, host, pid, version, expires_at) VALUES ('i', 'h', 1, '1', NOW(6))",
    "UPDATE outbox_instances SET expires_at = NOW(6) + INTERVAL 1 SECOND WHERE id = 'i'",
    "SELECT 1 FROM outbox_instances WHERE id = 'i' LOCK IN SHARE MODE",
    "UPDATE outbox_lanes SET owner = 'i' WHERE owner IS NULL ORDER BY lane LIMIT 64",
    "SELECT lane, headers FROM outbox_events FORCE INDEX (idx_relay) WHERE status = 0 AND lane = 1",
    "UPDATE outbox_events SET status = 3 WHERE id IN (1) AND status = 0",
    "SELECT id FROM outbox_events WHERE id IN (1) FOR UPDATE",
    """INSERT INTO outbox_deadletters (id, event_id, event_type, aggregate_type, aggregate_id, topic, payload,
              attempt_count, created_at, headers, moved_at, reason)
       SELECT id, event_id, event_type, aggregate_type, aggregate_id, topic, payload,
              1, created_at, headers, NOW(6), 'x'
         FROM outbox_events AS e WHERE e.id = 1 ON DUPLICATE KEY UPDATE id = outbox_deadletters.id""",
    "DELETE e FROM outbox_events AS e JOIN outbox_deadletters AS d ON d.id = e.id",
    """INSERT INTO outbox_events (id, event_id, event_type, aggregate_type, aggregate_id, topic, payload,
              created_at, headers)
       SELECT id, event_id, event_type, aggregate_type, aggregate_id, topic, payload, created_at, headers
         FROM outbox_deadletters""",
    "DELETE FROM outbox_deadletters WHERE id IN (1)",
    "DELETE FROM outbox_instances WHERE id = 'i'",
]


def test_the_daemons_user_can_do_its_work_and_no_more(database: Database, sql: Sql, users: Users) -> None:
    """Every kind of statement passes; it can neither change the tables, nor lanes' number, nor the version."""
    migrate(database.url)
    sql.insert_event()
    url: URL = make_url(users.create("d"))
    connection = pymysql.connect(
        host=url.host or "", port=url.port or 3306, user=url.username, password="pass", database=url.database
    )
    with closing(connection):
        daemon = Sql(connection)
        for statement in DAEMON_STATEMENTS:
            daemon(statement)
            connection.commit()
        for statement in (
            "DROP TABLE outbox_events",
            "ALTER TABLE outbox_events DROP COLUMN headers",
            "DELETE FROM outbox_lanes",
            "UPDATE outbox_events_version SET version_num = '0001'",
            "CREATE TABLE more (id int)",
        ):
            with pytest.raises(pymysql.OperationalError, match=r"1142"):
                daemon(statement)
    assert sql.one("SELECT COUNT(*) FROM outbox_events") == 1


def test_a_daemon_without_grants_is_told_the_cure(database: Database, users: Users, sql: Sql) -> None:
    """One line that names `outboxd grants`."""
    migrate(database.url)
    url = users.create("d")
    sql(f"REVOKE SELECT ON outbox_events_version FROM '{users.name('d')}'@'%'")
    with pytest.raises(SchemaError, match=r"may not read outbox_events_version: .*`outboxd grants`"):
        Migrator(url, NAMES).current()


def test_grants_follow_the_configured_names() -> None:
    """Databases and tables are quoted; each user gets five tables and nothing else."""
    names = TableNames("e", "d", "i", "l")
    account = Account("u", "h")
    for statements in (daemon_grants("my`shop", names, account), migrator_grants("my`shop", names, account)):
        assert [line.partition(" ON ")[2] for line in statements] == [
            f"`my``shop`.`{table}` TO 'u'@'h';" for table in ("e", "d", "i", "l", "e_version")
        ]
