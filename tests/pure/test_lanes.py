"""The lane book: one owner of a lane, one batch of a lane, no lane starves."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from outboxd.lanes import LaneBook, LaneConflictError, fair_share
from outboxd.model import LANES
from outboxd.ports import Grant


def a_book(*lanes: int, suspect: bool = False) -> LaneBook:
    """A book that owns the lanes."""
    book = LaneBook()
    book.grant([Grant(lane, int(suspect), None) for lane in lanes], 1000)
    return book


def test_three_instances_share_22_21_21() -> None:
    """The remainder goes to the first by name."""
    assert [fair_share(name, ["c", "a", "b"], LANES) for name in "abc"] == [22, 21, 21]
    assert fair_share("stranger", ["a"], LANES) == 0


@given(st.sets(st.text(min_size=1, max_size=5), min_size=1, max_size=80))
def test_shares_cover_every_lane_once(members: set[str]) -> None:
    """And differ by one at most."""
    shares = [fair_share(member, members, LANES) for member in members]
    assert sum(shares) == LANES
    assert max(shares) - min(shares) <= 1


def test_a_lane_is_in_one_batch_at_most() -> None:
    """The second of the two rules on which order rests."""
    book = a_book(1, 2)
    book.occupy([1])
    assert book.readable() == [2]
    with pytest.raises(LaneConflictError):
        book.occupy([1, 2])
    book.release([1])
    assert book.readable() == [1, 2]


def test_a_strangers_lane_cannot_be_occupied() -> None:
    """The first of them."""
    with pytest.raises(LaneConflictError):
        a_book(1).occupy([2])


def test_a_busy_lane_cannot_starve_the_others() -> None:
    """A read that the limit cut in lane 1 is followed by one of the lanes behind it, without lane 1."""
    book = a_book(1, 2, 3)
    book.note_read([1, 2, 3], 1)
    assert book.readable() == [2, 3]
    book.note_read([2, 3], None)
    assert book.readable() == [1, 2, 3]


def test_a_wanted_lane_is_not_read_until_the_promotion_had_it() -> None:
    """A busy lane is reserved when it comes free, before any other batch gets it."""
    book = a_book(1, 2)
    book.occupy([1])
    assert book.reserve("retry", [1, 2]) == [2]
    book.release([1])
    assert book.readable() == []
    assert book.reserve("retry", [1]) == [1]
    book.release([1, 2])
    assert book.readable() == [1, 2]


def test_a_want_that_is_withdrawn_frees_the_lane() -> None:
    """When nothing is due any more."""
    book = a_book(1)
    book.occupy([1])
    book.reserve("retry", [1])
    book.release([1])
    assert book.reserve("retry", []) == []
    assert book.readable() == [1]


def test_only_free_lanes_are_surrendered() -> None:
    """An occupied one stays until its batch is settled."""
    book = a_book(1, 2, 3)
    book.occupy([3])
    assert book.surrender(5) == [2, 1]
    assert book.owned == [3]


def test_a_lane_of_a_lost_lease_is_not_granted_while_its_batch_is_under_way() -> None:
    """Or it would be in two batches."""
    book = a_book(1)
    book.occupy([1])
    book.disown_all()
    assert not book.idle
    with pytest.raises(LaneConflictError):
        book.grant([Grant(1, 0, None)], 1000)
    book.release([1])
    book.grant([Grant(1, 0, None)], 1000)
    assert book.readable() == [1]


def test_a_suspect_lane_is_read_apart_until_its_first_batch_is_through() -> None:
    """It is cleared by as many rows as a batch has, or by its end."""
    book = a_book(1, 2, suspect=True)
    assert (book.readable(), book.suspects()) == ([], [1, 2])
    assert book.clear_suspects({1: 400}) == []
    assert book.clear_suspects({1: 600}, exhausted=[2]) == [1, 2]
    assert (book.readable(), book.suspects()) == ([1, 2], [])


class Interleavings(RuleBasedStateMachine):
    """Random grants, batches, promotions and losses never put a lane into two hands."""

    def __init__(self) -> None:
        super().__init__()
        self.book = LaneBook()
        self.holders: list[list[int]] = []

    @rule(lanes=st.sets(st.integers(0, 7)), suspect=st.booleans())
    def grant(self, lanes: set[int], suspect: bool) -> None:
        held = {lane for holder in self.holders for lane in holder}
        self.book.grant([Grant(lane, int(suspect), None) for lane in lanes - held], 10)

    @rule(count=st.integers(1, 4))
    def read(self, count: int) -> None:
        lanes = (self.book.suspects() or self.book.readable())[:count]
        self.book.occupy(lanes)
        self.holders.append(lanes)

    @rule(lanes=st.sets(st.integers(0, 7)), holder=st.sampled_from(["retry", "recovery"]))
    def promote(self, lanes: set[int], holder: str) -> None:
        self.holders.append(self.book.reserve(holder, lanes))

    @rule(data=st.data())
    def settle(self, data: st.DataObject) -> None:
        if self.holders:
            self.book.release(self.holders.pop(data.draw(st.integers(0, len(self.holders) - 1))))

    @rule(count=st.integers(0, 8))
    def surrender(self, count: int) -> None:
        self.book.surrender(count)

    @rule()
    def lose(self) -> None:
        self.book.disown_all()

    @invariant()
    def no_lane_in_two_hands(self) -> None:
        held = [lane for holder in self.holders for lane in holder]
        assert len(held) == len(set(held))
        assert not set(held) & {*self.book.readable(), *self.book.suspects()}

    @invariant()
    def idle_means_empty_handed(self) -> None:
        assert self.book.idle == (not any(self.holders))


TestInterleavings = Interleavings.TestCase
