"""The store of one source: its connections, and the ports that they serve."""

import asyncio
from contextlib import suppress
from dataclasses import replace
from typing import Final

from sqlalchemy import Connection, Engine

from outboxd.model import TableNames
from outboxd.order import OrderPolicy
from outboxd.store.backlog import MySqlLookout, MySqlSampler
from outboxd.store.catalog import character_sets
from outboxd.store.engine import ConnectOptions, open_engine
from outboxd.store.events import MySqlEventReader, MySqlSettler
from outboxd.store.leases import MySqlLeaseStore
from outboxd.store.servers import Server, check_server
from outboxd.store.session import Session
from outboxd.store.statements import Statements
from outboxd.store.upkeep import MySqlUpkeep
from outboxd.store.version import require_current

CLOSING: Final = 3.0
"""Seconds that closing may take: a statement that hangs is left to its time-out, and to the end of the process."""


class Store:
    """Four connections: one reads, one settles, one keeps the lease, one is for upkeep."""

    def __init__(
        self,
        engine: Engine,
        heartbeat: Engine,
        statements: Statements,
        names: TableNames,
        *,
        policy: OrderPolicy,
        idle: float,
    ) -> None:
        engines = {"read": engine, "settle": engine, "upkeep": engine, "lease": heartbeat}
        self._sessions = {name: Session(source, name, idle) for name, source in engines.items()}
        self.reader = MySqlEventReader(self._sessions["read"], statements)
        self.settler = MySqlSettler(self._sessions["settle"], statements, f"`{names.lanes}`")
        self.leases = MySqlLeaseStore(self._sessions["lease"], names)
        self.upkeep = MySqlUpkeep(self._sessions["upkeep"], statements, policy)
        # On the connection that reads: while it is quiet, this keeps it from being ended for silence.
        self.lookout = MySqlLookout(self._sessions["read"], statements)
        self.sampler = MySqlSampler(self._sessions["upkeep"], statements)

    async def close(self) -> None:
        """Closes all connections, within a bound."""
        with suppress(TimeoutError):
            async with asyncio.timeout(CLOSING):
                await asyncio.gather(*(session.close() for session in self._sessions.values()))


async def open_store(
    url: str,
    names: TableNames,
    *,
    batch_bytes: int,
    keep_sent: bool,
    policy: OrderPolicy,
    default_topic: str,
    lease_ttl: float,
    options: ConnectOptions,
) -> Store:
    """Opens a source's store.

    `batch_bytes`: as of `Statements`. `lease_ttl` in seconds: a connection that is silent for longer is ended by the
    server. Raises DatabaseUnavailableError, UnsupportedServerError, SchemaError.
    """
    engine, heartbeat = _engines(url, options, lease_ttl)
    server, sets = await _look(engine, names)
    statements = Statements(
        names,
        mariadb=server.flavour == "mariadb",
        batch_bytes=batch_bytes,
        keep_sent=keep_sent,
        may_hold=policy.may_hold,
        default_topic=default_topic,
        character_sets=sets,
    )
    return Store(engine, heartbeat, statements, names, policy=policy, idle=lease_ttl / 2)


def _engines(url: str, options: ConnectOptions, lease_ttl: float) -> tuple[Engine, Engine]:
    """For all else, and for the heartbeat."""
    # A heartbeat that hangs must fail while there is time for another; and as a fenced write holds up the heartbeat, it
    # may wait for what somebody else has locked only half as long.
    patience = max(1.0, lease_ttl / 4)
    options = replace(options, wait_timeout=lease_ttl, lock_wait=min(options.lock_wait, lease_ttl / 8), unchecked=True)
    hasty = replace(
        options,
        read_timeout=min(options.read_timeout, patience),
        connect_timeout=min(options.connect_timeout, patience),
    )
    return open_engine(url, options), open_engine(url, hasty)


async def _look(engine: Engine, names: TableNames) -> tuple[Server, dict[str, str | None]]:
    """The server and the character sets of the events, both such as can be worked with."""

    def look(connection: Connection) -> tuple[Server, dict[str, str | None]]:
        server = check_server(str(connection.exec_driver_sql("SELECT VERSION()").scalar_one()))
        require_current(connection, names)
        return server, character_sets(connection, names.events)

    probe = Session(engine, "probe")
    try:
        return await probe.run(look)
    finally:
        await probe.close()
