"""Every recurring statement, built for the names of a source's tables; a module for each of those who need them.

Ids and lanes are integers of ours and stand in the text: for a thousand of them that is ten times cheaper than bound
parameters. Everything else is bound (`%s`). `tests/store/test_explain.py` holds each of them against both servers.
"""

from collections.abc import Mapping

from outboxd.model import TableNames
from outboxd.store.statements.backlog import BacklogStatements
from outboxd.store.statements.dead_letters import DeadLetterStatements
from outboxd.store.statements.reading import ReadingStatements
from outboxd.store.statements.recovery import RecoveryStatements
from outboxd.store.statements.retention import RetentionStatements
from outboxd.store.statements.retries import RetryStatements
from outboxd.store.statements.settling import SettlingStatements, these
from outboxd.store.statements.tables import HOLDS_INDEX, LANE_INDEX, Tables, integers

__all__ = ["HOLDS_INDEX", "LANE_INDEX", "Statements", "integers", "these"]


class Statements:
    """The statements of one source."""

    def __init__(
        self,
        names: TableNames,
        *,
        mariadb: bool,
        batch_bytes: int,
        keep_sent: bool,
        may_hold: bool,
        default_topic: str = "",
        character_sets: Mapping[str, str | None] | None = None,
    ) -> None:
        """`batch_bytes`: a read brings payloads up to a row's share of these with its rows. `may_hold`: rows in error
        block their aggregate, as they may become dead letters that hold it.
        `default_topic`, a legal one, is the topic of rows that name none. `character_sets`: those of payload and
        headers, where they are not the server's type JSON."""
        tables = Tables(names, may_hold=may_hold, default_topic=default_topic)
        self.reading = ReadingStatements(
            tables, mariadb=mariadb, batch_bytes=batch_bytes, character_sets=character_sets or {}
        )
        self.settling = SettlingStatements(tables, keep_sent=keep_sent)
        self.retries = RetryStatements(tables)
        self.recovery = RecoveryStatements(tables)
        self.dead_letters = DeadLetterStatements(tables)
        self.retention = RetentionStatements(tables)
        self.backlog = BacklogStatements(tables)
