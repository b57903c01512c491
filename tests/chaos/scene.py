"""The world of one scenario: its database, topics, writers and daemons, and the faults it can do to them."""

import random
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import pymysql
from pymysql.constants import ER

from outboxd.model import TableNames
from outboxd.store.migrator import Migrator
from tests.chaos.servers import APPLICATION, DAEMON, Servers, revive
from tests.chaos.writers import Writer, Writers
from tests.end_to_end.application import fill, insert
from tests.end_to_end.daemon import Daemon
from tests.servers.kafka import Kafka
from tests.servers.kafka_cluster import KafkaCluster

PATIENCE = 30.0
POLL = 0.1
OUTBOXD = (*(("setpriv", "--pdeathsig", "KILL") if shutil.which("setpriv") else ()), sys.executable, "-m", "outboxd")
"""A daemon ends with the run, however that ends."""

BATCH, IN_FLIGHT = 200, 3
"""Of the daemons: rows of a batch, and batches at once."""

SHORT_LEASE = 3
"""Seconds, for scenarios that wait for the end of a lease, or of half of it, which is the limit of a delivery."""

LONG_LEASE = 15
"""Seconds, for all others: a machine that stalls for a moment is no fault of theirs, and explains no duplicate."""

QUICK = {
    "RELAY__BATCH_SIZE": str(BATCH),
    "RELAY__IN_FLIGHT": str(IN_FLIGHT),
    "RETRY__BASE_DELAY": "500ms",
    "RETRY__INTERVAL": "100ms",
    "DATABASE__CONNECT_TIMEOUT": "1s",
    "DATABASE__READ_TIMEOUT": "2s",
}
"""Settings with which a scenario takes seconds."""

_migrating = threading.Lock()
"""Alembic keeps what it is about in its module."""

OPEN = "status <> 1"
UNSENT = "status IN (0, 2, 3, 4)"


@dataclass
class Running:
    """A daemon of the scene."""

    daemon: Daemon
    ended: bool = False
    """By the scene: killed, or stopped."""
    peak: int = 0
    """Its resident memory at most, in bytes."""


class Scene:
    """What a scenario is played in. `dice` decide everything that is left to chance."""

    def __init__(
        self,
        servers: Servers,
        kafka: Kafka | KafkaCluster,
        product: str,
        database: str,
        dice: random.Random,
        lease: float,
        patience: float = 1.0,
    ) -> None:
        """`lease` is of the daemons that are not given another; `patience` multiplies every limit of time."""
        self.servers = servers
        self.server = servers.databases[product]
        self.database_proxy = servers.database_proxies[product]
        self.product = product
        self.database = database
        self.dice = dice
        self.kafka = kafka
        self.lease = lease
        self.patience = patience
        self.writers = Writers()
        self.running: list[Running] = []
        self.topics: list[str] = []
        self.poison: set[str] = set()
        """Event ids that are expected among the dead letters."""
        self.problems: list[str] = []
        self.explained = 0
        """How many duplicates can have been made by kills, freezes, and what the daemons call suspected."""
        self.keeps_sent = True
        """Whether rows that are sent stay in their table."""
        self.stalls = 0
        """How many daemons were killed or frozen."""
        self.recoveries: list[float] = []
        """Seconds from the end of each fault until what it held up was delivered."""
        self.earlier: list[Any] = []
        """Messages of a topic that was deleted."""
        self.server.create_database(database)
        with _migrating:
            Migrator(self.server.url(database), TableNames()).upgrade()
        self._watching = threading.Event()
        self._watch = threading.Thread(target=self._watch_memory, daemon=True)
        self._watch.start()

    # --- the parts

    def topic(self, partitions: int = 6, **config: object) -> str:
        """A new topic."""
        name = self.future_topic()
        self.kafka.create_topic(name, partitions, **config)
        return name

    def future_topic(self) -> str:
        """The name of a topic that does not exist yet; what arrives there will count."""
        self.topics.append(f"{self.database}-{len(self.topics) + 1}")
        return self.topics[-1]

    def connect(self, user: str = APPLICATION, **options: Any) -> "pymysql.Connection[Any]":
        """A connection as an application has it."""
        patience = {"connect_timeout": 2, "read_timeout": 5, "write_timeout": 5}
        return self.server.connect(self.database, user=user, **(patience | options))

    def query(self, sql: str, *values: object) -> list[tuple[Any, ...]]:
        """One statement as root."""
        with self._connect_as_root() as connection, connection.cursor() as cursor:
            cursor.execute(sql, values or None)
            return list(cursor.fetchall())

    def _connect_as_root(self) -> "pymysql.Connection[Any]":
        """A full server keeps one more connection for root, which our last one may still be leaving."""
        end = time.monotonic() + PATIENCE
        while True:
            try:
                return self.server.connect(self.database)
            except pymysql.OperationalError as error:
                if error.args[0] != ER.CON_COUNT_ERROR or time.monotonic() > end:
                    raise
                time.sleep(POLL / 10)

    def count(self, where: str = "TRUE", *values: object, table: str = "outbox_events") -> int:
        """How many rows the condition holds for."""
        return int(self.query(f"SELECT COUNT(*) FROM {table} WHERE {where}", *values)[0][0])

    def write(self, *topics: str, pace: float = 400, writers: int = 2, sizes: Sequence[int] = (20, 200, 1000)) -> None:
        """Starts writers, which together commit about `pace` events per second from now on."""
        first = len(self.writers.all)
        self.writers.start(
            Writer(
                self.connect,
                topics,
                f"writer{number}",
                random.Random(self.dice.random()),
                pace=pace / writers,
                sizes=sizes,
            )
            for number in range(first, first + writers)
        )

    def insert(self, aggregate_id: str, topic: str, *, size: int = 200, **columns: Any) -> str:
        """One event; other columns override. Returns its event id."""
        with self.connect() as connection:
            return insert(connection, self.writers.ledger, aggregate_id, topic, size=size, **columns)

    def fill(self, topic: str, events: int, aggregates: int = 200) -> None:
        """A backlog, at once."""
        with self.connect() as connection:
            fill(connection, self.writers.ledger, topic, events, aggregates)

    def daemon(self, *, broker_proxy: bool = False, database_proxy: bool = False, **settings: str) -> Daemon:
        """Starts a daemon, and waits until it has lanes to serve."""
        daemon = self.start_daemon(broker_proxy=broker_proxy, database_proxy=database_proxy, **settings)
        self.hears(daemon, "lease.lanes")
        return daemon

    def hears(self, daemon: Daemon, event: str, **fields: object) -> None:
        """Until the daemon says so."""
        daemon.wait_for(event, PATIENCE * self.patience, **fields)

    def start_daemon(self, *, broker_proxy: bool = False, database_proxy: bool = False, **settings: str) -> Daemon:
        """Starts a daemon."""
        port = self.database_proxy.port if database_proxy else self.server.port
        url = f"mysql+pymysql://{DAEMON}@127.0.0.1:{port}/{self.database}"
        bootstrap = f"127.0.0.1:{self.servers.kafka_proxy.port}" if broker_proxy else self.kafka.bootstrap
        defaults = QUICK | {"LEASE__TTL": f"{self.lease}s"}
        daemon = Daemon(url, bootstrap, program=OUTBOXD, **(defaults | settings))
        daemon.start()
        self.running.append(Running(daemon))
        return daemon

    @property
    def living(self) -> list[Running]:
        """The daemons that ought to run."""
        return [running for running in self.running if not running.ended]

    # --- faults of the daemons

    def kill(self, daemon: Daemon) -> None:
        """kill -9; what it had in flight may come twice."""
        self._end(daemon)
        self.explained += BATCH * IN_FLIGHT
        self.stalls += 1
        daemon.kill()

    def stop(self, daemon: Daemon) -> None:
        """SIGTERM. It has to end in good order, with exit code 0."""
        self._end(daemon)
        self.explained += self._suspected(daemon)
        code = daemon.stop()
        if code:
            self.problems.append(f"a daemon ended with exit code {code}")

    def freeze(self, daemon: Daemon) -> None:
        """SIGSTOP; when others take over in the meantime, what it had in flight comes twice."""
        self.explained += BATCH * IN_FLIGHT
        self.stalls += 1
        daemon.signal(signal.SIGSTOP)

    def thaw(self, daemon: Daemon) -> None:
        """SIGCONT."""
        daemon.signal(signal.SIGCONT)

    def heal(self) -> None:
        """Every server, proxy and daemon that ought to run does so unhindered."""
        for running in self.living:
            with suppress(ProcessLookupError):
                running.daemon.signal(signal.SIGCONT)
        if isinstance(self.kafka, KafkaCluster):
            revive(*self.kafka.brokers)
        self.servers.heal()

    def _end(self, daemon: Daemon) -> None:
        self._look_at_memory()
        next(running for running in self.running if running.daemon is daemon).ended = True

    @staticmethod
    def _suspected(daemon: Daemon) -> int:
        """The events that the daemon itself says it sent again though they may have arrived."""
        with suppress(httpx.HTTPError, AssertionError):
            return int(daemon.metric("outbox_events_duplicates_suspected_total"))
        return 0

    # --- time passes

    def rest(self, shortest: float, longest: float | None = None) -> None:
        """Lets the fault last, or the load go on, for as long as the dice say."""
        time.sleep(self.dice.uniform(shortest, longest or shortest))

    def until(self, condition: Callable[[], Any], what: str, patience: float = PATIENCE) -> float:
        """Waits for something to come true, and returns how long it took. A daemon that ends by itself is a problem."""
        began, patience = time.monotonic(), patience * self.patience
        while not condition():
            for running in self.living:
                assert running.daemon.process.poll() is None, f"a daemon ended by itself while: {what}"
            assert time.monotonic() - began < patience, f"not within {patience:.0f} s: {what}"
            time.sleep(POLL)
        return time.monotonic() - began

    def flow(self, events: int = 200, topic: str = "%") -> None:
        """Until so many more events have been sent, to a topic or to all together."""
        sent = "status = 1 AND topic LIKE %s"
        aim = self.count(sent, topic) + events
        self.until(lambda: self.count(sent, topic) >= aim, f"{events} events are sent")

    def recovers(self, within: float) -> None:
        """The fault ends now: what has been committed so far is delivered within so many seconds."""
        newest = self.query("SELECT COALESCE(MAX(id), 0) FROM outbox_events")[0][0]
        took = self.until(
            lambda: not self.count(f"{UNSENT} AND id <= %s", newest), "what the fault held up is delivered", 60
        )
        self.recoveries.append(took)
        within *= self.patience
        if took > within:
            self.problems.append(f"what the fault held up was delivered after {took:.1f} s, expected: {within:.0f} s")

    # --- the end

    def finish(self) -> None:
        """Ends the writers, lets the daemons deliver all, and ends them."""
        self.writers.stop()
        self.until(lambda: not self.count(OPEN), "the backlog is empty")
        for running in self.living:
            self.stop(running.daemon)

    def close(self) -> None:
        """Ends everything that still runs."""
        self.writers.stop()
        self._watching.set()
        self._watch.join()
        for running in self.living:
            with suppress(ProcessLookupError):
                running.daemon.process.kill()
            running.daemon.wait()

    def drop(self) -> None:
        """Leaves nothing behind."""
        self.server.drop_database(self.database)

    @property
    def peak(self) -> int:
        """The resident memory of the largest daemon, in bytes."""
        return max((running.peak for running in self.running), default=0)

    def _watch_memory(self) -> None:
        while not self._watching.wait(0.2):
            self._look_at_memory()

    def _look_at_memory(self) -> None:
        for running in list(self.running):
            with suppress(OSError):
                for line in Path(f"/proc/{running.daemon.process.pid}/status").read_text().splitlines():
                    if line.startswith("VmHWM:"):
                        running.peak = int(line.split()[1]) * 1024
