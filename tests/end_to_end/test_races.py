"""Races that once broke a promise, each provoked again."""

import signal
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pymysql

from tests.conftest import Database
from tests.end_to_end.application import Ledger, Writer, fill, insert
from tests.end_to_end.checker import check, consume
from tests.end_to_end.daemon import Daemon, in_doubt, until
from tests.end_to_end.plugins import installed
from tests.servers.kafka import Kafka

Count = Callable[..., int]
StartDaemon = Callable[..., Daemon]
NewTopic = Callable[..., str]


class HalfProcessing(threading.Thread):
    """Writes transactions in which an aggregate's first event stands in processing, and four new ones behind it."""

    def __init__(self, database: Database, topic: str, name: str) -> None:
        super().__init__(daemon=True)
        self._connection = database.connect()
        self._topic = topic
        self._name = name
        self._stopping = threading.Event()
        self.ledger = Ledger()

    def run(self) -> None:
        serial = 0
        while not self._stopping.is_set():
            aggregate = f"{self._name}-{serial}"
            serial += 1
            self._connection.begin()
            insert(self._connection, self.ledger, aggregate, self._topic, status=4)
            for _ in range(4):
                insert(self._connection, self.ledger, aggregate, self._topic)
            self._connection.commit()

    def stop(self) -> Ledger:
        """Ends it; its ledger."""
        self._stopping.set()
        self.join()
        return self.ledger


def test_recovery_of_a_stuck_row_does_not_cross_the_read_of_those_behind_it(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """Thousands of aggregates whose first row is released at any moment of the reads around it."""
    name = topic(1)
    daemon(
        RECOVERY__STUCK_TIMEOUT="1s",
        RECOVERY__INTERVAL="10ms",
        RETRY__MAX_ATTEMPTS="50",
        RETRY__INTERVAL="10ms",
        RELAY__POLL_INTERVAL="1ms",
    )
    writers = [HalfProcessing(outbox, name, f"writer{n}") for n in range(2)]
    for writer in writers:
        writer.start()
    until(lambda: count("status = 1") > 3000, "enough is recovered and delivered", 180)
    committed = Ledger()
    for writer in writers:
        committed.events |= writer.stop().events
    with outbox.connect() as connection, connection.cursor() as cursor:
        until(lambda: count("status = 4") == 0, "nothing is stuck")

        def sent() -> bool:
            cursor.execute("SELECT id FROM outbox_events WHERE status = 2")
            if ids := [row[0] for row in cursor.fetchall()]:
                cursor.execute("UPDATE outbox_events SET next_attempt_at = NOW() WHERE id IN %s", (ids,))
            return count("status <> 1") == 0

        until(sent, "everything is sent")
    assert check(consume(kafka.bootstrap, name), committed).clean


def test_two_daemons_of_one_name_never_work_together(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """The second waits; it follows when the first is frozen beyond its lease, and the first, thawed, stays out."""
    first = daemon(INSTANCE__NAME="pod-0", LEASE__TTL="6s")
    first.wait_for("lease.lanes", owned=64)
    second = daemon(INSTANCE__NAME="pod-0")
    second.wait_for("lease.refused")
    assert second.get("/readyz").status_code == 503
    first.signal(signal.SIGSTOP)
    second.wait_for("lease.lanes", owned=64)
    first.signal(signal.SIGCONT)
    first.wait_for("lease.lost")
    first.wait_for("lease.refused")
    until(lambda: count(table="outbox_instances") == 1, "only the second is a member")
    until(lambda: first.metric("outbox_lanes_owned") == 0, "the first has no lanes")
    until(lambda: second.metric("outbox_lanes_owned") == 64, "the second has all")


def test_an_instance_that_is_frozen_in_a_fenced_write_blocks_nobody(outbox: Database, daemon: StartDaemon) -> None:
    """Its row is locked for longer than leases last; another instance keeps its lease and its lanes."""
    with outbox.connect() as frozen, frozen.cursor() as cursor:
        cursor.execute(
            "INSERT INTO outbox_instances (id, host, pid, version, expires_at) "
            "VALUES ('frozen', 'elsewhere', 1, '0', NOW(6) + INTERVAL 1 SECOND)"
        )
        frozen.begin()
        cursor.execute("SELECT 1 FROM outbox_instances WHERE id = 'frozen' LOCK IN SHARE MODE")
        running = daemon(LEASE__TTL="6s")
        running.wait_for("lease.lanes", owned=64)
        thawed = time.monotonic() + 9
        while time.monotonic() < thawed:
            assert running.metric("outbox_lanes_owned") == 64
            time.sleep(0.1)
        assert not running.events("lease.lost")
        assert not [line for line in running.events("database.unavailable") if " 1205 " in line["reason"]]
        frozen.rollback()
    running.wait_for("lease.evicted")


def test_a_frozen_daemon_repeats_but_does_not_reorder(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """SIGSTOP beyond the lease in the middle of a backlog, with retries about; another takes over; SIGCONT."""
    ledger, name = Ledger(), topic(3)
    with outbox.connect() as connection:
        fill(connection, ledger, name, 20_000, 300)
    first = daemon(LEASE__TTL="2s", RELAY__BATCH_SIZE="100")
    until(lambda: count("status = 1") > 1000, "the first delivers")
    writer = Writer(outbox.connect(), name, "writer")
    writer.start()
    first.signal(signal.SIGSTOP)
    second = daemon(LEASE__TTL="10s", RELAY__BATCH_SIZE="100")
    second.wait_for("lease.lanes", owned=64)
    sent = count("status = 1")
    until(lambda: count("status = 1") > sent + 1000, "the second delivers")
    taken = len(second.events("lease.lanes"))
    first.signal(signal.SIGCONT)
    first.wait_for("lease.lost")
    until(lambda: len(second.events("lease.lanes")) > taken, "the first comes back for its share")
    ledger.events |= writer.stop().events
    until(lambda: count("status <> 1") == 0, "everything is sent", 60)
    assert first.stop() == 0
    assert second.stop() == 0
    verdict = check(consume(kafka.bootstrap, name), ledger)
    assert verdict.clean
    # What the frozen one had in flight; it says once that its lease is lost.
    assert verdict.duplicates <= 3 * 100 * in_doubt(first, second)


def test_connections_that_are_killed_in_the_middle_lose_nothing(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """Every connection of the daemon, again and again, while it drains a backlog with retries and dead letters."""
    ledger, name = Ledger(), topic(3)
    with outbox.connect() as connection:
        fill(connection, ledger, name, 10_000, 100)
        insert(connection, Ledger(), "order-1", "orders/eu")
        running = daemon(RELAY__BATCH_SIZE="50")
        with connection.cursor() as cursor:
            while count("status = 0"):
                cursor.execute("SELECT id FROM information_schema.processlist WHERE db = %s", (outbox.name,))
                mine = {connection.thread_id(), count.connection.thread_id()}  # type: ignore[attr-defined]
                for (thread,) in cursor.fetchall():
                    if thread not in mine:
                        try:
                            cursor.execute(f"KILL {thread}")
                        except pymysql.err.OperationalError as error:
                            assert error.args[0] == 1094  # it is gone already
                time.sleep(0.2)
    until(lambda: count("status = 1") == 10_000, "everything is sent")
    until(lambda: count(table="outbox_deadletters") == 1, "the hopeless one is a dead letter")
    assert running.process.poll() is None
    verdict = check(consume(kafka.bootstrap, name), ledger)
    assert verdict.clean


def test_a_missing_topic_and_a_silent_broker_do_not_stop_delivery_for_good(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """While some topics are being looked up the broker falls silent; afterwards everything goes on."""
    ledger, name = Ledger(), topic(3)
    daemon(
        KAFKA__DELIVERY_TIMEOUT="1500ms",
        RELAY__IN_FLIGHT="8",
        RELAY__BATCH_SIZE="50",
        RETRY__BASE_DELAY="1s",
        RETRY__MAX_ATTEMPTS="1000",
    )
    with outbox.connect() as connection:
        for number in range(40):
            fill(connection, ledger, name, 20, 20)
            insert(connection, Ledger(), f"lost-{number}", f"missing-{number % 4}")
            if number in {10, 25}:
                kafka.pause()
                time.sleep(3.5)  # longer than the delivery deadline: the producer is closed under those who look
                kafka.resume()
    until(lambda: count("status = 1") == 800, "the good ones are sent", 60)
    assert check(consume(kafka.bootstrap, name), ledger).clean


def test_restarts_while_the_broker_refuses_spend_no_attempt(outbox: Database, tmp_path: Path, count: Count) -> None:
    """After a crash, under a sink that can be reached but delivers nothing, as without an ACL."""
    environment = installed(tmp_path, refusing="RefusingSink")
    with outbox.connect() as connection:
        fill(connection, Ledger(), "orders", 20, 2)
    settings = {"SINK__KIND": "refusing", "LEASE__TTL": "2s"}
    with Daemon(outbox.url, "", environment, **settings) as running:
        running.wait_for("delivery.paused")
        running.kill()
    settings["LEASE__TTL"] = "20s"
    for _ in range(3):
        with Daemon(outbox.url, "", environment, **settings) as running:
            running.wait_for("delivery.paused")
            assert running.stop() == 0
            assert count("status = 0 AND attempt_count = 0") == 20


def test_large_dead_letters_do_not_cost_the_lease(
    outbox: Database, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """They are moved a few at a time, so that a heartbeat does not notice."""
    name = topic(1)
    with outbox.connect() as connection:
        for number in range(20):
            insert(connection, Ledger(), f"order-{number}", name, payload='"' + "x" * 3_000_000 + '"')
    running = daemon()

    def steps() -> list[int]:
        return [line["count"] for line in running.events("events.dead_lettered")]

    until(lambda: sum(steps()) == 20, "all are dead letters")
    print(f"in steps of {steps()}")
    assert max(steps()) <= 3
    assert not running.events("lease.lost")
    assert count(table="outbox_deadletters") == 20
    assert count() == 0
