"""What the commands need of the database's privileges."""

from collections.abc import Iterator

import pytest
from click.testing import CliRunner
from sqlalchemy.engine import make_url

from outboxd.cli import main
from tests.conftest import Database
from tests.migrate.support import Sql
from tests.operations.conftest import Run
from tests.operations.rows import ids, insert_dead

USER = "outboxd_operator"


@pytest.fixture
def daemons_url(outbox: Database, sql: Sql, run: Run) -> Iterator[str]:
    """The URL of a user who has what `outboxd grants` prints for the daemon, and no more."""
    sql(f"DROP USER IF EXISTS '{USER}'@'%'")
    sql(f"CREATE USER '{USER}'@'%' IDENTIFIED BY 'pass'")
    for statement in run("grants", "--user", USER).stdout.splitlines():
        if statement.endswith(f" TO '{USER}'@'%';"):
            sql(statement)
    yield make_url(outbox.url).set(username=USER, password="pass").render_as_string(hide_password=False)
    sql(f"DROP USER '{USER}'@'%'")


def test_the_daemons_user_is_enough(daemons_url: str, sql: Sql) -> None:
    """An operator can use the daemon's configuration."""
    insert_dead(sql, 1)
    insert_dead(sql, 2)
    for arguments in (
        ["status"], ["deadletters", "list"], ["deadletters", "show", "1"],
        ["deadletters", "requeue", "1"], ["deadletters", "discard", "2", "--yes"],
    ):  # fmt: skip
        result = CliRunner().invoke(main, arguments, env={"OUTBOXD_DATABASE_URL": daemons_url})
        assert result.exit_code == 0, result.output
    assert (ids(sql), ids(sql, "outbox_events")) == ([], [1])


def test_who_may_only_read_is_told_the_cure(daemons_url: str, sql: Sql) -> None:
    """Status and list work; requeue changes nothing, and names `outboxd grants`."""
    insert_dead(sql, 1)
    for table in ("outbox_events", "outbox_deadletters"):
        sql(f"REVOKE INSERT, UPDATE, DELETE ON {table} FROM '{USER}'@'%'")
    environment = {"OUTBOXD_DATABASE_URL": daemons_url}
    assert CliRunner().invoke(main, ["status"], env=environment).exit_code == 0
    assert CliRunner().invoke(main, ["deadletters", "list"], env=environment).exit_code == 0
    result = CliRunner().invoke(main, ["deadletters", "requeue", "--all"], env=environment)
    assert result.exit_code == 1
    assert "`outboxd grants` prints what is needed" in result.stderr
    assert ids(sql) == [1]
