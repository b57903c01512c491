"""How the producer is set up, and what is said when it cannot be."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from outboxd.config.kafka import KafkaSettings
from outboxd.errors import ConfigError
from outboxd.sinks.kafka import connection
from outboxd.sinks.kafka.connection import producer_arguments


def settings(**given: Any) -> KafkaSettings:
    """Settings with brokers."""
    return KafkaSettings.model_validate({"bootstrap_servers": ["127.0.0.1:9092"]} | given)


def test_a_producer_is_idempotent_and_waits_for_all_replicas() -> None:
    """The promises rest on it."""
    arguments = producer_arguments(settings(compression="gzip"), 7.5)
    assert (arguments["acks"], arguments["enable_idempotence"]) == ("all", True)
    assert (arguments["compression_type"], arguments["request_timeout_ms"]) == ("gzip", 7500)


@pytest.mark.parametrize("codec", ["snappy", "lz4", "zstd"])
def test_a_codec_without_its_library_is_said_at_the_start(codec: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not at the first event. Where the library is there, the codec is passed on."""
    assert producer_arguments(settings(compression=codec), 7.5)["compression_type"] == codec
    absent: dict[str, Callable[[], bool]] = {codec: lambda: False}
    monkeypatch.setattr(connection, "CODECS", absent)
    with pytest.raises(
        ConfigError, match=rf"kafka\.compression: the library for {codec} is not installed; pip install"
    ):
        producer_arguments(settings(compression=codec), 7.5)


def test_a_broken_certificate_names_the_key(tmp_path: Path) -> None:
    """And not its content."""
    broken = tmp_path / "ca.pem"
    broken.write_text("SECRET, not PEM")
    with pytest.raises(ConfigError, match=r"^kafka\.tls_ca: cannot be read as PEM") as caught:
        producer_arguments(settings(security_protocol="SSL", tls_ca=str(broken)), 7.5)
    assert "SECRET" not in str(caught.value)
