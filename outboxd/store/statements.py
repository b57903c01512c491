"""Every recurring statement, built once for the names of a source's tables.

Ids and lanes are integers of ours and stand in the text: for a thousand of them that is ten times cheaper than bound
parameters. Everything else is bound (`%s`). `tests/store/test_explain.py` holds each of them against both servers.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from outboxd.model import HELD_UNTIL, Status, TableNames
from outboxd.ports import EVERY_TOPIC, TopicFilter
from outboxd.store.rows import as_bytes, converted, event_columns, utf8

LANE_INDEX: Final = "idx_relay"
HOLDS_INDEX: Final = "idx_holds_lane"
SIGNATURE: Final = "lane, COUNT(*), CAST(SUM(id) AS SIGNED), CAST(SUM(CRC32(id)) AS SIGNED)"

LEAST_INLINE: Final = 1024
"""Bytes of a payload that is always worth bringing with its row."""

FEWEST_SHARES: Final = 8
"""The part of a batch's bytes that a single row may bring: what is too large to be sent need not be loaded to know."""

AS_STORED: Final = frozenset({None, "binary", "ascii", "utf8", "utf8mb3", "utf8mb4"})
"""Character sets whose texts are UTF-8 as they are stored, and None, that of a column of MySQL's type JSON."""

_UNKNOWN: Final = f"(status < {min(Status):d} OR status > {max(Status):d})"


def within(lanes: Iterable[int]) -> str:
    """The condition for the lanes; where they follow on each other, one range instead of many.

    It matters where a dump keeps dead rows in the index: each range may walk over those of all lanes behind it.
    """
    ordered = sorted(lanes)
    if len(ordered) > 1 and ordered == list(range(ordered[0], ordered[-1] + 1)):
        return f"lane BETWEEN {int(ordered[0])} AND {int(ordered[-1])}"
    return f"lane IN ({integers(ordered)})"


def these(count: int) -> str:
    """What a write by ids ends with where they may have been given again. Bound: so many event ids."""
    return f" AND event_id IN ({', '.join(['%s'] * count)})"


def integers(values: Iterable[int]) -> str:
    """`1,2,3`: safe to stand in a statement, because everything in it was an int."""
    return ",".join(map(str, map(int, values)))


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
        self.events = f"`{names.events}`"
        self.dead = f"`{names.dead_letters}`"
        self.instances = f"`{names.instances}`"
        self.lanes = f"`{names.lanes}`"
        self._indexed = f"{self.events} FORCE INDEX ({LANE_INDEX})"
        # Of a list of ids that are much of a small table, a server would rather look at all its rows.
        self._by_id = f"{self.events} FORCE INDEX (PRIMARY)"
        self._holding = f"{self.dead} FORCE INDEX ({HOLDS_INDEX})"
        self._keep_sent = keep_sent
        self._topic = f"IF(LENGTH(topic) = 0, '{default_topic}', topic)" if default_topic else "topic"
        blocking = (Status.RETRY, Status.PROCESSING, *((Status.ERROR,) if may_hold else ()))
        self._blocking = integers(blocking)
        self._batch_bytes = batch_bytes
        self._mariadb = mariadb
        self._character_sets = character_sets or {}
        # Only what is not stored as UTF-8 is converted: it is a copy more. What cannot be converted is a payload that
        # cannot be read, and headers that are no JSON, rather than none.
        self._payload = converted("payload") if self._converts("payload") else as_bytes("payload")
        self._headers = utf8("headers") if self._converts("headers") else as_bytes("headers")

    # --- reading batches

    def read(self, lanes: Iterable[int], limit: int, topics: TopicFilter = EVERY_TOPIC) -> str:
        """A batch: lock-free, in the order of the index. Bound: the topics of the filter; with one, the rows are found
        in the index alone, as most of those that it passes over may be of paused topics."""
        where = f"FROM {self._indexed} WHERE status = {Status.NEW:d} AND {within(lanes)}"
        order = f"ORDER BY lane, next_attempt_at, id LIMIT {int(limit)}"
        columns = self._columns(limit)
        if topics == EVERY_TOPIC:
            return f"SELECT {columns} {where} {order}"
        # By bytes: Kafka tells topics apart that a collation does not.
        topic = utf8(self._topic)
        only = f"AND {topic} = %s " if topics.only is not None else ""
        without = f"AND {topic} NOT IN ({', '.join(['%s'] * len(topics.without))}) " if topics.without else ""
        return (
            f"SELECT {columns} FROM (SELECT id AS found {where} {only}{without}{order}) AS chosen "
            f"STRAIGHT_JOIN {self.events} ON id = found"
        )

    def _columns(self, limit: int) -> str:
        inline = max(LEAST_INLINE, self._batch_bytes // max(limit, FEWEST_SHARES))
        small = f"{self._stored('payload')} + COALESCE({self._stored('headers')}, 0) <= {inline}"
        size = f"{self._length('payload')} + COALESCE({self._length('headers')}, 0)"
        return event_columns(self._topic, self._payload, self._headers, size, small)

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

    def any_new(self, lanes: Iterable[int]) -> str:
        """A row, if there is anything to read."""
        return f"SELECT 1 FROM {self._indexed} WHERE status = {Status.NEW:d} AND {within(lanes)} LIMIT 1"

    def payloads(self, ids: Iterable[int]) -> str:
        """The payloads and headers that `read` left out."""
        return f"SELECT id, {self._payload}, {self._headers} FROM {self._by_id} WHERE id IN ({integers(ids)})"

    def signatures(self, lanes: Iterable[int]) -> str:
        """The signature of what blocks, by status and lane; from the indexes alone. A row that moves from the one
        table to the other changes nothing."""
        condition = within(lanes)
        return (
            f"SELECT {SIGNATURE} FROM {self._indexed} WHERE status IN ({self._blocking}) AND {condition} "
            f"GROUP BY status, lane UNION ALL {self._holding_signatures(condition)}"
        )

    def holding(self, lanes: Iterable[int]) -> str:
        """The signature of what holds, by lane: dead letters, and rows in error that may become such."""
        condition = within(lanes)
        return (
            f"SELECT {SIGNATURE} FROM {self._indexed} WHERE status = {Status.ERROR:d} AND {condition} "
            f"GROUP BY status, lane UNION ALL {self._holding_signatures(condition)}"
        )

    def holding_rows(self, lane: int) -> str:
        """What holds in a lane; of rows in error, topic and event type too."""
        return (
            f"SELECT id, {utf8('aggregate_id')}, {utf8(self._topic)}, {utf8('event_type')} FROM {self._indexed} "
            f"WHERE status = {Status.ERROR:d} AND lane = {int(lane)} UNION ALL "
            f"SELECT id, {utf8('aggregate_id')}, NULL, NULL FROM {self._holding} WHERE holds = 1 AND lane = {int(lane)}"
        )

    def _holding_signatures(self, condition: str) -> str:
        return f"SELECT {SIGNATURE} FROM {self._holding} WHERE holds = 1 AND {condition} GROUP BY holds, lane"

    def dated(self, lane: int) -> str:
        """A row, if the lane has events that are new but carry a due time."""
        return (
            f"SELECT 1 FROM {self._indexed} WHERE status = {Status.NEW:d} AND lane = {int(lane)} "
            "AND next_attempt_at IS NOT NULL LIMIT 1"
        )

    def blocked(self, lanes: Iterable[int]) -> str:
        """All that blocks in the lanes; of rows in error, topic and event type too."""
        condition = within(lanes)
        return (
            f"SELECT id, lane, {utf8('aggregate_id')}, IF(status = {Status.ERROR:d}, {utf8(self._topic)}, NULL), "
            f"IF(status = {Status.ERROR:d}, {utf8('event_type')}, NULL) "
            f"FROM {self._indexed} WHERE status IN ({self._blocking}) AND {condition} UNION ALL "
            f"SELECT id, lane, {utf8('aggregate_id')}, NULL, NULL FROM {self._holding} WHERE holds = 1 AND {condition}"
        )

    # --- settling

    def sent(self, ids: Iterable[int]) -> str:
        """Acknowledged rows: marked, or deleted where sent rows are not kept."""
        where = f"WHERE id IN ({integers(ids)}) AND status = {Status.NEW:d}"
        if not self._keep_sent:
            return f"DELETE e FROM {self.events} AS e FORCE INDEX (PRIMARY) {where}"
        return f"UPDATE {self._by_id} SET status = {Status.SENT:d} {where}"

    def fence(self) -> str:
        """Finds the instance alive and keeps it so until the end of the transaction. Bound: instance."""
        return f"SELECT 1 FROM {self.instances} WHERE id = %s AND expires_at > NOW(6) LOCK IN SHARE MODE"

    def reject(self, ids: Iterable[int], status: Status, attempt_delta: int, *, retry: bool) -> str:
        """new -> retry or error. Bound: delay in microseconds (retry only), last_error."""
        due = "NOW(6) + INTERVAL %s MICROSECOND" if retry else "NULL"
        return (
            f"UPDATE {self._by_id} SET status = {status:d}, "
            f"attempt_count = GREATEST(attempt_count, 0) + {int(attempt_delta)}, "
            f"next_attempt_at = {due}, last_error = %s WHERE id IN ({integers(ids)}) AND status = {Status.NEW:d}"
        )

    def due_of(self, event_id: int) -> str:
        """When a blocking row lets its successors go: its due time, or now; in processing, a while from now; behind a
        dead letter, when that is gone."""
        return (
            f"SELECT IF(status = {Status.ERROR:d}, '{HELD_UNTIL}', COALESCE(next_attempt_at, "
            f"NOW(6) + INTERVAL IF(status = {Status.PROCESSING:d}, 30, 0) SECOND)) FROM {self.events} "
            f"WHERE id = {int(event_id)} AND status IN ({self._blocking}) UNION ALL "
            f"SELECT '{HELD_UNTIL}' FROM {self.dead} WHERE id = {int(event_id)} AND holds = 1"
        )

    def hold(self, ids: Iterable[int]) -> str:
        """new -> retry without an attempt. Bound: due time, as the database gave it."""
        return (
            f"UPDATE {self._by_id} SET status = {Status.RETRY:d}, next_attempt_at = %s "
            f"WHERE id IN ({integers(ids)}) AND status = {Status.NEW:d}"
        )

    def recount(self, ids: Iterable[int], before: int, after: int) -> str:
        """Suspect events: one attempt more before they are sent again, or less when they were not sent and their owner
        lives. Said twice, because an answer was lost, it is done once."""
        return (
            f"UPDATE {self._by_id} SET attempt_count = {int(after)} "
            f"WHERE id IN ({integers(ids)}) AND status = {Status.NEW:d} AND attempt_count = {int(before)}"
        )

    # --- retries

    def due_lanes(self, lanes: Iterable[int]) -> str:
        """The lanes with due retries; from the index alone."""
        return (
            f"SELECT DISTINCT lane FROM {self._indexed} WHERE status = {Status.RETRY:d} "
            f"AND lane IN ({integers(lanes)}) AND (next_attempt_at IS NULL OR next_attempt_at <= NOW(6))"
        )

    def due(self, lane: int, limit: int) -> str:
        """Due retries of a lane, the oldest due first."""
        return (
            f"SELECT id, lane, {utf8('aggregate_id')} FROM {self._indexed} WHERE status = {Status.RETRY:d} "
            f"AND lane = {int(lane)} AND (next_attempt_at IS NULL OR next_attempt_at <= NOW(6)) "
            f"ORDER BY next_attempt_at, id LIMIT {int(limit)}"
        )

    def promote(self, ids: Iterable[int]) -> str:
        """retry -> new."""
        return (
            f"UPDATE {self._by_id} SET status = {Status.NEW:d}, next_attempt_at = NULL "
            f"WHERE id IN ({integers(ids)}) AND status = {Status.RETRY:d}"
        )

    def dated_ids(self, lane: int, limit: int) -> str:
        """New rows that carry a due time."""
        return (
            f"SELECT id FROM {self._indexed} WHERE status = {Status.NEW:d} AND lane = {int(lane)} "
            f"AND next_attempt_at IS NOT NULL ORDER BY next_attempt_at, id LIMIT {int(limit)}"
        )

    def undate(self, ids: Iterable[int]) -> str:
        """Takes the due time off new rows."""
        return (
            f"UPDATE {self._by_id} SET next_attempt_at = NULL WHERE id IN ({integers(ids)}) AND status = {Status.NEW:d}"
        )

    def look(self, lanes: Iterable[int]) -> str:
        """Whether there are new events, due retries, held events, and rows in error."""
        one = f"EXISTS (SELECT 1 FROM {self._indexed} WHERE status = "
        condition = within(lanes)
        each = f"lane IN ({integers(lanes)})"
        return (
            f"SELECT {one}{Status.NEW:d} AND {condition}), "
            f"{one}{Status.RETRY:d} AND {each} AND (next_attempt_at IS NULL OR next_attempt_at <= NOW(6))), "
            f"{one}{Status.RETRY:d} AND {each} AND next_attempt_at = '{HELD_UNTIL}'), "
            f"{one}{Status.ERROR:d} AND {condition})"
        )

    # --- events that are held behind a dead letter

    def held_lanes(self, lanes: Iterable[int]) -> str:
        """The lanes with such events; a dive into the index for each."""
        return " UNION ALL ".join(
            f"(SELECT lane FROM {self._indexed} WHERE status = {Status.RETRY:d} AND lane = {int(lane)} "
            f"AND next_attempt_at = '{HELD_UNTIL}' LIMIT 1)"
            for lane in lanes
        )

    def held(self, lane: int, after: int, limit: int) -> str:
        """Such events of a lane, by id."""
        return (
            f"SELECT id, {utf8('aggregate_id')} FROM {self._indexed} "
            f"WHERE status = {Status.RETRY:d} AND lane = {int(lane)} "
            f"AND next_attempt_at = '{HELD_UNTIL}' AND id > {int(after)} ORDER BY id LIMIT {int(limit)}"
        )

    def release_held(self, ids: Iterable[int]) -> str:
        """They are due now."""
        return (
            f"UPDATE {self._by_id} SET next_attempt_at = NULL WHERE id IN ({integers(ids)}) "
            f"AND status = {Status.RETRY:d} AND next_attempt_at = '{HELD_UNTIL}'"
        )

    # --- recovery

    def stuck_lanes(self, lanes: Iterable[int]) -> str:
        """The lanes with rows that another dispatcher left in processing. Bound: age in microseconds."""
        return (
            f"SELECT DISTINCT lane FROM {self._indexed} WHERE status = {Status.PROCESSING:d} "
            f"AND lane IN ({integers(lanes)}) AND updated_at < NOW(6) - INTERVAL %s MICROSECOND"
        )

    def stuck(self, lanes: Iterable[int], limit: int) -> str:
        """Those rows. Bound: age in microseconds."""
        return (
            f"SELECT id, attempt_count FROM {self._indexed} WHERE status = {Status.PROCESSING:d} "
            f"AND lane IN ({integers(lanes)}) AND updated_at < NOW(6) - INTERVAL %s MICROSECOND "
            f"ORDER BY lane, next_attempt_at, id LIMIT {int(limit)}"
        )

    def release(self, ids: Iterable[int], status: Status) -> str:
        """processing -> new or error, one attempt more. Bound: last_error."""
        return (
            f"UPDATE {self._by_id} SET status = {status:d}, next_attempt_at = NULL, "
            "attempt_count = LEAST(attempt_count, 2147483646) + 1, last_error = %s "
            f"WHERE id IN ({integers(ids)}) AND status = {Status.PROCESSING:d}"
        )

    # --- rows of an unknown status

    def unknown_status(self, lanes: Iterable[int], limit: int) -> str:
        """Rows whose status is below or above those that there are: the two ends of the index."""
        return (
            f"SELECT id, status, attempt_count FROM {self._indexed} WHERE {_UNKNOWN} "
            f"AND lane IN ({integers(lanes)}) ORDER BY status, lane, next_attempt_at, id LIMIT {int(limit)}"
        )

    def give_up(self, ids: Iterable[int], status: Status) -> str:
        """Unknown status -> error. Bound: last_error."""
        return (
            f"UPDATE {self._by_id} SET status = {status:d}, next_attempt_at = NULL, last_error = %s "
            f"WHERE id IN ({integers(ids)}) AND {_UNKNOWN}"
        )

    # --- dead letters

    def failed(self, lanes: Iterable[int], after: tuple[int, int], limit: int) -> str:
        """Rows in error and their payloads' sizes, behind the (lane, id) looked at last."""
        lane, event_id = after
        return (
            f"SELECT lane, id, LENGTH(payload) FROM {self._indexed} "
            f"WHERE status = {Status.ERROR:d} AND lane IN ({integers(lanes)}) "
            f"AND (lane > {int(lane)} OR lane = {int(lane)} AND id > {int(event_id)}) "
            f"ORDER BY lane, next_attempt_at, id LIMIT {int(limit)}"
        )

    def lock_failed(self, ids: Iterable[int]) -> str:
        """Holds rows in error until the end of the transaction, with the beginning of the reasons they carry."""
        return (
            f"SELECT id, {utf8('LEFT(last_error, 100)')}, {utf8(self._topic)}, {utf8('event_type')} FROM {self._by_id} "
            f"WHERE id IN ({integers(ids)}) AND status = {Status.ERROR:d} FOR UPDATE"
        )

    def copy_dead(self, ids: Iterable[int]) -> str:
        """Copies rows in error to the dead letters; one that is there already stays as it is. Bound: reason,
        holds."""
        columns = "id, event_id, event_type, aggregate_type, aggregate_id, topic, payload, trace_id, span_id"
        return (
            f"INSERT INTO {self.dead} ({columns}, attempt_count, last_error, created_at, headers, "
            "moved_at, reason, holds) "
            f"SELECT {columns}, attempt_count, LEFT(last_error, 2000), created_at, headers, NOW(6), %s, %s "
            f"FROM {self.events} AS e FORCE INDEX (PRIMARY) "
            f"WHERE e.id IN ({integers(ids)}) AND e.status = {Status.ERROR:d} "
            f"ON DUPLICATE KEY UPDATE id = {self.dead}.id"
        )

    def delete_moved(self, ids: Iterable[int]) -> str:
        """Deletes rows in error whose copy is there. (The two columns may differ in their collations.)"""
        own, copied = (f"CONVERT({table}.event_id USING utf8mb4) COLLATE utf8mb4_bin" for table in "ed")
        return (
            f"DELETE e FROM {self.events} AS e FORCE INDEX (PRIMARY) STRAIGHT_JOIN {self.dead} AS d "
            f"ON d.id = e.id AND {copied} = {own} "
            f"WHERE e.id IN ({integers(ids)}) AND e.status = {Status.ERROR:d}"
        )

    # --- retention

    def old_sent(self, after: int, limit: int) -> str:
        """The next rows by id: whether each is sent and old, and whether it was written long ago. Bound: age twice."""
        return (
            f"SELECT id, status = {Status.SENT:d} AND updated_at < NOW(6) - INTERVAL %s MICROSECOND, "
            f"created_at < NOW(6) - INTERVAL %s MICROSECOND FROM {self.events} "
            f"WHERE id > {int(after)} ORDER BY id LIMIT {int(limit)}"
        )

    def old_dead(self, after: int, limit: int) -> str:
        """The same for dead letters, by the time they were moved; those that hold stay. Bound: age twice."""
        old = "COALESCE(moved_at, created_at) < NOW(6) - INTERVAL %s MICROSECOND"
        return (
            f"SELECT id, {old} AND holds IS NULL, {old} FROM {self.dead} "
            f"WHERE id > {int(after)} ORDER BY id LIMIT {int(limit)}"
        )

    def delete_sent(self, ids: Iterable[int]) -> str:
        """Deletes rows that are still sent."""
        where = f"WHERE id IN ({integers(ids)}) AND status = {Status.SENT:d}"
        return f"DELETE e FROM {self.events} AS e FORCE INDEX (PRIMARY) {where}"

    def delete_dead(self, ids: Iterable[int]) -> str:
        """Deletes dead letters that hold nothing; MySQL uses the index only where there is such a condition too."""
        return f"DELETE d FROM {self.dead} AS d FORCE INDEX (PRIMARY) WHERE id IN ({integers(ids)}) AND holds IS NULL"

    # --- gauges

    def counts(self, statuses: Iterable[Status], lanes: Iterable[int], limit: int) -> str:
        """How many rows have each status, counted up to the limit; from the index alone."""
        condition = within(lanes)
        return " UNION ALL ".join(
            f"SELECT {status:d}, COUNT(*) FROM (SELECT 1 FROM {self._indexed} WHERE status = {status:d} "
            f"AND {condition} LIMIT {int(limit)}) AS counted"
            for status in statuses
        )

    def heads(self, status: Status, lanes: Iterable[int]) -> str:
        """The age in microseconds of the oldest among the first row of each lane."""
        heads = " UNION ALL ".join(
            f"(SELECT created_at FROM {self._indexed} WHERE status = {status:d} AND lane = {int(lane)} "
            "ORDER BY next_attempt_at, id LIMIT 1)"
            for lane in lanes
        )
        return f"SELECT TIMESTAMPDIFF(MICROSECOND, MIN(created_at), NOW(6)) FROM ({heads}) AS heads"
