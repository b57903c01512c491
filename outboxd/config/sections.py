"""The sections that every source has: `[database]`, `[tables]`, `[sink]`, `[relay]`, ... (`[kafka]` stands apart)."""

from collections.abc import Iterator
from typing import Annotated, Any, Final, Literal, NamedTuple, Self

from pydantic import BaseModel, BeforeValidator, ByteSize, ConfigDict, Field, SecretStr, model_validator
from pydantic_core import PydanticCustomError
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError

from outboxd.backoff import Backoff, Strategy
from outboxd.config.types import (
    Duration,
    DurationOrNever,
    Jitter,
    Kind,
    OptionalFile,
    Patterns,
    Size,
    TableName,
    Whole,
    Word,
    duration,
    is_table_name,
    refusal,
    size,
    wrong_kind,
)
from outboxd.model import TableNames
from outboxd.order import OrderPolicy

EXAMPLE_URL: Final = "mysql+pymysql://user:password@host:3306/shop"


class Contradiction(NamedTuple):
    """Keys that are fine alone, and impossible together."""

    key: str
    """Below the section that finds it, dotted."""
    text: str


class Section(BaseModel):
    """A table of the configuration. Types are strict: TOML's text "3" is no number."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False, hide_input_in_errors=True)

    def contradictions(self) -> Iterator[Contradiction]:
        """What is impossible in the combination of this section's keys."""
        yield from ()

    @model_validator(mode="after")
    def _consistent(self) -> Self:
        if found := tuple(self.contradictions()):
            raise PydanticCustomError("contradiction", "impossible combination", {"found": found})
        return self


# --- the database -----------------------------------------------------------------------------------------------

_DRIVERS: Final = {
    "mysql": "mysql+pymysql",
    "mariadb": "mysql+pymysql",
    "mysql+pymysql": "mysql+pymysql",
    "mariadb+pymysql": "mysql+pymysql",
    "mysql+mysqldb": "mysql+mysqldb",
    "mariadb+mysqldb": "mysql+mysqldb",
}


def _read_url(value: Any) -> Any:
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if not isinstance(value, str):
        raise wrong_kind()
    try:
        url = make_url(value)
    except (ArgumentError, ValueError):  # the exception quotes the URL
        got = "other text" if value else "empty text"
        raise refusal(
            f'expected a URL, got {got}; write e.g. "{EXAMPLE_URL}" (in the password, @ is %40, : %3A, / %2F)'
        ) from None
    driver = _DRIVERS.get(url.drivername)
    if driver is None:
        raise refusal("the URL is of another kind; write mysql+pymysql:// or mysql+mysqldb:// at its start")
    if not url.database:
        raise refusal("the URL names no database; write it at the end, as in //host:3306/shop")
    return SecretStr(url.set(drivername=driver).render_as_string(hide_password=False))


def _show_url(value: SecretStr) -> str:
    """The URL without user, password and options."""
    url = make_url(value.get_secret_value())
    return f"{url.drivername}://********@{_place(url)}"


def _place(url: URL) -> str:
    socket = url.query.get("unix_socket")
    host = (url.host or "localhost").lower()
    address = socket if isinstance(socket, str) and not url.host else f"{host}:{url.port or 3306}"
    return f"{address}/{url.database}"


DatabaseUrl = Annotated[
    SecretStr, BeforeValidator(_read_url), Kind("the URL of a database, as text", f'"{EXAMPLE_URL}"', _show_url)
]


class DatabaseSettings(Section):
    """Where the tables are."""

    url: DatabaseUrl
    """With its driver, `mysql+pymysql` or `mysql+mysqldb`, whatever short form was written."""
    connect_timeout: Duration = Field(default=duration("10s"), ge=1, le=300)
    read_timeout: Duration = Field(default=duration("30s"), ge=1, le=3600)
    tls: Literal["disabled", "preferred", "required", "verify_ca", "verify_identity"] = "preferred"
    tls_ca: OptionalFile = None
    tls_cert: OptionalFile = None
    tls_key: OptionalFile = None

    @property
    def place(self) -> str:
        """`host:port/database`, to name it in a log or to compare: no user, no password."""
        return _place(make_url(self.url.get_secret_value()))

    def contradictions(self) -> Iterator[Contradiction]:
        if self.tls == "disabled":
            for key in ("tls_ca", "tls_cert", "tls_key"):
                if getattr(self, key):
                    yield Contradiction(key, 'has no effect while tls is "disabled"; write tls = "verify_identity"')
        if (self.tls_cert is None) != (self.tls_key is None):
            yield Contradiction("tls_cert", "goes with tls_key; write both or neither")


class TablesSettings(Section):
    """The names of the tables. Where only `events` is changed, the others are named after it."""

    events: TableName = "outbox_events"
    dead_letters: TableName = "outbox_deadletters"
    instances: TableName = "outbox_instances"
    lanes: TableName = "outbox_lanes"

    @model_validator(mode="before")
    @classmethod
    def _named_after_events(cls, given: Any) -> Any:
        events = given.get("events") if isinstance(given, dict) else None
        if not isinstance(events, str) or not is_table_name(events) or events == TableNames().events:
            return given
        derived = {key: f"{events}_{key.replace('_', '')}" for key in TableNames._fields[1:]}
        return derived | given

    @property
    def names(self) -> TableNames:
        """As the store takes them."""
        return TableNames(self.events, self.dead_letters, self.instances, self.lanes)

    def contradictions(self) -> Iterator[Contradiction]:
        seen: dict[str, str] = {}
        for key, name in self.names._asdict().items():
            other = seen.setdefault(name.lower(), key)
            if other != key:
                yield Contradiction(key, f"has the same name as {other}; write another one")


# --- the way of an event ----------------------------------------------------------------------------------------


class SinkSettings(Section):
    """Where events go."""

    kind: Word = "kafka"
    """An entry point of the group `outboxd.sinks`; whether it is installed is found out when it is loaded."""


class RelaySettings(Section):
    """Reading, publishing and settling."""

    batch_size: Whole = Field(default=2000, ge=1, le=10_000)
    poll_interval: Duration = Field(default=duration("50ms"), ge=0.001, le=3600)
    in_flight: Whole = Field(default=3, ge=1, le=16)
    batch_bytes: Size = Field(default=size("8MiB"), ge=1024, le=ByteSize(2**30))
    in_flight_bytes: Size = Field(default=size("32MiB"), ge=1024, le=ByteSize(2**32))
    drain_timeout: Duration = Field(default=duration("10s"), ge=0, le=600)

    def contradictions(self) -> Iterator[Contradiction]:
        if self.in_flight_bytes < self.batch_bytes:
            yield Contradiction("in_flight_bytes", "is less than batch_bytes; write at least as much")


class DoorbellSettings(Section):
    """What wakes the relay before its next poll."""

    kind: Literal["none", "binlog"] = "none"


class RetrySettings(Section):
    """Events that failed and may succeed later."""

    max_attempts: Whole = Field(default=3, ge=1, le=1000)
    strategy: Literal["exponential", "linear", "fixed"] = "exponential"
    base_delay: Duration = Field(default=duration("1m"), ge=0, le=duration("30d"))
    max_delay: Duration = Field(default=duration("30m"), ge=0, le=duration("30d"))
    jitter: Jitter = Field(default=0.1, ge=0, le=1)
    interval: Duration = Field(default=duration("1s"), ge=0.01, le=3600)

    @property
    def backoff(self) -> Backoff:
        """The delays between attempts."""
        return Backoff(Strategy(self.strategy), self.base_delay, self.max_delay, self.jitter)

    def contradictions(self) -> Iterator[Contradiction]:
        if self.base_delay > self.max_delay:
            yield Contradiction("base_delay", "is longer than max_delay; write a shorter one, or a longer max_delay")


class OrderSettings(Section):
    """What becomes of an aggregate after a dead letter. The patterns name those for which it is the other way."""

    after_dead_letter: Literal["continue", "hold"] = "continue"
    except_topics: Patterns = ()
    except_event_types: Patterns = ()

    @property
    def policy(self) -> OrderPolicy:
        """As the relay asks it."""
        return OrderPolicy(self.after_dead_letter == "hold", self.except_topics, self.except_event_types)


class DeadLettersSettings(Section):
    """Moving events in error to the dead letters."""

    interval: Duration = Field(default=duration("5s"), ge=0.01, le=3600)


class RecoverySettings(Section):
    """Rows that another dispatcher left in processing."""

    stuck_timeout: Duration = Field(default=duration("10m"), ge=1)
    interval: Duration = Field(default=duration("2m"), ge=0.01, le=86_400)


class RetentionSettings(Section):
    """Deleting what is done."""

    sent: DurationOrNever = duration("24h")
    """Seconds; 0 deletes a row as it is settled, None keeps it."""
    dead_letters: DurationOrNever = None
    """Seconds; None keeps them."""
    interval: Duration = Field(default=duration("1m"), ge=0.01, le=86_400)


class LeaseSettings(Section):
    """How long lanes belong to an instance that is not heard of."""

    ttl: Duration = Field(default=duration("15s"), ge=2, le=600)

    @property
    def margin(self) -> float:
        """Seconds by which the owner stops trusting its lease before the database does."""
        return 0.1 * self.ttl
