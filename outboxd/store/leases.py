"""Who is alive, and who owns which lane. All times are the database's."""

import os
import socket
from collections.abc import Collection
from decimal import Decimal

from sqlalchemy import Connection
from sqlalchemy.exc import IntegrityError

from outboxd import __version__
from outboxd.errors import LeaseLostError
from outboxd.model import TableNames
from outboxd.ports import Grant, LeaseView
from outboxd.store.events import changed_rows, microseconds
from outboxd.store.session import Session
from outboxd.store.statements import integers


class MySqlLeaseStore:
    """See `ports.LeaseStore`."""

    def __init__(self, session: Session, names: TableNames) -> None:
        self._session = session
        self._instances = f"`{names.instances}`"
        self._lanes = f"`{names.lanes}`"

    async def register(self, instance: str, name: str | None, ttl: float) -> None:
        """One insert. A namesake whose lease has ended must be evicted first."""
        values = (instance, name, socket.gethostname()[:255], os.getpid(), __version__[:32], microseconds(ttl))

        def work(connection: Connection) -> None:
            try:
                changed_rows(
                    connection,
                    f"INSERT INTO {self._instances} (id, name, host, pid, version, expires_at) "
                    "VALUES (%s, %s, %s, %s, %s, NOW(6) + INTERVAL %s MICROSECOND)",
                    values,
                )
            except IntegrityError as error:
                raise LeaseLostError(f"another live instance is named {name}") from error

        await self._session.run(work)

    async def renew(self, instance: str, ttl: float, report: str) -> None:
        """One update, which a lease that has ended refuses."""

        def work(connection: Connection) -> None:
            renewed = changed_rows(
                connection,
                f"UPDATE {self._instances} SET expires_at = NOW(6) + INTERVAL %s MICROSECOND, report = %s "
                "WHERE id = %s AND expires_at > NOW(6)",
                (microseconds(ttl), report, instance),
            )
            if not renewed:
                raise LeaseLostError(f"the lease of instance {instance} has ended")

        await self._session.run(work)

    async def evict_expired(self, instance: str) -> list[str]:
        """Looks first without a lock; only when there is somebody to evict, a transaction follows.

        An instance that stopped in the middle of a fenced write still holds its row: it is passed over, until the
        server ends its connection for silence (`wait_timeout`).
        """
        expired = f"SELECT id FROM {self._instances} WHERE expires_at <= NOW(6)"

        def evict(connection: Connection) -> list[str]:
            gone = [row[0] for row in connection.exec_driver_sql(f"{expired} FOR UPDATE SKIP LOCKED")]
            for member in gone:
                changed_rows(
                    connection,
                    f"UPDATE {self._lanes} SET owner = NULL, deaths = deaths + 1 WHERE owner = %s",
                    (member,),
                )
                changed_rows(connection, f"DELETE FROM {self._instances} WHERE id = %s", (member,))
            return gone

        if await self._session.run(lambda connection: connection.exec_driver_sql(expired).first()) is None:
            return []
        return await self._session.transaction(evict)

    async def take(self, instance: str, count: int) -> None:
        """Free lanes that nobody else is taking, which a dead instance is refused."""
        free = f"SELECT lane FROM {self._lanes} WHERE owner IS NULL ORDER BY lane LIMIT {int(count)}"

        def work(connection: Connection) -> None:
            self._enforce_alive(connection, instance)
            lanes = [row[0] for row in connection.exec_driver_sql(f"{free} FOR UPDATE SKIP LOCKED")]
            if lanes:
                statement = f"UPDATE {self._lanes} SET owner = %s WHERE lane IN ({integers(lanes)})"
                changed_rows(connection, statement, (instance,))

        await self._session.transaction(work)

    def _enforce_alive(self, connection: Connection, instance: str) -> None:
        alive = f"SELECT 1 FROM {self._instances} WHERE id = %s AND expires_at > NOW(6) LOCK IN SHARE MODE"
        if connection.exec_driver_sql(alive, (instance,)).first() is None:
            raise LeaseLostError(f"the lease of instance {instance} has ended")

    async def give_back(self, instance: str, lanes: Collection[int]) -> None:
        """One update."""
        if not lanes:
            return
        statement = f"UPDATE {self._lanes} SET owner = NULL, alone_id = NULL "
        statement += f"WHERE lane IN ({integers(lanes)}) AND owner = %s"
        await self._session.run(lambda connection: changed_rows(connection, statement, (instance,)))

    async def view(self, instance: str) -> LeaseView:
        """One small read: the instances, and the lanes behind them."""
        statement = (
            "SELECT id, TIMESTAMPDIFF(MICROSECOND, NOW(6), expires_at), NULL, NULL, NULL "
            f"FROM {self._instances} UNION ALL "
            f"SELECT NULL, NULL, lane, deaths, alone_id FROM {self._lanes} WHERE owner = %s"
        )

        def work(connection: Connection) -> LeaseView:
            rows = connection.exec_driver_sql(statement, (instance,)).fetchall()
            left = {row[0]: int(row[1]) for row in rows if row[0] is not None}
            others = [rest for member, rest in left.items() if member != instance and rest > 0]
            return LeaseView(
                tuple(sorted(member for member, rest in left.items() if rest > 0)),
                # MariaDB makes decimals of numbers that stand below a NULL.
                tuple(sorted(_grant(*row[2:]) for row in rows if row[0] is None)),
                min(others) / 1_000_000 if others else None,
                expired=any(rest <= 0 for rest in left.values()),
            )

        return await self._session.run(work)

    async def deregister(self, instance: str) -> None:
        """The lanes are free at once, and not suspect: whatever was in flight is settled or was never sent."""

        def work(connection: Connection) -> None:
            give = f"UPDATE {self._lanes} SET owner = NULL, alone_id = NULL WHERE owner = %s"
            changed_rows(connection, give, (instance,))
            changed_rows(connection, f"DELETE FROM {self._instances} WHERE id = %s", (instance,))

        await self._session.transaction(work)


def _grant(lane: int | Decimal, deaths: int | Decimal, alone_id: int | Decimal | None) -> Grant:
    return Grant(int(lane), int(deaths), None if alone_id is None else int(alone_id))
