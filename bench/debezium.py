"""`python -m bench.debezium`: Debezium's outbox event router where outboxd is measured; `debezium.md` tells how.

Its results are those of the other programs: the same topics, keys, payloads and headers, and the same comparison with
what was written.
"""

import argparse
import json
import tempfile
import time
from contextlib import closing
from dataclasses import asdict, dataclass
from itertools import count
from pathlib import Path
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from sqlalchemy.engine import make_url

from bench.backlog import fill, make_events, migrated_database
from bench.debezium_worker import CONNECT, CONNECTORS, Hold, Worker
from bench.drain import PATIENCE, Drain
from bench.latency import Latency, measure_latency
from bench.program import Usage
from bench.servers import DATABASES
from bench.topic import Delivery, compare, count_messages, create_topic, read_topic
from tests.servers.kafka import LONG_LIVED, Kafka
from tests.servers.sql import SqlServer

WARM_UP: Final = 50_000
"""Events that a worker delivers before it is measured: Java has compiled by then what runs often."""
SETTLE: Final = 3.0
"""Seconds after the warm-up, for what it left behind: compilers, collectors, dirty pages."""
REST: Final = 1.5
"""Seconds over which the use at rest is measured, three times: the least of them, as Java may still compile."""

_serial = count(100)  # also seeds: apart from those of the measured events


@dataclass(frozen=True)
class Idle:
    """With nothing to do. `cpu`: the share of a core."""

    database: str
    program: str
    cpu: float
    statements_per_second: float
    peak_rss: int


@dataclass(frozen=True)
class Crash:
    """kill -9 when `delivered_before` of `events` were delivered, and what the topic held in the end."""

    database: str
    program: str
    events: int
    delivered_before: int
    delivery: Delivery


@dataclass(frozen=True)
class Debezium:
    """Kafka Connect with Debezium's connector, `tuned` or with default settings.

    Every `flush_ms` (60,000 by default) it saves its place, in `folder`, by database.
    """

    server: SqlServer
    kafka: Kafka
    folder: Path
    tuned: bool = False
    flush_ms: int | None = None
    warm_up: int = WARM_UP

    @property
    def name(self) -> str:
        """As the tables call it."""
        place = "" if self.flush_ms is None else f", place saved every {self.flush_ms} ms"
        return f"Debezium, {'tuned' if self.tuned else 'default'}{place}"

    def start(self, database: str) -> Worker:
        """Starts where it was when it last ended, or at what is written from now on."""
        folder = self.folder / database
        log = folder.with_name(f"{database}-{next(_serial)}.log")
        return Worker(
            self.server, database, self.kafka.bootstrap, folder, log, tuned=self.tuned, flush_ms=self.flush_ms
        )

    def start_ready(self, database_url: str, kafka: str, log: Path) -> Worker:
        """Starts it, and returns when it is warm. Signature as that of `Outboxd`; it has a broker and logs already."""
        database = make_url(database_url).database or ""
        worker = self.start(database)
        try:
            self.await_stream(worker, database)
            self._warm(worker, database)
            time.sleep(SETTLE)
        except BaseException:
            worker.kill()
            raise
        return worker

    def await_stream(self, worker: Worker, database: str) -> None:
        """Waits until what is written arrives. What was written before its first start never does."""
        topic = create_topic(self.kafka)
        with closing(self.server.connect(database)) as connection:

            def arrived() -> int:
                fill(connection, make_events(1, 1, seed=next(_serial)), topic)
                return self.count(topic)

            worker.until(arrived, "a first message")

    def _warm(self, worker: Worker, database: str) -> None:
        topic = create_topic(self.kafka)
        with closing(self.server.connect(database)) as connection:
            fill(connection, make_events(self.warm_up, 1000, seed=next(_serial)), topic)
        self.await_messages(worker, topic, self.warm_up)

    def count(self, topic: str) -> int:
        """How many messages a topic has. One that was just made may have no leader yet."""
        try:
            return count_messages(self.kafka, topic)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.NOT_LEADER_FOR_PARTITION:
                raise
            return 0

    def await_messages(self, worker: Worker, topic: str, number: int) -> None:
        """Waits until a topic has so many."""
        worker.until(lambda: self.count(topic) >= number, f"{number} messages", PATIENCE)


def measure_debezium_drain(
    server: SqlServer,
    kafka: Kafka,
    folder: Path,
    *,
    events: int,
    aggregates: int,
    tuned: bool,
    hold: Hold = "pause",
    warm_up: int = WARM_UP,
) -> Drain:
    """A warm worker is held, a backlog written, and the worker resumed.

    `seconds`: from the first to the last message, by the broker's time. `first_delivery_seconds`: from the resumption.
    `usage`: the CPU from before the backlog was written (one that was paused reads ahead) to the last message, less
    what it uses at rest: compare it with Usage(0, 0). The most memory is that of its whole life.
    """
    program = Debezium(server, kafka, folder, tuned, warm_up=warm_up)
    written = make_events(events, aggregates)
    topic = create_topic(kafka)
    with (
        migrated_database(server) as database,
        closing(server.connect(database)) as connection,
        program.start_ready(server.url(database), kafka.bootstrap, folder) as worker,
    ):
        worker.hold(hold)
        rest = min(worker.at_rest(REST) for _ in range(3))
        used, since = worker.cpu_seconds, time.monotonic()
        fill(connection, written, topic)
        resumed_at = time.time()
        worker.resume()
        program.await_messages(worker, topic, events)
        used = worker.cpu_seconds - used - rest * (time.monotonic() - since)
        usage = Usage(used, worker.peak_rss)
        worker.stop()
    messages = list(read_topic(kafka, topic))
    kafka.delete_topic(topic)
    times = [message.appended_ms / 1000 for message in messages]
    return Drain(
        database=server.name,
        program=program.name,
        events=events,
        seconds=max(times) - min(times),
        first_delivery_seconds=min(times) - resumed_at,
        usage=usage,
        delivery=compare(messages, written),
    )


def measure_debezium_latency(
    server: SqlServer, kafka: Kafka, folder: Path, *, per_second: int, seconds: float, tuned: bool
) -> Latency:
    """As `measure_latency`, with a warm worker."""
    program = Debezium(server, kafka, folder, tuned)
    return measure_latency(program, server, kafka, folder / "latency.log", per_second=per_second, seconds=seconds)


def measure_debezium_start(server: SqlServer, kafka: Kafka, folder: Path, *, tuned: bool) -> float:
    """Seconds from the start of the process to the broker's time of the first message, which waits for it."""
    program = Debezium(server, kafka, folder, tuned)
    topic = create_topic(kafka)
    with migrated_database(server) as database, closing(server.connect(database)) as connection:
        _run_once(program, database)
        fill(connection, make_events(1, 1), topic)
        with program.start(database) as worker:
            program.await_messages(worker, topic, 1)
            worker.stop()
    (message,) = read_topic(kafka, topic)
    return message.appended_ms / 1000 - worker.started_at


def measure_debezium_idle(server: SqlServer, kafka: Kafka, folder: Path, *, seconds: float, tuned: bool) -> Idle:
    """A warm worker with nothing to do."""
    program = Debezium(server, kafka, folder, tuned)
    with (
        migrated_database(server) as database,
        closing(server.connect(database)) as connection,
        program.start_ready(server.url(database), kafka.bootstrap, folder) as worker,
    ):
        before, since = _statements(connection), time.monotonic()
        cpu = worker.at_rest(seconds)
        statements = _statements(connection) - before - 1  # the one that asks
        passed = time.monotonic() - since
        peak_rss = worker.peak_rss
        worker.stop()
    return Idle(server.name, program.name, cpu, statements / passed, peak_rss)


def measure_debezium_kill(
    server: SqlServer,
    kafka: Kafka,
    folder: Path,
    *,
    events: int,
    aggregates: int,
    tuned: bool,
    flush_ms: int | None = None,
) -> Crash:
    """kill -9 when half of a backlog is delivered; the next start delivers the rest."""
    program = Debezium(server, kafka, folder, tuned, flush_ms)
    written = make_events(events, aggregates)
    topic, last = create_topic(kafka), create_topic(kafka)
    with migrated_database(server) as database, closing(server.connect(database)) as connection:
        _run_once(program, database)
        fill(connection, written, topic)
        with program.start(database) as worker:
            program.await_messages(worker, topic, events // 2)
            worker.kill()
        delivered_before = program.count(topic)
        fill(connection, make_events(1, 1, seed=next(_serial)), last)
        with program.start(database) as worker:
            program.await_messages(worker, last, 1)
            worker.stop()  # it sends what it has taken before it ends
    delivery = compare(read_topic(kafka, topic), written)
    return Crash(server.name, program.name, events, delivered_before, delivery)


def _run_once(program: Debezium, database: str) -> None:
    """It has a place in the log to go on from: a first start passes over what waits."""
    with program.start(database) as worker:
        program.await_stream(worker, database)
        worker.stop()


def _statements(connection: Any) -> int:
    with connection.cursor() as cursor:
        cursor.execute("SHOW GLOBAL STATUS LIKE 'Questions'")
        return int(cursor.fetchone()[1])


def measure(arguments: argparse.Namespace, server: SqlServer, kafka: Kafka, folder: Path) -> dict[str, Any]:
    """The result of one measurement, for JSON."""
    given = vars(arguments)

    def options(*names: str) -> dict[str, Any]:
        return {name: given[name] for name in ("tuned", *names)}

    match arguments.what:
        case "drain":
            drain = measure_debezium_drain(server, kafka, folder, **options("events", "aggregates", "hold", "warm_up"))
            per_event = drain.cpu_us_per_event(Usage(0.0, 0))
            return asdict(drain) | {"events_per_second": drain.rate, "cpu_us_per_event": per_event}
        case "latency":
            return asdict(measure_debezium_latency(server, kafka, folder, **options("per_second", "seconds")))
        case "start":
            return {"seconds": measure_debezium_start(server, kafka, folder, **options())}
        case "idle":
            return asdict(measure_debezium_idle(server, kafka, folder, **options("seconds")))
        case _:
            return asdict(measure_debezium_kill(server, kafka, folder, **options("events", "aggregates", "flush_ms")))


def main() -> None:
    """Starts the servers, measures, and prints JSON."""
    parser = argparse.ArgumentParser(prog="python -m bench.debezium", description=__doc__)
    parser.add_argument("--database", choices=DATABASES, required=True)
    parser.add_argument("--what", choices=("drain", "latency", "start", "idle", "kill"), required=True)
    parser.add_argument("--tuned", action="store_true", help="default: default settings")
    parser.add_argument("--events", type=int, default=100_000, help="[default: %(default)s]")
    parser.add_argument("--warm-up", type=int, default=WARM_UP, help="events [default: %(default)s]")
    parser.add_argument("--aggregates", type=int, default=1000, help="[default: %(default)s]")
    parser.add_argument("--per-second", type=int, default=50, help="[default: %(default)s]")
    parser.add_argument("--seconds", type=float, default=20, help="of latency and idle [default: %(default)s]")
    parser.add_argument(
        "--hold", choices=("pause", "stop"), default="pause", help="before a drain [default: %(default)s]"
    )
    parser.add_argument("--flush-ms", type=int, help="offset.flush.interval.ms of kill [default: 60000, as in Connect]")
    arguments = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="outboxd-debezium-") as folder,
        Kafka(java_options=LONG_LIVED) as kafka,
        DATABASES[arguments.database]() as server,
    ):
        result = {
            "what": arguments.what,
            "tuned": arguments.tuned,
            server.name: server.version,
            "Kafka": kafka.version,
            "Kafka Connect": CONNECT,
            "Debezium": CONNECTORS[server.product],
        }
        print(json.dumps(result | measure(arguments, server, kafka, Path(folder)), indent=2))


if __name__ == "__main__":
    main()
