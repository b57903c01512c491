"""The hold book: who must wait, and whether the table still says so."""

from outboxd.holds import HoldBook
from outboxd.ports import Blocked, LaneSignature
from tests.pure.events import an_event


def signature(*ids: int) -> LaneSignature:
    """As the table gives it."""
    made = LaneSignature()
    for event_id in ids:
        made = made.plus(event_id)
    return made


def test_an_event_waits_behind_an_older_one_of_its_aggregate() -> None:
    """Not behind a younger one, nor behind another aggregate's, nor behind its namesake in another lane."""
    holds = HoldBook()
    holds.load(3, [Blocked(20, 3, "a"), Blocked(10, 3, "a"), Blocked(1, 3, "b")])
    assert holds.predecessor(an_event(30, aggregate="a", lane=3)) == 10
    assert holds.predecessor(an_event(9, aggregate="a", lane=3)) is None
    assert holds.predecessor(an_event(30, aggregate="c", lane=3)) is None
    assert holds.predecessor(an_event(30, aggregate="a", lane=4)) is None
    assert len(holds) == 2


def test_a_row_that_somebody_else_wrote_makes_the_book_stale() -> None:
    """Another count, or the same count of other rows."""
    holds = HoldBook()
    assert not holds.stale(3, LaneSignature())
    holds.load(3, [Blocked(20, 3, "a")])
    assert not holds.stale(3, signature(20))
    assert holds.stale(3, signature(21))
    assert holds.stale(3, signature(20, 21))
    assert holds.stale(3, LaneSignature())
    assert signature(4, 5) != signature(6, 7), "the exclusive-or alone would be the same"


def test_what_the_owner_wrote_itself_needs_no_second_reading() -> None:
    """The signature follows its own retries and holds."""
    holds = HoldBook()
    holds.add([an_event(5, lane=3), an_event(6, lane=3)])
    assert not holds.stale(3, signature(5, 6))
    assert holds.predecessor(an_event(7, lane=3)) == 5


def test_a_forgotten_lane_is_read_again_if_anything_is_left_in_it() -> None:
    """After a promotion: an empty lane is known to be empty."""
    holds = HoldBook()
    holds.add([an_event(5, lane=3)])
    holds.forget([3])
    assert holds.stale(3, signature(5))
    assert not holds.stale(3, LaneSignature())
