"""Starting, stopping, and outages, with real signals."""

import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing

from tests.conftest import Database
from tests.end_to_end.application import Ledger, Writer, fill, insert
from tests.end_to_end.checker import Verdict, check, consume
from tests.end_to_end.daemon import Daemon, until
from tests.servers.kafka import Kafka

Count = Callable[..., int]
StartDaemon = Callable[..., Daemon]
NewTopic = Callable[..., str]


def test_sigterm_finishes_what_is_in_flight_and_gives_the_lanes_back(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """Exit code 0, nothing delivered twice by the next daemon, which starts at once."""
    ledger, name = Ledger(), topic(6)
    with outbox.connect() as connection:
        while count("status = 0") == 0:  # once more, should it have been through before it heard the signal
            assert len(ledger.events) < 100_000, "it stops only when everything is sent"
            fill(connection, ledger, name, 20_000, 200)
            sent = count("status = 1")
            first = daemon(RELAY__BATCH_SIZE="200", LEASE__TTL="60s")
            until(lambda sent=sent: count("status = 1") > sent + 1000, "delivery is under way")
            assert first.stop() == 0
    assert count(table="outbox_instances") == 0
    assert count("owner IS NOT NULL OR deaths", table="outbox_lanes") == 0
    daemon(LEASE__TTL="60s")
    until(lambda: count("status = 1") == len(ledger.events), "the next daemon goes on at once")
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=len(ledger.events))


def test_sigint_stops_an_idle_daemon(daemon: StartDaemon) -> None:
    """As Ctrl-C does."""
    running = daemon()
    running.wait_for("lease.lanes")
    running.signal(signal.SIGINT)
    assert running.wait() == 0
    assert [line["event"] for line in running.log][-1] == "daemon.stopped"


def test_a_second_signal_ends_it_at_once(outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon) -> None:
    """While it waits for a broker that does not answer."""
    name = topic(1)
    running = daemon(RELAY__DRAIN_TIMEOUT="60s", LEASE__TTL="60s")
    running.wait_for("sink.reached")
    kafka.pause()
    try:
        with outbox.connect() as connection:
            insert(connection, Ledger(), "order-1", name)
        until(lambda: running.metric("outbox_in_flight_events") == 1, "the event is in flight")
        # The second is an echo, as `timeout` makes it; stopped meanwhile, the daemon hears both at once.
        for number in (signal.SIGSTOP, signal.SIGTERM, signal.SIGINT, signal.SIGCONT):
            running.signal(number)
        running.wait_for("daemon.stopping")
        until(lambda: running.get("/readyz").json()["checks"]["daemon"] == "stopping", "it is on its way")
        time.sleep(0.3)  # longer than an echo takes
        assert running.process.poll() is None
        running.signal(signal.SIGTERM)
        assert running.wait() == 130
    finally:
        kafka.resume()


def test_what_does_not_finish_within_the_drain_time_is_dropped_and_sent_later(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """The stop is bounded although the broker does not answer; the rows are as they were."""
    ledger, name = Ledger(), topic(1)
    running = daemon(RELAY__DRAIN_TIMEOUT="1s", KAFKA__CLOSE_TIMEOUT="500ms", LEASE__TTL="600s")
    running.wait_for("sink.reached")
    kafka.pause()
    try:
        with outbox.connect() as connection:
            insert(connection, ledger, "order-1", name)
        until(lambda: running.metric("outbox_in_flight_events") == 1, "the event is in flight")
        started = time.monotonic()
        assert running.stop() == 0
        assert time.monotonic() - started < 40
        assert running.events("relay.dropped")[0]["events"] == 1
        assert count("status = 0 AND attempt_count = 0") == 1
    finally:
        kafka.resume()
    daemon()
    until(lambda: count("status = 1") == 1, "the next daemon sends it")
    verdict = check(consume(kafka.bootstrap, name), ledger)
    assert verdict.clean
    assert verdict.delivered == 1


def test_a_broker_outage_costs_no_attempt(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """Delivery pauses with one log line, says why, and goes on in order; no event is blamed."""
    ledger, name = Ledger(), topic(6)
    running = daemon(KAFKA__DELIVERY_TIMEOUT="2s")  # for so long it waits for a broker that is only starting
    running.wait_for("sink.reached")
    kafka.kill()
    with outbox.connect() as connection:
        fill(connection, ledger, name, 5_000, 50)
    running.wait_for("delivery.paused")
    until(lambda: running.get("/readyz").json()["checks"]["default.sink"] != "ok", "it says what it lacks")
    assert running.get("/readyz").status_code == 503
    assert running.get("/livez").status_code == 200
    assert count("status = 0 AND attempt_count = 0") == 5_000
    kafka.start()
    until(lambda: count("status = 1") == 5_000, "everything is sent", 60)
    assert count("attempt_count > 0 OR last_error IS NOT NULL") == 0
    assert count(table="outbox_deadletters") == 0
    running.wait_for("delivery.resumed")
    until(lambda: running.get("/readyz").status_code == 200, "it is ready again")
    verdict = check(consume(kafka.bootstrap, name), ledger)
    assert verdict.clean
    assert verdict.delivered == 5_000


def test_a_database_restart_is_survived(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """kill -9 of the server in mid backlog: no event is lost or moved."""
    ledger, name = Ledger(), topic(6)
    with outbox.connect() as connection:
        fill(connection, ledger, name, 20_000, 200)
    running = daemon(RELAY__BATCH_SIZE="200")
    until(lambda: count("status = 1") > 1000, "delivery is under way")
    outbox.server.kill()
    until(lambda: running.events("database.unavailable"), "it notices")
    outbox.server.start()
    with outbox.connect() as connection, connection.cursor() as cursor:

        def sent() -> bool:
            cursor.execute("SELECT COUNT(*) FROM outbox_events WHERE status = 1")
            return bool(cursor.fetchone() == (20_000,))

        until(sent, "everything is sent", 60)
    assert running.stop() == 0
    verdict = check(consume(kafka.bootstrap, name), ledger)
    assert verdict.clean
    assert verdict.delivered == 20_000


def test_it_waits_for_a_database_that_is_not_there_yet(outbox: Database, kafka: Kafka, daemon: StartDaemon) -> None:
    """As in a cluster that starts all at once."""
    outbox.server.kill()
    running = daemon()
    running.wait_for("database.unavailable")
    assert running.get("/readyz").json()["status"] == "failing"
    outbox.server.start()
    running.wait_for("lease.lanes", owned=64)
    until(lambda: running.get("/readyz").status_code == 200, "it is ready")


def test_tables_that_are_not_migrated_end_it_with_one_clear_line(database: Database, kafka: Kafka) -> None:
    """Exit code 1, and the command that helps."""
    with Daemon(database.url, kafka.bootstrap) as running:
        assert running.wait() == 1
        assert "outboxd: outbox_events has not been migrated: run `outboxd migrate`" in str(running.log[-1])


def test_a_wrong_configuration_ends_it_with_code_2(database: Database) -> None:
    """Before anything is connected."""
    with Daemon(database.url, "127.0.0.1:1", RETRY__MAX_ATTEMPTS="many") as running:
        assert running.wait() == 2
        assert "retry.max_attempts" in str(running.log[-1])


def test_the_stdout_sink_prints_json_lines(outbox: Database, count: Count) -> None:
    """One per event, in order, and the log does not mix with them."""
    ledger = Ledger()
    with outbox.connect() as connection:
        fill(connection, ledger, "orders", 500, 10)
    with Daemon(outbox.url, "", SINK__KIND="stdout") as running:
        until(lambda: count("status = 1") == 500, "everything is printed")
        assert running.stop() == 0
        assert len(running.stdout) == 500
        assert all(line.startswith('{"topic": "orders", "key": "order-') for line in running.stdout)


def test_two_sources_do_not_disturb_one_another(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """One source's database hangs; the other goes on, and readiness says which is ill."""
    ledger, name = Ledger(), topic(3)
    running = daemon(
        SOURCES__GOOD__DATABASE__URL=outbox.url,
        SOURCES__ILL__DATABASE__URL="mysql+pymysql://root@127.0.0.1:1/shop",
    )
    writer = Writer(outbox.connect(), name, "writer")
    writer.start()
    running.wait_for("lease.lanes", source="good", owned=64)
    until(lambda: count("status = 1") > 200, "the good source delivers")
    ledger = writer.stop()
    until(lambda: count("status <> 1") == 0, "everything of the good source is sent")

    def good() -> set[str]:
        checks = running.get("/readyz").json()["checks"]
        assert checks["ill.database"] != "ok"
        return {checks["good.database"], checks["good.lanes"]}

    until(lambda: good() == {"ok"}, "the good source is well, and only the other ill")
    assert check(consume(kafka.bootstrap, name), ledger).clean


def test_sent_rows_and_dead_letters_go_when_they_are_old_enough(
    outbox: Database, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """What is not sent stays, however old it is."""
    name = topic(1)
    old = "2020-01-01 00:00:00"
    with outbox.connect() as connection:
        for number in range(30):
            insert(connection, Ledger(), f"order-{number}", name, status=1, created_at=old, updated_at=old)
        waiting = insert(connection, Ledger(), "order-1", name, status=2, created_at=old, next_attempt_at="2037-01-01")
        insert(connection, Ledger(), "order-2", name, status=3, last_error="told: so", created_at=old)
        for number in range(5):
            insert(connection, Ledger(), f"fresh-{number}", name)
        daemon(RETENTION__SENT="1h", RETENTION__DEAD_LETTERS="1h", RETENTION__INTERVAL="100ms")
        until(lambda: count("status = 1 AND created_at > %s", old) == 5, "the fresh ones are sent")
        until(lambda: count() == 6, "the old sent rows are gone")
        assert count("event_id = %s", waiting) == 1
        until(lambda: count(table="outbox_deadletters") == 1, "the failed one is a dead letter")
        assert count("reason = 'told' AND created_at = %s", old, table="outbox_deadletters") == 1
        with connection.cursor() as cursor:
            cursor.execute("UPDATE outbox_deadletters SET moved_at = NOW() - INTERVAL 2 HOUR")
        until(lambda: count(table="outbox_deadletters") == 0, "the old dead letter is gone")


def test_without_retention_a_row_is_deleted_as_it_is_settled(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """retention.sent = "0s"."""
    ledger, name = Ledger(), topic(3)
    with outbox.connect() as connection:
        fill(connection, ledger, name, 3_000, 30)
    daemon(RETENTION__SENT="0s", RETENTION__INTERVAL="1h")
    until(lambda: count() == 0, "the table is empty")
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=3_000)


def test_what_is_deleted_by_id_does_not_wait_for_a_writer(
    outbox: Database, topic: NewTopic, daemon: StartDaemon
) -> None:
    """Sent rows and dead letters leave the table while a transaction of an application's is open."""
    ledger, name = Ledger(), topic()
    with closing(outbox.connect()) as writer, closing(outbox.connect()) as backlog, backlog.cursor() as cursor:
        fill(backlog, ledger, name, 5000, 500)
        cursor.execute("UPDATE outbox_events SET status = 3, last_error = 'told: so' WHERE id % 5 = 0")
        writer.begin()
        insert(writer, ledger, "late", name)
        daemon(RETENTION__SENT="0s", RETENTION__INTERVAL="1h")

        def left() -> int:
            return cursor.execute("SELECT 1 FROM outbox_events LIMIT 1")

        until(lambda: left() == 0, "the table is empty, but for the row of the writer")
        assert cursor.execute("SELECT 1 FROM outbox_deadletters") == 1000
        with writer.cursor() as own:
            assert own.execute("SELECT 1 FROM outbox_events") == 1
        writer.commit()


def test_the_real_pages(
    outbox: Database, topic: NewTopic, daemon: StartDaemon, count: Count, promtool: object, flaky: dict[str, str]
) -> None:
    """/metrics of a daemon that has delivered, retried and given up satisfies a real promtool."""
    name = topic(1)
    with outbox.connect() as connection:
        fill(connection, Ledger(), name, 200, 10)
        insert(connection, Ledger(), "order-1", "orders/eu")
        insert(connection, Ledger(), "order-2", name, event_type="flaky")
        insert(connection, Ledger(), "order-3", "no-such-topic")
    running = daemon(flaky, SINK__KIND="flaky")
    until(lambda: count("status = 1") >= 199 and count("status = 2"), "they are settled")
    until(lambda: running.metric("outbox_topics_paused", cause="unknown_topic") == 1, "the topic is paused")
    page = running.get("/metrics")
    verdict = subprocess.run([str(promtool), "check", "metrics"], input=page.content, capture_output=True, check=False)
    assert (verdict.returncode, verdict.stdout + verdict.stderr) == (0, b"")
    until(lambda: running.metric("outbox_lanes_owned") == 64, "it has its lanes")
    until(lambda: running.metric("outbox_events_published_total") >= 199, "the deliveries are counted")
    assert running.metric("outbox_delivery_latency_seconds_count") > 0
    until(lambda: running.metric("outbox_queue_size", status="retry") >= 1, "the gauges are sampled")


def test_no_payload_and_no_secret_reaches_the_log(
    outbox: Database, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """At level debug, with events of every fate."""
    name = topic(1)
    with outbox.connect() as connection:
        insert(connection, Ledger(), "order-1", name, payload='{"iban": "TOP-SECRET"}')
        insert(connection, Ledger(), "order-1", "orders/eu", payload='{"iban": "TOP-SECRET"}')
        insert(connection, Ledger(), "order-2", name, payload='{"iban": "TOP-SECRET"}', headers='["TOP-SECRET"]')
        with connection.cursor() as cursor:
            cursor.execute("CREATE USER IF NOT EXISTS outboxd IDENTIFIED BY 'hunter2'")
            cursor.execute("GRANT ALL ON *.* TO outboxd")
    url = outbox.url.replace("root@", "outboxd:hunter2@")
    running = daemon(DATABASE_URL=url, LOG__LEVEL="debug")
    until(lambda: count("status = 1") == 1 and count(table="outbox_deadletters") == 2, "they are settled")
    outbox.server.kill()
    running.wait_for("database.unavailable")
    outbox.server.start()
    running.stop()
    said = str(running.log)
    assert "TOP-SECRET" not in said
    assert "hunter2" not in said


def test_python_m_outboxd_is_the_command() -> None:
    """For environments without the script on their path."""
    shown = subprocess.run([sys.executable, "-m", "outboxd", "--version"], capture_output=True, text=True, check=True)
    assert shown.stdout.startswith("outboxd, version ")
