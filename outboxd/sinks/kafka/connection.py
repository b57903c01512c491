"""The arguments of an aiokafka producer."""

import ssl
from typing import Any

from aiokafka.helpers import create_ssl_context

from outboxd.config.kafka import KafkaSettings


def producer_arguments(settings: KafkaSettings, request_timeout: float) -> dict[str, Any]:
    """Idempotent, acks=all. `request_timeout` in seconds. Reads the TLS files: raises OSError, ssl.SSLError."""
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


def _ssl_context(settings: KafkaSettings) -> ssl.SSLContext:
    context: ssl.SSLContext = create_ssl_context(
        cafile=str(settings.tls_ca) if settings.tls_ca else None,
        certfile=str(settings.tls_cert) if settings.tls_cert else None,
        keyfile=str(settings.tls_key) if settings.tls_key else None,
    )
    return context
