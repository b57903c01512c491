"""A topic in trouble: its events wait, untouched, and the others go on."""

from collections.abc import Callable

from tests.conftest import Database
from tests.end_to_end.application import Ledger, Writer, fill, insert
from tests.end_to_end.checker import Verdict, check, consume
from tests.end_to_end.daemon import Daemon, until
from tests.servers.kafka import Kafka

Count = Callable[..., int]
StartDaemon = Callable[..., Daemon]
NewTopic = Callable[..., str]


def test_a_topic_that_does_not_exist_waits_until_it_is_created(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """Its rows stay as they are; the same aggregates' events to another topic go on; then all follow, in order."""
    missing, there = f"{outbox.name}-later", topic(2)
    waiting, others = Ledger(), Ledger()
    with outbox.connect() as connection:
        fill(connection, waiting, missing, 3_000, 50)
        fill(connection, others, there, 3_000, 50)
        running = daemon()
        paused = running.wait_for("delivery.paused", topic=missing)
        until(lambda: count("status = 1 AND topic = %s", there) == 3_000, "the other topic's events are sent")
        fill(connection, waiting, missing, 500, 50)
        fill(connection, others, there, 500, 50)
        until(lambda: count("status = 1 AND topic = %s", there) == 3_500, "the other topic goes on")
        assert count("status = 0 AND attempt_count = 0 AND topic = %s", missing) == 3_500
        page = running.get("/readyz")
        assert (page.status_code, page.json()["status"]) == (200, "ok")
        assert page.json()["paused"][f"default.{missing}"].startswith("unknown_topic: ")
        kafka.create_topic(missing, 2)
        until(lambda: count("status = 1 AND topic = %s", missing) == 3_500, "all are sent once it is there")
    assert (paused["cause"], paused["level"]) == ("unknown_topic", "error")
    assert "create it" in paused["reason"]
    assert len(running.events("delivery.paused")) == 1, "one line at each change, none per event"
    assert running.wait_for("delivery.resumed")["topic"] == missing
    assert "paused" not in running.get("/readyz").json()
    assert count("attempt_count > 0") == count(table="outbox_deadletters") == 0
    assert check(consume(kafka.bootstrap, missing), waiting) == Verdict(delivered=3_500)
    assert check(consume(kafka.bootstrap, there), others) == Verdict(delivered=3_500)


def test_a_topic_that_nobody_waits_for_any_more_is_forgotten(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """An operator corrected the row: the pause ends, and it is delivered in its place."""
    ledger, name = Ledger(), topic(1)
    with outbox.connect() as connection:
        insert(connection, ledger, "order-1", "misspelt")
        running = daemon()
        running.wait_for("delivery.paused", topic="misspelt")
        with connection.cursor() as cursor:
            cursor.execute("UPDATE outbox_events SET topic = %s", (name,))
        until(lambda: count("status = 1") == 1, "it is sent")
        until(lambda: "paused" not in running.get("/readyz").json(), "the pause is over", 15)
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=1)


def test_names_that_a_collation_takes_for_the_same_are_different_topics(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """`Orders` is missing; `orders` is not."""
    name = topic(1)
    with outbox.connect() as connection:
        insert(connection, Ledger(), "order-1", name.upper())
        daemon().wait_for("delivery.paused", topic=name.upper())
        insert(connection, Ledger(), "order-1", name)
        until(lambda: count("status = 1") == 1, "the one that is there is delivered")
    assert count("status = 0") == 1


def test_a_topic_that_is_deleted_and_made_again_under_load(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """What the deleted topic had is gone with it; nothing spends an attempt, and another topic goes on."""
    doomed, there = topic(2), topic(2)
    with outbox.connect() as first, outbox.connect() as second:
        writers = [Writer(first, doomed, "doomed"), Writer(second, there, "there")]
        running = daemon(KAFKA__DELIVERY_TIMEOUT="1500ms")
        for writer in writers:
            writer.start()
        until(lambda: count("status = 1") > 200, "both are delivered to")
        kafka.delete_topic(doomed)
        running.wait_for("delivery.paused", topic=doomed)
        sent = count("status = 1 AND topic = %s", there)
        until(lambda: count("status = 1 AND topic = %s", there) > sent + 200, "the other goes on")
        kafka.create_topic(doomed, 2)
        running.wait_for("delivery.resumed", topic=doomed)
        ledgers = [writer.stop() for writer in writers]
        until(lambda: count("status = 0") == 0, "all is sent")
    assert count("attempt_count > 0") == count(table="outbox_deadletters") == 0
    assert check(consume(kafka.bootstrap, there), ledgers[1]).clean
    verdict = check(consume(kafka.bootstrap, doomed), ledgers[0])
    assert (verdict.reordered, verdict.changed, verdict.strangers) == (0, 0, 0)
