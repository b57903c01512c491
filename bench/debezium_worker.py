"""Kafka Connect with Debezium's outbox event router, as a process of its own: what a user would pick otherwise."""

import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import httpx

from bench.program import Process, Usage
from tests.servers.cache import fill
from tests.servers.java import copy_jars, java
from tests.servers.kafka import VERSION
from tests.servers.server import free_port
from tests.servers.sql import SqlServer

CONNECT: Final = VERSION
"""Kafka Connect's, the same as the broker's."""
CONNECTORS: Final = {"mysql": "3.6.1.Final", "mariadb": "3.5.0.Final"}
"""The newest final release of each in Maven Central, by the database's product: the one for MySQL refuses MariaDB."""
CLASSES: Final = {
    "mysql": "io.debezium.connector.mysql.MySqlConnector",
    "mariadb": "io.debezium.connector.mariadb.MariaDbConnector",
}
TLS: Final = {"mysql": "preferred", "mariadb": "disable"}
"""The connectors' defaults, and what outboxd comes to: MySQL has a certificate, and PyMySQL uses TLS where it can;
MariaDB 10.11 has none."""
POM: Final = Path(__file__).with_name("debezium-pom.xml")

JVM: Final = ("-Xms256M", "-Xmx2G", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35")
"""As Kafka's `connect-standalone.sh` starts it."""
TUNED_CONNECTOR: Final = {
    "max.batch.size": "8192",
    "max.queue.size": "32768",
    "poll.interval.ms": "10",
    "extended.headers.enabled": "false",  # four headers that say which connector it was
}
TUNED_WORKER: Final = {
    "producer.linger.ms": "5",
    "producer.batch.size": "262144",
    "plugin.discovery": "service_load",  # starts sooner
}
HEADERS: Final = ("event_id", "event_type", "aggregate_type", "aggregate_id")

TIMEOUT: Final = 60.0
"""Seconds for a start, an end, or a change of state."""

_LOG4J: Final = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %m (%c{1})%n%throwable{short}
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
"""


def provide(product: str) -> Path:
    """The folder with the jars for `mysql` or `mariadb`, downloaded if need be. Raises UnavailableError."""
    version = CONNECTORS[product]

    def download(folder: Path) -> None:
        print(f"  downloading Debezium's connector {version} for {product} from Maven Central (44 MB)", flush=True)
        copy_jars(
            POM,
            folder,
            f"kafka.version={CONNECT}",
            f"debezium.connector={product}",
            f"debezium.version={version}",
        )

    return fill(f"debezium-{product}-{version}-connect-{CONNECT}", download)


def worker_settings(kafka: str, port: int, folder: Path, *, tuned: bool) -> dict[str, str]:
    """Kafka Connect's. Default apart from what it must know."""
    settings = {
        "bootstrap.servers": kafka,
        "listeners": f"http://127.0.0.1:{port}",
        # The payload as it is.
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "offset.storage.file.filename": str(folder / "offsets"),
    }
    return settings | (TUNED_WORKER if tuned else {})


def connector_settings(product: str, port: int, database: str, folder: Path, *, tuned: bool) -> dict[str, str]:
    """Debezium's: the same topics, keys, payloads and headers as outboxd's, from inserts only."""
    router = {
        "type": "io.debezium.transforms.outbox.EventRouter",
        "table.field.event.id": "event_id",
        "table.field.event.key": "aggregate_id",
        "table.field.event.type": "event_type",
        "table.field.event.payload": "payload",
        "table.fields.additional.placement": ",".join(f"{column}:header" for column in HEADERS),
        "route.by.field": "topic",
        "route.topic.replacement": "${routedByValue}",
    }
    return {
        "name": "outbox",
        "connector.class": CLASSES[product],
        "tasks.max": "1",
        "database.hostname": "127.0.0.1",
        "database.port": str(port),
        "database.user": "root",
        "database.password": "",
        "database.server.id": "184054",
        "database.ssl.mode": TLS[product],
        "topic.prefix": "bench",
        "database.include.list": database,
        "table.include.list": f"{database}.outbox_events",
        "snapshot.mode": "no_data",
        "include.schema.changes": "false",
        "tombstones.on.delete": "false",
        "schema.history.internal": "io.debezium.storage.file.history.FileSchemaHistory",
        "schema.history.internal.file.filename": str(folder / "schema-history"),
        "transforms": "outbox",
        **{f"transforms.outbox.{key}": value for key, value in router.items()},
        **(TUNED_CONNECTOR if tuned else {}),
    }


def as_properties(settings: Mapping[str, str]) -> str:
    """The text of a .properties file."""
    return "".join(f"{key}={value}\n" for key, value in settings.items())


class Worker(Process):
    """Kafka Connect, standalone, with one connector. What it has reached lies in `folder`, for its next start."""

    settles: ClassVar[bool] = False

    def __init__(self, server: SqlServer, database: str, kafka: str, folder: Path, log: Path, *, tuned: bool) -> None:
        """Starts it. Raises UnavailableError without Java or Maven."""
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        files = {
            "worker.properties": as_properties(worker_settings(kafka, port, folder, tuned=tuned)),
            "connector.properties": as_properties(
                connector_settings(server.product, server.port, database, folder, tuned=tuned)
            ),
            "log4j2.properties": _LOG4J,
        }
        for name, content in files.items():
            (folder / name).write_text(content)
        self._rest = f"http://127.0.0.1:{port}/connectors/outbox"
        super().__init__(_command(provide(server.product), folder), log)

    def at_rest(self, seconds: float) -> float:
        """The share of a core that it uses, watched for so long."""
        before, since = self.cpu_seconds, time.monotonic()
        time.sleep(seconds)
        return (self.cpu_seconds - before) / (time.monotonic() - since)

    def hold(self) -> None:
        """Its task ends, and saves its place; the process stays. (One that was told to pause would read ahead.)"""
        httpx.put(f"{self._rest}/stop", timeout=TIMEOUT).raise_for_status()
        self.until(lambda: self._states() == {"STOPPED"}, "its task stopped")

    def resume(self) -> None:
        """It delivers again."""
        httpx.put(f"{self._rest}/resume", timeout=TIMEOUT).raise_for_status()

    def stop(self) -> Usage:
        """Ends it in good order: it saves its place."""
        usage = Usage(self.cpu_seconds, self.peak_rss)
        self._process.terminate()
        self._process.wait(TIMEOUT)
        return usage

    def _states(self) -> set[str]:
        answer: dict[str, Any] = httpx.get(f"{self._rest}/status", timeout=TIMEOUT).raise_for_status().json()
        return {answer["connector"]["state"], *(task["state"] for task in answer["tasks"])}


def _command(jars: Path, folder: Path) -> Sequence[str]:
    return [
        java(),
        *JVM,
        f"-Dlog4j2.configurationFile={folder / 'log4j2.properties'}",
        "-cp",
        f"{jars}/*",
        "org.apache.kafka.connect.cli.ConnectStandalone",
        str(folder / "worker.properties"),
        str(folder / "connector.properties"),
    ]
