"""Several daemons on one outbox: fair shares, hand-overs, and writers that notice nothing."""

import threading
import time
from collections.abc import Callable
from typing import Any

import pymysql

from tests.conftest import Database
from tests.end_to_end.application import Ledger, Writer, fill, insert
from tests.end_to_end.checker import check, consume
from tests.end_to_end.daemon import Daemon, in_doubt, until
from tests.servers.kafka import Kafka

Count = Callable[..., int]
StartDaemon = Callable[..., Daemon]
NewTopic = Callable[..., str]


def shares(outbox: Database) -> list[int]:
    """How many lanes each owner has, the greatest first."""
    with outbox.connect() as connection, connection.cursor() as cursor:
        cursor.execute("SELECT COUNT(*) FROM outbox_lanes WHERE owner IS NOT NULL GROUP BY owner ORDER BY 1 DESC")
        return [row[0] for row in cursor.fetchall()]


def test_lanes_are_shared_fairly_as_daemons_come_and_go(outbox: Database, daemon: StartDaemon) -> None:
    """64; 32 and 32; 22, 21 and 21; and back, after a stop, and after a kill. (`tests/model` has when.)"""
    first = daemon(LEASE__TTL="3s")
    until(lambda: shares(outbox) == [64], "one has all lanes")
    second = daemon(LEASE__TTL="3s")
    until(lambda: shares(outbox) == [32, 32], "two have halves")
    third = daemon(LEASE__TTL="3s")
    until(lambda: shares(outbox) == [22, 21, 21], "three have thirds")
    assert second.stop() == 0
    until(lambda: shares(outbox) == [32, 32], "the stopped one's lanes are taken")
    third.kill()
    until(lambda: shares(outbox) == [64], "the killed one's lanes are taken")
    until(lambda: first.get("/readyz").status_code == 200, "it is ready")


def test_order_holds_while_daemons_come_and_go(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """Under load from two writers: one joins, one is stopped, one is killed; nothing is lost or moved."""
    name = topic(6)
    writers = [Writer(outbox.connect(), name, f"writer{n}") for n in range(2)]
    for writer in writers:
        writer.start()
    settings = {"LEASE__TTL": "10s", "RELAY__BATCH_SIZE": "100"}
    first = daemon(**settings)
    until(lambda: count("status = 1") > 500, "the first delivers")
    second = daemon(**settings | {"LEASE__TTL": "2s"})
    until(lambda: shares(outbox) == [32, 32], "the second joins")
    sent = count("status = 1")
    until(lambda: count("status = 1") > sent + 500, "both deliver")
    assert first.stop() == 0
    until(lambda: shares(outbox) == [64], "the second takes over")
    third = daemon(**settings)
    until(lambda: shares(outbox) == [32, 32], "the third joins")
    second.kill()
    until(lambda: shares(outbox) == [64], "the third takes over")
    committed = Ledger()
    for writer in writers:
        committed.events |= writer.stop().events
    until(lambda: count("status <> 1") == 0, "everything is sent")
    assert third.stop() == 0
    verdict = check(consume(kafka.bootstrap, name), committed)
    assert verdict.clean
    assert verdict.delivered == len(committed.events)
    # Only the killed one can have left something in flight, and who says so.
    assert verdict.duplicates <= 3 * 100 * (1 + in_doubt(first, second, third))


WAITING = """
SELECT COUNT(*) FROM performance_schema.data_lock_waits AS w
JOIN performance_schema.threads AS t ON t.thread_id = w.requesting_thread_id WHERE t.processlist_id IN ({ids})
"""


class LockWatch(threading.Thread):
    """Finds connections that wait for a row lock for longer than 50 ms.

    MariaDB refuses to wait when told to, so there not even a shorter wait is missed: it is an error of the writer's.
    MySQL cannot; there its own table of waits is looked at every 10 ms.
    """

    def __init__(self, database: Database, watched: "list[pymysql.Connection[Any]]") -> None:
        super().__init__(daemon=True)
        self._connection = database.connect()
        self._ids = ",".join(str(connection.thread_id()) for connection in watched)
        self._mariadb = "MariaDB" in str(self._connection.server_version)
        self._stopping = threading.Event()
        self.longest = 0.0
        self.looks = 0
        for connection in watched if self._mariadb else []:
            with connection.cursor() as cursor:
                cursor.execute("SET SESSION innodb_lock_wait_timeout = 0")

    def run(self) -> None:
        since: float | None = None
        while not self._mariadb and not self._stopping.wait(0.01):
            with self._connection.cursor() as cursor:
                cursor.execute(WAITING.format(ids=self._ids))
                waiting = (cursor.fetchone() or (0,))[0]
            now = time.monotonic()
            since = (since or now) if waiting else None
            self.longest = max(self.longest, now - (since or now))
            self.looks += 1

    def deadlocks(self) -> int:
        """The server's own count, whoever met them."""
        with self._connection.cursor() as cursor:
            if self._mariadb:
                cursor.execute("SHOW GLOBAL STATUS LIKE 'Innodb_deadlocks'")
                return int((cursor.fetchone() or ("", 0))[1])
            cursor.execute("SET GLOBAL innodb_monitor_enable = 'lock_deadlocks'")
            cursor.execute("SELECT count FROM information_schema.innodb_metrics WHERE name = 'lock_deadlocks'")
            return int((cursor.fetchone() or (0,))[0])

    def stop(self) -> None:
        """Ends it."""
        self._stopping.set()
        self.join()


def test_the_watch_sees_a_writer_wait(outbox: Database) -> None:
    """Or the next test could not fail."""
    with outbox.connect() as holder, outbox.connect() as waiter, holder.cursor() as held, waiter.cursor() as waiting:
        insert(holder, Ledger(), "order-1", "orders")
        watch = LockWatch(outbox, [waiter])
        watch.start()
        holder.begin()
        held.execute("UPDATE outbox_events SET status = 1")
        release = threading.Timer(0.5, holder.rollback)
        release.start()
        try:
            waiting.execute("UPDATE outbox_events SET status = 2")
        except pymysql.err.OperationalError:
            refused = True
        else:
            refused = False
        release.join()
        watch.stop()
        assert refused or watch.longest > 0.05


def test_writers_notice_nothing(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count, flaky: dict[str, str]
) -> None:
    """4 writers and 2 daemons, with retries, promotions, dead letters and retention: 0 deadlocks, 0 lock waits."""
    name, backlog = topic(6), Ledger()
    connections = [outbox.connect() for _ in range(5)]
    watch = LockWatch(outbox, connections)
    deadlocks = watch.deadlocks()
    fill(connections[0], backlog, name, 5_000, 100)
    for _ in range(2):
        daemon(
            flaky,
            SINK__KIND="flaky",
            LEASE__TTL="6s",
            RELAY__BATCH_SIZE="200",
            RETENTION__SENT="1s",
            RETENTION__INTERVAL="100ms",
            RETRY__BASE_DELAY="1s",
            RETRY__INTERVAL="50ms",
            RETRY__MAX_ATTEMPTS="2",
        )
    writers = [Writer(connection, name, f"writer{n}") for n, connection in enumerate(connections[:4])]
    lost = Writer(connections[4], name, "lost", aggregates=5, event_type="flaky")
    watch.start()
    for writer in (*writers, lost):
        writer.start()
    until(lambda: shares(outbox) == [32, 32], "both daemons work")
    until(lambda: count(table="outbox_deadletters") > 20, "retries were promoted, and given up")
    until(lambda: count("status = 1 AND created_at < NOW() - INTERVAL 3 SECOND") == 0, "retention runs")
    committed = [writer.stop() for writer in writers]
    lost.stop()
    watch.stop()
    assert [writer.errors for writer in (*writers, lost)] == [[]] * 5
    assert sum(len(ledger.events) for ledger in committed) > 1000
    assert watch.deadlocks() == deadlocks
    assert watch.longest < 0.05
