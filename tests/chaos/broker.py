"""A broker that dies, stops, hangs; topics that come and go."""

import time

from tests.chaos.scenario import scenario
from tests.chaos.scene import Scene
from tests.end_to_end.checker import consume


@scenario(unknown=True)
def broker_killed(scene: Scene) -> None:
    """kill -9 of the broker under load, and its restart: nothing is blamed, delivery goes on by itself."""
    scene.write(scene.topic())
    scene.daemon()
    scene.flow()
    scene.servers.kafka.kill()
    scene.rest(0.5, 2)
    scene.servers.kafka.start()
    scene.recovers(within=12)


@scenario(unknown=True)
def broker_stopped_for_20_seconds(scene: Scene) -> None:
    """The broker is gone for more than 20 s while a backlog grows: 0 attempts, 0 dead letters, then full speed."""
    scene.write(scene.topic())
    scene.daemon()
    scene.flow()
    scene.servers.kafka.stop()
    scene.rest(20.5, 22)
    scene.servers.kafka.start()
    scene.recovers(within=15)


@scenario(unknown=True)
def broker_frozen(scene: Scene) -> None:
    """SIGSTOP of the broker beyond the delivery deadline, and SIGCONT: the outcome of what was sent is unknown."""
    scene.write(scene.topic())
    scene.daemon()
    scene.flow()
    scene.servers.kafka.pause()
    scene.rest(2.5, 4)
    scene.servers.kafka.resume()
    scene.recovers(within=12)


@scenario(unknown=True)
def backlog_of_100000_through_an_outage(scene: Scene) -> None:
    """The broker is killed while 100,000 events wait, and comes back: they are delivered, and none spent an attempt."""
    topic = scene.topic()
    scene.fill(topic, 100_000, aggregates=1000)
    scene.daemon(RELAY__BATCH_SIZE="1000")
    scene.explained += 3 * 1000
    scene.flow(1000)
    scene.servers.kafka.kill()
    scene.rest(0.5, 2)
    assert scene.count("status = 0") > 10_000, "the backlog was delivered before the fault"
    scene.servers.kafka.start()
    scene.recovers(within=60)


@scenario(unknown=True, long=True)
def outage_of_ten_minutes(scene: Scene) -> None:
    """The broker is gone for 10 minutes, and 100,000 events wait: 0 attempts, and the backlog drains at full speed."""
    topic = scene.topic()
    scene.daemon()
    scene.write(topic, pace=100)
    scene.flow()
    scene.servers.kafka.stop()
    gone = time.monotonic()
    scene.fill(topic, 100_000, aggregates=1000)
    scene.rest(600 - (time.monotonic() - gone))
    scene.servers.kafka.start()
    scene.recovers(within=90)


@scenario()
def topic_that_comes_later(scene: Scene) -> None:
    """A topic does not exist, and is created under load: other topics go on, its events wait and spend 0 attempts."""
    good, late = scene.topic(), scene.future_topic()
    scene.write(good)
    scene.write(late, pace=100, writers=1)
    scene.daemon()
    scene.flow(600, good)
    scene.rest(1, 2)
    scene.flow(600, good)
    scene.kafka.create_topic(late, 4)
    scene.recovers(within=12)


@scenario(unknown=True)
def topic_recreated(scene: Scene) -> None:
    """A topic is deleted and created again under load: the daemon finds its way back, other topics go on."""
    topic, other = scene.topic(), scene.topic()
    scene.write(topic, other)
    daemon = scene.daemon()
    scene.flow()
    # Its messages go with it: they are read before, while nobody can add one.
    scene.freeze(daemon)
    _quiet(scene, topic)
    scene.earlier += consume(scene.kafka.bootstrap, topic)
    scene.servers.kafka.delete_topic(topic)
    scene.thaw(daemon)
    scene.rest(0.2, 1)
    scene.kafka.create_topic(topic, 6)
    scene.flow(200, other)
    scene.recovers(within=12)


def _quiet(scene: Scene, topic: str) -> None:
    """Until what the frozen daemon had given to its socket has arrived: two looks find the same."""
    seen = -1
    while (found := len(consume(scene.kafka.bootstrap, topic))) != seen:
        seen = found
        time.sleep(0.2)
