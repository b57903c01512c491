"""Fixtures of the migration tests."""

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pytest

from tests.migrate.support import Sql


@pytest.fixture
def sql(database: Any) -> Iterator[Sql]:
    """An autocommit connection to the test's database."""
    with closing(database.connect()) as connection:
        yield Sql(connection)
