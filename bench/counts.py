"""Counting what a drain costs: the server counts the daemon's statements, the daemon's process its calls.

The cost of an event is the difference between a long drain and a short one, so that the start, the end and the first
batch are left out. What the daemon does by the clock rests meanwhile: how long a drain takes changes nothing.
"""

import json
import re
import sys
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple, Self

import httpx

from bench.backlog import fill, make_events, migrated_database
from bench.program import Process
from bench.topic import compare, create_topic, read_topic
from tests.servers.kafka import Kafka
from tests.servers.mariadb import MariaDB
from tests.servers.mysql import MySQL
from tests.servers.server import free_port
from tests.servers.sql import SqlServer

PATIENCE: Final = 120.0
"""Seconds until a drain that does not end has failed."""

USER: Final = "daemon"
"""Its own account, so that the server tells its statements from those of the watcher."""

QUIET: Final = {
    "relay.poll_interval": "1m",
    "retry.interval": "1h",
    "dead_letters.interval": "1h",
    "recovery.interval": "1d",
    "retention.sent": "never",
    "retention.interval": "1d",
    "lease.ttl": "10m",
}
"""What happens by the clock happens once, at the start."""

ONE_BY_ONE: Final = {**QUIET, "relay.in_flight": "1"}
"""Batches do not overlap: then each holds the same events in every run."""

STARTED: Final = 100
"""Statements by which a daemon has started, connected and looked at everything once (90)."""

DOORBELL: Final = {"doorbell.kind": "binlog"}
"""The settings with which it is woken by the binary log."""

MIGRATING: Final = threading.Lock()
"""Alembic does one migration at a time."""

SENT_AT_ONCE: Final = 10_000
SENT: Final = (
    "INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload, status) "
    "SELECT UUID(), 'order.changed', 'order', CONCAT('old-', n), 'old', JSON_OBJECT('serial', n), 1 FROM ("
    "WITH RECURSIVE series AS (SELECT %s AS n UNION ALL SELECT n + 1 FROM series WHERE n < %s) SELECT n FROM series"
    ") AS numbers"
)

STATEMENTS: Final = (
    "SELECT variable_value FROM performance_schema.status_by_user WHERE user = %s AND variable_name = 'Questions'"
)
CARRIERS: Final = (
    "SELECT thread_id, SUM(count_star) FROM performance_schema.threads "
    "JOIN performance_schema.events_statements_summary_by_thread_by_event_name USING (thread_id) "
    "WHERE processlist_user = %s GROUP BY thread_id HAVING SUM(sum_rows_sent + sum_rows_affected) >= %s"
)
"""The connections that the events pass, and their statements. Others look after the lease, the gauges and so on, by the
clock: the longer a drain takes, the more."""
ALL: Final = (
    "SELECT SUM(count_star) FROM performance_schema.events_statements_summary_by_user_by_event_name WHERE user = %s"
)
"""The statements of all connections, also of those that have ended, counted as those of the carriers are."""
ROWS: Final = (
    "SELECT SUM(variable_value) FROM performance_schema.status_by_thread "
    "WHERE thread_id IN %s AND variable_name LIKE 'Handler\\_read\\_%%'"
)
REDO: Final = {"mariadb": "Innodb_lsn_current", "mysql": "Innodb_redo_log_current_lsn"}


def counting(server: type[MariaDB | MySQL]) -> SqlServer:
    """A server that counts by account and writes a binary log, as MySQL does by itself. It looks at how the rows are
    spread only when it is told to: else the plan of a statement could change in the middle of a drain, or not."""
    if server is MariaDB:
        own = ["--performance-schema=ON", "--log-bin=binlog", "--server-id=1", "--binlog-format=ROW"]
        return MariaDB(*own, "--innodb-stats-auto-recalc=OFF")
    return MySQL("--innodb-stats-auto-recalc=OFF")


class Tally(NamedTuple):
    """What was counted until some moment, or between two."""

    statements: int = 0
    rows: int = 0
    """Rows and index entries that the server looked at."""
    binlog: int = 0
    redo: int = 0
    batches: int = 0
    calls: int = 0
    """Of functions, in Python; and so on as `bench.counted` has them."""
    requests: int = 0
    blocks: int = 0
    bytes: int = 0
    others: int = 0
    """Statements of the daemon's other connections."""
    seconds: float = 0.0
    """From the daemon's start to the end."""

    def __sub__(self, other: Self) -> "Tally":
        return Tally._make(mine - theirs for mine, theirs in zip(self, other, strict=True))


@dataclass(frozen=True)
class Scenario:
    """A backlog, and what the daemon is told."""

    events: int
    aggregates: int = 1000
    sent: int = 0
    """Rows that were sent before."""
    settings: Mapping[str, str] = field(default_factory=lambda: ONE_BY_ONE)


class Laboratory:
    """A database server with its broker, where drains are counted."""

    def __init__(self, server: SqlServer, kafka: Kafka, folder: Path, program: str = "outboxd") -> None:
        """`program`: the module that is run as the daemon."""
        self.server = server
        self._program = program
        self._kafka = kafka
        self._log = folder / f"{server.product}.log"
        self._result = folder / f"{server.product}.json"
        server.query(f"CREATE USER IF NOT EXISTS {USER}@'127.0.0.1'")
        server.query(f"GRANT ALL ON `bench\\_%`.* TO {USER}@'127.0.0.1'")
        server.query(f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {USER}@'127.0.0.1'")

    def drain(self, scenario: Scenario) -> Tally:
        """What the daemon needs for a backlog, from its start to its end. Raises RuntimeError when it fails."""
        return self._drain(scenario, [])[0]

    def drain_counting_calls(self, scenario: Scenario) -> tuple[Tally, dict[str, int]]:
        """The same with a look into the process; also the calls by package."""
        tally, calls = self._drain(scenario, ["bench.counted", str(self._result)])
        return tally, calls

    def bare_calls(self, events: int) -> int:
        """The calls of the bare loop for a backlog."""
        launcher = ["bench.counted", str(self._result)]
        with self._backlog(Scenario(events)) as (name, _):
            url = self.server.url(name, user=USER)
            command = ["bench.bare_loop", "--database-url", url, "--kafka", self._kafka.bootstrap, "--until-empty"]
            with Process([sys.executable, "-m", *launcher, *command], self._log) as process:
                process.wait()
        return sum(json.loads(self._result.read_text())["calls"].values())

    def idle_statements(self, seconds: float, settings: Mapping[str, str]) -> float:
        """Statements per second of a daemon that has nothing to do. With a doorbell: once that rings."""
        rings = "doorbell.kind" in settings
        port = free_port()
        with self._database() as name:
            start = self._statements()
            with Process(self._command(name, {**settings, "http.port": str(port)}, []), self._log) as process:
                _until(lambda: self._statements() - start >= STARTED, process)
                _until(lambda: not rings or _metric(port, "outbox_doorbell_connected") == 1, process)
                began, before = time.monotonic(), self._statements()
                time.sleep(seconds)
                statements = self._statements() - before
                took = time.monotonic() - began  # with the count itself: it goes on meanwhile
                process.stop()
        return statements / took

    def _drain(self, scenario: Scenario, launcher: Sequence[str]) -> tuple[Tally, dict[str, int]]:
        port = free_port()
        with self._backlog(scenario) as (name, connection):
            before, said = self._written(), self._said()
            settings = {**scenario.settings, "http.port": str(port)}
            with Process(self._command(name, settings, launcher), self._log) as process:
                began = time.monotonic()
                _until(lambda: not _unsettled(connection), process)
                # Asked only now: each answer is work for the process that is counted.
                _until(lambda: _metric(port, "outbox_events_processed_total") >= scenario.events, process)
                statements, rows = self._carried(scenario.events)
                others = self._said() - said - statements
                seconds = time.monotonic() - began
                batches = _metric(port, "outbox_processing_duration_seconds_count")
                process.stop()
            binlog, redo = (now - then for now, then in zip(self._written(), before, strict=True))
        inside = json.loads(self._result.read_text()) if launcher else {"calls": {}}
        calls = inside.pop("calls")
        tally = Tally(
            statements, rows, binlog, redo, int(batches), sum(calls.values()), others=others, seconds=seconds, **inside
        )
        return tally, calls

    @contextmanager
    def _backlog(self, scenario: Scenario) -> Iterator[tuple[str, Any]]:
        """The name of a database with the backlog in it, and a connection; the topic must be flawless in the end."""
        written = make_events(scenario.events, scenario.aggregates)
        topic = create_topic(self._kafka)
        with self._database() as name, self.server.connect(name) as connection:
            with connection.cursor() as cursor:
                cursor.execute(f"SET SESSION {_recursion(self.server)} = {SENT_AT_ONCE}")
                for start in range(0, scenario.sent, SENT_AT_ONCE):
                    cursor.execute(SENT, (start + 1, min(start + SENT_AT_ONCE, scenario.sent)))
            fill(connection, written, topic)
            self.server.query(f"ANALYZE TABLE {name}.outbox_events")
            yield name, connection
        delivery = compare(read_topic(self._kafka, topic), written)
        self._kafka.delete_topic(topic)
        if not delivery.flawless:
            raise RuntimeError(f"{self.server.name}: delivered {delivery}")

    @contextmanager
    def _database(self) -> Iterator[str]:
        with ExitStack() as stack:
            with MIGRATING:
                name = stack.enter_context(migrated_database(self.server))
            yield name

    def _command(self, database: str, settings: Mapping[str, str], launcher: Sequence[str]) -> list[str]:
        url = self.server.url(database, user=USER)
        command = [sys.executable, "-m", *launcher, self._program, "run", "--database-url", url]
        command += ["--kafka", self._kafka.bootstrap]
        return command + [part for key, value in settings.items() for part in ("--set", f"{key}={value}")]

    def _carried(self, events: int) -> tuple[int, int]:
        """The statements of the connections that the events passed, and the rows that these looked at."""
        # A quarter, for the day when they share the work.
        carriers = dict(self.server.query(CARRIERS, USER, events // 4))
        if not carriers:
            raise RuntimeError(f"{self.server.name}: no connection of the daemon has read or settled {events} events")
        return int(sum(carriers.values())), int(self.server.query(ROWS, tuple(carriers))[0][0])

    def _said(self) -> int:
        """Statements on all of the daemon's connections."""
        return int(self.server.query(ALL, USER)[0][0] or 0)

    def _written(self) -> tuple[int, int]:
        """Bytes of the binary log and of the redo log."""
        redo = self.server.query("SHOW GLOBAL STATUS LIKE %s", REDO[self.server.product])[0][1]
        return sum(log[1] for log in self.server.query("SHOW BINARY LOGS")), int(redo)

    def _statements(self) -> int:
        """Of all connections of the daemon, also of those that have ended."""
        found = self.server.query(STATEMENTS, USER)
        return int(found[0][0]) if found else 0


def _recursion(server: SqlServer) -> str:
    return "max_recursive_iterations" if server.product == "mariadb" else "cte_max_recursion_depth"


def _unsettled(connection: Any) -> bool:
    with connection.cursor() as cursor:
        return bool(cursor.execute("SELECT 1 FROM outbox_events WHERE status = 0 LIMIT 1"))


def _metrics(port: int) -> str:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/metrics", timeout=10).text
    except httpx.TransportError:
        return ""


def _metric(port: int, name: str) -> float:
    found = re.search(rf"^{name}{{[^}}]*}} (\S+)$", _metrics(port), re.MULTILINE)
    return float(found[1]) if found else 0.0


def _until(reached: Any, process: Process) -> None:
    deadline = time.monotonic() + PATIENCE
    while not reached():
        process.check()
        if time.monotonic() > deadline:
            raise RuntimeError(f"not within {PATIENCE:.0f} s; the daemon is killed")
        time.sleep(0.05)
