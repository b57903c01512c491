"""A bad network between daemon and broker."""

from collections.abc import Callable

from tests.chaos.scenario import scenario
from tests.chaos.scene import Scene
from tests.servers.toxiproxy import Proxy


def _spoilt(scene: Scene, spoil: Callable[[Proxy], None], shortest: float, longest: float) -> None:
    """The load goes on while the connections to the broker are spoilt for so many seconds."""
    scene.write(scene.topic())
    scene.daemon(broker_proxy=True)
    scene.flow()
    spoil(scene.servers.kafka_proxy)
    scene.rest(shortest, longest)
    scene.servers.kafka_proxy.heal()
    scene.recovers(within=12)


@scenario()
def latency_and_jitter(scene: Scene) -> None:
    """60 +- 40 ms each way to broker and database: slower, and nothing else."""
    scene.write(scene.topic())
    scene.daemon(broker_proxy=True, database_proxy=True)
    scene.flow()
    for proxy in (scene.servers.kafka_proxy, scene.database_proxy):
        for stream in ("upstream", "downstream"):
            proxy.spoil("latency", stream, latency=60, jitter=40)
    scene.flow(1500)
    scene.rest(1, 2)
    scene.servers.kafka_proxy.heal()
    scene.database_proxy.heal()
    scene.recovers(within=10)


@scenario(unknown=True)
def connections_reset(scene: Scene) -> None:
    """The connections to the broker are reset by RST, again and again."""
    scene.write(scene.topic())
    scene.daemon(broker_proxy=True)
    scene.flow()
    for _ in range(4):
        scene.servers.kafka_proxy.spoil("reset_peer", timeout=scene.dice.randrange(200))
        scene.rest(0.2, 0.6)
        scene.servers.kafka_proxy.heal()
        scene.rest(0.2, 1)
    scene.recovers(within=12)


@scenario(unknown=True)
def black_hole(scene: Scene) -> None:
    """What is sent to the broker vanishes, and no connection ends: deadlines do it."""

    def swallow(proxy: Proxy) -> None:
        proxy.spoil("timeout", "upstream", timeout=0)
        proxy.spoil("timeout", "downstream", timeout=0)

    _spoilt(scene, swallow, 2.5, 4)


@scenario(unknown=True)
def answers_lost(scene: Scene) -> None:
    """Half open: the broker gets all and stores it, its answers vanish. What comes twice is in order."""
    _spoilt(scene, lambda proxy: proxy.spoil("timeout", "downstream", timeout=0), 2.5, 4)


@scenario(unknown=True)
def requests_lost(scene: Scene) -> None:
    """Half open the other way: the broker hears nothing, and could answer."""
    _spoilt(scene, lambda proxy: proxy.spoil("timeout", "upstream", timeout=0), 2.5, 4)


@scenario(unknown=True)
def trickle(scene: Scene) -> None:
    """The way to the broker takes 30 KB/s, a tenth of the load: batches miss their deadline, nothing is blamed."""
    _spoilt(scene, lambda proxy: proxy.spoil("bandwidth", "upstream", rate=30), 4, 6)


@scenario(unknown=True)
def cut_in_the_middle_of_a_produce(scene: Scene) -> None:
    """The connection ends behind some thousand bytes, in the middle of a request, again and again."""
    scene.write(scene.topic())
    scene.daemon(broker_proxy=True)
    scene.flow()
    for _ in range(6):
        scene.servers.kafka_proxy.spoil("limit_data", "upstream", bytes=scene.dice.randrange(500, 60_000))
        scene.rest(0.3, 0.7)
        scene.servers.kafka_proxy.heal()
        scene.rest(0.1, 0.5)
    scene.recovers(within=12)


@scenario(unknown=True)
def refused_connections(scene: Scene) -> None:
    """The broker's port is closed for some seconds, and its connections with it."""
    _spoilt(scene, Proxy.cut, 2, 4)


@scenario(unknown=True)
def one_connection_in_three(scene: Scene) -> None:
    """A third of the connections to the broker get no answer."""
    _spoilt(scene, lambda proxy: proxy.spoil("timeout", "downstream", toxicity=0.33, timeout=300), 3, 5)
