"""A private Kafka cluster: three brokers, each a controller too, so that any one of them may be missing."""

from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tests.servers.kafka import Kafka
from tests.servers.server import free_port

SIZE = 3


class KafkaCluster:
    """Topics have three replicas. As a context manager it starts, and is gone with its data after."""

    def __init__(self, *, heap: str = "320m") -> None:
        """Raises UnavailableError as Kafka does."""
        controllers = [free_port() for _ in range(SIZE)]
        voters = ",".join(f"{node}@127.0.0.1:{port}" for node, port in enumerate(controllers, start=1))
        self.brokers: list[Kafka] = []
        for node, controller in enumerate(controllers, start=1):
            broker = Kafka(heap=heap)
            broker.settings |= {
                "node.id": str(node),
                "controller.quorum.voters": voters,
                "listeners": f"PLAINTEXT://127.0.0.1:{broker.port},CONTROLLER://127.0.0.1:{controller}",
                "offsets.topic.replication.factor": str(SIZE),
                # A controller that is missed is replaced soon, and so is a leader.
                "controller.quorum.election.timeout.ms": "500",
                "controller.quorum.fetch.timeout.ms": "1000",
                "replica.lag.time.max.ms": "3000",
            }
            self.brokers.append(broker)

    @property
    def bootstrap(self) -> str:
        """The `bootstrap.servers` of a client."""
        return ",".join(broker.bootstrap for broker in self.brokers)

    def create_topic(self, name: str, partitions: int = 6, **config: object) -> None:
        """Creates a topic with a replica on each broker. `config` has `_` for `.`: min_insync_replicas=2."""
        self.brokers[0].create_topic(name, partitions, replicas=SIZE, **config)

    def leader(self, topic: str, partition: int = 0) -> Kafka:
        """The broker that leads a partition."""
        node = self.brokers[0].admin().list_topics(topic, timeout=10).topics[topic].partitions[partition].leader
        return self.brokers[node - 1]

    def start(self) -> None:
        """Starts the brokers that do not run, at the same time: one alone would wait for another."""
        with ThreadPoolExecutor(SIZE) as threads:
            list(threads.map(Kafka.start, self.brokers))

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with ExitStack() as stack:
            for broker in self.brokers:
                stack.callback(broker.close)
