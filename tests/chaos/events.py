"""Events that make trouble: poison, delays, late commits, size."""

from tests.chaos.scenario import scenario
from tests.chaos.scene import SHORT_LEASE, Scene
from tests.end_to_end.application import INSERT

OVERTAKEN = """
SELECT later.id FROM outbox_events AS waiting
JOIN outbox_events AS later ON later.aggregate_id = waiting.aggregate_id AND later.id > waiting.id
WHERE waiting.status = 2 AND waiting.aggregate_id LIKE 'delayed%' AND later.status = 1
"""


@scenario()
def poison_among_a_thousand(scene: Scene) -> None:
    """One record that only the broker finds too large, in a batch of 1,000: the 999 arrive, in order, in seconds."""
    topic = scene.topic(max_message_bytes=100_000)
    place = scene.dice.randrange(1, 999)
    scene.fill(topic, place, aggregates=50)
    scene.poison.add(scene.insert(f"order-{place % 50}", topic, size=300_000))
    scene.fill(topic, 999 - place, aggregates=50)
    scene.daemon(RELAY__BATCH_SIZE="1000", KAFKA__BATCH_SIZE="64KiB")
    scene.recovers(within=8)


@scenario()
def poison_under_load(scene: Scene) -> None:
    """Ten rows that can never be delivered, of several kinds, among good ones: only they are dead letters."""
    topic = scene.topic(max_message_bytes=100_000)
    scene.write(topic, sizes=(20, 200))
    scene.daemon(KAFKA__BATCH_SIZE="64KiB")
    for number in range(10):
        bad = scene.dice.choice(["", "..", "no/topic", "x" * 250, topic])
        size = 200_000 if bad == topic else 200
        scene.poison.add(scene.insert(f"bad-{number % 3}", bad, size=size))
        scene.insert(f"bad-{number % 3}", topic)
        scene.rest(0.05, 0.4)
    scene.recovers(within=8)


@scenario()
def held_successors(scene: Scene) -> None:
    """Events with a due time: those behind them wait, in order, also across a restart; others pass."""
    topic = scene.topic()
    scene.write(topic)
    daemon = scene.daemon()
    delayed = [f"delayed-{number}" for number in range(5)]
    for aggregate in delayed:
        scene.insert(aggregate, topic)
        scene.insert(aggregate, topic, status=2, next_attempt_at="2037-01-01 00:00:00")
        for _ in range(3):
            scene.insert(aggregate, topic)
    scene.until(lambda: scene.count("status = 2") == 4 * len(delayed), "successors are held")
    scene.stop(daemon)
    scene.daemon()
    for aggregate in delayed:
        scene.insert(aggregate, topic)
        due = "UPDATE outbox_events SET next_attempt_at = NOW() + INTERVAL %s SECOND "
        scene.query(
            f"{due} WHERE next_attempt_at = '2037-01-01' AND aggregate_id = %s", scene.dice.randrange(5), aggregate
        )
    while scene.count("status = 2"):
        assert not scene.query(OVERTAKEN), "a successor was sent before the event that it had to wait for"
        scene.rest(0.1)
    scene.recovers(within=5)


@scenario(attempts=1)
def rows_deleted_as_they_are_sent(scene: Scene) -> None:
    """With retention.sent = 0 nothing remains to tell what was sent; a kill changes nothing for that."""
    scene.keeps_sent = False
    scene.write(scene.topic())
    daemon = scene.daemon(RETENTION__SENT="0s", LEASE__TTL=f"{SHORT_LEASE}s")
    scene.rest(1, 2)
    scene.kill(daemon)
    scene.daemon(RETENTION__SENT="0s")
    scene.recovers(within=10)


@scenario()
def late_commits(scene: Scene) -> None:
    """Transactions that took their ids first commit seconds behind others: they are delivered at once."""
    topic = scene.topic()
    scene.write(topic)
    scene.daemon()
    ledger = scene.writers.ledger
    late = []
    for number in range(3):
        connection = scene.connect()
        connection.begin()
        rows = [ledger.row(f"late-{number}-{which % 4}", topic) for which in range(20)]
        late.append((connection, rows))
        with connection.cursor() as cursor:
            cursor.executemany(INSERT, rows)
        scene.flow(200)
    for connection, rows in scene.dice.sample(late, len(late)):
        scene.rest(0.3, 1.5)
        connection.commit()
        ledger.commit(rows)
        connection.close()
        scene.recovers(within=3)


@scenario()
def large_payloads(scene: Scene) -> None:
    """10 KB to 900 KB among small ones, a backlog of 60 MB: memory stays bounded, the small ones do not starve."""
    topic = scene.topic()
    ledger, dice = scene.writers.ledger, scene.dice
    with scene.connect() as connection, connection.cursor() as cursor:
        for _ in range(40):
            sizes = dice.choices((100, 10_000, 300_000, 900_000), k=5)
            rows = [ledger.row(f"large-{dice.randrange(20)}", topic, size=size) for size in sizes]
            cursor.executemany(INSERT, rows)
            ledger.commit(rows)
    scene.write(topic, pace=60, sizes=(200, 10_000, 100_000, 900_000))
    scene.daemon()
    scene.recovers(within=20)
    scene.rest(1, 2)
    scene.recovers(within=10)


@scenario(unknown=True)
def large_payloads_through_a_frozen_broker(scene: Scene) -> None:
    """The broker hangs while large payloads are in flight: memory stays bounded."""
    topic = scene.topic()
    scene.write(topic, pace=60, sizes=(10_000, 100_000, 900_000))
    scene.daemon()
    scene.flow(50)
    scene.servers.kafka.pause()
    scene.rest(3, 4)
    scene.servers.kafka.resume()
    scene.recovers(within=20)
