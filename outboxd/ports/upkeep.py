"""What the maintenance workers ask of the store."""

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from outboxd.model import Status
from outboxd.ports.reading import Blocked, LaneSignature


class DueEvent(NamedTuple):
    """A row in retry whose time has come."""

    id: int
    lane: int
    aggregate_id: str


class StuckEvent(NamedTuple):
    """A row that another dispatcher left in processing."""

    id: int
    attempt_count: int


class HeldEvent(NamedTuple):
    """A row that is held behind a dead letter."""

    id: int
    aggregate_id: str


class UnknownStatus(NamedTuple):
    """A row whose column `status` holds a number that is no status."""

    id: int
    status: int
    attempt_count: int


class Upkeep(Protocol):
    """What the maintenance workers ask for. Chunks: no call touches more rows than its `limit`.

    Rows that somebody else has locked are left as they are, for the next time: nobody waits for them, but in `undate`.
    """

    async def held_lanes(self, lanes: Sequence[int]) -> list[int]:
        """Those of the lanes that have events held behind a dead letter."""

    async def holding(self, lanes: Sequence[int]) -> dict[int, LaneSignature]:
        """The signature of the dead letters that hold, and of rows in error, by lane."""

    async def holding_rows(self, lane: int) -> list[Blocked]:
        """Those rows."""

    async def held(self, lane: int, after: int, limit: int) -> list[HeldEvent]:
        """The next events of a lane that are held behind a dead letter, by id, behind id `after`."""

    async def release_held(self, instance: str, ids: Sequence[int]) -> int:
        """They are due now. Fenced. Returns how many."""

    async def due_lanes(self, lanes: Sequence[int]) -> list[int]:
        """Those of the lanes that have due retries."""

    async def due(self, lanes: Sequence[int], limit: int) -> list[DueEvent]:
        """Due retries of the lanes, oldest due first within a lane."""

    async def promote(self, instance: str, due: Sequence[DueEvent]) -> int:
        """retry -> new, but for those that are locked, or behind one of their aggregate that is. Fenced. Returns how
        many."""

    async def undate(self, instance: str, lanes: Sequence[int], limit: int) -> int:
        """Takes the due time off rows that are new, so that they stand in order of id. Fenced. Returns how many."""

    async def stuck_lanes(self, lanes: Sequence[int], age: float) -> list[int]:
        """Those of the lanes that have rows in processing which nobody has touched for `age` seconds."""

    async def stuck(self, lanes: Sequence[int], age: float, limit: int) -> list[StuckEvent]:
        """Rows in processing that nobody has touched for `age` seconds."""

    async def release(self, instance: str, status: Status, ids: Sequence[int], last_error: str) -> int:
        """processing -> new or error, one attempt more. Fenced. Returns how many."""

    async def unknown_status(self, lanes: Sequence[int], limit: int) -> list[UnknownStatus]:
        """Rows of these lanes whose status means nothing."""

    async def give_up(self, instance: str, status: Status, ids: Sequence[int], last_error: str) -> int:
        """Unknown status -> error. Fenced. Returns how many."""

    async def move_dead(
        self, instance: str, lanes: Sequence[int], after: tuple[int, int], limit: int
    ) -> tuple[list[str], int, tuple[int, int] | None]:
        """Moves the next rows in error, behind (lane, id) `after`, to the dead letters in one transaction. Fenced,
        and bounded in bytes too.

        Returns the reasons of what was moved, the number of rows whose copy could not be made, and the (lane, id)
        looked at last, or None when there were none.
        """

    async def expired_sent(self, after: int, age: float, limit: int) -> tuple[list[int], int | None]:
        """Looks at the next `limit` rows behind id `after`: the sent ones older than `age` seconds, and the last id
        looked at, or None when there is nothing old behind it."""

    async def expired_dead(self, after: int, age: float, limit: int) -> tuple[list[int], int | None]:
        """The same for dead letters."""

    async def delete_sent(self, ids: Sequence[int]) -> int:
        """Deletes rows that are still sent. Returns how many."""

    async def delete_dead(self, ids: Sequence[int]) -> int:
        """Deletes dead letters. Returns how many."""
