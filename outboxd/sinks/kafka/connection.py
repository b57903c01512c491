"""The arguments of an aiokafka producer."""

import ssl
from collections.abc import Callable, Mapping
from typing import Any, Final

from aiokafka.codec import has_lz4, has_snappy, has_zstd
from aiokafka.conn import collect_hosts, create_conn
from aiokafka.helpers import create_ssl_context

from outboxd.config.kafka import KafkaSettings
from outboxd.errors import ConfigError, FailureKind
from outboxd.sinks.kafka.classify import classify

CODECS: Final[Mapping[str, Callable[[], bool]]] = {"snappy": has_snappy, "lz4": has_lz4, "zstd": has_zstd}
"""Whether the library of each codec is there; gzip is Python's own."""


def producer_arguments(settings: KafkaSettings, request_timeout: float) -> dict[str, Any]:
    """Idempotent, acks=all. `request_timeout` in seconds. Reads the TLS files. Raises ConfigError."""
    codec = CODECS.get(settings.compression)
    if codec is not None and not codec():
        raise ConfigError(
            f"kafka.compression: the library for {settings.compression} is not installed; "
            'pip install \'outboxd[compression]\', or write "gzip" or "none"'
        )
    arguments: dict[str, Any] = {
        "bootstrap_servers": settings.bootstrap_servers,
        "client_id": settings.client_id,
        "acks": settings.acks,
        "enable_idempotence": True,
        "compression_type": None if settings.compression == "none" else settings.compression,
        "max_batch_size": int(settings.batch_size),
        "max_request_size": int(settings.max_message_bytes),
        "linger_ms": round(settings.linger * 1000),
        "request_timeout_ms": max(100, round(request_timeout * 1000)),
        "retry_backoff_ms": 100,
        "metadata_max_age_ms": 60_000,
        "security_protocol": settings.security_protocol,
    }
    if settings.security_protocol in {"SSL", "SASL_SSL"}:
        arguments["ssl_context"] = _ssl_context(settings)
    if settings.security_protocol.startswith("SASL") and settings.sasl_password is not None:
        arguments["sasl_mechanism"] = settings.sasl_mechanism
        arguments["sasl_plain_username"] = settings.sasl_username
        arguments["sasl_plain_password"] = settings.sasl_password.get_secret_value()
    return arguments


async def refusal(arguments: Mapping[str, Any]) -> Exception | None:
    """Why the brokers refuse a connection that they could take: TLS or SASL. None when it is something else.

    aiokafka's own start tells of any failure only that it could not bootstrap.
    """
    shared = {"client_id", "request_timeout_ms", "security_protocol", "ssl_context"}
    shared |= {"sasl_mechanism", "sasl_plain_username", "sasl_plain_password"}
    given = {name: value for name, value in arguments.items() if name in shared}
    for host, port, _ in collect_hosts(arguments["bootstrap_servers"]):
        try:
            connection = await create_conn(host, port, **given)
        except Exception as error:
            if classify(error).kind is FailureKind.PAUSE:
                return error
        else:
            connection.close()
    return None


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    files = {"tls_ca": settings.tls_ca, "tls_cert": settings.tls_cert, "tls_key": settings.tls_key}
    ca, cert, key = (str(path) if path else None for path in files.values())
    try:
        context: ssl.SSLContext = create_ssl_context(cafile=ca, certfile=cert, keyfile=key)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        given = " and ".join(f"kafka.{name}" for name, path in files.items() if path)
        raise ConfigError(f"{given}: cannot be read as PEM ({type(error).__name__}); look at the files") from error
    return context
