"""The life of an event: the one table of transitions, and the one function that decides them.

    (status, what happened)  ->  the statuses it may lead to

"In flight" is not stored: such a row is `new`, with the owner of its lane at work on it.
"""

from collections.abc import Mapping
from enum import Enum
from typing import Final, NamedTuple

from outboxd.backoff import Backoff
from outboxd.errors import FailureKind, OutboxdError
from outboxd.model import MAX_INT32, Status


class Happening(Enum):
    """What can happen to an event."""

    DELIVERED = "delivered"
    FAILED = "failed"
    """The sink refused it, and may take it later."""
    REFUSED = "refused"
    """It can never be delivered."""
    HELD = "held"
    """A predecessor of the same aggregate is not delivered."""
    UNRESOLVED = "unresolved"
    """Outage, shutdown, no answer, or not handed over: nothing is known against the event."""
    OWNER_DIED = "owner died"
    STUCK = "stuck"
    """Another dispatcher left it in processing."""
    DUE = "due"
    UNKNOWN_STATUS = "of an unknown status"
    """The column holds a number that is no status."""


TRANSITIONS: Final[Mapping[tuple[Status | None, Happening], frozenset[Status]]] = {
    (Status.NEW, Happening.DELIVERED): frozenset({Status.SENT}),
    (Status.NEW, Happening.FAILED): frozenset({Status.RETRY, Status.ERROR}),
    (Status.NEW, Happening.REFUSED): frozenset({Status.ERROR}),
    (Status.NEW, Happening.HELD): frozenset({Status.RETRY}),
    (Status.NEW, Happening.UNRESOLVED): frozenset({Status.NEW}),
    (Status.NEW, Happening.OWNER_DIED): frozenset({Status.NEW, Status.ERROR}),
    (Status.PROCESSING, Happening.STUCK): frozenset({Status.NEW, Status.ERROR}),
    (Status.RETRY, Happening.DUE): frozenset({Status.NEW}),
    (None, Happening.UNKNOWN_STATUS): frozenset({Status.ERROR}),
}


class IllegalTransitionError(OutboxdError):
    """No event in this status can have met with this."""


class Transition(NamedTuple):
    """What is to be written about an event."""

    status: Status
    attempt_delta: int
    """0 or 1; the sum never passes the column's range."""
    delay: float | None = None
    """Seconds until due, for retries of its own; held events take their predecessor's due time."""


class RetryPolicy(NamedTuple):
    """When to give up, and how long to wait until then."""

    max_attempts: int
    backoff: Backoff


def decide(
    status: Status | None, happening: Happening, attempts: int, policy: RetryPolicy, *, was_alone: bool = False
) -> Transition:
    """The transition of an event that had `attempts` so far; its status is None where the column holds no status.

    `was_alone` matters for OWNER_DIED: only an event that was alone in its batch can be blamed for the death.
    Raises IllegalTransitionError.
    """
    if (status, happening) not in TRANSITIONS:
        raise IllegalTransitionError(f"an event that is {_name(status)} cannot be {happening.value}")
    counted = int(attempts < MAX_INT32)
    exhausted = attempts + 1 >= policy.max_attempts
    match happening:
        case Happening.DELIVERED:
            return Transition(Status.SENT, 0)
        case Happening.REFUSED:
            return Transition(Status.ERROR, counted)
        case Happening.UNKNOWN_STATUS:
            return Transition(Status.ERROR, 0)
        case Happening.FAILED if exhausted:
            return Transition(Status.ERROR, counted)
        case Happening.FAILED:
            return Transition(Status.RETRY, counted, policy.backoff.delay(max(1, attempts + 1)))
        case Happening.HELD:
            return Transition(Status.RETRY, 0)
        case Happening.OWNER_DIED | Happening.STUCK:
            to_blame = was_alone or happening is Happening.STUCK
            return Transition(Status.ERROR if exhausted and to_blame else Status.NEW, counted)
        case Happening.UNRESOLVED | Happening.DUE:
            return Transition(Status.NEW, 0)


def _name(status: Status | None) -> str:
    return "of no status" if status is None else status.name.lower()


def happening_of(kind: FailureKind) -> Happening:
    """How a failure of this kind bears on the event that met it."""
    match kind:
        case FailureKind.PERMANENT:
            return Happening.REFUSED
        case FailureKind.CAPPED:
            return Happening.FAILED
        case FailureKind.OUTAGE | FailureKind.PAUSE | FailureKind.REBUILD:
            return Happening.UNRESOLVED


def crash_batch_limit(attempts: int, batch_size: int) -> int:
    """How many events may share a batch with one that had `attempts`, after their owner died.

    The limit shrinks with the count, so that an event that kills the process stands alone within three deaths.
    """
    if attempts <= 0:
        return batch_size
    return min(batch_size, 30) if attempts == 1 else 1
