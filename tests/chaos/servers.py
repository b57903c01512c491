"""The real servers of a run, started once, with a proxy before each; what a scenario harms is healed behind it."""

import threading
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
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
LOGGING = {"mariadb": ("--log-bin", "--server-id=1", "--binlog-format=ROW")}
"""MySQL writes a binary log by default."""

APPLICATION, DAEMON = "application", "daemon"
"""Users of the databases, neither of which may do more than its work needs: no SUPER, which read_only lets through."""

_USERS = (
    "CREATE USER {user}@'127.0.0.1'",
    "GRANT SELECT, INSERT, UPDATE, DELETE ON *.* TO {user}@'127.0.0.1'",
)
_LISTENER = f"GRANT REPLICATION SLAVE, REPLICATION CLIENT ON *.* TO {DAEMON}@'127.0.0.1'"


class Servers:
    """MariaDB, MySQL, one Kafka broker, toxiproxy."""

    def __init__(self, databases: Iterable[str]) -> None:
        self._stack = ExitStack()
        self._products = list(databases)
        self.databases: dict[str, SqlServer] = {}
        self.database_proxies: dict[str, Proxy] = {}

    def __enter__(self) -> Self:
        with ExitStack() as stack:
            self.toxiproxy = stack.enter_context(Toxiproxy())
            self.databases = {product: DATABASES[product](*LOGGING.get(product, ())) for product in self._products}
            self.kafka, self.kafka_proxy = self._broker()
            servers = [self.kafka, *self.databases.values()]
            for server in servers:
                stack.callback(server.close)
            with ThreadPoolExecutor() as threads:
                list(threads.map(lambda server: server.start(), servers))
            for product, database in self.databases.items():
                for user in (APPLICATION, DAEMON):
                    for statement in _USERS:
                        database.query(statement.format(user=user))
                database.query(_LISTENER)
                self.database_proxies[product] = self.toxiproxy.proxy(product, database.port)
            self._stack = stack.pop_all()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _broker(self) -> tuple[Kafka, Proxy]:
        """A broker with a second listener, whose advertised address is the proxy's: the checker goes the other way."""
        behind, before = free_port(), free_port()
        kafka = Kafka(heap="384m")
        kafka.settings["listeners"] += f",PROXIED://127.0.0.1:{behind}"
        kafka.settings["advertised.listeners"] += f",PROXIED://127.0.0.1:{before}"
        plain = ("PLAINTEXT", "CONTROLLER", "PROXIED")
        kafka.settings["listener.security.protocol.map"] = ",".join(f"{listener}:PLAINTEXT" for listener in plain)
        return kafka, self.toxiproxy.proxy("kafka", behind, before)

    def heal(self) -> None:
        """Whatever a scenario stopped, killed, paused, cut or configured is as it was."""
        for proxy in (self.kafka_proxy, *self.database_proxies.values()):
            proxy.heal()
        revive(self.kafka, *self.databases.values())
        for database in self.databases.values():
            database.query("SET GLOBAL read_only = OFF")
            database.query("SET GLOBAL max_connections = 151")


def revive(*servers: Server) -> None:
    """Paused or ended, they run again."""
    for server in servers:
        if server.running:
            server.resume()
    with ThreadPoolExecutor() as threads:
        list(threads.map(lambda server: server.start(), servers))


class SharedCluster:
    """Three brokers for all tracks, started when they are first needed; one scenario at a time has them."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stack = ExitStack()
        self._cluster: KafkaCluster | None = None

    @contextmanager
    def use(self) -> Iterator[KafkaCluster]:
        """Waits until nobody else has it."""
        with self._lock:
            if self._cluster is None:
                self._cluster = self._stack.enter_context(KafkaCluster())
            revive(*self._cluster.brokers)
            yield self._cluster

    def close(self) -> None:
        """Ends it."""
        self._stack.close()
