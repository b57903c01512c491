"""A migrated database with rows, and the command as it is typed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from click.testing import CliRunner, Result

from outboxd.cli import main
from outboxd.model import TableNames
from outboxd.store.migrator import Migrator
from tests.conftest import Database
from tests.end_to_end.daemon import Daemon
from tests.migrate.support import Sql
from tests.servers.kafka import Kafka

Run = Callable[..., Result]

DEAD_COLUMNS = (
    "ADD COLUMN lane tinyint unsigned AS (crc32(aggregate_id) & 63) VIRTUAL INVISIBLE, "
    "ADD COLUMN holds tinyint unsigned NULL INVISIBLE, ADD INDEX idx_holds_lane (holds, lane)"
)


def prepare(database: Database) -> None:
    """The tables of the newest revision."""
    Migrator(database.url, TableNames()).upgrade()
    with closing(database.connect()) as connection:
        sql = Sql(connection)
        if "holds" not in sql.definitions()["outbox_deadletters"]:  # before revision 0003
            sql(f"ALTER TABLE outbox_deadletters {DEAD_COLUMNS}")
            sql("ALTER TABLE outbox_instances ADD COLUMN report json NULL")


@pytest.fixture
def outbox(database: Database) -> Database:
    """A database with the tables."""
    prepare(database)
    return database


@pytest.fixture
def sql(outbox: Database) -> Iterator[Sql]:
    """A connection to it in autocommit."""
    with closing(outbox.connect()) as connection:
        made = Sql(connection)
        made("SET SESSION time_zone = '+00:00'")
        made("ALTER TABLE outbox_events AUTO_INCREMENT = 1000000")  # the dead letters were events before
        yield made


@pytest.fixture
def run(outbox: Database) -> Run:
    """`run("status", "--json")`: the command, with a database URL from the environment and no broker."""

    def typed(*arguments: str, **options: str) -> Result:
        return CliRunner().invoke(main, arguments, env={"OUTBOXD_DATABASE_URL": outbox.url}, **options)

    return typed


@pytest.fixture
def daemon(outbox: Database, kafka: Kafka) -> Iterator[Callable[..., Daemon]]:
    """`daemon(RETRY__MAX_ATTEMPTS="5")` starts one; whatever is left of them is killed behind the test."""
    with ExitStack() as stack:

        def start(**settings: str) -> Daemon:
            return stack.enter_context(Daemon(outbox.url, kafka.bootstrap, **settings))

        yield start
