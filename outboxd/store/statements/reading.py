"""Reading batches: the events, and what stands in their way."""

from collections.abc import Iterable, Mapping
from typing import Final

from outboxd.model import Status
from outboxd.ports import EVERY_TOPIC, TopicFilter
from outboxd.store.rows import as_bytes, converted, event_columns, utf8
from outboxd.store.statements.tables import SIGNATURE, Tables, integers, within

LEAST_INLINE: Final = 1024
"""Bytes of a payload that is always worth bringing with its row."""

FEWEST_SHARES: Final = 8
"""The part of a batch's bytes that a single row may bring: what is too large to be sent need not be loaded to know."""

AS_STORED: Final = frozenset({None, "binary", "ascii", "utf8", "utf8mb3", "utf8mb4"})
"""Character sets whose texts are UTF-8 as they are stored, and None, that of a column of MySQL's type JSON."""


class ReadingStatements:
    """For `ports.EventReader`."""

    def __init__(
        self, tables: Tables, *, mariadb: bool, batch_bytes: int, character_sets: Mapping[str, str | None]
    ) -> None:
        self._ = tables
        self._batch_bytes = batch_bytes
        self._mariadb = mariadb
        self._character_sets = character_sets
        # Only what is not stored as UTF-8 is converted: it is a copy more. What cannot be converted is a payload that
        # cannot be read, and headers that are no JSON, rather than none.
        self._payload = converted("payload") if self._converts("payload") else as_bytes("payload")
        self._headers = utf8("headers") if self._converts("headers") else as_bytes("headers")

    def any_new(self, lanes: Iterable[int]) -> str:
        """A row, if there is anything to read."""
        return f"SELECT 1 FROM {self._.by_lane} WHERE status = {Status.NEW:d} AND {within(lanes)} LIMIT 1"

    def read(self, lanes: Iterable[int], limit: int, topics: TopicFilter = EVERY_TOPIC) -> str:
        """A batch: lock-free, in the order of the index. Bound: the topics of the filter; with one, the rows are found
        in the index alone, as most of those that it passes over may be of paused topics."""
        where = f"FROM {self._.by_lane} WHERE status = {Status.NEW:d} AND {within(lanes)}"
        order = f"ORDER BY lane, next_attempt_at, id LIMIT {int(limit)}"
        columns = self._columns(limit)
        if topics == EVERY_TOPIC:
            return f"SELECT {columns} {where} {order}"
        # By bytes: Kafka tells topics apart that a collation does not.
        topic = utf8(self._.topic)
        only = f"AND {topic} = %s " if topics.only is not None else ""
        without = f"AND {topic} NOT IN ({', '.join(['%s'] * len(topics.without))}) " if topics.without else ""
        return (
            f"SELECT {columns} FROM (SELECT id AS found {where} {only}{without}{order}) AS chosen "
            f"STRAIGHT_JOIN {self._.events} ON id = found"
        )

    def payloads(self, ids: Iterable[int]) -> str:
        """The payloads and headers that `read` left out."""
        return f"SELECT id, {self._payload}, {self._headers} FROM {self._.by_id} WHERE id IN ({integers(ids)})"

    def _columns(self, limit: int) -> str:
        inline = max(LEAST_INLINE, self._batch_bytes // max(limit, FEWEST_SHARES))
        small = f"{self._stored('payload')} + COALESCE({self._stored('headers')}, 0) <= {inline}"
        size = f"{self._length('payload')} + COALESCE({self._length('headers')}, 0)"
        return event_columns(self._.topic, self._payload, self._headers, size, small)

    def _converts(self, column: str) -> bool:
        return self._character_sets.get(column) not in AS_STORED

    def _length(self, column: str) -> str:
        """Its bytes in a message."""
        if not self._converts(column):
            return f"LENGTH({column})"
        return f"COALESCE(LENGTH({converted(column)}), LENGTH({column}))"

    def _stored(self, column: str) -> str:
        """About its bytes. JSON_STORAGE_SIZE reads a number from the row; LENGTH would first write the document out as
        text."""
        json = not self._mariadb and self._character_sets.get(column) is None
        return f"{'JSON_STORAGE_SIZE' if json else 'OCTET_LENGTH'}({column})"

    # --- what stands in their way

    def signatures(self, lanes: Iterable[int]) -> str:
        """The signature of what blocks, by status and lane; from the indexes alone. A row that moves from the one
        table to the other changes nothing."""
        condition = within(lanes)
        return (
            f"SELECT {SIGNATURE} {self._.blocking_in(condition)} "
            f"UNION ALL SELECT {SIGNATURE} {self._.holding_in(condition)}"
        )

    def read_with_signatures(self, lanes: Iterable[int], limit: int) -> str:
        """A batch, and in rows without an id the lanes' signatures, of the same moment."""
        condition = within(lanes)
        return (
            f"({self.read(lanes, limit)}) "
            f"UNION ALL SELECT NULL, {SIGNATURE}, NULL, NULL {self._.blocking_in(condition)} "
            f"UNION ALL SELECT NULL, {SIGNATURE}, NULL, NULL {self._.holding_in(condition)}"
        )

    def blocked(self, lanes: Iterable[int]) -> str:
        """All that blocks in the lanes; of rows in error, topic and event type too."""
        condition = within(lanes)
        return (
            f"SELECT id, lane, {utf8('aggregate_id')}, IF(status = {Status.ERROR:d}, {utf8(self._.topic)}, NULL), "
            f"IF(status = {Status.ERROR:d}, {utf8('event_type')}, NULL) "
            f"FROM {self._.by_lane} WHERE status IN ({self._.blocking}) AND {condition} UNION ALL "
            f"SELECT id, lane, {utf8('aggregate_id')}, NULL, NULL FROM {self._.holding} WHERE holds = 1 AND {condition}"
        )

    def dated(self, lane: int) -> str:
        """A row, if the lane has events that are new but carry a due time."""
        return (
            f"SELECT 1 FROM {self._.by_lane} WHERE status = {Status.NEW:d} AND lane = {int(lane)} "
            "AND next_attempt_at IS NOT NULL LIMIT 1"
        )
