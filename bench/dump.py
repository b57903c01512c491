"""`python -m bench.dump [--rows N]`: what the daemon's reads cost while a dump keeps purge from removing dead entries.

A dump (`mysqldump --single-transaction`) holds a snapshot open; everything that is delivered meanwhile leaves an entry
in the lane index that the reads have to step over. Each read is measured without a dump, with ROWS dead entries, with
a writer's transaction open beside it, and after purge has caught up.
"""

import argparse
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.backlog import INSERT, fill, make_events, migrated_database
from bench.program import Outboxd
from bench.servers import DATABASES
from bench.topic import count_messages, create_topic
from outboxd.model import TableNames
from outboxd.store.engine import SESSION
from outboxd.store.statements import LANE_INDEX, Statements
from tests.servers.cache import UnavailableError
from tests.servers.kafka import LONG_LIVED, Kafka
from tests.servers.sql import SqlServer

LANES: Final = range(64)
CHUNK: Final = 1000
"""Rows that one settle marks, as the daemon does."""
FILL: Final = 10_000
"""Rows that one INSERT ... SELECT writes."""
BACKLOG: Final = 10_000
BATCH: Final = 1000
BATCH_BYTES: Final = 8 * 2**20
"""The default of `relay.batch_bytes`."""
FEW: Final = 50
BUDGET: Final = 3.0
"""Seconds for the repetitions of one statement."""
PATIENCE: Final = 120.0

FILL_SQL: Final = (
    "INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload) "
    "SELECT UUID(), 'order.changed', 'order', CONCAT('order-', LPAD(%s + n, 9, '0')), 'dump', "
    "JSON_OBJECT('serial', %s + n, 'note', REPEAT('x', 200)) FROM numbers"
)
READ_ORDER: Final = "ORDER BY lane, next_attempt_at, id"
BOUNDED_ORDER: Final = "AND next_attempt_at IS NULL AND id >= {low} ORDER BY lane, id"


@dataclass(frozen=True)
class Figure:
    """One line of the table; `cost` in the unit that it names."""

    database: str
    state: str
    what: str
    cost: str


class Bench:
    """The measurements on one database."""

    def __init__(self, server: SqlServer, name: str, kafka: Kafka, folder: Path, report: Callable[[Figure], None]):
        self._server, self._name, self._kafka, self._folder = server, name, kafka, folder
        self._report = report
        self._statements = Statements(
            TableNames(), mariadb=server.product == "mariadb", batch_bytes=BATCH_BYTES, keep_sent=True, may_hold=False
        )
        self._connection = self._connect()
        self.state = ""
        self.clean = 0.0
        """Seconds of an idle read without dead entries."""

    def _connect(self) -> Any:
        connection = self._server.connect(self._name)
        with connection.cursor() as cursor:
            for statement in SESSION:
                cursor.execute(statement)
        return connection

    def _run(self, statement: str, values: Sequence[object] | None = None) -> Sequence[Any]:
        with self._connection.cursor() as cursor:
            cursor.execute(statement, values)
            rows: Sequence[Any] = cursor.fetchall()
        return rows

    def tell(self, what: str, cost: str) -> None:
        """One figure."""
        self._report(Figure(self._server.name, self.state, what, cost))

    def once(self, *statements: str) -> float:
        """Seconds for these statements."""
        began = time.perf_counter()
        for statement in statements:
            self._run(statement)
        return time.perf_counter() - began

    def time(self, what: str, *statements: str) -> float:
        """The median of many runs, warm; several statements count as one."""
        times: list[float] = []
        end = time.monotonic() + BUDGET
        while len(times) < 2 or (time.monotonic() < end and len(times) < 200):
            times.append(self.once(*statements))
            if times[0] > 2 * BUDGET:
                break
        warm = times[1:] or times
        self.tell(what, f"{median(warm) * 1000:.2f} ms ({min(warm) * 1000:.2f}..{max(warm) * 1000:.2f}, n={len(warm)})")
        return median(warm)

    # --- the statements

    def bounded(self, low: int, limit: int = BATCH) -> str:
        """The read that begins at an id."""
        return self._statements.reading.read(LANES, limit).replace(READ_ORDER, BOUNDED_ORDER.format(low=low))

    def ranged(self, limit: int = BATCH) -> str:
        """The read with its lanes as one range."""
        return self._statements.reading.read(LANES, limit).replace(
            f"lane IN ({','.join(map(str, LANES))})", "lane BETWEEN 0 AND 63"
        )

    def fresh_lanes(self, low: int) -> str:
        """The lanes with new rows behind an id: a bound that chooses lanes, and no rows."""
        return (
            f"SELECT DISTINCT lane FROM outbox_events FORCE INDEX ({LANE_INDEX}) WHERE status = 0 "
            f"AND lane IN ({','.join(map(str, LANES))}) AND next_attempt_at IS NULL AND id >= {low}"
        )

    def fresh_by_key(self, low: int) -> str:
        """The same by the primary key, in which nothing is dead as long as rows are kept."""
        return f"SELECT DISTINCT lane FROM outbox_events FORCE INDEX (PRIMARY) WHERE id >= {low} AND status = 0"

    def top(self) -> int:
        """Behind the newest id."""
        return int(self._run("SELECT COALESCE(MAX(id), 0) + 1 FROM outbox_events")[0][0])

    # --- what happens in the table

    def insert(self, number: int, topic: str = "dump") -> None:
        """New rows, spread over the lanes."""
        fill(self._connection, [e._replace(event_id=str(uuid.uuid4())) for e in make_events(number, 1000)], topic)

    def settle(self) -> None:
        """Marks everything as sent, in the daemon's chunks."""
        ids = [row[0] for row in self._run("SELECT id FROM outbox_events WHERE status = 0 ORDER BY id")]
        for start in range(0, len(ids), CHUNK):
            self._run(self._statements.settling.sent(ids[start : start + CHUNK]))

    def deliver(self, rows: int) -> None:
        """So many rows are written and settled."""
        self._run("CREATE TABLE numbers (n INT PRIMARY KEY)")
        with self._connection.cursor() as cursor:
            cursor.executemany("INSERT INTO numbers VALUES (%s)", [(n,) for n in range(FILL)])
        began = time.monotonic()
        for start in range(0, rows, FILL):
            self._run(FILL_SQL, (start, start))
        written = time.monotonic()
        self.settle()
        self.tell("(rows written, rows settled)", f"{written - began:.0f} s, {time.monotonic() - written:.0f} s")

    @contextmanager
    def dump(self) -> Iterator[None]:
        """A snapshot that stays open, as that of mysqldump --single-transaction."""
        with self._server.connect(self._name) as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL REPEATABLE READ")
            cursor.execute("START TRANSACTION WITH CONSISTENT SNAPSHOT")
            cursor.execute("SELECT COUNT(*) FROM outbox_events")
            yield
            connection.rollback()

    @contextmanager
    def open_writer(self) -> Iterator[None]:
        """A transaction that has written one row, and stays open."""
        with self._server.connect(self._name) as connection, connection.cursor() as cursor:
            connection.begin()
            cursor.execute(INSERT, make_events(1, 1)[0]._replace(event_id=str(uuid.uuid4())).row("dump"))
            yield
            connection.rollback()

    def wait_for_purge(self) -> None:
        """Until an idle read costs about what it did in the beginning."""
        began = time.monotonic()
        while self.once(self._statements.reading.read(LANES, BATCH)) > 3 * self.clean:
            if time.monotonic() - began > PATIENCE:
                raise RuntimeError("purge did not catch up")
            time.sleep(0.1)
        self.tell("(purge has caught up after)", f"{time.monotonic() - began:.1f} s")

    # --- the measurements

    def reads(self) -> None:
        """Idle, a few new rows, a backlog."""
        everything = self._statements.reading.read(LANES, BATCH)
        low = self.top()
        idle = self.time("idle: read", everything)
        self.clean = self.clean or idle
        self.time("idle: read, lanes as one range", self.ranged())
        self.time("idle: read, bounded", self.bounded(low))
        self.time("idle: lanes with something behind the bound", self.fresh_lanes(low))
        self.time("idle: lanes with something behind an id, by the primary key", self.fresh_by_key(low))
        self.time("signatures", self._statements.reading.signatures(LANES))
        self.insert(FEW)
        fresh = [row[0] for row in self._run(self.fresh_lanes(low))]
        self.time(f"{FEW} new: read", everything)
        self.time(f"{FEW} new: read, lanes as one range", self.ranged())
        self.time(f"{FEW} new: read, bounded", self.bounded(low))
        self.time(
            f"{FEW} new: lanes behind the bound ({len(fresh)}), then a full read of them",
            self.fresh_lanes(low),
            self._statements.reading.read(fresh, BATCH),
        )
        self.time(
            f"{FEW} new: lanes behind an id by the primary key ({len(fresh)}), then a full read of them",
            self.fresh_by_key(low),
            self._statements.reading.read(fresh, BATCH),
        )
        self.settle()
        low = self.top()
        self.insert(BACKLOG)
        self.time(f"backlog {BACKLOG:,}: read of {BATCH}", everything)
        self.time(f"backlog {BACKLOG:,}: read of {BATCH}, lanes as one range", self.ranged())
        self.time(f"backlog {BACKLOG:,}: read of {BATCH}, bounded", self.bounded(low))
        self.settle()

    def probes(self) -> None:
        """What it would cost to find the smallest id that may still be uncommitted."""
        top = self.top()
        between = f"FROM outbox_events WHERE id BETWEEN {top - BACKLOG} AND {top}"
        share = "LOCK IN SHARE MODE" if self._server.product == "mariadb" else "FOR SHARE"
        self.time(f"probe: {BACKLOG:,} ids, {share} SKIP LOCKED", f"SELECT COUNT(*) {between} {share} SKIP LOCKED")
        self.time(f"probe: {BACKLOG:,} ids, consistent read", f"SELECT COUNT(*), MIN(id) {between}")
        self.time(
            "probe: information_schema.innodb_trx",
            "SELECT COUNT(*), MIN(trx_started) FROM information_schema.innodb_trx",
        )
        if self._server.product == "mysql":
            self.time(
                "probe: performance_schema.metadata_locks",
                "SELECT owner_thread_id, owner_event_id FROM performance_schema.metadata_locks "
                "WHERE object_schema = DATABASE() AND object_name = 'outbox_events'",
            )

    def drain(self, rounds: int = 3) -> None:
        """How fast the real daemon drains a backlog, from the first settle to the last, as a median."""
        rates = []
        for number in range(rounds):
            topic = create_topic(self._kafka)
            self._run("UPDATE outbox_events SET status = 1 WHERE status = 0")
            low = self.top()
            self.insert(BACKLOG, topic)
            log = self._folder / f"{self._server.product}-{self.state}-{number}.log".replace(" ", "-")
            with Outboxd().start(self._server.url(self._name), self._kafka.bootstrap, log) as process:
                end = time.monotonic() + PATIENCE
                while count_messages(self._kafka, topic) < BACKLOG or self._unsettled():
                    process.check()
                    if time.monotonic() > end:
                        raise RuntimeError(f"not drained; see {log}")
                    time.sleep(0.1)
                process.stop()
            first, last = self._run(
                "SELECT UNIX_TIMESTAMP(MIN(updated_at)), UNIX_TIMESTAMP(MAX(updated_at)) FROM outbox_events "
                f"WHERE id >= {low} AND status = 1"
            )[0]
            rates.append(BACKLOG / float(last - first))
            self._kafka.delete_topic(topic)
        self.tell(
            f"the daemon drains {BACKLOG:,}, first settle to last",
            f"{median(rates):,.0f} events/s ({' '.join(f'{rate:,.0f}' for rate in rates)})",
        )

    def _unsettled(self) -> int:
        return int(self._run(f"SELECT COUNT(*) FROM outbox_events FORCE INDEX ({LANE_INDEX}) WHERE status = 0")[0][0])


def measure(server: SqlServer, kafka: Kafka, folder: Path, rows: int, report: Callable[[Figure], None]) -> None:
    """All states of one server."""
    with migrated_database(server) as name:
        bench = Bench(server, name, kafka, folder, report)
        bench.state = "no dead entries"
        bench.reads()
        bench.drain()
        bench.state = f"{rows:,} dead entries"
        with bench.dump():
            with bench.open_writer():
                bench.deliver(rows)
                bench.state = f"{rows:,} dead entries, and a transaction open since before them"
                bench.time("idle: read", bench._statements.reading.read(LANES, BATCH))
                bench.time("idle: read, lanes as one range", bench.ranged())
            bench.state = f"{rows:,} dead entries"
            bench.reads()
            bench.probes()
            bench.drain()
        bench.state = "after the dump"
        bench.wait_for_purge()
        bench.reads()


def main() -> int:
    """Measures, and prints the figures as they come, then as a table."""
    parser = argparse.ArgumentParser(prog="python -m bench.dump", description=__doc__)
    parser.add_argument("--databases", nargs="+", choices=DATABASES, default=list(DATABASES))
    parser.add_argument("--rows", type=int, default=1_000_000, help="dead entries [default: %(default)s]")
    arguments = parser.parse_args()
    console = Console(width=180)
    table = Table(title="Reads beside a dump", title_justify="left")
    for heading in ("database", "state", "what", "median (least..most)"):
        table.add_column(heading)

    def report(figure: Figure) -> None:
        table.add_row(figure.database, figure.state, figure.what, figure.cost)
        console.print(f"  {figure.database} | {figure.state} | {figure.what} | {figure.cost}", soft_wrap=True)

    try:
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outboxd-bench-")))
            kafka = stack.enter_context(Kafka(java_options=LONG_LIVED))
            for name in arguments.databases:
                with DATABASES[name]() as server:
                    console.print(f"{server.name} {server.version}")
                    measure(server, kafka, folder, arguments.rows, report)
    except UnavailableError as reason:
        console.print(f"a server is missing: {reason}", style="red", markup=False)
        return 1
    console.print(table)
    return 0


if __name__ == "__main__":
    sys.exit(main())
