"""How many rows a read asks for."""

from hypothesis import given
from hypothesis import strategies as st

from outboxd.workers.relay.sizes import BatchSize

MIB = 2**20


def settled(size: int) -> int:
    """The rows asked for after a while of payloads of this size."""
    sizes = BatchSize(2000, 8 * MIB)
    for _ in range(30):
        sizes.note(sizes.rows, sizes.rows * size)
    return sizes.rows


def test_small_payloads_come_in_full_batches() -> None:
    """Nothing is known at first; and 250 bytes are nothing."""
    assert BatchSize(2000, 8 * MIB).rows == 2000
    assert settled(250) == 2000


def test_large_payloads_come_in_small_batches() -> None:
    """Each with its row: a payload fits its share of the batch."""
    assert [settled(size) for size in (10_000, 100_000, MIB)] == [250, 31, 3]


def test_it_comes_back() -> None:
    """A few large payloads do not slow what follows for long."""
    sizes = BatchSize(2000, 8 * MIB)
    sizes.note(10, 100 * MIB)
    assert sizes.rows == 1
    for _ in range(20):
        sizes.note(sizes.rows, 250 * sizes.rows)
    assert sizes.rows == 2000


@given(
    st.integers(1, 10_000), st.integers(1, 2**30), st.lists(st.tuples(st.integers(0, 10_000), st.integers(0, 2**40)))
)
def test_it_is_one_row_at_least_and_never_more_than_allowed(
    rows: int, size: int, batches: list[tuple[int, int]]
) -> None:
    """Whatever was met."""
    sizes = BatchSize(rows, size)
    for batch in batches:
        sizes.note(*batch)
        assert 1 <= sizes.rows <= rows
