"""Who is measured beside outboxd: the bare loop, and the peer that a user would pick, Debezium's outbox router."""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import replace

from bench.debezium import Debezium
from bench.debezium_worker import provide
from bench.scene import Scene
from bench.stage import Contender, Fresh
from tests.servers import mysqlclient
from tests.servers.cache import UnavailableError


def bare_loop(scene: Scene) -> Fresh:
    """The limit."""
    return Fresh(scene, scene.bare_loop)


def outboxd(scene: Scene, *settings: str) -> Fresh:
    """The daemon, with the settings of the command line and these."""
    return Fresh(scene, scene.outboxd(*settings))


def fast_driver(scene: Scene) -> Sequence[Fresh]:
    """The daemon by the driver in C, where that is installed."""
    try:
        mysqlclient.find()
    except UnavailableError as reason:
        scene.tell(f"NOT MEASURED by mysqlclient: {reason}")
        return ()
    return [Fresh(scene, replace(scene.outboxd(), name="outboxd, mysqlclient", driver="mysql+mysqldb"))]


@contextmanager
def peers(scene: Scene, *, tuned: Sequence[bool] = (True,)) -> Iterator[Sequence[Debezium]]:
    """Those that can be had for the scene's database, tuned or with default settings. What they start ends here."""
    with ExitStack() as kept:
        yield [Debezium(scene, kept, one) for one in tuned] if _available(scene) else ()


@contextmanager
def contenders(scene: Scene) -> Iterator[Sequence[Contender]]:
    """The bare loop, outboxd, and the tuned peers."""
    with peers(scene) as others:
        yield [bare_loop(scene), outboxd(scene), *others]


def _available(scene: Scene) -> bool:
    if not scene.peers:
        return False
    try:
        provide(scene.server.product)
    except UnavailableError as reason:
        scene.tell(f"NOT MEASURED beside Debezium: {reason}")
        return False
    return True
