"""Three brokers, of which one fails."""

from tests.chaos.scenario import scenario
from tests.chaos.scene import Scene
from tests.servers.kafka_cluster import KafkaCluster


def _cluster(scene: Scene) -> KafkaCluster:
    assert isinstance(scene.kafka, KafkaCluster)
    return scene.kafka


@scenario(unknown=True, cluster=True)
def leader_killed(scene: Scene) -> None:
    """kill -9 of a partition's leader: another broker leads, delivery goes on without the dead one."""
    topic = scene.topic(min_insync_replicas=2)
    scene.write(topic)
    scene.daemon()
    scene.flow()
    _cluster(scene).leader(topic, scene.dice.randrange(6)).kill()
    scene.recovers(within=15)
    scene.flow()


@scenario(unknown=True, cluster=True)
def leader_changes(scene: Scene) -> None:
    """A broker is restarted in good order, so that its partitions change their leader twice."""
    topic = scene.topic(min_insync_replicas=2)
    scene.write(topic)
    scene.daemon()
    scene.flow()
    leader = _cluster(scene).leader(topic, scene.dice.randrange(6))
    leader.stop()
    scene.flow()
    leader.start()
    scene.recovers(within=12)


@scenario(unknown=True, cluster=True)
def too_few_replicas(scene: Scene) -> None:
    """One broker of three dies: the topic that needs three replicas waits, and another one goes on."""
    careful, other = scene.topic(min_insync_replicas=3), scene.topic(min_insync_replicas=2)
    scene.write(careful, other)
    scene.daemon()
    scene.flow()
    dead = _cluster(scene).leader(careful, scene.dice.randrange(6))
    dead.kill()
    scene.until(lambda: scene.count("status = 0 AND topic = %s", careful) > 200, "the careful topic waits")
    scene.flow(1000, other)
    dead.start()
    scene.recovers(within=15)
