"""The ruler itself counts rightly."""

from bench.backlog import make_events
from bench.topic import Message, compare


def test_what_went_wrong_on_the_way_is_counted() -> None:
    """A lost, a doubled, a swapped and a foreign message."""
    written = make_events(6, 1)
    right = [Message(event.event_id, event.aggregate_id, 0) for event in written]
    assert compare(right, written).flawless
    assert compare(right[1:], written).missing == 1
    assert compare([*right, right[5]], written).duplicates == 1
    assert compare([right[1], right[0], *right[2:]], written).out_of_order == 1
    assert compare([*right, Message("stranger", "key", 0)], written).foreign == 1
