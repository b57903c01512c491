"""What `outboxd status` reads: bounded scans of indexes without locks, which neither writers nor the daemon notice."""

import json
from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from sqlalchemy import Connection

from outboxd.model import LANES, Status, TableNames
from outboxd.store.backlog import UNDELIVERED
from outboxd.store.dead_letters import utc
from outboxd.store.rows import as_bytes, text, text_or_none, utf8
from outboxd.store.statements import HOLDS_INDEX, LANE_INDEX, integers

SCAN_LIMIT: Final = 100_000
"""Rows that one look goes through, at most."""
HELD_SHOWN: Final = 20

_DEAD: Final = -1
"""Stands for a status where a row is a dead letter."""


class Count(NamedTuple):
    """How many; `more` when it was counted only up to here."""

    number: int
    more: bool = False


class Backlog(NamedTuple):
    """The events of one state."""

    events: Count
    oldest_seconds: float | None


class Instance(NamedTuple):
    """A daemon, as its row shows it."""

    id: str
    name: str | None
    host: str
    pid: int
    version: str
    started_at: str
    lease_seconds: float
    """Until its lease ends; negative when it has."""
    lanes: int
    report: dict[str, Any]
    """What it says of itself."""


class Held(NamedTuple):
    """An aggregate whose events wait behind one of them."""

    aggregate_id: str
    waiting: int
    behind: int
    """The event's id."""
    kind: str
    """`retry`, `processing` or `dead_letter`."""
    since: str | None
    """When that event was written."""
    due_at: str | None
    """When it is tried again."""
    last_error: str | None


class DeadGroup(NamedTuple):
    """The dead letters of one reason."""

    reason: str | None
    letters: int
    holding: int
    """Of these, behind how many their aggregates wait."""
    newest_at: str | None
    """When one was moved last."""


class Inspection(NamedTuple):
    """One source at one time."""

    at: str
    events: dict[str, Backlog]
    instances: list[Instance]
    free_lanes: int
    held: list[Held]
    """Those with the most waiting events."""
    held_aggregates: Count
    dead_letters: list[DeadGroup]
    dead_letters_total: Count


def inspect(connection: Connection, names: TableNames) -> Inspection:
    """Looks at a source, by a connection of `direct.connected`."""
    return Inspector(connection, names).inspection()


class Inspector:
    """The statements."""

    def __init__(self, connection: Connection, names: TableNames) -> None:
        self._connection = connection
        self._names = names
        self._events = f"`{names.events}` FORCE INDEX ({LANE_INDEX})"
        self._lanes = integers(range(LANES))

    def inspection(self) -> Inspection:
        """All of it."""
        events = {status.name.lower(): self._backlog(status) for status in UNDELIVERED}
        if (unknown := self._counted(self.unknown())).number:
            events["unknown"] = Backlog(unknown, None)
        waiting = [events[status.name.lower()].events for status in (Status.RETRY, Status.PROCESSING)]
        held, aggregates = self._held()
        groups = [DeadGroup._make(row) for row in self._rows(self.dead_by_reason())]
        dead = sum(group.letters for group in groups)
        return Inspection(
            at=str(self._rows(f"SELECT {utc('NOW(6)')}")[0][0]),
            events=events,
            instances=self._instances(),
            free_lanes=int(self._rows(f"SELECT COUNT(*) FROM `{self._names.lanes}` WHERE owner IS NULL")[0][0]),
            held=held,
            held_aggregates=Count(aggregates, sum(count.number + count.more for count in waiting) > SCAN_LIMIT),
            dead_letters=groups,
            dead_letters_total=Count(dead, dead >= SCAN_LIMIT),
        )

    def _rows(self, statement: str) -> Sequence[Any]:
        return self._connection.exec_driver_sql(statement).fetchall()

    def _counted(self, statement: str) -> Count:
        found = int(self._rows(statement)[0][0])
        return Count(min(found, SCAN_LIMIT), found > SCAN_LIMIT)

    # --- the backlog --------------------------------------------------------------------------------------------

    def _backlog(self, status: Status) -> Backlog:
        count = self._counted(self.count(status))
        if not count.number:
            return Backlog(count, None)
        found = self._rows(self.oldest_retry() if status is Status.RETRY else self.oldest(status))
        age = found[0][0] if found else None
        return Backlog(count, None if age is None else int(age) / 1_000_000)

    def count(self, status: Status) -> str:
        """How many events have the status; from the index alone."""
        return f"SELECT COUNT(*) FROM (SELECT 1 FROM {self._where(status)} LIMIT {SCAN_LIMIT + 1}) AS counted"

    def unknown(self) -> str:
        """How many events have a status that does not exist; from the index alone."""
        known = f"status < {min(Status):d} OR status > {max(Status):d}"
        return f"SELECT COUNT(*) FROM (SELECT 1 FROM {self._events} WHERE {known} LIMIT {SCAN_LIMIT + 1}) AS counted"

    def oldest(self, status: Status) -> str:
        """The age in microseconds of the oldest among the first of each lane."""
        heads = " UNION ALL ".join(
            f"(SELECT created_at FROM {self._events} WHERE status = {status:d} AND lane = {lane} "
            "ORDER BY next_attempt_at, id LIMIT 1)"
            for lane in range(LANES)
        )
        return f"SELECT TIMESTAMPDIFF(MICROSECOND, MIN(created_at), NOW(6)) FROM ({heads}) AS heads"

    def oldest_retry(self) -> str:
        """The age of the retry with the smallest id: in the index they stand by their due times."""
        ids = f"SELECT id FROM {self._where(Status.RETRY)} LIMIT {SCAN_LIMIT}"
        return (
            f"SELECT TIMESTAMPDIFF(MICROSECOND, created_at, NOW(6)) FROM `{self._names.events}` "
            f"WHERE id = (SELECT MIN(id) FROM ({ids}) AS retries)"
        )

    def _where(self, *statuses: Status) -> str:
        return f"{self._events} WHERE status IN ({integers(statuses)}) AND lane IN ({self._lanes})"

    # --- instances ----------------------------------------------------------------------------------------------

    def _instances(self) -> list[Instance]:
        owned = f"SELECT owner, COUNT(*) FROM `{self._names.lanes}` WHERE owner IS NOT NULL GROUP BY owner"
        lanes: dict[str, int] = dict(self._rows(owned))
        found = self._rows(
            f"SELECT id, name, host, pid, version, {utc('started_at')}, "
            f"TIMESTAMPDIFF(MICROSECOND, NOW(6), expires_at), report FROM `{self._names.instances}` "
            "ORDER BY started_at, id"
        )
        return [
            Instance._make([*head, int(left) / 1_000_000, lanes.get(head[0], 0), _report(report)])
            for *head, left, report in found
        ]

    # --- held aggregates ----------------------------------------------------------------------------------------

    def _held(self) -> tuple[list[Held], int]:
        """Those with the most waiting events, and how many there are."""
        top: list[Any] = []
        number = 0
        for lane, rows in self._rows(self.blocking()):
            if found := self._rows(self.held(lane, rows)):
                top += found
                number += int(found[0][3])
        top = sorted(top, key=lambda row: (-row[1], row[2]))[:HELD_SHOWN]
        if not top:
            return [], 0
        ids = [row[2] for row in top]
        blocking = [*self._rows(self.behind_dead(ids)), *self._rows(self.behind(ids))]
        behind = {first: (*columns, text_or_none(error)) for first, *columns, error in blocking}
        held = [
            Held(text(aggregate), int(waiting), first, *behind[first])
            for aggregate, waiting, first, _ in top
            if first in behind  # or it was delivered meanwhile
        ]
        return held, number

    def blocking(self) -> str:
        """How many rows of each lane are in retry or processing; from the index alone."""
        rows = f"SELECT lane FROM {self._where(Status.RETRY, Status.PROCESSING)} LIMIT {SCAN_LIMIT}"
        return f"SELECT lane, COUNT(*) FROM ({rows}) AS blocking GROUP BY lane"

    def held(self, lane: int, rows: int) -> str:
        """The aggregates of a lane whose retries wait behind a retry, a processing row or a dead letter before them.

        Each as: aggregate, how many wait, the smallest id, how many such aggregates there are. Lane by lane, so that
        the server's temporary tables stay small.
        """
        # Exactly, whatever the collation: `Order-1` and `order-1` are two aggregates, and so is one with a space behind
        # it. (A binary key of this length would have the server make its temporary table on disk.)
        key = "COALESCE(CONVERT(aggregate_id USING utf8mb4), LEFT(HEX(aggregate_id), 255)) COLLATE utf8mb4_bin"
        blocking = (
            f"(SELECT {key} AS aggregate, id, status AS state FROM {self._events} "
            f"WHERE status IN ({Status.RETRY:d},{Status.PROCESSING:d}) AND lane = {int(lane)} LIMIT {int(rows)}) "
            f"UNION ALL (SELECT {key}, id, {_DEAD} FROM `{self._names.dead_letters}` FORCE INDEX ({HOLDS_INDEX}) "
            f"WHERE holds = 1 AND lane = {int(lane)} LIMIT {SCAN_LIMIT})"
        )
        retry = f"state = {Status.RETRY:d}"
        grouped = (
            f"SELECT aggregate, SUM({retry}) - (MIN(id) <=> MIN(IF({retry}, id, NULL))) AS waiting, MIN(id) AS first "
            f"FROM ({blocking}) AS blocking GROUP BY aggregate, LENGTH(aggregate)"
        )
        return (
            f"SELECT {as_bytes('aggregate')}, waiting, first, COUNT(*) OVER () FROM ({grouped}) AS grouped "
            f"WHERE waiting > 0 ORDER BY waiting DESC, first LIMIT {HELD_SHOWN}"
        )

    def behind(self, ids: Sequence[int]) -> str:
        """The blocking ones among the events: id, kind, since, due, error."""
        kind = f"IF(status = {Status.RETRY:d}, 'retry', 'processing')"
        return (
            f"SELECT id, {kind}, {utc('created_at')}, {utc('next_attempt_at')}, {utf8('last_error')} "
            f"FROM `{self._names.events}` "
            f"WHERE id IN ({integers(ids)}) AND status IN ({Status.RETRY:d},{Status.PROCESSING:d})"
        )

    def behind_dead(self, ids: Sequence[int]) -> str:
        """The same among the dead letters."""
        return (
            f"SELECT id, 'dead_letter', {utc('created_at')}, NULL, {utf8('last_error')} "
            f"FROM `{self._names.dead_letters}` "
            f"WHERE id IN ({integers(ids)}) AND holds = 1"
        )

    # --- dead letters -------------------------------------------------------------------------------------------

    def dead_by_reason(self) -> str:
        """The dead letters with the highest ids, by reason."""
        last = f"SELECT reason, holds, moved_at FROM `{self._names.dead_letters}` ORDER BY id DESC LIMIT {SCAN_LIMIT}"
        return (
            f"SELECT reason, COUNT(*), CAST(COALESCE(SUM(holds = 1), 0) AS SIGNED), {utc('MAX(moved_at)')} "
            f"FROM ({last}) AS last GROUP BY reason ORDER BY COUNT(*) DESC, reason"
        )


def _report(text: str | None) -> dict[str, Any]:
    """An instance's report, as far as it can be read: a later version may say other things."""
    try:
        found = json.loads(text or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
