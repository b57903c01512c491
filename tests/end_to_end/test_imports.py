"""What the daemon does not import: each costs time at every start, and memory for as long as it runs."""

import sys

from tests.end_to_end.daemon import Daemon

NEEDED = {"aiokafka.producer", "pymysql", "uvicorn", "outboxd.workers.crew"}
SPARED = {
    "alembic",
    "confluent_kafka",
    "cryptography",
    "opentelemetry.exporter.otlp",
    "outboxd.store.migrator",
    "outboxd.store.schema",
    "pydantic_settings",
    "pymysqlreplication",
    "rich.console",
    "sqlalchemy.orm",
}
NOWHERE = "127.0.0.1:1"


def test_the_daemon_imports_only_what_it_needs() -> None:
    """With default settings, until it has tried to connect; Python itself tells what is imported."""
    program = (sys.executable, "-X", "importtime", "-m", "outboxd")
    with Daemon(f"mysql://user:password@{NOWHERE}/shop", NOWHERE, program=program) as daemon:
        daemon.wait_for("database.unavailable")
        assert daemon.stop() == 0
    imported = {line["line"].rpartition("|")[2].strip() for line in daemon.events("not json")}
    assert imported >= NEEDED
    assert sorted(imported & SPARED) == []
