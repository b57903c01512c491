"""What the application will do: transactions of a few events, some rolled back, some with a hopeless event. Pure."""

import random
from collections.abc import Iterator
from enum import StrEnum
from typing import Final, NamedTuple

ROLLED_BACK: Final = 0.05
"""Share of the transactions."""
LARGEST: Final = 4
"""Events in a transaction, at most."""
OF_EACH_FLAW: Final = 3
"""Events that have it."""


class Flaw(StrEnum):
    """Why an event can never be delivered: the reason that its dead letter must give."""

    TOPIC = "invalid_topic"
    SIZE = "message_too_large"
    HEADERS = "bad_headers"


HOPELESS: Final = OF_EACH_FLAW * len(Flaw)
"""Events that end as dead letters."""


class Transaction(NamedTuple):
    """Events of one aggregate, written together."""

    aggregate_id: str
    events: tuple[Flaw | None, ...]
    commits: bool
    before: int
    """How many events are committed before it; sets the pace."""


def orders(aggregates: int) -> list[str]:
    """The ids of the aggregates."""
    return [f"order-{number:04}" for number in range(1, aggregates + 1)]


def transactions(events: int, aggregates: int, dice: random.Random) -> Iterator[Transaction]:
    """Transactions that commit `events` events between them, a few of them with a flaw."""
    names = orders(aggregates)
    flaws = dict(zip(dice.sample(range(events), HOPELESS), [*Flaw] * OF_EACH_FLAW, strict=True))
    committed = 0
    while committed < events:
        size = min(dice.randint(1, LARGEST), events - committed)
        name = dice.choice(names)
        if dice.random() < ROLLED_BACK:
            yield Transaction(name, (None,) * size, False, committed)
            continue
        yield Transaction(name, tuple(flaws.get(committed + n) for n in range(size)), True, committed)
        committed += size
