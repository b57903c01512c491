"""Fixtures of the migration tests."""

from collections.abc import Iterator
from contextlib import closing

import pytest

from tests.conftest import Database
from tests.migrate.support import Sql


@pytest.fixture
def sql(database: Database) -> Iterator[Sql]:
    """An autocommit connection to the test's database."""
    with closing(database.connect()) as connection:
        yield Sql(connection)
