"""The composition root: the one place that knows store, sinks and workers, and puts them together."""

from collections.abc import Callable
from dataclasses import dataclass
from importlib.metadata import entry_points
from typing import Final

from outboxd.config.settings import SourceSettings
from outboxd.errors import ConfigError
from outboxd.eventloop import Guards
from outboxd.lifecycle import RetryPolicy
from outboxd.ports import Doorbell, Sink
from outboxd.pulse import Pulse
from outboxd.store.engine import connect_options
from outboxd.store.store import Store, open_store
from outboxd.telemetry.metrics import Metrics
from outboxd.workers.crew import Crew, Ports, Terms
from outboxd.workers.relay import Limits

SINK_GROUP: Final = "outboxd.sinks"


@dataclass(frozen=True)
class Source:
    """A source that is open: its crew can be started."""

    name: str
    crew: Crew
    store: Store

    async def close(self) -> None:
        """Stops the crew, then closes the database's connections."""
        await self.crew.stop()
        await self.store.close()


def sink_factory(settings: SourceSettings) -> Callable[[], Sink]:
    """How the configured sink is built: its class is called with the source's settings. Raises ConfigError."""
    kind = settings.sink.kind
    found = entry_points(group=SINK_GROUP)
    if kind not in found.names:
        known = ", ".join(sorted(found.names))
        raise ConfigError(f"sink.kind: there is no sink of this name; installed are: {known}")
    sink_class = found[kind].load()
    return lambda: sink_class(settings)


async def open_source(
    name: str,
    settings: SourceSettings,
    *,
    build_sink: Callable[[], Sink],
    instance_name: str,
    metrics: Metrics,
    pulse: Pulse,
    guards: Guards,
) -> Source:
    """Connects to the database and builds the crew. Raises DatabaseUnavailableError, SchemaError,
    UnsupportedServerError."""
    relay = settings.relay
    store = await open_store(
        settings.database.url.get_secret_value(),
        settings.tables.names,
        batch_bytes=int(relay.batch_bytes),
        keep_sent=settings.retention.sent != 0,
        policy=settings.order.policy,
        default_topic=settings.kafka.default_topic,
        lease_ttl=settings.lease.ttl,
        options=connect_options(settings.database),
    )
    ports = Ports(
        store.reader,
        store.settler,
        store.leases,
        store.lookout,
        store.upkeep,
        store.sampler,
        build_sink(),
        doorbell_of(settings),
    )
    return Source(name, Crew(name, ports, terms(settings, instance_name), metrics, pulse, guards=guards), store)


def doorbell_of(settings: SourceSettings) -> Doorbell | None:
    """The configured doorbell. Raises ConfigError when what it needs is not installed."""
    if settings.doorbell.kind == "none":
        return None
    try:
        from outboxd.store.binlog import BinlogDoorbell  # noqa: PLC0415 - it needs an extra
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"doorbell.kind: it needs the package mysql-replication, {error.name} is missing; "
            "pip install 'outboxd[binlog]', or write kind = \"none\""
        ) from error
    url = settings.database.url.get_secret_value()
    return BinlogDoorbell(url, settings.tables.events, connect_options(settings.database))


def terms(settings: SourceSettings, instance_name: str) -> Terms:
    """The crew's terms, as configured."""
    relay, retention = settings.relay, settings.retention
    return Terms(
        policy=RetryPolicy(settings.retry.max_attempts, settings.retry.backoff),
        order=settings.order.policy,
        limits=Limits(
            relay.batch_size, int(relay.batch_bytes), relay.in_flight, int(relay.in_flight_bytes), relay.poll_interval
        ),
        lease_ttl=settings.lease.ttl,
        lease_margin=settings.lease.margin,
        retry_interval=settings.retry.interval,
        dead_letter_interval=settings.dead_letters.interval,
        stuck_timeout=settings.recovery.stuck_timeout,
        recovery_interval=settings.recovery.interval,
        retention_sent=retention.sent,
        retention_dead_letters=retention.dead_letters,
        retention_interval=retention.interval,
        drain_timeout=relay.drain_timeout,
        instance_name=instance_name,
    )
