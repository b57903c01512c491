"""Clocks that jump, time zones that change, and transactions that commit late."""

import time
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from outboxd.model import TableNames
from outboxd.store.migrator import Migrator
from tests.conftest import Database
from tests.end_to_end.application import INSERT, Ledger, Writer, insert
from tests.end_to_end.checker import Verdict, check, consume
from tests.end_to_end.daemon import Daemon, until
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
    settings = {"LEASE__TTL": "30s", "RETRY__INTERVAL": "50ms"}
    with (
        outbox.connect() as connection,
        Daemon(outbox.url, kafka.bootstrap, clock.environment, **settings) as daemon,
    ):
        daemon.wait_for("lease.lanes", owned=64)
        writer = Writer(outbox.connect(), name, "writer")
        writer.start()
        for offset in (HOUR, 0, -HOUR, 0):
            clock.set(offset)
            seen = time.monotonic() + 1.5
            until(lambda seen=seen: time.monotonic() > seen, "it has been seen")
            due = insert(connection, ledger, "due", name, status=2, next_attempt_at="2020-01-01 00:00:00")
            later = insert(connection, ledger, "later", name, status=2, next_attempt_at="2037-01-01 00:00:00")
            move_due = "UPDATE outbox_events SET next_attempt_at = NOW() + INTERVAL %s SECOND WHERE event_id = %s"
            with connection.cursor() as cursor:
                cursor.execute(move_due, (HOUR // 2, later))
            until(lambda due=due: count("status = 1 AND event_id = %s", due) == 1, "what is due is sent")
            sent = count("status = 1")
            until(lambda sent=sent: count("status = 1") > sent + 300, "it delivers")
            assert count("status = 2 AND event_id = %s", later) == 1
            with connection.cursor() as cursor:
                cursor.execute(move_due, (0, later))
        ledger.events |= writer.stop().events
        until(lambda: count("status = 1") == len(ledger.events), "everything is sent", 60)
        for event in ("lease.lost", "lease.resumed", "lease.evicted", "worker.failed", "database.unavailable"):
            assert not daemon.events(event)
        assert len(daemon.events("lease.joined")) == 1
        assert daemon.metric("outbox_oldest_age_seconds") < HOUR
    messages = consume(kafka.bootstrap, name)
    assert check(messages, ledger) == Verdict(delivered=len(ledger.events))
    # It did jump: the messages carry its own time.
    assert {round((message.timestamp()[1] / 1000 - time.time()) / HOUR) for message in messages} == {-1, 0, 1}


class Zoned:
    """A server in a time zone of its own making."""

    zone = "UTC0"

    def _command(self) -> Sequence[str | Path]:
        return ["env", f"TZ={self.zone}", *super()._command()]  # type: ignore[misc]


class ZonedMariaDB(Zoned, MariaDB):
    """MariaDB in such a zone."""


class ZonedMySQL(Zoned, MySQL):
    """MySQL in such a zone."""


@pytest.fixture(params=[ZonedMariaDB, ZonedMySQL])
def zoned(request: pytest.FixtureRequest) -> Iterator[SqlServer]:
    """A private server with the tables in its database `outbox`."""
    # A server that is missing is reported, or fails the run, here.
    request.getfixturevalue(request.param.product)
    with request.param() as server:
        server.create_database("outbox")
        Migrator(server.url("outbox"), TableNames()).upgrade()
        yield server


def clocks_change(moment: float, *, ends: bool) -> str:
    """Central Europe's time zone, were its summer time to end, or to begin, at that moment; as POSIX writes it."""
    here = datetime.fromtimestamp(moment, timezone(timedelta(hours=2 if ends else 1)))
    half_a_year = here + timedelta(days=180)
    changes = [f"{day.timetuple().tm_yday - 1}/{day:%H:%M:%S}" for day in (here, half_a_year)]
    begin, end = reversed(changes) if ends else changes
    return f"CET-1CEST,{begin},{end}"


@pytest.mark.parametrize("ends", [True, False], ids=["ends", "begins"])
def test_summer_time_in_the_databases_time_zone(zoned: SqlServer, kafka: Kafka, topic: NewTopic, *, ends: bool) -> None:
    """Across the hour that comes twice, or never: leases are kept, due times are met, ages are right."""
    ledger, name = Ledger(), topic(3)
    before, after = (120, 60) if ends else (60, 120)
    zoned.stop()
    change = time.time() + 15 + 8 * zoned.start_seconds
    zoned.zone = clocks_change(change, ends=ends)  # type: ignore[attr-defined]
    zoned.start()

    def minutes_from_utc() -> int:
        return round(float(zoned.query("SELECT TIMESTAMPDIFF(SECOND, UTC_TIMESTAMP(), NOW())")[0][0]) / 60)

    def count(where: str, *values: object) -> int:
        return int(zoned.query(f"SELECT COUNT(*) FROM outbox.outbox_events WHERE {where}", *values)[0][0])

    url = zoned.url("outbox")
    with (
        zoned.connect("outbox") as connection,
        connection.cursor() as cursor,
        Daemon(url, kafka.bootstrap, LEASE__TTL="30s", RETRY__INTERVAL="50ms") as daemon,
    ):
        daemon.wait_for("lease.lanes", owned=64)
        writer = Writer(zoned.connect("outbox"), name, "writer")
        writer.start()
        # A moment behind the change, as sessions with different ideas of the hour write it. (A wall clock cannot tell
        # which of the hour that comes twice is meant.)
        due = round(change) + 3
        zones = ["-05:00", "+00:00"] if ends else ["SYSTEM", "-05:00", "+00:00"]
        events = []
        for zone in zones:
            cursor.execute("SET time_zone = %s", (zone,))
            cursor.execute("SELECT FROM_UNIXTIME(%s)", (due,))
            (moment,) = cursor.fetchone() or (None,)
            events.append(insert(connection, ledger, f"due-{zone}", name, status=2, next_attempt_at=moment))
        assert minutes_from_utc() == before, "the server was ready before the change"
        assert count("status = 2 AND event_id IN %s", events) == len(events)
        wait = due - time.time()
        until(lambda: count("status = 1 AND event_id IN %s", events) > 0, "the first is due", wait + 30)
        early = due - time.time()
        until(lambda: count("status = 1 AND event_id IN %s", events) == len(events), "all are due")
        late = time.time() - due
        assert early < 1, f"sent {early:.1f} s early"
        assert late < 600, f"sent {late:.1f} s late"
        assert minutes_from_utc() == after
        sent = count("status = 1")
        until(lambda: count("status = 1") > sent + 300, "it delivers")
        ledger.events |= writer.stop().events
        until(lambda: count("status = 1") == len(ledger.events), "everything is sent", 60)
        for event in ("lease.lost", "lease.resumed", "worker.failed", "database.unavailable"):
            assert not daemon.events(event)
        assert daemon.metric("outbox_oldest_age_seconds") < HOUR / 2
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
        until(lambda: count("status = 1 AND id > %s", late_id) > 500, "many that took their ids later are sent")
        late.commit()
        for _ in range(5):
            insert(connection, ledger, "order-0", name)
    ledger.events |= writer.stop().events
    until(lambda: count("status = 1") == len(ledger.events), "everything is sent", 60)
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=len(ledger.events))
