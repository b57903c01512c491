"""Fixtures of the tests of documentation. An example that cannot be tried is reported at the end of the run."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from outboxd.model import TableNames
from outboxd.store.engine import ConnectOptions
from outboxd.store.migrator import Migrator
from tests.conftest import Database
from tests.docs.toolchains import LANGUAGES, Example
from tests.migrate.support import Sql
from tests.servers.cache import UnavailableError

_UNTRIED: dict[str, str] = {}
"""Language to the reason."""


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _UNTRIED:
        terminalreporter.section("NOT TRIED", red=True)
        for language, reason in _UNTRIED.items():
            terminalreporter.line(f"NOT TRIED: the example in {language}: {reason}", red=True)


@pytest.fixture(scope="session", params=LANGUAGES)
def example(request: pytest.FixtureRequest) -> Example:
    """Each language's example, ready to be run. Python's always is; one whose tools are missing is skipped."""
    language: str = request.param
    try:
        return LANGUAGES[language]()
    except UnavailableError as reason:
        _UNTRIED[language] = str(reason)
        pytest.skip(f"{language}: {reason}")


@pytest.fixture
def shop(database: Database) -> Iterator[Sql]:
    """The database with outboxd's tables and an application's, as a connection in autocommit."""
    Migrator(database.url, TableNames(), ConnectOptions(), report=lambda line: None).upgrade()
    with closing(database.connect()) as connection:
        sql = Sql(connection)
        sql("CREATE TABLE orders (id BIGINT PRIMARY KEY, total DECIMAL(10, 2) NOT NULL)")
        yield sql
