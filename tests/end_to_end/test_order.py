"""Everything that was committed arrives, once, in order per aggregate."""

from collections.abc import Callable

from tests.conftest import Database
from tests.end_to_end.application import Ledger, Writer, fill
from tests.end_to_end.checker import Verdict, check, consume
from tests.end_to_end.daemon import Daemon, until
from tests.servers.kafka import Kafka

Count = Callable[..., int]
StartDaemon = Callable[..., Daemon]
NewTopic = Callable[..., str]


def test_a_backlog_is_delivered_once_and_in_order(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """20,000 events of 500 aggregates, to 6 partitions."""
    ledger, name = Ledger(), topic(6)
    with outbox.connect() as connection:
        fill(connection, ledger, name, 20_000, 500)
    running = daemon()
    until(lambda: count("status = 1") == 20_000, "20,000 events are sent")
    assert running.stop() == 0
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=20_000)


def test_order_holds_while_writers_go_on(
    outbox: Database, kafka: Kafka, topic: NewTopic, daemon: StartDaemon, count: Count
) -> None:
    """A backlog, and two applications that commit and roll back all along."""
    backlog, name = Ledger(), topic(6)
    with outbox.connect() as connection:
        fill(connection, backlog, name, 20_000, 500)
    writers = [Writer(outbox.connect(), name, f"writer{n}") for n in range(2)]
    for writer in writers:
        writer.start()
    running = daemon()
    until(lambda: count("status = 1") >= 20_000, "the backlog is sent")
    ledgers = [backlog, *(writer.stop() for writer in writers)]
    assert [writer.errors for writer in writers] == [[], []]
    committed = Ledger({event_id: event for ledger in ledgers for event_id, event in ledger.events.items()})
    assert len(committed.events) > 20_000
    until(lambda: count("status <> 1") == 0, "everything is sent")
    assert running.stop() == 0
    assert check(consume(kafka.bootstrap, name), committed) == Verdict(delivered=len(committed.events))
