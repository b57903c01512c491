"""What a crash leaves behind: nothing is lost, nothing moves, and only what was in flight may come twice."""

import json
from collections.abc import Callable
from pathlib import Path

from tests.conftest import Database
from tests.end_to_end.application import Ledger, fill, insert
from tests.end_to_end.checker import Verdict, check, consume
from tests.end_to_end.daemon import Daemon, until
from tests.end_to_end.plugins import installed
from tests.servers.kafka import Kafka

Count = Callable[..., int]

IN_FLIGHT = 3 * 200
"""What a daemon with the settings below can have in flight."""

GIVEN_UP = {"delivery.paused", "lease.lapsed", "lease.lost"}
"""Lines of a daemon whose broker, database or machine was too slow for it: all in flight may be sent again."""


def test_three_kills_in_mid_batch_lose_and_move_nothing(
    outbox: Database, kafka: Kafka, topic: Callable[..., str], daemon: Callable[..., Daemon], count: Count
) -> None:
    """kill -9 while batches are under way, three times; the fourth daemon finishes."""
    ledger, name, daemons, kills = Ledger(), topic(6), [], 0
    with outbox.connect() as connection:
        fill(connection, ledger, name, 20_000, 500)
        while kills < 3:
            running, sent = daemon(RELAY__BATCH_SIZE="200", LEASE__TTL="2s"), count("status = 1")
            daemons.append(running)
            until(lambda sent=sent: count("status = 1") >= sent + 3000, f"kill {kills + 1} is in mid backlog")
            running.kill()
            if count("status = 0"):
                kills += 1
            else:  # everything was sent before the kill
                assert len(ledger.events) < 100_000
                fill(connection, ledger, name, 20_000, 500)
    daemons.append(daemon(RELAY__BATCH_SIZE="200", LEASE__TTL="20s"))
    until(lambda: count("status <> 1") == 0, "everything is sent")
    assert daemons[-1].stop() == 0
    verdict = check(consume(kafka.bootstrap, name), ledger)
    assert verdict.clean
    assert verdict.delivered == len(ledger.events)
    # Those that were killed have short leases, so on a slow machine they may have given a batch up before.
    stalls = sum(line["event"] in GIVEN_UP for running in daemons for line in running.log)
    assert verdict.duplicates <= (3 + stalls) * IN_FLIGHT


def test_an_innocent_kill_costs_no_more_than_an_attempt(
    outbox: Database, topic: Callable[..., str], daemon: Callable[..., Daemon], count: Count
) -> None:
    """Whatever was in flight at a kill is delivered by the next daemon, and none of it is a dead letter."""
    ledger, name = Ledger(), topic(6)
    with outbox.connect() as connection:
        fill(connection, ledger, name, 5_000, 100)
    first = daemon(LEASE__TTL="2s", RETRY__MAX_ATTEMPTS="1")
    until(lambda: count("status = 1") > 0, "delivery has begun")
    first.kill()
    daemon(LEASE__TTL="20s", RETRY__MAX_ATTEMPTS="1")
    until(lambda: count("status = 1") == 5_000, "everything is sent")
    assert count("attempt_count > 1") == 0
    assert count(table="outbox_deadletters") == 0


def test_an_outage_after_a_crash_spends_no_attempt(
    outbox: Database, kafka: Kafka, topic: Callable[..., str], daemon: Callable[..., Daemon], count: Count
) -> None:
    """The lanes are suspect, but while the broker is away nothing is sent, however often it is tried or killed."""
    ledger, name = Ledger(), topic(1)
    first = daemon(LEASE__TTL="2s")
    first.wait_for("lease.lanes")
    first.kill()
    kafka.kill()
    with outbox.connect() as connection:
        fill(connection, ledger, name, 20, 2)
    for _ in range(3):
        running = daemon(LEASE__TTL="2s")
        running.wait_for("lease.lanes")
        running.wait_for("delivery.paused")
        until(lambda running=running: running.get("/readyz").status_code == 503, "it says that it is not ready")
        running.kill()
        assert count("status = 0 AND attempt_count = 0") == 20
    kafka.start()
    daemon(LEASE__TTL="20s")
    until(lambda: count("status = 1") == 20, "everything is sent")
    assert check(consume(kafka.bootstrap, name), ledger) == Verdict(delivered=20)


def test_an_event_that_kills_the_process_ends_as_a_dead_letter_and_only_it(
    outbox: Database, tmp_path: Path, count: Count
) -> None:
    """It stands alone within three crashes. Its neighbours, of its aggregate and of others, are delivered in order."""
    ledger = Ledger()
    with outbox.connect() as connection:
        fill(connection, ledger, "orders", 300, 30)
        deadly = insert(connection, ledger, "order-7", "orders", event_type="deadly")
        fill(connection, ledger, "orders", 300, 30)
    environment = installed(tmp_path, killer="KillerSink")
    printed: list[str] = []
    deaths = 0
    while count("event_id = %s", deadly, table="outbox_deadletters") == 0:
        assert deaths < 6, "the event is not given up"
        with Daemon(outbox.url, "127.0.0.1:1", environment, SINK__KIND="killer", LEASE__TTL="2s") as running:
            until(
                lambda running=running: running.process.poll() is not None or count(table="outbox_deadletters"),
                "it dies, or gives the event up",
            )
            if running.process.poll() is None:
                until(lambda: count("status = 1") == 600, "the others are delivered")
                assert running.stop() == 0
            else:
                deaths += 1
            running.wait()
            printed += running.stdout
    assert deaths == 4, "three crashes until it is alone, one to be sure"
    assert count("status = 1") == 600
    assert count(table="outbox_deadletters") == 1
    assert count("reason = 'owner_died' AND event_id = %s", deadly, table="outbox_deadletters") == 1
    latest: dict[str, int] = {}
    seen: set[tuple[str, int]] = set()
    for text in printed:
        event = json.loads(text)
        key, number = event["key"], event["payload"]["number"]
        assert (key, number) in seen or number > latest.get(key, -1), f"{key} {number} came behind a younger event"
        seen.add((key, number))
        latest[key] = max(number, latest.get(key, -1))
    assert len(seen) == 600
