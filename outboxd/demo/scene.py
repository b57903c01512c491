"""What the play needs before it begins: database, broker, topic, tables. Each registers with a stack how it goes."""

import secrets
import tempfile
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine
from sqlalchemy.exc import DBAPIError

from outboxd.config.load import load
from outboxd.config.settings import DEFAULT_SOURCE, SourceSettings
from outboxd.demo.child import BrokenError
from outboxd.demo.daemon import environment, migrate
from outboxd.demo.database import PrivateDatabase, Program
from outboxd.demo.kafka import EMBEDDED, EmbeddedKafka, Topic, client_settings
from outboxd.demo.stage import Stage
from outboxd.store.engine import connect_options, open_engine
from outboxd.store.session import describe
from outboxd.store.version import version_table

PLACEHOLDER_URL: Final = "mysql://root@localhost/shop"
PLACEHOLDER_KAFKA: Final = "127.0.0.1:9092"


@dataclass(frozen=True)
class Servers:
    """What the user has; None for a private database, and for an embedded Kafka."""

    database_url: str | None
    kafka: str | None
    program: Program | None
    """The server of the private database."""


@dataclass(frozen=True)
class Scene:
    """All is there, and the tables are migrated."""

    folder: Path
    settings: SourceSettings
    environ: dict[str, str]
    """That of the daemon."""
    engine: Engine
    client: dict[str, Any]
    """The settings of a Kafka client, in librdkafka's words."""
    topic: str
    orders: str
    """The application's own table."""
    private: tuple[PrivateDatabase | EmbeddedKafka, ...]

    def check(self) -> None:
        """Raises BrokenError when a server has ended."""
        for server in self.private:
            server.check()


def set_up(servers: Servers, stage: Stage, stack: ExitStack) -> Scene:
    """Starts what is not the user's own, and makes the topic and the tables. Raises ConfigError, BrokenError."""
    check(servers)
    topic = f"demo-{secrets.token_hex(3)}"
    folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="outboxd-demo-")))
    private: list[PrivateDatabase | EmbeddedKafka] = []
    url, kafka, events, orders = servers.database_url, servers.kafka, f"outboxd_{topic.replace('-', '_')}", "orders"
    if url is None:
        database = _start_database(servers.program, folder, stage, stack)
        private.append(database)
        url, events = database.url, ""
    else:
        orders = f"{events}_orders"
    if kafka is None:
        broker = _start_kafka(folder, stage, stack)
        private.append(broker)
        kafka = broker.bootstrap
    settings, environ = settle(servers, url, kafka, events)
    client = client_settings(settings.kafka) | ({} if servers.kafka else EMBEDDED)
    scene = Scene(folder, settings, environ, _engine(settings), client, topic, orders, tuple(private))
    _migrate(scene, stage, stack if servers.database_url else None)
    if servers.kafka:
        with stage.step(f"the topic {topic}"):
            stack.callback(Topic(client, topic).delete)
    return scene


def check(servers: Servers) -> None:
    """Raises ConfigError for what can be seen to be wrong before anything is started."""
    settle(servers, servers.database_url or PLACEHOLDER_URL, servers.kafka or PLACEHOLDER_KAFKA, "")


def settle(servers: Servers, url: str, kafka: str, events_table: str) -> tuple[SourceSettings, dict[str, str]]:
    """The daemon's settings, and the environment that gives it these. Raises ConfigError.

    Of the user's own `OUTBOXD_` variables only those count that tell how to connect to what is the user's own.
    """
    inherited = [name for name, own in (("database", servers.database_url), ("kafka", servers.kafka)) if own]
    ours = {"dead_letters__interval": "1s", "http__port": "0", "log__format": "json"}
    if events_table:
        ours["tables__events"] = events_table
    environ = environment(inherited, **ours)
    settings = load(None, {"database.url": url, "kafka.bootstrap_servers": kafka}, environ=environ)
    source = settings.sources[DEFAULT_SOURCE]
    return source, environment(inherited, **ours, database__url=url, kafka__bootstrap_servers=kafka)


def _start_database(program: Program | None, folder: Path, stage: Stage, stack: ExitStack) -> PrivateDatabase:
    if program is None:
        raise BrokenError("there is no database server; name your own with --database-url")
    with stage.step("a private database") as done:
        database = PrivateDatabase(program, folder)
        stack.callback(database.stop)
        done(f"a private {database.version} in {folder}")
    return database


def _start_kafka(folder: Path, stage: Stage, stack: ExitStack) -> EmbeddedKafka:
    with stage.step("an embedded Kafka") as done:
        broker = EmbeddedKafka(folder)
        stack.callback(broker.stop)
        done(f"an embedded Kafka: the mock cluster of {broker.version}")
    return broker


def _migrate(scene: Scene, stage: Stage, stack: ExitStack | None) -> None:
    """With a stack, which means a database of the user's own, the tables are dropped at the end."""
    names, place = scene.settings.tables.names, scene.settings.database.place
    with stage.step("outboxd migrate") as done:
        try:
            migrate(scene.environ, scene.folder)
        except BaseException:
            if stack is not None:
                with suppress(BrokenError):  # what kept it from making tables may keep us from dropping them
                    _drop(scene)
            raise
        if stack is not None:
            stack.callback(_drop, scene)
        done(f"outboxd migrate: {names.events} and its tables" + (f" in {place}" if stack else ""))


def _drop(scene: Scene) -> None:
    names = scene.settings.tables.names
    try:
        with scene.engine.connect() as connection:
            for table in (*names, version_table(names), scene.orders):
                connection.exec_driver_sql(f"DROP TABLE IF EXISTS {table}")
    except DBAPIError as error:
        raise BrokenError(f"drop the tables {names.events}* yourself: {describe(error)}") from error


def _engine(settings: SourceSettings) -> Engine:
    return open_engine(settings.database.url.get_secret_value(), connect_options(settings.database))
