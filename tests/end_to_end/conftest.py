"""A migrated database, and daemons that end with the test."""

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.end_to_end.daemon import Daemon
from tests.end_to_end.plugins import installed
from tests.servers.kafka import Kafka


@pytest.fixture
def daemon(outbox: Database, kafka: Kafka) -> Iterator[Callable[..., Daemon]]:
    """`daemon(RETRY__MAX_ATTEMPTS="5")` starts one, with `extra` in its environment; all are killed at the end."""
    with ExitStack() as stack:

        def start(extra: Mapping[str, str] | None = None, **settings: str) -> Daemon:
            return stack.enter_context(Daemon(outbox.url, kafka.bootstrap, extra, **settings))

        yield start


@pytest.fixture
def flaky(tmp_path: Path) -> dict[str, str]:
    """The environment in which SINK__KIND="flaky" is installed."""
    return installed(tmp_path, flaky="FlakySink")


@pytest.fixture
def count(outbox: Database) -> Iterator[Callable[..., int]]:
    """`count("status = %s", 1)`: how many events the condition holds for; `table=` for another table."""
    with outbox.connect() as connection:

        def rows(where: str = "TRUE", *values: object, table: str = "outbox_events") -> int:
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT COUNT(*) FROM {table} WHERE {where}", values)
                found = cursor.fetchone()
            assert found
            return int(found[0])

        rows.connection = connection  # type: ignore[attr-defined]
        yield rows
