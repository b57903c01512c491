"""The whole configuration: what one source has, and what the daemon has."""

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final, Literal, TypedDict

from pydantic import Field, ValidationInfo, model_validator

from outboxd.config.kafka import KafkaSettings
from outboxd.config.sections import (
    Contradiction,
    DatabaseSettings,
    DeadLettersSettings,
    DoorbellSettings,
    LeaseSettings,
    OrderSettings,
    RecoverySettings,
    RelaySettings,
    RetentionSettings,
    RetrySettings,
    Section,
    SinkSettings,
    TablesSettings,
)
from outboxd.config.types import (
    NO_SERVERS,
    Duration,
    Filled,
    Flag,
    Kind,
    Name,
    Whole,
    duration,
    format_duration,
    matching,
)

DEFAULT_SOURCE: Final = "default"
"""The name of the one source where none is declared."""

SourceName = Annotated[
    str,
    # No double underscore: the environment nests by it.
    matching(r"(?=.{1,32}\Z)[a-z0-9]+([_-][a-z0-9]+)*"),
    Kind("a source's name (a-z, 0-9, single _ and - between them, at most 32)", "orders"),
]


class SourceSettings(Section):
    """A database, its tables, where their events go, and how."""

    database: DatabaseSettings
    tables: TablesSettings = TablesSettings()
    sink: SinkSettings = SinkSettings()
    kafka: KafkaSettings
    relay: RelaySettings = RelaySettings()
    doorbell: DoorbellSettings = DoorbellSettings()
    retry: RetrySettings = RetrySettings()
    order: OrderSettings = OrderSettings()
    dead_letters: DeadLettersSettings = DeadLettersSettings()
    recovery: RecoverySettings = RecoverySettings()
    retention: RetentionSettings = RetentionSettings()
    lease: LeaseSettings = LeaseSettings()

    @property
    def delivery_seconds(self) -> float:
        """The deadline of one publish."""
        explicit = self.kafka.delivery_timeout
        return 0.5 * self.lease.ttl if explicit is None else explicit

    @property
    def close_seconds(self) -> float:
        """The bound on stopping a producer."""
        explicit = self.kafka.close_timeout
        return 0.15 * self.lease.ttl if explicit is None else explicit

    def contradictions(self) -> Iterator[Contradiction]:
        needed = self.delivery_seconds + self.close_seconds + self.lease.margin
        if self.lease.ttl <= needed:
            yield Contradiction(
                "lease.ttl",
                f"must be longer than kafka.delivery_timeout, kafka.close_timeout and a tenth of itself, together "
                f"{format_duration(needed)}; write a longer one, or a shorter kafka.delivery_timeout",
            )
        if self.sink.kind == "kafka" and self.relay.batch_bytes < self.kafka.max_message_bytes:
            yield Contradiction("relay.batch_bytes", "is less than kafka.max_message_bytes; write at least as much")


class InstanceSettings(Section):
    """This process among the replicas."""

    name: Name = ""
    """Empty: made up at each start."""


class HttpSettings(Section):
    """/metrics, /livez, /readyz."""

    enabled: Flag = True
    host: Filled = "127.0.0.1"
    port: Whole = Field(default=9464, ge=0, le=65535)
    """0: any free one."""


class LogSettings(Section):
    """Log lines, on stderr."""

    level: Literal["debug", "info", "warning", "error"] = "info"
    format: Literal["auto", "console", "json"] = "auto"
    """auto: console on a terminal, else json."""


class TelemetrySettings(Section):
    """Metrics by OTLP."""

    otlp_endpoint: Annotated[
        str,
        matching(r"(https?://[^\s@]+)?"),
        Kind("an http:// or https:// URL without a user", '"http://collector:4318/v1/metrics"'),
    ] = ""
    """Empty: off."""
    otlp_interval: Duration = Field(default=duration("30s"), ge=1, le=3600)


class Context(TypedDict):
    """What the validation of `Settings` is told besides the values."""

    need_sink: bool
    """Whether the brokers must be named. Commands that only use the database do without."""


class Settings(Section):
    """All of it. What is written at the top level for sources is in `sources` by the time this exists."""

    sources: dict[SourceName, SourceSettings]
    instance: InstanceSettings = InstanceSettings()
    http: HttpSettings = HttpSettings()
    log: LogSettings = LogSettings()
    telemetry: TelemetrySettings = TelemetrySettings()

    @model_validator(mode="before")
    @classmethod
    def _resolve_sources(cls, given: Any, info: ValidationInfo) -> Any:
        if not isinstance(given, dict):
            return given
        context: Context = info.context or Context(need_sink=True)
        return resolve_sources(given, need_sink=context["need_sink"])

    def contradictions(self) -> Iterator[Contradiction]:
        owners: dict[tuple[str, str], str] = {}
        for name, source in self.sources.items():
            tables = {(source.database.place, table.lower()) for table in source.tables.names}
            if shared := sorted(tables & owners.keys()):
                text = f"names a table of source {owners[shared[0]]}, in the same database; write another name"
                yield Contradiction(f"sources.{name}.tables.events", text)
            owners |= dict.fromkeys(tables, name)


def resolve_sources(given: Mapping[str, Any], *, need_sink: bool) -> dict[str, Any]:
    """Moves the sections of sources from the top level into each source, which overrides them key by key."""
    shared = {key: value for key, value in given.items() if key in SourceSettings.model_fields}
    daemon = {key: value for key, value in given.items() if key not in shared}
    declared = daemon.get("sources") or {DEFAULT_SOURCE: {}}
    if isinstance(declared, Mapping):
        daemon["sources"] = {
            name: _complete(merged(shared, own), need_sink) if isinstance(own, Mapping) else own
            for name, own in declared.items()
        }
    return daemon


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Both, table by table; where both have a value, that of `above`."""
    both = dict(below)
    for key, value in above.items():
        under = both.get(key)
        both[key] = merged(under, value) if isinstance(under, Mapping) and isinstance(value, Mapping) else value
    return both


def _complete(source: dict[str, Any], need_sink: bool) -> dict[str, Any]:
    """Sections that have required keys exist, so that an error names the key and not only the section."""
    kafka = source.setdefault("kafka", {})
    source.setdefault("database", {})
    sink = source.get("sink")
    kind = sink.get("kind", "kafka") if isinstance(sink, Mapping) else "kafka"
    if isinstance(kafka, Mapping) and not (need_sink and kind == "kafka"):
        source["kafka"] = {"bootstrap_servers": NO_SERVERS} | dict(kafka)
    return source
