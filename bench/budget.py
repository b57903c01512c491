"""What delivering an event may cost, in counts that are the same on a fast machine and on a slow one.

Each budget is a little above what the daemon needs today: one thing more per batch, or per event, is too much. When it
needs less, lower `most` to what `make bench-quick` prints, with the room that `why` gives. When one is exceeded, the
change that did it has to say why.
"""

from collections.abc import Iterable, Mapping
from typing import Final, NamedTuple

from rich.table import Table

SLACK: Final = 1e-9
"""Counts are quotients."""


class Budget(NamedTuple):
    """The most that a count may be, by server where they differ. `bare`: what the least that delivers an outbox needs,
    where that is known."""

    most: float | Mapping[str, float]
    bare: float | None
    why: str

    def at(self, place: str) -> float:
        """The most that it may be there."""
        return self.most[place] if isinstance(self.most, Mapping) else self.most


class Count(NamedTuple):
    """One count of a run. `place`: the server, or the process. `bare` was measured in the same run, if it is given."""

    name: str
    place: str
    value: float
    bare: float | None = None

    @property
    def budget(self) -> Budget:
        """Why it may be so much."""
        return BUDGETS[self.name]

    @property
    def most(self) -> float:
        """How much it may be."""
        return self.budget.at(self.place)

    @property
    def excess(self) -> float:
        """By how much it is more than its budget; 0 when it is not."""
        over = self.value - self.most
        return over if over > SLACK else 0.0

    def __str__(self) -> str:
        share = f" ({self.excess / self.most:.0%} too much)" if self.most else ""
        return f"{self.place}: {self.name} is {self.value:,.2f}, its budget is {self.most:,.2f}{share}"


BUDGETS: Final = {
    # --- what the database does
    "round trips per batch": Budget(
        4.0, 2, "the read, what blocks, whether the lane that the limit cut has dated rows, the settle: 3.7"
    ),
    "statements beside the batches, per batch": Budget(
        0.7, 0, "none; a round of the gauges, which are left out, may come at either end: two statements"
    ),
    "statements per 1,000 events": Budget(
        2.5, 1, "2.2: one batch of 2,000, and a shorter one when a round of lanes ends; one more each would be 2.7"
    ),
    "statements per 1,000 events, batches overlap": Budget(
        3.2, 1, "2.5 to 2.7: batches of the lanes that are free just then, and a read now and then that finds none"
    ),
    "statements per 1,000 events, one aggregate": Budget(
        3.0, 1, "2.75: beside each batch a look at the lanes that it passed over"
    ),
    "batches per 1,000 events": Budget(0.65, 0.5, "0.6: the last batch of a round of lanes is short; one more is 0.7"),
    "batches per 1,000 events, batches overlap": Budget(0.8, 0.5, "0.7: the same, of fewer lanes"),
    "rows looked at per event": Budget(2.1, 2, "one at the read, one at the settle"),
    "rows looked at, growth with the table": Budget(1.03, 1, "100,000 sent rows and 20,000 aggregates: none"),
    "statements, growth with the table": Budget(1.02, 1, "the same"),
    "bytes of binlog per event": Budget(800, None, "the row before and behind its settle, as binlog_row_image = FULL"),
    "bytes of redo per event": Budget(
        {"MariaDB": 360, "MySQL": 430}, None, "290 and 350; by a fifth more with what runs in the background"
    ),
    "statements per second, idle": Budget(25, None, "20 looks, and the workers' looks once a second and less"),
    "statements per second, idle, doorbell": Budget(
        2.0, None, "1.8 to 1.95: a look each second, heartbeats, and gauges every 5 s, of which it counts three rounds"
    ),
    # --- what the process does
    "calls per event": Budget(76, None, "73 with Python 3.11; later versions call less"),
    "requests to the broker per batch": Budget(
        1.3, 1, "all partitions of a broker go in one; now and then, in one of ten batches, one goes first"
    ),
    "blocks in memory per event in flight": Budget(
        10.2, None, "9.3: row, event, record, headers, and what lists hold them; one more each is too much"
    ),
    "bytes in memory per event in flight": Budget(1450, None, "1,310: 250 of payload, three times, and those objects"),
    "blocks left behind per event": Budget(
        0.25, 0, "0.14: caches that fill; what grows with the number of events is a leak"
    ),
}


def exceeded(counts: Iterable[Count]) -> list[str]:
    """A line for each count that is more than its budget."""
    return [str(count) for count in counts if count.excess]


def missing(counts: Iterable[Count]) -> list[str]:
    """Budgets that nothing was counted for: a guard that does not look is none."""
    seen = {count.name for count in counts}
    return [name for name in BUDGETS if name not in seen]


def table(counts: Iterable[Count]) -> Table:
    """Each count beside its budget and the bare minimum."""
    drawn = Table()
    drawn.add_column("where")
    drawn.add_column("count")
    for heading in ("today", "budget", "bare minimum"):
        drawn.add_column(heading, justify="right")
    for count in counts:
        bare = count.bare if count.bare is not None else count.budget.bare
        drawn.add_row(
            count.place,
            count.name,
            f"{count.value:,.2f}",
            f"{count.most:,.2f}",
            "" if bare is None else f"{bare:,.2f}",
            style="red" if count.excess else None,
        )
    return drawn
