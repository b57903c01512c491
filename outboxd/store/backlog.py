"""What there is to do, and how much of it."""

from collections.abc import Sequence
from typing import Final

from sqlalchemy import Connection

from outboxd.model import Status
from outboxd.ports import QueueSizes, Sighting
from outboxd.store.session import Session
from outboxd.store.statements import Statements

COUNT_LIMIT: Final = 100_000
"""Backlogs are counted up to here: a gauge must not cost a scan of the whole index."""

UNDELIVERED: Final = (Status.NEW, Status.RETRY, Status.ERROR, Status.PROCESSING)


class MySqlLookout:
    """See `ports.Lookout`."""

    def __init__(self, session: Session, statements: Statements) -> None:
        self._session = session
        self._statements = statements

    async def look(self, lanes: Sequence[int]) -> Sighting:
        """One statement."""
        statement = self._statements.backlog.look(lanes)

        def work(connection: Connection) -> Sighting:
            return Sighting(*map(bool, connection.exec_driver_sql(statement).one()))

        return await self._session.run(work)


class MySqlSampler:
    """See `ports.Sampler`."""

    def __init__(self, session: Session, statements: Statements) -> None:
        self._session = session
        self._statements = statements

    async def sample(self, lanes: Sequence[int]) -> QueueSizes:
        """One read of the index, and one more for each status that there is."""
        if not lanes:
            return QueueSizes(dict.fromkeys(UNDELIVERED, 0), 0.0)

        def work(connection: Connection) -> QueueSizes:
            statement = self._statements.backlog.counts(UNDELIVERED, lanes, COUNT_LIMIT)
            counts = {Status(row[0]): row[1] for row in connection.exec_driver_sql(statement)}
            oldest = 0
            for status, count in counts.items():
                if count:
                    age = connection.exec_driver_sql(self._statements.backlog.heads(status, lanes)).scalar_one()
                    oldest = max(oldest, age or 0)
            return QueueSizes(counts, oldest / 1_000_000)

        return await self._session.run(work)
