"""The hold book: who must wait, and whether the table still says so."""

from hypothesis import given
from hypothesis import strategies as st

from outboxd.holds import HoldBook
from outboxd.order import OrderPolicy
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
    holds.load(3, [Blocked(20, 3, "a", None), Blocked(10, 3, "a", None), Blocked(1, 3, "b", None)])
    assert holds.predecessor(an_event(30, aggregate="a", lane=3)) == 10
    assert holds.predecessor(an_event(9, aggregate="a", lane=3)) is None
    assert holds.predecessor(an_event(30, aggregate="c", lane=3)) is None
    assert holds.predecessor(an_event(30, aggregate="a", lane=4)) is None
    assert len(holds) == 2


def test_a_row_that_somebody_else_wrote_makes_the_book_stale() -> None:
    """Another count, or the same count of other rows; one stale lane is enough."""
    holds = HoldBook()
    holds.load(3, [Blocked(20, 3, "a", None)])
    holds.load(4, [])
    assert not holds.stale([3, 4], {3: signature(20)})
    assert holds.stale([3], {3: signature(21)})
    assert holds.stale([3], {3: signature(20, 21)})
    assert holds.stale([3, 4], {})
    assert holds.stale([4], {4: signature(1)})
    assert signature(1, 6) != signature(2, 5), "of the same count, sum, and exclusive-or"


def test_what_the_owner_wrote_itself_needs_no_second_reading() -> None:
    """The signature follows its own retries and holds."""
    holds = HoldBook()
    holds.load(3, [])
    holds.add([an_event(5, lane=3), an_event(6, lane=3)])
    assert not holds.stale([3], {3: signature(5, 6)})
    assert holds.predecessor(an_event(7, lane=3)) == 5


def test_of_a_forgotten_lane_nothing_is_known() -> None:
    """Not even that nothing blocks in it: it has to be read again, at one moment with its events."""
    holds = HoldBook()
    holds.load(3, [])
    holds.load(4, [])
    holds.add([an_event(5, lane=3)])
    assert holds.known([3, 4, 5]) == {3: signature(5), 4: LaneSignature()}
    holds.forget([3, 4])
    holds.add([an_event(6, lane=3)])
    assert holds.known([3, 4, 5]) == {}
    assert holds.stale([3], {3: signature(5)})
    assert holds.stale([4], {})


def test_a_row_in_error_blocks_where_the_policy_holds() -> None:
    """It is a dead letter to be; the signature counts it either way, as the table's does."""
    holds = HoldBook(OrderPolicy(except_topics=("payments.*",)))
    rows = [
        Blocked(5, 3, "a", ("payments.eu", "paid")),
        Blocked(6, 3, "b", ("orders", "made")),
        Blocked(7, 3, "c", None),
    ]
    holds.load(3, rows)
    assert holds.predecessor(an_event(9, aggregate="a", lane=3)) == 5
    assert holds.predecessor(an_event(9, aggregate="b", lane=3)) is None
    assert holds.predecessor(an_event(9, aggregate="c", lane=3)) == 7
    assert not holds.stale([3], {3: signature(5, 6, 7)})


def test_a_dead_letter_that_was_requeued_between_two_reads_is_noticed() -> None:
    """The owner wrote the error itself: a table in which nothing blocks any more is news."""
    holds = HoldBook(OrderPolicy(hold=True))
    holds.load(3, [])
    holds.add_failed([an_event(5, aggregate="a", lane=3)])
    assert holds.predecessor(an_event(9, aggregate="a", lane=3)) == 5
    assert not holds.stale([3], {3: signature(5)})
    assert holds.stale([3], {})
    continuing = HoldBook()
    continuing.load(3, [])
    continuing.add_failed([an_event(5, aggregate="a", lane=3)])
    assert not continuing.stale([3], {}), "rows in error are not looked at where nothing can hold"


@given(
    st.lists(st.tuples(st.integers(1, 20), st.integers(0, 2), st.sampled_from("abc")), unique_by=lambda row: row[0]),
    st.integers(0, 20),
    st.integers(1, 21),
    st.integers(0, 2),
    st.sampled_from("abc"),
)
def test_the_book_says_what_a_look_at_all_rows_says(
    rows: list[tuple[int, int, str]], loaded: int, event_id: int, lane: int, aggregate: str
) -> None:
    """Whether rows were read from the table or written by the owner."""
    holds = HoldBook()
    for number in range(3):
        holds.load(number, [Blocked(row, number, who, None) for row, where, who in rows[:loaded] if where == number])
    holds.add([an_event(row, aggregate=who, lane=where) for row, where, who in rows[loaded:]])
    older = [row for row, where, who in rows if (where, who) == (lane, aggregate) and row < event_id]
    assert holds.predecessor(an_event(event_id, aggregate=aggregate, lane=lane)) == min(older, default=None)
    truth = {number: signature(*[row for row, where, _ in rows if where == number]) for number in range(3)}
    assert not holds.stale(range(3), truth)
    assert holds.stale([lane], truth | {lane: truth[lane].plus(99)})
