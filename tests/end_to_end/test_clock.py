"""Clocks that jump, time zones that change, and transactions that commit late."""

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from pathlib import Path

import pytest

from outboxd.model import TableNames
from outboxd.store.migrator import Migrator
from tests.conftest import Database
from tests.end_to_end.application import INSERT, Ledger, Writer, insert
from tests.end_to_end.checker import Verdict, check, consume
from tests.end_to_end.daemon import Daemon, until
from tests.servers.cache import UnavailableError
from tests.servers.faketime import Clock
from tests.servers.kafka import Kafka
from tests.servers.mariadb import MariaDB
from tests.servers.mysql import MySQL
from tests.servers.sql import SqlServer

Count = Callable[..., int]
StartDaemon = Callable[..., Daemon]
NewTopic = Callable[..., str]

HOUR = 3600


def test_the_hosts_clock_jumps_an_hour_forward_and_back(
    outbox: Database, kafka: Kafka, topic: NewTopic, count: Count, clock: Clock
) -> None:
    """While it works: the lease is kept, retries come due by the database's clock, nothing is sent twice."""
    ledger, name = Ledger(), topic(3)
    settings = {
        "LEASE__TTL": "10s",
        "RETRY__INTERVAL": "50ms",
        "RETRY__STRATEGY": "fixed",
        "RETRY__BASE_DELAY": "1s",
        "RETRY__MAX_ATTEMPTS": "100",
    }
    with (
        outbox.connect() as connection,
        Daemon(outbox.url, kafka.bootstrap, clock.environment, **settings) as daemon,
    ):
        daemon.wait_for("lease.lanes", owned=64)
        writer = Writer(outbox.connect(), name, "writer")
        writer.start()
        began = time.monotonic()
        failing = insert(connection, Ledger(), "failing", "no-such-topic")
        until(lambda: count("event_id = %s AND attempt_count = 1", failing) == 1, "it is retried")
        for offset in (HOUR, 0, -HOUR, 0):
            clock.set(offset)
            told = datetime.now(UTC).timestamp() + offset
            until(lambda told=told: abs(_wall_clock(daemon) - told) < HOUR / 2, "the daemon's clock jumps")
            due = insert(connection, ledger, "due", name, status=2, next_attempt_at="2020-01-01 00:00:00")
            later = insert(connection, ledger, "later", name)
            with connection.cursor() as cursor:
                cursor.execute(
                    "UPDATE outbox_events SET status = 2, next_attempt_at = NOW() + INTERVAL 600 SECOND "
                    "WHERE event_id = %s AND status = 0",
                    (later,),
                )
                waits = cursor.rowcount == 1  # else the daemon was faster
            until(lambda due=due: count("status = 1 AND event_id = %s", due) == 1, "what is due is sent")
            sent = count("status = 1")
            until(lambda sent=sent: count("status = 1") > sent + 300, "it delivers")
            assert not waits or count("status = 2 AND event_id = %s", later) == 1
            with connection.cursor() as cursor:
                cursor.execute("UPDATE outbox_events SET next_attempt_at = NOW() WHERE event_id = %s", (later,))
        ledger.events |= writer.stop().events
        until(lambda: count("status = 1") == len(ledger.events), "everything is sent", 60)
        tries = next(n for n in range(100) if count("event_id = %s AND attempt_count = %s", failing, n))
        passed = time.monotonic() - began
        assert passed / 4 <= tries <= 1 + passed / 0.5, f"{tries} attempts in {passed:.1f} s, one a second"
        assert count("event_id = %s AND next_attempt_at < NOW() + INTERVAL 3 SECOND", failing) == 1
        for event in ("lease.lost", "lease.resumed", "lease.evicted", "worker.failed", "database.unavailable"):
            assert not daemon.events(event)
        assert len(daemon.events("lease.joined")) == 1
        assert daemon.metric("outbox_oldest_age_seconds") < HOUR
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=len(ledger.events))


def _wall_clock(daemon: Daemon) -> float:
    """The time of day that the daemon gives, in the Date of an answer of its HTTP server."""
    return parsedate_to_datetime(daemon.get("/livez").headers["date"]).timestamp()


class Berlin:
    """A server in a time zone with summer time, and under a clock that can be set."""

    environment: dict[str, str]

    def _command(self) -> Sequence[str | Path]:
        variables = [f"{key}={value}" for key, value in self.environment.items()]
        return ["env", "TZ=Europe/Berlin", *variables, *super()._command()]  # type: ignore[misc]


class BerlinMariaDB(Berlin, MariaDB):
    """MariaDB in Berlin."""


class BerlinMySQL(Berlin, MySQL):
    """MySQL in Berlin."""


@pytest.fixture(params=[BerlinMariaDB, BerlinMySQL])
def berlin(request: pytest.FixtureRequest, clock: Clock) -> Iterator[SqlServer]:
    """A private server in Berlin. (That the fixtures of both servers say when one is missing is enough.)"""
    try:
        server = request.param()
    except UnavailableError as reason:
        pytest.skip(str(reason))
    server.environment = clock.environment
    with server:
        assert server.query("SELECT @@system_time_zone")[0][0] in {"CET", "CEST"}
        yield server


@pytest.mark.parametrize(
    "change",
    [datetime(2026, 10, 25, 1, tzinfo=UTC), datetime(2027, 3, 28, 1, tzinfo=UTC)],
    ids=["summer time ends", "summer time begins"],
)
def test_summer_time_ends_and_begins_in_the_databases_time_zone(
    berlin: SqlServer, kafka: Kafka, topic: NewTopic, clock: Clock, change: datetime
) -> None:
    """Across the hour that comes twice, or never: leases are kept, due times are met, ages are right."""
    ledger, name = Ledger(), topic(3)
    berlin.create_database("outbox")
    Migrator(berlin.url("outbox"), TableNames()).upgrade()
    offset = change.timestamp() - 6 - time.time()
    clock.set(offset)
    jumped = time.time() + offset - 2
    until(lambda: berlin.query("SELECT UNIX_TIMESTAMP()")[0][0] >= jumped, "its clock is set")
    with ExitStack() as stack:
        connection = stack.enter_context(berlin.connect("outbox"))

        def count(where: str, *values: object) -> int:
            return int(berlin.query(f"SELECT COUNT(*) FROM outbox.outbox_events WHERE {where}", *values)[0][0])

        def local_hour() -> int:
            return int(berlin.query("SELECT HOUR(NOW())")[0][0])

        before = local_hour()
        daemon = stack.enter_context(
            Daemon(berlin.url("outbox"), kafka.bootstrap, LEASE__TTL="10s", RETRY__INTERVAL="50ms")
        )
        daemon.wait_for("lease.lanes", owned=64)
        writer = Writer(berlin.connect("outbox"), name, "writer")
        writer.start()
        # Behind the change, in three sessions with three ideas of the hour; each adds to UTC's, not to its own.
        due = []
        for zone in ("SYSTEM", "-05:00", "+00:00"):
            with connection.cursor() as cursor:
                cursor.execute("SET time_zone = %s", (zone,))
                cursor.execute("SELECT FROM_UNIXTIME(UNIX_TIMESTAMP() + 8)")
                (moment,) = cursor.fetchone() or (None,)
            due.append(insert(connection, ledger, f"due-{zone}", name, status=2, next_attempt_at=moment))
        with connection.cursor() as cursor:
            cursor.execute("SET time_zone = '+00:00'")
        began = time.monotonic()
        until(lambda: count("status = 1 AND event_id IN %s", due) == 3, "what is due is sent")
        took = time.monotonic() - began
        assert 5 <= took <= 12, f"due in 8 s, sent after {took:.1f} s"
        # Clocks go 2 (twice) -> 3, or 1 -> 3: they have changed under the daemon.
        until(lambda: local_hour() == (2 if change.month == 10 else 3), "the hour has changed")
        assert before == (2 if change.month == 10 else 1)
        sent = count("status = 1")
        until(lambda: count("status = 1") > sent + 300, "it delivers")
        ledger.events |= writer.stop().events
        until(lambda: count("status = 1") == len(ledger.events), "everything is sent", 60)
        assert not daemon.events("lease.lost")
        assert len(daemon.events("lease.joined")) == 1
        assert daemon.metric("outbox_oldest_age_seconds") < 60
        clock.set(0)
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=len(ledger.events))


def test_a_transaction_that_took_its_id_first_and_commits_late(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """3 s late, under load (30 s is only another number). Its aggregate's next events follow it."""
    ledger, name = Ledger(), topic(1)
    daemon()
    writer = Writer(outbox.connect(), name, "writer")
    writer.start()
    with outbox.connect() as connection, outbox.connect() as late, late.cursor() as cursor:
        first, second = ledger.row("order-0", name), ledger.row("order-0", name)
        late.begin()
        cursor.execute(INSERT, second)
        cursor.execute("SELECT LAST_INSERT_ID()")
        (late_id,) = cursor.fetchone() or (0,)
        with connection.cursor() as other:
            other.execute(INSERT, first)
        ledger.commit([first, second])
        until(lambda: count("status = 1 AND event_id = %s", first[0]) == 1, "what committed first is sent")
        committed_at = time.monotonic() + 3
        until(lambda: time.monotonic() > committed_at, "three seconds have passed")
        assert count("status = 1 AND id > %s", late_id) > 500
        late.commit()
        for _ in range(5):
            insert(connection, ledger, "order-0", name)
    ledger.events |= writer.stop().events
    until(lambda: count("status = 1") == len(ledger.events), "everything is sent", 60)
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=len(ledger.events))
