"""Kafka Connect with Debezium's outbox event router, as a process of its own: what a user would pick otherwise."""

import os
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

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
NO_TLS: Final = {"mysql": "disabled", "mariadb": "disable"}
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

Hold = Literal["pause", "stop"]

TIMEOUT: Final = 60.0
"""Seconds for a start, an end, or a change of state."""
_TICK: Final = os.sysconf("SC_CLK_TCK")

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


def worker_settings(kafka: str, port: int, folder: Path, *, tuned: bool, flush_ms: int | None = None) -> dict[str, str]:
    """Kafka Connect's. Default apart from what it must know; `flush_ms` sets how often it saves its place."""
    settings = {
        "bootstrap.servers": kafka,
        "listeners": f"http://127.0.0.1:{port}",
        # The payload as it is.
        "key.converter": "org.apache.kafka.connect.storage.StringConverter",
        "value.converter": "org.apache.kafka.connect.storage.StringConverter",
        "offset.storage.file.filename": str(folder / "offsets"),
    }
    if flush_ms is not None:
        settings["offset.flush.interval.ms"] = str(flush_ms)
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
        "database.ssl.mode": NO_TLS[product],  # outboxd has none here either
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

    def __init__(
        self,
        server: SqlServer,
        database: str,
        kafka: str,
        folder: Path,
        log: Path,
        *,
        tuned: bool,
        flush_ms: int | None,
    ) -> None:
        """Starts it. Raises UnavailableError without Java or Maven."""
        folder.mkdir(parents=True, exist_ok=True)
        port = free_port()
        files = {
            "worker.properties": as_properties(worker_settings(kafka, port, folder, tuned=tuned, flush_ms=flush_ms)),
            "connector.properties": as_properties(
                connector_settings(server.product, server.port, database, folder, tuned=tuned)
            ),
            "log4j2.properties": _LOG4J,
        }
        for name, content in files.items():
            (folder / name).write_text(content)
        self._rest = f"http://127.0.0.1:{port}/connectors/outbox"
        super().__init__(_command(provide(server.product), folder), log)

    @property
    def cpu_seconds(self) -> float:
        """What it has used so far, in all its threads."""
        stat = Path(f"/proc/{self._process.pid}/stat").read_text()
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / _TICK

    @property
    def peak_rss(self) -> int:
        """The most memory that it had, in bytes."""
        self.check()
        return self._peak_rss

    def at_rest(self, seconds: float) -> float:
        """The share of a core that it uses, watched for so long."""
        before, since = self.cpu_seconds, time.monotonic()
        time.sleep(seconds)
        return (self.cpu_seconds - before) / (time.monotonic() - since)

    def hold(self, how: Hold) -> None:
        """The connector no longer delivers.

        One that was told to `pause` still reads ahead, until its queue is full; `stop` ends its task, and leaves the
        process.
        """
        httpx.put(f"{self._rest}/{how}", timeout=TIMEOUT).raise_for_status()
        held = {"pause": "PAUSED", "stop": "STOPPED"}[how]
        self.until(lambda: self._states() == {held}, how)

    def resume(self) -> None:
        """It delivers again."""
        httpx.put(f"{self._rest}/resume", timeout=TIMEOUT).raise_for_status()

    def until(self, reached: Callable[[], object], what: str, timeout: float = TIMEOUT) -> None:
        """Waits as long as the worker lives and its task has not failed. Raises RuntimeError."""
        deadline = time.monotonic() + timeout
        while not reached():
            self.check()
            if time.monotonic() > deadline:
                raise self._failure(f"has not within {timeout:.0f} s: {what}")
            time.sleep(0.05)

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
