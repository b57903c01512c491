"""From what a sink reported to what is to be written. Pure; the statuses come from the life cycle."""

from collections import defaultdict
from collections.abc import Iterable
from typing import NamedTuple

from outboxd.errors import Failure
from outboxd.lifecycle import Happening, RetryPolicy, decide, happening_of
from outboxd.model import Event, Status
from outboxd.ports import Hold, Rejection, Report


class Plan(NamedTuple):
    """The writes that settle a batch. Events that stand in none of them stay `new`, untouched."""

    sent: list[Event]
    rejections: list[Rejection]
    holds: list[Hold]

    @property
    def fenced(self) -> bool:
        """Whether anything needs the lease; an acknowledgement does not."""
        return bool(self.rejections or self.holds)


def plan(report: Report, held: Iterable[tuple[Event, int]], policy: RetryPolicy) -> Plan:
    """The plan for a batch: the sink's report, and the events that were held back with their predecessors' ids."""
    rejections = _rejections(report.failed, policy)
    retried = {event.id for rejection in rejections if rejection.status is Status.RETRY for event in rejection.events}
    waiting: defaultdict[int, list[Event]] = defaultdict(list)
    for event, predecessor in held:
        waiting[predecessor].append(event)
    for event, failed in report.behind:
        # Behind a dead letter nothing waits: such an event stays new, and is sent with the next batch.
        if failed.id in retried:
            waiting[failed.id].append(event)
    holds = [Hold(predecessor, events) for predecessor, events in sorted(waiting.items())]
    return Plan(report.delivered, rejections, holds)


def _rejections(failed: Iterable[tuple[Event, Failure]], policy: RetryPolicy) -> list[Rejection]:
    """Failures with the same reason and count leave together, with one delay: one statement, not one per event."""
    groups: defaultdict[tuple[Failure, int], list[Event]] = defaultdict(list)
    for event, failure in failed:
        groups[failure, event.attempt_count].append(event)
    rejections = []
    for (failure, attempts), events in groups.items():
        happening = happening_of(failure.kind)
        if happening is Happening.UNRESOLVED:
            continue
        transition = decide(Status.NEW, happening, attempts, policy)
        rejections.append(
            Rejection(transition.status, events, transition.attempt_delta, transition.delay or 0.0, failure.last_error)
        )
    return rejections
