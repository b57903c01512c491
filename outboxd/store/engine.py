"""Connections to MySQL and MariaDB: how they are opened, and which errors mean what."""

import io
import ssl
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from sqlalchemy import Engine, create_engine, event
from sqlalchemy.engine import URL, ExceptionContext, make_url
from sqlalchemy.pool import NullPool

from outboxd.config.sections import DatabaseSettings
from outboxd.errors import ConfigError
from outboxd.store.driver import import_pymysql
from outboxd.store.tls import share_context

READ_BUFFER: Final = 256 * 1024
"""Bytes read from the database's socket at once."""

RETRYABLE: Final = frozenset({1213, 1205, 1020})
"""Deadlock, lock wait time-out, record has changed: the transaction was rolled back and may be repeated."""

READ_ONLY: Final = frozenset({1290, 1792})
"""A failover left us on a read-only node: to go on, the connection must be opened anew."""

SESSION: Final = (
    "SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED",
    "SET SESSION time_zone='+00:00', sql_safe_updates=0, sql_mode='STRICT_TRANS_TABLES,NO_ENGINE_SUBSTITUTION' "
    "/*M!100318 , in_predicate_conversion_threshold=0 */",
)
"""MariaDB makes a join of a list of a thousand ids, and of the join a scan, whatever index is forced: such a DELETE
would wait for every transaction that has written a row. 0: it never does."""

UNCHECKED: Final = "SET SESSION sql_safe_updates=0 /*M!100201 , check_constraint_checks=0 */"
"""MariaDB checks that a payload is JSON, unless told not to: a row that was written so could never be settled."""


@dataclass(frozen=True)
class ConnectOptions:
    """How a connection is opened. Times in seconds; `read_timeout` bounds every wait for the server's answer."""

    connect_timeout: float = 10.0
    read_timeout: float = 30.0
    lock_wait: float = 10.0
    """How long a statement waits for the locks of others, at most; less than `read_timeout`, so that none is left
    behind in the server."""
    wait_timeout: float | None = None
    """After so much silence the server ends the connection, and with it the locks of a client that is frozen."""
    unchecked: bool = False
    """CHECK constraints are left aside, for who has to handle rows that break them."""
    tls: str = "preferred"
    tls_ca: Path | None = None
    tls_cert: Path | None = None
    tls_key: Path | None = None


def connect_options(database: DatabaseSettings) -> ConnectOptions:
    """As configured."""
    return ConnectOptions(
        connect_timeout=database.connect_timeout,
        read_timeout=database.read_timeout,
        tls=database.tls,
        tls_ca=database.tls_ca,
        tls_cert=database.tls_cert,
        tls_key=database.tls_key,
    )


def error_code(error: BaseException) -> int | None:
    """The server's or client's error number behind a database exception."""
    original = getattr(error, "orig", None) or error
    args = getattr(original, "args", ())
    return args[0] if args and isinstance(args[0], int) else None


def normalise(url: str) -> URL:
    """The URL with a driver: PyMySQL unless it names another. Raises ConfigError."""
    parsed = make_url(url)
    if parsed.drivername in {"mysql", "mariadb", "mariadb+pymysql"}:
        parsed = parsed.set(drivername="mysql+pymysql")
    if parsed.drivername not in {"mysql+pymysql", "mysql+mysqldb"}:
        raise ConfigError(
            f"database.url: the driver {parsed.drivername!r} is not supported; use mysql+pymysql:// or mysql+mysqldb://"
        )
    return parsed


def open_engine(url: str, options: ConnectOptions | None = None) -> Engine:
    """An engine without a pool whose connections are in autocommit and READ COMMITTED, with time-outs."""
    parsed = normalise(url)
    options = options or ConnectOptions()
    arguments: dict[str, Any] = {
        "connect_timeout": max(1, round(options.connect_timeout)),
        "read_timeout": max(1, round(options.read_timeout)),
        "write_timeout": max(1, round(options.read_timeout)),
        "charset": "utf8mb4",
    }
    arguments |= _tls(parsed.get_driver_name(), options)
    if parsed.drivername == "mysql+pymysql":
        import_pymysql()
    # Raw statements carry their values inline or as %s; nothing is prepared, so the driver's own format is used.
    try:
        engine = create_engine(parsed, poolclass=NullPool, isolation_level="AUTOCOMMIT", connect_args=arguments)
    except ModuleNotFoundError as error:
        raise ConfigError(
            f"database.url: the driver {parsed.get_driver_name()} is not installed; "
            f"pip install 'outboxd[{parsed.get_driver_name()}]', or write mysql+pymysql://"
        ) from error
    event.listen(engine, "handle_error", _read_only_is_disconnect)
    event.listen(engine, "connect", _session_preparer(options))
    share_context(engine)
    return engine


def _session_preparer(options: ConnectOptions) -> Callable[[Any, Any], None]:
    lock_wait = max(1, round(min(options.lock_wait, options.read_timeout - 1)))
    variables = {"innodb_lock_wait_timeout": lock_wait, "lock_wait_timeout": lock_wait}
    if options.wait_timeout is not None:
        variables["wait_timeout"] = max(1, round(options.wait_timeout))
    statements = [*SESSION, "SET SESSION " + ", ".join(f"{name}={value}" for name, value in variables.items())]
    if options.unchecked:
        statements.append(UNCHECKED)

    def prepare(connection: Any, _record: Any) -> None:
        if isinstance(getattr(connection, "_rfile", None), io.BufferedReader):
            # PyMySQL reads by 8 KiB: fifty system calls for a batch, each of which hands over the GIL.
            connection._rfile = connection._sock.makefile("rb", READ_BUFFER)
        cursor = connection.cursor()
        for statement in statements:
            cursor.execute(statement)
        cursor.close()

    return prepare


def _read_only_is_disconnect(context: ExceptionContext) -> None:
    if error_code(context.original_exception) in READ_ONLY:
        context.is_disconnect = True


def _tls(driver: str, options: ConnectOptions) -> dict[str, Any]:
    """The driver's TLS arguments. Neither driver verifies a certificate unless it is told to."""
    if options.tls == "disabled":
        return {"ssl_disabled": True} if driver == "pymysql" else {"ssl_mode": "DISABLED"}
    if driver == "mysqldb":
        files = {"ca": options.tls_ca, "cert": options.tls_cert, "key": options.tls_key}
        mode = {"ssl_mode": options.tls.upper()}
        return mode | ({"ssl": given} if (given := {name: str(path) for name, path in files.items() if path}) else {})
    if options.tls == "preferred":
        return {}
    context = ssl.create_default_context(cafile=str(options.tls_ca) if options.tls_ca else None)
    if options.tls != "verify_identity":
        context.check_hostname = False
    if options.tls == "required":
        context.verify_mode = ssl.CERT_NONE
    if options.tls_cert:
        context.load_cert_chain(str(options.tls_cert), str(options.tls_key) if options.tls_key else None)
    return {"ssl": context}
