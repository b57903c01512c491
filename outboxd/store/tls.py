"""TLS that encrypts and verifies nobody, as connections to the database use it unless they are told to verify."""

import ssl
from functools import cache
from typing import Any

from sqlalchemy import Engine, event


def share_context(engine: Engine) -> None:
    """One TLS context for all connections of PyMySQL that prefer TLS.

    PyMySQL makes one for each, with all the authorities that the system trusts, and asks none of them: 20 ms of CPU
    and 0.9 MiB a connection.
    """
    if engine.driver == "pymysql":
        event.listen(engine, "do_connect", _connect)


def _connect(_dialect: Any, _record: Any, arguments: list[Any], parameters: dict[str, Any]) -> Any:
    return _connection_class()(*arguments, **parameters)


@cache
def _connection_class() -> type:
    from pymysql.connections import Connection  # noqa: PLC0415 - not with another driver

    context = _unverified()

    class SharingConnection(Connection):  # type: ignore[misc]
        def _create_ssl_ctx(self, options: Any) -> Any:
            return super()._create_ssl_ctx(options) if options else context

    return SharingConnection


def _unverified() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context
