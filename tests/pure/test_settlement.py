"""What is written after a batch."""

from outboxd.backoff import Backoff, Strategy
from outboxd.errors import Failure, FailureKind
from outboxd.lifecycle import RetryPolicy
from outboxd.model import Status
from outboxd.ports import Hold, Rejection, Report
from outboxd.settlement import Plan, plan
from tests.pure.events import an_event

POLICY = RetryPolicy(3, Backoff(Strategy.FIXED, base=7.0, jitter=0.0))
CAPPED = Failure(FailureKind.CAPPED, "unknown_topic", "create it")
PERMANENT = Failure(FailureKind.PERMANENT, "message_too_large", "make it smaller")
OUTAGE = Failure(FailureKind.OUTAGE, "no_connection", "no broker")


def test_deliveries_are_settled_as_sent() -> None:
    """And need no lease."""
    events = [an_event(1), an_event(2)]
    settled = plan(Report(delivered=events), [], POLICY)
    assert settled == Plan(events, [], [])
    assert not settled.fenced


def test_what_is_unsent_or_unknown_is_left_as_it_is() -> None:
    """No attempt is spent on an outage."""
    report = Report(unsent=[an_event(1)], unknown=[an_event(2)], trouble=OUTAGE)
    assert plan(report, [], POLICY) == Plan([], [], [])


def test_a_retry_holds_the_events_behind_it() -> None:
    """They become due with it, and spend no attempt."""
    failed, behind = an_event(1, attempt_count=1), an_event(2)
    settled = plan(Report(failed=[(failed, CAPPED)], behind=[(behind, failed)]), [], POLICY)
    assert settled.rejections == [Rejection(Status.RETRY, [failed], 1, 7.0, "unknown_topic: create it")]
    assert settled.holds == [Hold(1, [behind])]
    assert settled.fenced


def test_nothing_waits_behind_a_dead_letter() -> None:
    """The events behind it stay new, and go with the next batch."""
    failed = an_event(1, attempt_count=2)
    settled = plan(Report(failed=[(failed, CAPPED)], behind=[(an_event(2), failed)]), [], POLICY)
    assert [rejection.status for rejection in settled.rejections] == [Status.ERROR]
    assert settled.holds == []


def test_events_behind_an_older_retry_are_held() -> None:
    """The read had found their predecessor in the table."""
    assert plan(Report(), [(an_event(5), 3), (an_event(6), 3)], POLICY).holds == [Hold(3, [an_event(5), an_event(6)])]


def test_failures_of_one_kind_are_one_statement() -> None:
    """A thousand events for a missing topic must not be a thousand updates."""
    report = Report(failed=[(an_event(n), CAPPED) for n in range(1, 500)] + [(an_event(900), PERMANENT)])
    settled = plan(report, [], POLICY)
    assert [(len(r.events), r.status) for r in settled.rejections] == [(499, Status.RETRY), (1, Status.ERROR)]
