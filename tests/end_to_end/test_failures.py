"""Events that fail, and the ones around them."""

import json
from collections.abc import Callable

import pytest

from tests.conftest import Database
from tests.end_to_end.application import Ledger, fill, insert
from tests.end_to_end.checker import Verdict, check, consume
from tests.end_to_end.daemon import Daemon, until
from tests.servers.kafka import Kafka

Count = Callable[..., int]
StartDaemon = Callable[..., Daemon]
NewTopic = Callable[..., str]


@pytest.mark.parametrize(
    ("columns", "reason", "cure"),
    [
        ({"topic": "orders/eu"}, "invalid_topic", "column topic has characters other than"),
        ({"topic": ""}, "invalid_topic", "or set kafka.default_topic"),
        ({"payload": json.dumps("x" * 1_100_000)}, "message_too_large", "kafka.max_message_bytes is 1048576"),
        ({"headers": "[1, 2]"}, "bad_headers", "column headers is a JSON array, not an object"),
    ],
    ids=["bad topic", "no topic", "large payload", "bad headers"],
)
def test_an_event_that_can_never_be_delivered_is_a_dead_letter_at_once(
    outbox: Database,
    kafka: Kafka,
    topic: NewTopic,
    daemon: StartDaemon,
    count: Count,
    columns: dict[str, str],
    reason: str,
    cure: str,
) -> None:
    """Its reason names the column and the cure; its neighbours, of its own aggregate too, go on in order."""
    ledger, name = Ledger(), topic(1)
    with outbox.connect() as connection:
        fill(connection, ledger, name, 50, 5)
        bad = insert(connection, Ledger(), "order-1", **({"topic": name} | columns))
        fill(connection, ledger, name, 50, 5)
        running = daemon()
        until(lambda: count("status = 1") == 100, "the good ones are sent")
        until(lambda: count(table="outbox_deadletters") == 1, "the bad one is a dead letter")
        with connection.cursor() as cursor:
            cursor.execute(
                "SELECT event_id, reason, last_error, moved_at IS NULL, attempt_count FROM outbox_deadletters"
            )
            event_id, found, last_error, unmoved, attempts = cursor.fetchone() or ()
    assert (event_id, found, unmoved, attempts) == (bad, reason, 0, 1)
    assert cure in last_error
    assert count() == 100
    until(lambda: running.metric("outbox_events_dead_lettered_total", reason=reason) == 1, "the move is counted")
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=100)


def test_one_record_that_the_broker_refuses_among_a_thousand(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """It is found by halves; the others are delivered in order, and none of them twice."""
    ledger, name = Ledger(), topic(2, **{"max.message.bytes": 150_000})
    with outbox.connect() as connection:
        fill(connection, ledger, name, 400, 20)
        poison = insert(connection, Ledger(), "order-3", name, payload=json.dumps("x" * 300_000))
        fill(connection, ledger, name, 600, 20)
    # Batches of the broker's size, so that it is the record that is refused, and not the batch.
    # Each half needs another producer, and all of them have the time of one publish.
    daemon(KAFKA__BATCH_SIZE="100KiB", LEASE__TTL="60s")
    until(lambda: count(table="outbox_deadletters") == 1, "the poison is a dead letter")
    until(lambda: count("status = 1") == 1000, "the others are sent")
    assert count("event_id = %s AND reason = 'message_too_large'", poison, table="outbox_deadletters") == 1
    verdict = check(consume(kafka.bootstrap, name), ledger)
    assert verdict == Verdict(delivered=1000)


def test_a_batch_that_is_larger_than_the_topic_takes_is_sent_in_halves(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """No single record is too large, so nothing is a dead letter."""
    ledger, name = Ledger(), topic(1, **{"max.message.bytes": 20_000})
    with outbox.connect() as connection:
        fill(connection, ledger, name, 500, 20)
    daemon(LEASE__TTL="60s")  # each half needs another producer, and all of them have the time of one publish
    until(lambda: count("status = 1") == 500, "everything is sent")
    assert count(table="outbox_deadletters") == 0
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=500)


def test_order_holds_through_a_retry(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """While an aggregate's event waits in retry, the later ones wait behind it; other aggregates go on."""
    ledger, name = Ledger(), topic(1)
    with outbox.connect() as connection:
        with connection.cursor() as cursor:
            cursor.execute("SELECT NOW() + INTERVAL 1 HOUR")
            due = (cursor.fetchone() or (None,))[0]
        first = insert(connection, ledger, "order-0", name, status=2, next_attempt_at=due)
        fill(connection, ledger, name, 100, 10)
        daemon(RETRY__INTERVAL="50ms")
        until(lambda: count("status = 1") == 90, "the other aggregates are sent")
        until(lambda: count("status = 2") == 11, "the aggregate's own events wait")
        assert count("status = 2 AND next_attempt_at = %s AND attempt_count = 0", due) == 11
        later = insert(connection, ledger, "order-0", name)
        until(lambda: count("status = 2 AND event_id = %s", later) == 1, "a later one waits too")
        with connection.cursor() as cursor:
            cursor.execute("UPDATE outbox_events SET next_attempt_at = NOW() WHERE event_id = %s", (first,))
        until(lambda: count("status = 1 AND event_id = %s", first) == 1, "the first is sent when it is due")
        with connection.cursor() as cursor:
            cursor.execute("UPDATE outbox_events SET next_attempt_at = NOW() WHERE status = 2")
    until(lambda: count("status = 1") == 102, "everything is sent")
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=102)


def test_retries_back_off_and_end_as_a_dead_letter(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count, flaky: dict[str, str]
) -> None:
    """For a record that is damaged each time. The events behind it are held, spend no attempt, and follow in order."""
    ledger, name = Ledger(), topic(1)
    with outbox.connect() as connection:
        lost = insert(connection, Ledger(), "order-0", name, event_type="flaky")
        fill(connection, ledger, name, 20, 2)
        running = daemon(
            flaky,
            SINK__KIND="flaky",
            RETRY__INTERVAL="50ms",
            RETRY__MAX_ATTEMPTS="2",
            RETRY__BASE_DELAY="1s",
            RETRY__STRATEGY="fixed",
        )
        running.wait_for("events.retrying", count=1)
        until(lambda: count(table="outbox_deadletters") == 1, "it is given up")
        until(lambda: count("status = 1") == 20, "the others are sent")
    assert count("attempt_count = 0") == 20
    given_up = "event_id = %s AND attempt_count = 2 AND reason = 'corrupt_record'"
    assert count(given_up, lost, table="outbox_deadletters") == 1
    until(lambda: running.metric("outbox_events_failed_total", code="corrupt_record") == 2, "both failures are counted")
    assert running.metric("outbox_events_retried_total") == 1
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=20)


def test_a_new_row_with_a_due_time_keeps_its_place(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """Such rows stand last in the index; here they are the first of their aggregate, and a batch is smaller than it."""
    ledger, name = Ledger(), topic(1)
    with outbox.connect() as connection:
        for _ in range(30):
            insert(connection, ledger, "order-0", name, next_attempt_at="2020-01-01 00:00:00")
        fill(connection, ledger, name, 100, 1)
    daemon(RELAY__BATCH_SIZE="20")
    until(lambda: count("status = 1") == 130, "everything is sent")
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=130)


def test_rows_that_another_dispatcher_left_in_processing_are_recovered(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """By age; the events behind them wait, and one that has no attempts left is a dead letter."""
    ledger, name = Ledger(), topic(1)
    with outbox.connect() as connection:
        insert(connection, ledger, "order-0", name, status=4)
        spent = insert(connection, Ledger(), "order-1", name, status=4, attempt_count=2)
        fill(connection, ledger, name, 20, 2)
    daemon(RECOVERY__STUCK_TIMEOUT="2s", RECOVERY__INTERVAL="100ms", RETRY__INTERVAL="50ms")
    until(
        lambda: count("event_id = %s AND reason = 'stuck'", spent, table="outbox_deadletters") == 1, "one is given up"
    )
    with outbox.connect() as connection, connection.cursor() as cursor:
        until(lambda: count("status = 4") == 0, "none is left in processing")
        cursor.execute("UPDATE outbox_events SET next_attempt_at = NOW() WHERE status = 2")
    until(lambda: count("status = 1") == 21, "everything is sent")
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=21)


def test_payloads_of_many_sizes_stay_within_the_byte_limits(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """Small ones come with their rows, large ones are fetched within the budget, one by one if need be."""
    ledger, name = Ledger(), topic(3)
    with outbox.connect() as connection:
        for number in range(60):
            size = [10, 5_000, 70_000, 900_000][number % 4]
            row = ledger.row(f"order-{number % 7}", name, size=size)
            with connection.cursor() as cursor:
                cursor.execute(
                    "INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload) "
                    "VALUES (%s, %s, %s, %s, %s, %s)",
                    row,
                )
            ledger.commit([row])
    daemon(RELAY__BATCH_BYTES="1MiB", RELAY__IN_FLIGHT_BYTES="2MiB")
    until(lambda: count("status = 1") == 60, "everything is sent")
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=60)
