"""Faults of a single broker and of its topics."""

from tests.chaos.scenario import scenario
from tests.chaos.scene import Scene


@scenario(unknown=True)
def broker_killed(scene: Scene) -> None:
    """kill -9 of the broker under load, and its restart: nothing is blamed, delivery goes on by itself."""
    scene.write(scene.topic())
    scene.daemon()
    scene.flow()
    scene.servers.kafka.kill()
    scene.rest(0.5, 2)
    scene.servers.kafka.start()
    scene.recovers(within=10)


@scenario(unknown=True)
def broker_stopped_for_20_seconds(scene: Scene) -> None:
    """The broker stops for more than 20 s while a backlog grows: 0 attempts, 0 dead letters, then full speed."""
    scene.write(scene.topic())
    scene.daemon()
    scene.flow()
    scene.servers.kafka.stop()
    scene.rest(20.5, 22)
    scene.servers.kafka.start()
    scene.recovers(within=12)


@scenario(unknown=True)
def broker_frozen(scene: Scene) -> None:
    """SIGSTOP of the broker beyond the delivery deadline, and SIGCONT: outcomes are unknown, what comes twice is little."""
    scene.write(scene.topic())
    scene.daemon()
    scene.flow()
    scene.servers.kafka.pause()
    scene.rest(2.5, 4)
    scene.servers.kafka.resume()
    scene.recovers(within=10)
