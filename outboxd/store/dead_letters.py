"""Dead letters as an operator handles them: found, shown, put back into the events, or deleted for good."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from outboxd.model import Status, TableNames
from outboxd.store.direct import transaction
from outboxd.store.rows import text, utf8
from outboxd.store.statements import integers

COUNT_LIMIT: Final = 100_000
"""Dead letters are counted up to here."""
CHUNK_ROWS: Final = 1000
CHUNK_BYTES: Final = 8 * 2**20
"""What one transaction changes, at most (or one row)."""

FIRST_ID: Final = -(2**63)
KEPT: Final = (
    "id, event_id, event_type, aggregate_type, aggregate_id, topic, payload, trace_id, span_id, headers, created_at"
)
"""What an event keeps when it is put back."""
TEXTS: Final = ("event_id", "event_type", "aggregate_type", "aggregate_id", "topic")


class DeadLetter(NamedTuple):
    """A dead letter without its payload. Times are UTC, as text."""

    id: int
    event_id: str
    event_type: str
    aggregate_type: str
    aggregate_id: str
    topic: str
    attempt_count: int
    reason: str | None
    last_error: str | None
    holds: bool
    """Whether its aggregate waits until it is requeued or discarded."""
    created_at: str | None
    moved_at: str | None


class Detail(NamedTuple):
    """What `DeadLetter` leaves out."""

    trace_id: str | None
    span_id: str | None
    headers: str | None
    """As stored."""
    payload_bytes: int
    payload: str | None
    """As stored; None where it was not asked for."""


class Conflict(NamedTuple):
    """A dead letter that cannot be put back, as the events have a row with its id or event_id."""

    id: int
    standing_id: int
    status: int


class Chunk(NamedTuple):
    """What one transaction did."""

    done: list[DeadLetter]
    conflicts: list[Conflict]


@dataclass(frozen=True)
class Selection:
    """Which dead letters are meant: those that satisfy all that is given."""

    ids: tuple[range, ...] = ()
    topic: str | None = None
    aggregate_id: str | None = None
    aggregate_type: str | None = None
    event_type: str | None = None
    reason: str | None = None
    before: datetime | None = None
    after: datetime | None = None
    as_of: datetime | None = None
    """Leaves out what was moved later: who agreed to delete ten does not delete an eleventh."""

    def named(self) -> list[int]:
        """The ids that were given one by one."""
        return [ids.start for ids in self.ids if ids.stop - ids.start == 1]

    def where(self) -> tuple[str, tuple[Any, ...]]:
        """As a condition and its values."""
        conditions, values = ["TRUE"], []
        if self.ids:
            conditions.append(f"({' OR '.join(self._id_conditions())})")
        for column in ("topic", "aggregate_id", "aggregate_type", "event_type", "reason"):
            if (value := getattr(self, column)) is not None:
                # Byte by byte, whatever the collation: `Order-1` and `order-1` are two aggregates.
                conditions.append(f"CAST(CONVERT({column} USING utf8mb4) AS BINARY) = CAST(%s AS BINARY)")
                values.append(value)
        moved = "COALESCE(moved_at, created_at)"  # the Go library does not note when it moved
        for condition, time in ((f"{moved} < %s", self.before), (f"{moved} >= %s", self.after)):
            if time is not None:
                conditions.append(condition)
                values.append(time)
        if self.as_of is not None:
            conditions.append("(moved_at IS NULL OR moved_at <= %s)")
            values.append(self.as_of)
        return " AND ".join(conditions), tuple(values)

    def _id_conditions(self) -> Iterator[str]:
        if single := self.named():
            yield f"id IN ({integers(single)})"
        yield from (f"id BETWEEN {ids.start:d} AND {ids.stop - 1:d}" for ids in self.ids if ids.stop - ids.start > 1)


def utc(column: str) -> str:
    """A time as ISO 8601 text; the session's time zone is UTC."""
    return f"DATE_FORMAT({column}, '%%Y-%%m-%%dT%%H:%%i:%%s.%%fZ')"


class DeadLetters:
    """The dead letters of one source, by a connection of `direct.connected`."""

    def __init__(self, connection: Connection, names: TableNames) -> None:
        self._connection = connection
        self._events = f"`{names.events}`"
        self._dead = f"`{names.dead_letters}`"
        self._columns = (
            f"id, {', '.join(map(utf8, TEXTS))}, attempt_count, reason, {utf8('last_error')}, "
            f"COALESCE(holds, 0) = 1, {utc('created_at')}, {utc('moved_at')}"
        )

    # --- looking ------------------------------------------------------------------------------------------------

    def now(self) -> datetime:
        """The database's time, in UTC."""
        found = self._connection.exec_driver_sql("SELECT NOW(6)").scalar_one()
        assert isinstance(found, datetime)  # noqa: S101 - for the type
        return found

    def count(self, selection: Selection, limit: int = COUNT_LIMIT) -> int:
        """How many there are, counted up to the limit."""
        where, values = selection.where()
        statement = f"SELECT COUNT(*) FROM (SELECT 1 FROM {self._dead} WHERE {where} LIMIT {int(limit)}) AS counted"
        return int(self._connection.exec_driver_sql(statement, values).scalar_one())

    def first(self, selection: Selection, limit: int) -> list[DeadLetter]:
        """Those with the lowest ids, in the order of their ids."""
        return self._some(selection, "ASC", limit)

    def last(self, selection: Selection, limit: int) -> list[DeadLetter]:
        """Those with the highest ids, the highest first."""
        return self._some(selection, "DESC", limit)

    def _some(self, selection: Selection, direction: str, limit: int) -> list[DeadLetter]:
        where, values = selection.where()
        statement = f"SELECT {self._columns} FROM {self._dead} WHERE {where} ORDER BY id {direction} LIMIT {int(limit)}"
        return self._letters(statement, values)

    def detail(self, letter_id: int, *, payload: bool) -> tuple[DeadLetter, Detail] | None:
        """All of one dead letter; None when there is none of this id."""
        more = ", ".join(map(utf8, ("trace_id", "span_id", "headers")))
        more += f", LENGTH(payload), {utf8('payload') if payload else 'NULL'}"
        statement = f"SELECT {self._columns}, {more} FROM {self._dead} WHERE id = {int(letter_id)}"
        row = self._connection.exec_driver_sql(statement).first()
        if row is None:
            return None
        width = len(DeadLetter._fields)
        return _letter(row[:width]), Detail._make(_decoded(row[width:]))

    def missing(self, ids: Sequence[int]) -> dict[int, int | None]:
        """Those of the ids that are no dead letters, with the status that they have among the events, if any."""
        if not ids:
            return {}
        there = self._connection.exec_driver_sql(f"SELECT id FROM {self._dead} WHERE id IN ({integers(ids)})")
        absent: dict[int, int | None] = dict.fromkeys(sorted(set(ids) - {row[0] for row in there}))
        if absent:
            events = f"SELECT id, status FROM {self._events} WHERE id IN ({integers(absent)})"
            absent |= {row[0]: row[1] for row in self._connection.exec_driver_sql(events)}
        return absent

    # --- changing -----------------------------------------------------------------------------------------------

    def requeue(self, selection: Selection, limit: int | None = None) -> Iterator[Chunk]:
        """Puts dead letters back into the events as new, in the order of their ids; a transaction for each chunk."""
        return self._by_chunk(selection, limit, self._requeue)

    def discard(self, selection: Selection, limit: int | None = None) -> Iterator[Chunk]:
        """Deletes dead letters for good, in the order of their ids; a transaction for each chunk."""
        return self._by_chunk(selection, limit, self._discard)

    def _by_chunk(
        self, selection: Selection, limit: int | None, change: Callable[[list[DeadLetter]], Chunk]
    ) -> Iterator[Chunk]:
        after = FIRST_ID
        while limit is None or limit > 0:
            ids = self._next(selection, after, CHUNK_ROWS if limit is None else min(limit, CHUNK_ROWS))
            if not ids:
                return
            after = ids[-1]
            limit = None if limit is None else limit - len(ids)
            yield self._changed(selection, ids, change)

    def _changed(self, selection: Selection, ids: list[int], change: Callable[[list[DeadLetter]], Chunk]) -> Chunk:
        return transaction(self._connection, lambda: change(self._locked(selection, ids)))

    def _next(self, selection: Selection, after: int, limit: int) -> list[int]:
        """The next ids, at least one, whose payloads together stay within the limit of a chunk. Locks nothing."""
        where, values = selection.where()
        statement = (
            f"SELECT id, LENGTH(payload) FROM {self._dead} WHERE id > {int(after)} AND {where} "
            f"ORDER BY id LIMIT {int(limit)}"
        )
        ids: list[int] = []
        budget = CHUNK_BYTES
        for letter_id, size in self._connection.exec_driver_sql(statement, values).fetchall():
            budget -= size or 0
            if budget < 0 and ids:
                break
            ids.append(letter_id)
        return ids

    def _locked(self, selection: Selection, ids: Sequence[int]) -> list[DeadLetter]:
        """Those that are still there and still meant, held until the end of the transaction."""
        where, values = selection.where()
        statement = f"SELECT {self._columns} FROM {self._dead} WHERE id IN ({integers(ids)}) AND {where}"
        return self._letters(f"{statement} ORDER BY id FOR UPDATE", values)

    def _requeue(self, letters: list[DeadLetter]) -> Chunk:
        conflicts = self._conflicts(letters)
        taken = {conflict.id for conflict in conflicts}
        free = [letter for letter in letters if letter.id not in taken]
        if free:
            # One by one: where innodb_autoinc_lock_mode is 1, as MariaDB has it, an INSERT ... SELECT of many rows
            # holds the table's AUTO-INC lock until it ends, and every writer waits.
            for letter in free:
                self._write(
                    f"INSERT INTO {self._events} ({KEPT}, status, attempt_count) "
                    f"SELECT {KEPT}, {Status.NEW:d}, 0 FROM {self._dead} WHERE id = {letter.id:d}",
                    1,
                )
            ids = integers(letter.id for letter in free)
            self._write(f"DELETE FROM {self._dead} WHERE id IN ({ids})", len(free))
        return Chunk(free, conflicts)

    def _conflicts(self, letters: Sequence[DeadLetter]) -> list[Conflict]:
        if not letters:
            return []
        ids = integers(letter.id for letter in letters)
        by_id = f"SELECT id, id, status FROM {self._events} FORCE INDEX (PRIMARY) WHERE id IN ({ids})"
        found = {row[0]: Conflict._make(row) for row in self._connection.exec_driver_sql(by_id)}
        found |= self._known_event_ids(letters)
        return [found[letter_id] for letter_id in sorted(found)]

    def _known_event_ids(self, letters: Sequence[DeadLetter]) -> dict[int, Conflict]:
        """By values, not by a join: the tables' columns may differ in their collations, which no join compares."""
        event_ids = [letter.event_id.encode(errors="replace").decode() for letter in letters]
        some = f"SELECT 1 FROM {self._events} WHERE event_id IN ({', '.join(['%s'] * len(event_ids))}) LIMIT 1"
        if self._connection.exec_driver_sql(some, tuple(event_ids)).first() is None:
            return {}
        one = f"SELECT id, status FROM {self._events} WHERE event_id = %s"
        found = {}
        for letter, event_id in zip(letters, event_ids, strict=True):
            row = self._connection.exec_driver_sql(one, (event_id,)).first()
            if row is not None:
                found[letter.id] = Conflict(letter.id, row[0], row[1])
        return found

    def _discard(self, letters: list[DeadLetter]) -> Chunk:
        if letters:
            ids = integers(letter.id for letter in letters)
            self._write(f"DELETE FROM {self._dead} WHERE id IN ({ids})", len(letters))
        return Chunk(letters, [])

    # --- statements ---------------------------------------------------------------------------------------------

    def _letters(self, statement: str, values: tuple[Any, ...]) -> list[DeadLetter]:
        return [_letter(row) for row in self._connection.exec_driver_sql(statement, values).fetchall()]

    def _write(self, statement: str, expected: int) -> None:
        changed = self._connection.exec_driver_sql(statement).rowcount
        if changed != expected:  # the rows are locked, so this is a fault of ours: better nothing than a part
            raise AssertionError(f"{changed} rows were written in place of {expected}")


def _decoded(row: Sequence[Any]) -> list[Any]:
    return [text(value) if isinstance(value, bytes) else value for value in row]


def _letter(row: Sequence[Any]) -> DeadLetter:
    letter = DeadLetter._make(_decoded(row))
    return letter._replace(holds=bool(letter.holds))
