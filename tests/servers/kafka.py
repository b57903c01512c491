"""A private Apache Kafka 4: one broker that is its own controller, from Maven Central's jars."""

import re
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from confluent_kafka import KafkaException
from confluent_kafka.admin import (  # type: ignore[attr-defined]
    AdminClient,
    AlterConfigOpType,
    ConfigEntry,
    ConfigResource,
    NewTopic,
    TopicMetadata,
)

from tests.servers.cache import CACHE, UnavailableError, fill
from tests.servers.java import copy_jars, java
from tests.servers.server import Server, free_port

VERSION = "4.1.1"
_POM = Path(__file__).with_name("pom.xml")
_CLUSTER_ID = "outboxd-test-cluster-1"

SHORT_LIVED = ("-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC")
"""Java options for a test: the broker starts with less work, and is slower in the long run."""
LONG_LIVED = ()
"""Java's defaults, for who measures the broker, too."""

_CLASSES = CACHE / f"kafka-{VERSION}-classes" / "classes.jsa"
"""The classes of a broker as Java has them in memory, which halves the work of a start. Another Java ignores it."""

_LOG4J = """\
status = error
appender.out.type = Console
appender.out.name = out
appender.out.layout.type = PatternLayout
appender.out.layout.pattern = %d{ISO8601} %p %m (%c{1})%n
rootLogger.level = info
rootLogger.appenderRef.out.ref = out
"""


def provide() -> str:
    """Downloads Kafka's jars, and keeps the classes of a broker that starts and stops. Returns where the jars are."""
    java()
    jars = fill(f"kafka-{VERSION}", _download)
    fill(_CLASSES.parent.name, _keep_classes)
    return str(jars)


def _download(folder: Path) -> None:
    print(f"  downloading Apache Kafka {VERSION} from Maven Central (54 MB)", flush=True)
    copy_jars(_POM, folder, f"kafka.version={VERSION}")


def _keep_classes(folder: Path) -> None:
    print("  starting Kafka once, to keep its classes", flush=True)
    with Kafka(java_options=(*SHORT_LIVED, f"-XX:ArchiveClassesAtExit={folder / _CLASSES.name}")) as kafka:
        kafka.stop()


class Kafka(Server):
    """One broker on 127.0.0.1; it comes back on the same port and with its data after `stop` or `kill`."""

    name = "Kafka"

    def __init__(
        self,
        *,
        heap: str = "512m",
        settings: Mapping[str, str] | None = None,
        java_options: Sequence[str] = SHORT_LIVED,
    ) -> None:
        """`settings` are added to the broker's own, as in server.properties; `java_options` to the JVM's.

        Raises UnavailableError when Kafka was not provided, or there is no Java.
        """
        self._java = java()
        self._jars = CACHE / f"kafka-{VERSION}"
        if not self._jars.is_dir():
            raise UnavailableError("Kafka is not in the cache: run `make servers`")
        super().__init__()
        self.port = free_port()
        self.settings = self._default_settings(free_port()) | dict(settings or {})
        """May be changed while the broker is stopped."""
        self._heap = heap
        self._java_options = list(java_options)

    @property
    def bootstrap(self) -> str:
        """The `bootstrap.servers` of a client."""
        return f"127.0.0.1:{self.port}"

    @property
    def version(self) -> str:
        """As the broker wrote it to its log when it started."""
        found = re.search(r"Kafka version: (\S+)", self.log.read_text(errors="replace"))
        return found[1] if found else "of unknown version"

    def create_topic(self, name: str, partitions: int = 6, *, replicas: int = 1, **config: object) -> None:
        """Creates a topic that can be written to at once. `config` has `_` for `.`: max_message_bytes=1."""
        settings = {key.replace("_", "."): str(value) for key, value in config.items()}
        admin = self.admin()
        admin.create_topics([NewTopic(name, partitions, replicas, config=settings)])[name].result(30)
        self._wait(admin, lambda topics: name in topics and _led(topics[name]), f"topic {name} got no leader")

    def alter_topic(self, name: str, **config: object) -> None:
        """Changes a topic's settings, written as in `create_topic`."""
        resource = ConfigResource(ConfigResource.Type.TOPIC, name)
        for key, value in config.items():
            resource.add_incremental_config(
                ConfigEntry(key.replace("_", "."), str(value), incremental_operation=AlterConfigOpType.SET)
            )
        admin = self.admin()
        admin.incremental_alter_configs([resource])[resource].result(30)

    def delete_topic(self, name: str) -> None:
        """Deletes a topic, and returns when the broker no longer knows it."""
        admin = self.admin()
        admin.delete_topics([name])[name].result(30)
        self._wait(admin, lambda topics: name not in topics, f"topic {name} is still there")

    def admin(self) -> AdminClient:
        """A client for everything else. Keep a reference to it as long as a request runs."""
        return AdminClient({"bootstrap.servers": self.bootstrap, "log_level": 0})

    def _default_settings(self, controller_port: int) -> dict[str, str]:
        return {
            "process.roles": "broker,controller",
            "node.id": "1",
            "controller.quorum.voters": f"1@127.0.0.1:{controller_port}",
            "listeners": f"PLAINTEXT://127.0.0.1:{self.port},CONTROLLER://127.0.0.1:{controller_port}",
            "advertised.listeners": f"PLAINTEXT://127.0.0.1:{self.port}",
            "controller.listener.names": "CONTROLLER",
            "log.dirs": str(self.folder / "data"),
            "auto.create.topics.enable": "false",
            # Made for one broker, and for a small heap.
            "offsets.topic.replication.factor": "1",
            "offsets.topic.num.partitions": "1",
            "transaction.state.log.replication.factor": "1",
            "transaction.state.log.min.isr": "1",
            "transaction.state.log.num.partitions": "1",
            "group.initial.rebalance.delay.ms": "0",
            # A broker that was killed may come back only when its old session has ended.
            "broker.session.timeout.ms": "3000",
            "broker.heartbeat.interval.ms": "500",
            "log.cleaner.dedupe.buffer.size": "8388608",
        }

    def _prepare(self) -> None:
        (self.folder / "log4j2.properties").write_text(_LOG4J)
        self._write_settings()
        format_storage = self._run_class("kafka.tools.StorageTool", "format", "-t", _CLUSTER_ID, "-c")
        done = subprocess.run(
            [*format_storage, self._properties], capture_output=True, text=True, check=False, cwd=self.folder
        )
        if done.returncode != 0:
            raise RuntimeError(f"Kafka's storage tool failed:\n{done.stdout}{done.stderr}")

    def _command(self) -> Sequence[str | Path]:
        self._write_settings()
        return [*self._run_class("kafka.Kafka"), self._properties]

    def _ready(self) -> bool:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", self.port)) != 0:
                return False
        try:
            seen = self.admin().list_topics(timeout=2)
        except KafkaException:
            return False
        return bool(seen.brokers) and all(_led(topic) for topic in seen.topics.values())

    @property
    def _properties(self) -> Path:
        return self.folder / "server.properties"

    def _write_settings(self) -> None:
        self._properties.write_text("".join(f"{key}={value}\n" for key, value in self.settings.items()))

    def _run_class(self, main_class: str, *arguments: str) -> list[str | Path]:
        logging = f"-Dlog4j2.configurationFile={self.folder / 'log4j2.properties'}"
        return [
            self._java,
            f"-Xmx{self._heap}",
            "-Xshare:auto",
            *([f"-XX:SharedArchiveFile={_CLASSES}"] if _CLASSES.exists() else []),
            *self._java_options,
            logging,
            "-cp",
            f"{self._jars}/*",
            main_class,
            *arguments,
        ]

    @staticmethod
    def _wait(admin: AdminClient, reached: Callable[[dict[str, TopicMetadata]], bool], otherwise: str) -> None:
        deadline = time.monotonic() + 30
        while not reached(admin.list_topics(timeout=10).topics):
            if time.monotonic() > deadline:
                raise RuntimeError(f"{otherwise} within 30 s")
            time.sleep(0.01)


def _led(topic: TopicMetadata) -> bool:
    return bool(topic.partitions) and all(partition.leader >= 0 for partition in topic.partitions.values())
