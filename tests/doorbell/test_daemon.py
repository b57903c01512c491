"""Daemons with the doorbell: woken by commits alone; what it does not tell of costs one poll interval."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing

import pytest
from click.testing import CliRunner
from sqlalchemy.engine import make_url

from outboxd.cli import main
from tests.conftest import Database
from tests.doorbell.conftest import kill_streams
from tests.end_to_end.application import Ledger, insert
from tests.end_to_end.checker import check, consume
from tests.end_to_end.daemon import Daemon, until
from tests.servers.kafka import Kafka

Start = Callable[..., Daemon]

NEVER_POLLS = {"RELAY__POLL_INTERVAL": "1h"}
"""What is delivered within a test, a bell has told of."""


@pytest.fixture
def daemon(outbox: Database, kafka: Kafka) -> Iterator[Start]:
    """`daemon(url)` starts one with the doorbell, and returns when that rings; all are killed at the end."""
    with ExitStack() as stack:

        def start(url: str = "", **settings: str) -> Daemon:
            one = Daemon(url or outbox.url, kafka.bootstrap, DOORBELL__KIND="binlog", **settings)
            stack.enter_context(one).wait_for("doorbell.ringing")
            return one

        yield start


def settled(outbox: Database, events: int) -> None:
    """Returns when so many events are sent."""
    statement = "SELECT COUNT(*) FROM bell.outbox_events WHERE status = 1"
    until(lambda: outbox.server.query(statement)[0][0] == events, f"{events} events are settled")


def test_two_daemons_hear_of_every_commit(
    outbox: Database, daemon: Start, kafka: Kafka, topic: Callable[..., str]
) -> None:
    """They share the lanes. Everything arrives in order, also behind a stream that was lost, and both stop."""
    name = topic()
    both = [daemon(LEASE__TTL="6s", **NEVER_POLLS) for _ in range(2)]
    for one in both:
        one.wait_for("lease.lanes", owned=32)
    ledger = Ledger()
    with closing(outbox.connect()) as connection:
        for number in range(20):
            insert(connection, ledger, f"order-{number}", name)
            settled(outbox, number + 1)
        kill_streams(outbox.server)
        for one in both:
            one.wait_for("doorbell.lost")
        for number in range(20):
            insert(connection, ledger, f"order-{number}", name)
    settled(outbox, 40)
    verdict = check(consume(kafka.bootstrap, name), ledger)
    assert verdict.clean, verdict.differences
    assert min(one.metric("outbox_doorbell_rings_total") for one in both) > 0
    for one in both:
        until(lambda one=one: one.metric("outbox_doorbell_connected") == 1, "the bell hangs")
    assert [one.stop() for one in both] == [0, 0]


def test_what_the_log_does_not_tell_of(outbox: Database, daemon: Start, topic: Callable[..., str]) -> None:
    """A commit that is not logged is found by a look. When that goes on, the bell counts as deaf, until it rings."""
    name = topic()
    one = daemon()
    with closing(outbox.connect()) as connection:
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_log_bin = 0")
        written = 0
        while not one.events("doorbell.deaf") and written < 30:
            # While one is under way, the next is found without a look.
            until(lambda: one.metric("outbox_in_flight_events") == 0, "nothing is in flight")
            insert(connection, Ledger(), "order-1", name)
            written += 1
            settled(outbox, written)
        assert one.metric("outbox_doorbell_rings_total") == 0
        one.wait_for("doorbell.deaf")
        until(lambda: one.metric("outbox_doorbell_connected") == 0, "the page shows it")
        with connection.cursor() as cursor:
            cursor.execute("SET SESSION sql_log_bin = 1")
        insert(connection, Ledger(), "order-1", name)
    until(lambda: len(one.events("doorbell.ringing")) == 2, "the bell rings again")
    settled(outbox, written + 1)


def test_the_granted_privileges_are_enough(outbox: Database, daemon: Start, topic: Callable[..., str]) -> None:
    """A user with what `outboxd grants` prints is told of events. An operator's requeue is an insert, too."""
    user = f"'bell-{uuid.uuid4().hex[:8]}'@'%'"
    outbox.server.query(f"CREATE USER {user} IDENTIFIED BY 'pass'")
    for statement in printed_grants(outbox, user):
        outbox.server.query(statement)
    url = make_url(outbox.url).set(username=user.split("'")[1], password="pass")
    daemon(url.render_as_string(hide_password=False), **NEVER_POLLS)
    with closing(outbox.connect()) as connection:
        insert(connection, Ledger(), "order-1", topic())
    settled(outbox, 1)
    outbox.server.query(f"DROP USER {user}")


def printed_grants(outbox: Database, user: str) -> list[str]:
    """What `outboxd grants` prints for the daemon."""
    environment = {"OUTBOXD_DATABASE_URL": outbox.url, "OUTBOXD_DOORBELL__KIND": "binlog"}
    printed = CliRunner().invoke(main, ["grants", "--user", user], env=environment).stdout
    found = [line for line in printed.splitlines() if line.endswith(f" TO {user};")]
    assert any(" ON *.* " in line for line in found)
    return found
