"""The lane book: which lanes this instance owns, and what each is doing. Pure; one owner, no locks.

A lane is free, or occupied by exactly one holder (a batch, or a promotion) until it is released. That is the second
of the two rules on which the order of delivery rests, so breaking it raises.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field

from outboxd.errors import OutboxdError
from outboxd.ports import Grant


class LaneConflictError(OutboxdError):
    """A lane was about to be in two batches. A bug: nothing may be sent."""


@dataclass(slots=True)
class Suspicion:
    """What is left of a lane's first batch, after its owner died."""

    rows_left: int
    deaths: int
    """How many owners died with it in a row."""
    alone_id: int | None
    marked: set[int] = field(default_factory=set)
    """Events whose attempt this owner has counted: once, however often it sends them."""


def fair_share(member: str, members: Collection[str], lanes: int) -> int:
    """How many lanes are `member`'s: equal shares, the remainder to the first by name. 0 for a stranger."""
    ranked = sorted(members)
    if member not in ranked:
        return 0
    share, rest = divmod(lanes, len(ranked))
    return share + (1 if ranked.index(member) < rest else 0)


class LaneBook:
    """The lanes of one instance."""

    def __init__(self) -> None:
        self._owned: set[int] = set()
        self._occupied: set[int] = set()
        self._wants: dict[str, set[int]] = {}
        self._leaving: set[int] = set()
        self._passed_over: set[int] = set()
        self._unfinished: set[int] = set()
        self._suspects: dict[int, Suspicion] = {}

    @property
    def owned(self) -> list[int]:
        """The owned lanes, sorted."""
        return sorted(self._owned)

    @property
    def idle(self) -> bool:
        """Nothing holds a lane, owned or not."""
        return not self._occupied

    @property
    def _wanted(self) -> set[int]:
        return set().union(*self._wants.values())

    def _free(self) -> set[int]:
        return self._owned - self._occupied

    # --- ownership

    def grant(self, grants: Iterable[Grant], first_batch: int) -> None:
        """Adds lanes. A suspect one is read with care for its first `first_batch` rows."""
        for lane, deaths, alone_id in grants:
            if lane in self._owned:
                continue
            if lane in self._occupied:
                raise LaneConflictError(f"lane {lane} was granted while a batch of an earlier lease holds it")
            self._owned.add(lane)
            if deaths:
                self._suspects[lane] = Suspicion(first_batch, deaths, alone_id)

    def surrender(self, count: int) -> list[int]:
        """Lets go of up to `count` free lanes, and returns them. Those still missing are not read again, so that
        they are free the next time."""
        given = sorted(self._free(), key=lambda lane: (lane not in self._leaving, -lane))[:count]
        self._leaving = set(sorted(self._occupied & self._owned, reverse=True)[: count - len(given)])
        self.disown(given)
        return given

    def disown(self, lanes: Collection[int]) -> None:
        """Lanes that are no longer ours. Occupied ones stay occupied until their batch is settled."""
        for kept in (self._owned, self._leaving, self._passed_over, self._unfinished, *self._wants.values()):
            kept.difference_update(lanes)
        for lane in lanes:
            self._suspects.pop(lane, None)

    def disown_all(self) -> None:
        """The lease has ended."""
        self.disown(list(self._owned))

    # --- reading

    def readable(self) -> list[int]:
        """The lanes for the next ordinary read: free, wanted by nobody, not suspect.

        Lanes that a cut read passed over come first, alone, so that a busy lane cannot starve them.
        """
        free = self._readable()
        return sorted((free & self._passed_over) or free)

    def _readable(self) -> set[int]:
        return self._free() - self._wanted - self._leaving - self._suspects.keys()

    @property
    def unfinished(self) -> bool:
        """A lane that can be read may have more: a read was cut within it, or in front of it."""
        return not self._readable().isdisjoint(self._unfinished | self._passed_over)

    def suspects(self) -> list[int]:
        """The free lanes whose first batch must be sent with care."""
        return sorted((self._free() - self._wanted - self._leaving) & self._suspects.keys())

    def suspicion(self, lane: int) -> Suspicion | None:
        """What is known of a suspect lane."""
        return self._suspects.get(lane)

    def note_read(self, lanes: Collection[int], last: int | None) -> None:
        """A read of `lanes` was cut within lane `last` (None: it saw everything); those behind got nothing."""
        self._passed_over.difference_update(lanes)
        self._unfinished.difference_update(lanes)
        if last is not None:
            self._passed_over.update(lane for lane in lanes if lane > last)
            self._unfinished.add(last)

    def clear_suspects(self, progress: Mapping[int, int], *, exhausted: Collection[int] = ()) -> list[int]:
        """Counts the rows settled of suspect lanes; returns the lanes that are suspect no more."""
        cleared = []
        for lane in {*progress, *exhausted} & self._suspects.keys():
            suspicion = self._suspects[lane]
            suspicion.rows_left -= progress.get(lane, 0)
            if suspicion.rows_left <= 0 or lane in exhausted:
                del self._suspects[lane]
                cleared.append(lane)
        return sorted(cleared)

    # --- holding

    def occupy(self, lanes: Collection[int]) -> None:
        """A batch takes the lanes. Raises LaneConflictError unless all are free."""
        taken = [lane for lane in lanes if lane in self._occupied or lane not in self._owned]
        if taken:
            raise LaneConflictError(f"lanes {taken} are not free")
        self._occupied.update(lanes)

    def release(self, lanes: Collection[int]) -> None:
        """The holder is done with the lanes."""
        self._occupied.difference_update(lanes)

    def reserve(self, holder: str, lanes: Collection[int]) -> list[int]:
        """Occupies those of the lanes that are free, and keeps the others from being read until `holder` has reserved
        them, or asks for others."""
        wanted = self._owned.intersection(lanes)
        free = wanted - self._occupied
        self._wants[holder] = wanted - free
        self._occupied.update(free)
        return sorted(free)
