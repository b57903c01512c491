"""The section `[kafka]`."""

from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import BeforeValidator, ByteSize, Field, SecretStr

from outboxd.config.sections import Contradiction, Section
from outboxd.config.types import (
    Duration,
    DurationOrAuto,
    Filled,
    OptionalFile,
    Secret,
    Servers,
    Size,
    Text,
    Topic,
    refusal,
    size,
)


def _read_acks(value: Any) -> Any:
    if value != "all":
        raise refusal(
            'only "all" is offered: with less, a broker that fails loses events it has acknowledged; write "all"'
        )
    return value


class KafkaSettings(Section):
    """The brokers, and how messages are sent to them."""

    bootstrap_servers: Servers
    default_topic: Topic = ""
    """For rows whose topic is empty; where this is empty too, such a row is a dead letter."""
    client_id: Filled = "outboxd"
    acks: Annotated[Literal["all"], BeforeValidator(_read_acks)] = "all"
    compression: Literal["none", "gzip", "snappy", "lz4", "zstd"] = "none"
    batch_size: Size = Field(default=size("512KiB"), ge=1024, le=ByteSize(2**28))
    linger: Duration = Field(default=0.0, ge=0, le=5)
    max_message_bytes: Size = Field(default=size("1MiB"), ge=1024, le=ByteSize(2**28))
    delivery_timeout: DurationOrAuto = None
    """Seconds; None for half of the lease (`SourceSettings.delivery_seconds`)."""
    close_timeout: DurationOrAuto = None
    """Seconds; None for 0.15 of the lease (`SourceSettings.close_seconds`)."""
    security_protocol: Literal["PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL"] = "PLAINTEXT"
    tls_ca: OptionalFile = None
    tls_cert: OptionalFile = None
    tls_key: OptionalFile = None
    sasl_mechanism: Literal["", "PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = ""
    sasl_username: Text = ""
    sasl_password: Secret = SecretStr("")

    def contradictions(self) -> Iterator[Contradiction]:
        if self.batch_size > self.max_message_bytes:
            yield Contradiction("batch_size", "is above max_message_bytes; brokers count a batch as one message")
        for key, value in (("delivery_timeout", self.delivery_timeout), ("close_timeout", self.close_timeout)):
            if value is not None and value < 0.1:
                yield Contradiction(key, 'is less than 100ms; write a longer one, or "auto"')
        if (self.tls_cert is None) != (self.tls_key is None):
            yield Contradiction("tls_cert", "goes with tls_key; write both or neither")
        yield from self._security()

    def _security(self) -> Iterator[Contradiction]:
        protocol = self.security_protocol
        if not protocol.endswith("SSL"):
            cure = f'write security_protocol = "{protocol.replace("PLAINTEXT", "SSL")}"'
            for key in ("tls_ca", "tls_cert", "tls_key"):
                if getattr(self, key):
                    yield Contradiction(key, f"has no effect with {protocol}; {cure}")
        credentials = {
            "sasl_mechanism": self.sasl_mechanism,
            "sasl_username": self.sasl_username,
            "sasl_password": self.sasl_password.get_secret_value(),
        }
        for key, value in credentials.items():
            if protocol.startswith("SASL_") and not value:
                yield Contradiction(key, f"is missing, and {protocol} needs it; write it under [kafka]")
            if not protocol.startswith("SASL_") and value:
                yield Contradiction(key, f'has no effect with {protocol}; write security_protocol = "SASL_SSL"')
