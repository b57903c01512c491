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


def topics(daemon: Daemon, **fields: str) -> list[str]:
    """Of the lines with these fields that tell of a paused topic, line by line."""
    paused = [line for line in daemon.events("delivery.paused") if fields.items() <= line.items()]
    return [line["topic"] for line in paused if "topic" in line]


def told(daemon: Daemon, event: str, topic: str, since: int) -> bool:
    """Whether such a line of the topic stands behind the first `since` lines."""
    return any((line["event"], line.get("topic")) == (event, topic) for line in daemon.log[since:])


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
        paused = running.wait_for("delivery.paused", topic=missing, cause="unknown_topic")
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
    assert paused["level"] == "error"
    assert "create it" in paused["reason"]
    assert topics(running, cause="unknown_topic") == [missing], "one line at each change, none per event"
    running.wait_for("delivery.resumed", topic=missing)
    until(lambda: "paused" not in running.get("/readyz").json(), "nothing is paused any more")
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
        until(lambda: "paused" not in running.get("/readyz").json(), "the pause is over")
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
        before = len(running.log)
        kafka.delete_topic(doomed)
        until(lambda: told(running, "delivery.paused", doomed, before), "the doomed one is paused")
        sent = count("status = 1 AND topic = %s", there)
        until(lambda: count("status = 1 AND topic = %s", there) > sent + 200, "the other goes on")
        before = len(running.log)
        kafka.create_topic(doomed, 2)
        until(lambda: told(running, "delivery.resumed", doomed, before), "it goes on, too")
        ledgers = [writer.stop() for writer in writers]
        until(lambda: count("status = 0") == 0, "all is sent")
    assert count("attempt_count > 0") == count(table="outbox_deadletters") == 0
    assert check(consume(kafka.bootstrap, there), ledgers[1]).clean
    verdict = check(consume(kafka.bootstrap, doomed), ledgers[0])
    assert (verdict.reordered, verdict.changed, verdict.strangers) == (0, 0, 0)


def test_the_default_topic_is_one_topic_whatever_a_row_says(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """Rows that name it, and rows that name none, of one aggregate: they wait together, and arrive in order."""
    name, ledger = f"{outbox.name}-default", Ledger()
    with outbox.connect() as connection:
        running = daemon(KAFKA__DEFAULT_TOPIC=name)
        insert(connection, ledger, "order-1", "")
        running.wait_for("delivery.paused", topic=name)
        for number in range(40):
            insert(connection, ledger, "order-1", "" if number % 2 else name)
        kafka.create_topic(name, 1)
        for number in range(40):
            insert(connection, ledger, "order-1", name if number % 2 else "")
        until(lambda: count("status = 1") == 81, "all are sent")
    assert topics(running, cause="unknown_topic") == [name]
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=81)


def test_a_repaired_topic_goes_on_although_its_first_events_cannot(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """Held ones, and bad ones, in front of one that can be sent: a probe does not take a turn for each."""
    name, there, ledger = f"{outbox.name}-late", topic(1), Ledger()
    with outbox.connect() as connection:
        insert(connection, Ledger(), "a0", there, status=2, next_attempt_at="2037-01-01 00:00:00")
        running = daemon()
        insert(connection, ledger, "a5", name)
        running.wait_for("delivery.paused", topic=name)
        for aggregate in ("a0", "a1", "a2", "a3"):
            for _ in range(10):
                insert(connection, Ledger(), aggregate, name, headers=None if aggregate == "a0" else "[1]")
        kafka.create_topic(name, 1)
        until(lambda: count("status = 1 AND topic = %s", name) == 1, "the good one is sent")
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=1)


def test_many_paused_topics_and_a_large_backlog_of_theirs_stop_nobody(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """200 missing topics with 100 events each; a healthy event among them is delivered in a moment, again and again."""
    there, ledger, waiting = topic(1), Ledger(), Ledger()
    with outbox.connect() as connection:
        for number in range(200):
            fill(connection, waiting, f"{outbox.name}-missing-{number}", 100, 20)
        running = daemon(LEASE__TTL="15s")
        until(lambda: len({*topics(running)}) == 200, "all are paused", 120)
        for sent in range(1, 21):
            insert(connection, ledger, f"order-{sent}", there)
            until(lambda sent=sent: count("status = 1") == sent, "a healthy one is sent")
    assert count("status = 0 AND attempt_count = 0") == 20_000
    assert check(consume(kafka.bootstrap, there), ledger) == Verdict(delivered=20)
