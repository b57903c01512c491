"""The store of one source: its connections, and the ports that they serve."""

from sqlalchemy import Connection, Engine

from outboxd.model import TableNames
from outboxd.store.engine import ConnectOptions, open_engine
from outboxd.store.events import MySqlEventReader, MySqlSettler
from outboxd.store.leases import MySqlLeaseStore
from outboxd.store.servers import Server, check_server
from outboxd.store.session import Session
from outboxd.store.statements import Statements
from outboxd.store.upkeep import MySqlSampler, MySqlUpkeep
from outboxd.store.version import require_current


class Store:
    """Four connections: one reads, one settles, one keeps the lease, one is for upkeep."""

    def __init__(self, engine: Engine, names: TableNames, *, mariadb: bool, inline_bytes: int, keep_sent: bool) -> None:
        statements = Statements(names, mariadb=mariadb, inline_bytes=inline_bytes, keep_sent=keep_sent)
        self._sessions = {name: Session(engine, name) for name in ("read", "settle", "lease", "upkeep")}
        self.reader = MySqlEventReader(self._sessions["read"], statements)
        self.settler = MySqlSettler(self._sessions["settle"], statements, f"`{names.lanes}`")
        self.leases = MySqlLeaseStore(self._sessions["lease"], names)
        self.upkeep = MySqlUpkeep(self._sessions["upkeep"], statements)
        self.sampler = MySqlSampler(self._sessions["upkeep"], statements)

    async def close(self) -> None:
        """Closes all connections."""
        for session in self._sessions.values():
            await session.close()


async def open_store(
    url: str, names: TableNames, *, inline_bytes: int, keep_sent: bool, options: ConnectOptions | None = None
) -> Store:
    """Opens a source's store.

    `inline_bytes`: payloads up to this size are read with their rows. Raises DatabaseUnavailableError,
    UnsupportedServerError, SchemaError.
    """
    engine = open_engine(url, options)
    probe = Session(engine, "probe")

    def look(connection: Connection) -> Server:
        server = check_server(str(connection.exec_driver_sql("SELECT VERSION()").scalar_one()))
        require_current(connection, names)
        return server

    try:
        server = await probe.run(look)
    finally:
        await probe.close()
    return Store(engine, names, mariadb=server.flavour == "mariadb", inline_bytes=inline_bytes, keep_sent=keep_sent)
