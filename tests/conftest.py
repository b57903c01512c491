"""Real servers for every test that asks for one. Each starts when it is first needed, once per run."""

import itertools
import os
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import pymysql
import pytest

from outboxd.model import TableNames
from outboxd.store.migrator import Migrator
from tests.servers import promtool as prometheus
from tests.servers import tlc as model_checker
from tests.servers.cache import UnavailableError, recorded
from tests.servers.faketime import NAME as FAKETIME
from tests.servers.faketime import Clock
from tests.servers.kafka import Kafka
from tests.servers.mariadb import MariaDB
from tests.servers.mock_kafka import MockKafka
from tests.servers.mysql import MySQL
from tests.servers.mysqlclient import NAME as MYSQLCLIENT
from tests.servers.mysqlclient import find as find_mysqlclient
from tests.servers.server import Server
from tests.servers.sql import SqlServer

ServerT = TypeVar("ServerT", bound=Server)
_serial = itertools.count(1)


@dataclass
class ServerReport:
    """What the summary at the end tells."""

    tested: list[str] = field(default_factory=list)
    untested: list[str] = field(default_factory=list)


_REPORT = pytest.StashKey[ServerReport]()


LONG = ("spec", "end_to_end", "operations")
"""Folders whose files take minutes; they come first, so that no worker begins with one when the others have ended."""


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest folders first."""
    items.sort(key=lambda item: next((rank for rank, name in enumerate(LONG) if name in item.path.parts), len(LONG)))


def pytest_configure(config: pytest.Config) -> None:
    config.stash[_REPORT] = ServerReport()


def pytest_sessionfinish(session: pytest.Session) -> None:
    """A worker of a parallel run hands its report to the process that prints the summary."""
    if hasattr(session.config, "workeroutput"):
        report = session.config.stash[_REPORT]
        session.config.workeroutput["servers"] = (report.tested, report.untested)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes a worker's report."""
    tested, untested = getattr(node, "workeroutput", {}).get("servers", ([], []))
    report = node.config.stash[_REPORT]
    report.tested += tested
    report.untested += [line for line in untested if line not in report.untested]


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    report = config.stash[_REPORT]
    if report.tested:
        terminalreporter.section("servers")
        for line in report.tested:
            terminalreporter.line(f"tested against {line}")
    if report.untested:
        terminalreporter.section("NOT TESTED", red=True)
        for line in report.untested:
            terminalreporter.line(f"NOT TESTED against {line}", red=True)


def _unavailable(config: pytest.Config, name: str, reason: str) -> None:
    """Skips and says so at the end of the run; where CI=true, fails."""
    line = f"{name}: {recorded(name) or reason}"
    config.stash[_REPORT].untested.append(line)
    if os.environ.get("CI", "").lower() == "true":
        pytest.fail(f"CI needs every server. {line}", pytrace=False)
    pytest.skip(line)


def _serve(config: pytest.Config, server_class: Callable[[], ServerT], name: str) -> Iterator[ServerT]:
    try:
        server = server_class()
    except UnavailableError as reason:
        _unavailable(config, name, str(reason))
        raise
    with server:
        line = f"{name} {server.version} (started in {server.start_seconds:.1f} s)"
        config.stash[_REPORT].tested.append(line)
        yield server


@pytest.fixture(scope="session")
def mariadb(pytestconfig: pytest.Config) -> Iterator[MariaDB]:
    """A private MariaDB."""
    yield from _serve(pytestconfig, MariaDB, MariaDB.name)


@pytest.fixture(scope="session")
def mysql(pytestconfig: pytest.Config) -> Iterator[MySQL]:
    """A private MySQL 9.7."""
    yield from _serve(pytestconfig, MySQL, MySQL.name)


@pytest.fixture(scope="session", params=["mariadb", "mysql"])
def database_server(request: pytest.FixtureRequest) -> SqlServer:
    """Runs the test on MariaDB and on MySQL."""
    server: SqlServer = request.getfixturevalue(request.param)
    return server


@dataclass(frozen=True)
class Database:
    """A database that only one test uses."""

    server: SqlServer
    name: str

    @property
    def url(self) -> str:
        """Its URL, as root."""
        return self.server.url(self.name)

    def connect(self, **options: Any) -> "pymysql.Connection[Any]":
        """A connection to it as root, in autocommit mode; `options` go to `pymysql.connect`."""
        return self.server.connect(self.name, **options)


@pytest.fixture
def database(database_server: SqlServer) -> Iterator[Database]:
    """A new, empty database; on MariaDB and on MySQL."""
    database_server.start()  # an earlier test may have ended it
    name = f"outboxd_{next(_serial)}"
    database_server.create_database(name)
    yield Database(database_server, name)
    database_server.start()
    database_server.drop_database(name)


@pytest.fixture(scope="session")
def kafka(pytestconfig: pytest.Config) -> Iterator[Kafka]:
    """A private Apache Kafka with one broker. Topics have to be created."""
    yield from _serve(pytestconfig, Kafka, Kafka.name)


@pytest.fixture
def topic(kafka: Kafka) -> Callable[..., str]:
    """`topic(partitions=6, **config)` creates a topic of a new name on the real Kafka, and returns the name."""
    kafka.start()  # an earlier test may have ended it

    def create(partitions: int = 6, **config: object) -> str:
        name = f"topic-{next(_serial)}"
        kafka.create_topic(name, partitions, **config)
        return name

    return create


@pytest.fixture(scope="session")
def mock_kafka(pytestconfig: pytest.Config) -> Iterator[MockKafka]:
    """librdkafka's mock cluster with one broker; topics appear when first used, with 4 partitions."""
    yield from _serve(pytestconfig, MockKafka, MockKafka.name)


@pytest.fixture(scope="session")
def promtool(pytestconfig: pytest.Config) -> Path:
    """The path of a real `promtool`."""
    try:
        return prometheus.find()
    except UnavailableError as reason:
        _unavailable(pytestconfig, "promtool", str(reason))
        raise


@pytest.fixture
def outbox(database: Database) -> Database:
    """A database with the tables of this version."""
    Migrator(database.url, TableNames()).upgrade()
    return database


@pytest.fixture
def mysqlclient(pytestconfig: pytest.Config) -> str:
    """The version of the driver in C."""
    try:
        return find_mysqlclient()
    except UnavailableError as reason:
        _unavailable(pytestconfig, MYSQLCLIENT, str(reason))
        raise


@pytest.fixture
def clock(pytestconfig: pytest.Config, tmp_path: Path) -> Clock:
    """A time of day for processes that take its environment."""
    try:
        return Clock(tmp_path)
    except UnavailableError as reason:
        _unavailable(pytestconfig, FAKETIME, str(reason))
        raise


@pytest.fixture
def small_disk(pytestconfig: pytest.Config, tmp_path: Path) -> Iterator[Path]:
    """An empty file system of 400 MiB."""
    disk = tmp_path / "disk"
    disk.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=400m", "tmpfs", str(disk)]
    done = subprocess.run(mount, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        _unavailable(pytestconfig, "a full disk", f"tmpfs cannot be mounted ({done.stderr.strip()}); run as root")
    yield disk
    subprocess.run(["umount", "--lazy", str(disk)], check=True)


@pytest.fixture(scope="session")
def tlc(pytestconfig: pytest.Config) -> model_checker.Tlc:
    """The model checker of TLA+."""
    try:
        return model_checker.Tlc()
    except UnavailableError as reason:
        _unavailable(pytestconfig, "TLC", str(reason))
        raise
