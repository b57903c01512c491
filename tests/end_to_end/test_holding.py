"""The order policy: after a dead letter an aggregate goes on, or waits for an operator."""

from collections.abc import Callable

from pymysql import Connection

from tests.conftest import Database
from tests.end_to_end.application import Ledger, fill, insert
from tests.end_to_end.checker import Verdict, check, consume
from tests.end_to_end.daemon import Daemon, until
from tests.servers.kafka import Kafka

Count = Callable[..., int]
StartDaemon = Callable[..., Daemon]
NewTopic = Callable[..., str]

HELD = "status = 2 AND attempt_count = 0 AND next_attempt_at = '2038-01-17 13:37:11'"
FAST = {"RETRY__INTERVAL": "50ms", "ORDER__AFTER_DEAD_LETTER": "hold"}

COLUMNS = "id, event_id, event_type, aggregate_type, aggregate_id, topic, payload, headers"
REQUEUE = f"""INSERT INTO outbox_events ({COLUMNS})
             SELECT id, event_id, 'changed', aggregate_type, aggregate_id, topic, payload, NULL
             FROM outbox_deadletters"""


def requeue(connection: "Connection[object]") -> None:
    """As the command does it, and corrected: the dead letters are new again, in their places."""
    connection.begin()
    with connection.cursor() as cursor:
        cursor.execute(REQUEUE)
        cursor.execute("DELETE FROM outbox_deadletters")
    connection.commit()


def sql(connection: "Connection[object]", statement: str, *values: object) -> None:
    """One statement."""
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def test_an_aggregate_waits_behind_its_dead_letter_until_it_is_requeued(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """Also across a restart, and a move of the lanes; others go on; then everything follows in order of id."""
    ledger, name = Ledger(), topic(1)
    with outbox.connect() as connection:
        insert(connection, ledger, "order-1", name, headers="[1]")
        fill(connection, ledger, name, 1_000, 10)
        running = daemon(**FAST)
        until(lambda: count("holds = 1", table="outbox_deadletters") == 1, "the bad one is a dead letter that holds")
        until(lambda: count("status = 1") == 900, "the other aggregates are sent")
        until(lambda: count(HELD) == 100, "its own events are held")
        assert running.metric("outbox_aggregates_held") in {0, 1}
        assert running.stop() == 0
        fill(connection, ledger, name, 20, 10)
        daemon(LEASE__TTL="10s", **FAST)
        until(lambda: count("status = 1") == 918, "the other aggregates go on")
        until(lambda: count(HELD) == 102, "its later events are held too")
        daemon(LEASE__TTL="10s", **FAST).wait_for("lease.lanes", owned=32)
        fill(connection, ledger, name, 20, 10)
        until(lambda: count("status = 1") == 936, "the other aggregates go on")
        until(lambda: count(HELD) == 104, "whoever has its lane now holds them")
        requeue(connection)
        until(lambda: count("status = 1") == 1_041, "all is sent")
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=1_041)


def test_a_dead_letter_that_is_discarded_lets_its_aggregate_go(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """The next of them can be bad as well: then the rest waits for that one."""
    ledger, name = Ledger(), topic(1)
    with outbox.connect() as connection:
        insert(connection, Ledger(), "order-0", name, headers="[1]")
        fill(connection, ledger, name, 5, 1)
        insert(connection, Ledger(), "order-0", "orders/eu")
        fill(connection, ledger, name, 5, 1)
        daemon(**FAST)
        until(lambda: count("holds = 1", table="outbox_deadletters") == 1, "the first bad one holds")
        until(lambda: count(HELD) == 11, "all are held")
        sql(connection, "DELETE FROM outbox_deadletters")
        until(lambda: count("status = 1") == 5, "those in front of the next bad one are sent")
        until(lambda: count("holds = 1 AND reason = 'invalid_topic'", table="outbox_deadletters") == 1, "it holds too")
        until(lambda: count(HELD) == 5, "the others are held")
        sql(connection, "DELETE FROM outbox_deadletters")
        until(lambda: count("status = 1") == 10, "all are sent")
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=10)


def test_the_policy_is_of_the_dead_letters_topic_and_type(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """One topic holds, the others go on."""
    ledger, name, other = Ledger(), topic(1), topic(1)
    with outbox.connect() as connection:
        insert(connection, Ledger(), "order-0", name, headers="[1]")
        insert(connection, Ledger(), "order-1", other, headers="[1]")
        insert(connection, ledger, "order-0", name)
        insert(connection, ledger, "order-1", other)
        daemon(RETRY__INTERVAL="50ms", ORDER__EXCEPT_TOPICS=f"{name},payments.*")
        until(lambda: count("status = 1") == 1, "the one goes on")
        until(lambda: count(HELD) == 1, "the other is held")
        until(lambda: count(table="outbox_deadletters") == 2, "both bad ones are dead letters")
        assert count("topic = %s AND holds = 1", name, table="outbox_deadletters") == 1
        assert count("topic = %s AND holds IS NULL", other, table="outbox_deadletters") == 1
        assert count("status = 1 AND topic = %s", other) == 1


def test_an_event_whose_attempts_are_used_up_holds_as_well(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count, flaky: dict[str, str]
) -> None:
    """Its successors were held behind its retries before; nothing of them slips through in between."""
    ledger, name = Ledger(), topic(1)
    with outbox.connect() as connection:
        flaky_id = insert(connection, ledger, "order-0", name, event_type="flaky")
        fill(connection, ledger, name, 200, 2)
        daemon(flaky, SINK__KIND="flaky", RETRY__MAX_ATTEMPTS="3", RETRY__BASE_DELAY="100ms", **FAST)
        until(lambda: count("holds = 1 AND attempt_count = 3", table="outbox_deadletters") == 1, "it is given up")
        until(lambda: count(HELD) == 100, "its aggregate is held")
        assert count("status = 1") == 100
        ledger.events[flaky_id].event_type = "changed"
        requeue(connection)
        until(lambda: count("status = 1") == 201, "all is sent")
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=201)


def test_requeued_while_new_events_keep_coming(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """Again and again the one aggregate loses an event and gets it back; none of its later ones overtakes it."""
    ledger, name = Ledger(), topic(1)
    with outbox.connect() as connection:
        daemon(DEAD_LETTERS__INTERVAL="20ms", RELAY__POLL_INTERVAL="5ms", **FAST)
        for round_number in range(1, 21):
            insert(connection, ledger, "order-0", name, headers="[1]")
            until(lambda: count(table="outbox_deadletters") == 1, f"dead letter {round_number}")
            for _ in range(20):
                insert(connection, ledger, "order-0", name)
            requeue(connection)
            for _ in range(20):
                insert(connection, ledger, "order-0", name)
            until(lambda number=round_number: count("status = 1") == 41 * number, f"round {round_number} is sent")
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=20 * 41)


def test_an_aggregate_whose_id_is_not_utf_8_is_held_like_others(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """Half a surrogate pair in UTF-8 (MariaDB) or UCS-2: its events are dead letters one by one, and nobody waits."""
    ledger, name = Ledger(), topic(1)
    half = "CONVERT(x'EDA080' USING utf8mb4)" if outbox.server.product == "mariadb" else "_ucs2 x'D800'"
    with outbox.connect() as connection:
        if outbox.server.product == "mysql":
            for table in ("outbox_events", "outbox_deadletters"):
                text = "VARCHAR(255) CHARACTER SET ucs2 NOT NULL"
                sql(connection, f"ALTER TABLE {table} MODIFY aggregate_id {text}, ALGORITHM=COPY")

        def write(*statuses: int) -> None:
            columns = "event_id, event_type, aggregate_type, aggregate_id, topic, payload, status"
            for status in statuses:
                values = f"UUID(), 't', 't', {half}, '{name}', '{{}}', {status}"
                sql(connection, f"INSERT INTO outbox_events ({columns}) VALUES ({values})")
            fill(connection, ledger, name, 50, 50)

        def discarded() -> bool:
            sql(connection, "DELETE FROM outbox_deadletters")
            return count("status <> 1") == 0

        write(2, 0, 0)
        first = daemon(**FAST)
        until(lambda: count("holds = 1", table="outbox_deadletters") == 1, "the first bad one holds")
        until(lambda: count(HELD) == 2, "the others are held")
        assert first.stop() == 0
        write(3, 0)
        second = daemon(**FAST)
        until(lambda: count("holds = 1", table="outbox_deadletters") == 2, "so does one that another gave up")
        until(lambda: count(HELD) == 3, "the others are held behind a restart")
        until(discarded, "each of the others is a dead letter")
        assert second.stop() == 0
    failures = {"worker.failed", "relay.batch_failed"}
    assert [line for line in (*first.log, *second.log) if line["event"] in failures] == []
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=100)
