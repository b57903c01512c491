"""The real servers of a run, started once, with a proxy before each; a scenario that harms one is healed behind."""

from collections.abc import Iterable
from contextlib import ExitStack
from types import TracebackType
from typing import Self

from tests.servers.kafka import Kafka
from tests.servers.kafka_cluster import KafkaCluster
from tests.servers.mariadb import MariaDB
from tests.servers.mysql import MySQL
from tests.servers.server import Server, free_port
from tests.servers.sql import SqlServer
from tests.servers.toxiproxy import Proxy, Toxiproxy

DATABASES: dict[str, type[MariaDB | MySQL]] = {"mariadb": MariaDB, "mysql": MySQL}
APPLICATION, DAEMON = "application", "daemon"
"""Users of the databases, neither of which may do more than its work needs: no SUPER, which read_only lets through."""

_USERS = (
    "CREATE USER {user}@'127.0.0.1'",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON *.* TO {user}@'127.0.0.1'",
)


class Servers:
    """MariaDB, MySQL, one Kafka broker, toxiproxy; and three brokers more once they are asked for."""

    def __init__(self, databases: Iterable[str]) -> None:
        self._stack = ExitStack()
        self._products = list(databases)
        self._cluster: KafkaCluster | None = None
        self.databases: dict[str, SqlServer] = {}
        self.database_proxies: dict[str, Proxy] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.toxiproxy = stack.enter_context(Toxiproxy())
            for product in self._products:
                server = stack.enter_context(DATABASES[product]())
                for user in (APPLICATION, DAEMON):
                    for statement in _USERS:
                        server.query(statement.format(user=user))
                self.databases[product] = server
                self.database_proxies[product] = self.toxiproxy.proxy(product, server.port)
            self.kafka, self.kafka_proxy = self._broker(stack)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _broker(self, stack: ExitStack) -> tuple[Kafka, Proxy]:
        """A broker with a second listener, whose advertised address is the proxy's: the checker goes the other way."""
        behind, before = free_port(), free_port()
        kafka = Kafka()
        kafka.settings["listeners"] += f",PROXIED://127.0.0.1:{behind}"
        kafka.settings["advertised.listeners"] += f",PROXIED://127.0.0.1:{before}"
        plain = ("PLAINTEXT", "CONTROLLER", "PROXIED")
        kafka.settings["listener.security.protocol.map"] = ",".join(f"{listener}:PLAINTEXT" for listener in plain)
        stack.enter_context(kafka)
        return kafka, self.toxiproxy.proxy("kafka", behind, before)

    @property
    def cluster(self) -> KafkaCluster:
        """Three brokers; the first call starts them."""
        if self._cluster is None:
            self._cluster = self._stack.enter_context(KafkaCluster())
        return self._cluster

    def heal(self) -> None:
        """Whatever a scenario stopped, killed, paused, cut or configured is as it was."""
        for proxy in (self.kafka_proxy, *self.database_proxies.values()):
            proxy.heal()
        brokers = [self.kafka, *(self._cluster.brokers if self._cluster else ())]
        servers: list[Server] = [*self.databases.values(), *brokers]
        for server in servers:
            if server.running:
                server.resume()
        for server in (*self.databases.values(), self.kafka):
            server.start()
        if self._cluster:
            self._cluster.start()
        for database in self.databases.values():
            database.query("SET GLOBAL read_only = OFF")
            database.query("SET GLOBAL max_connections = 151")
