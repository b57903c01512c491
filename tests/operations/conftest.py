"""A migrated database with rows, and the command as it is typed."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from click.testing import CliRunner, Result

from outboxd.cli import main
from tests.conftest import Database
from tests.end_to_end.daemon import Daemon
from tests.migrate.support import Sql
from tests.servers.kafka import Kafka

Run = Callable[..., Result]


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
