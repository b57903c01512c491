"""What blocks is read with the events, or behind them: it is the same."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, cast
from unittest.mock import patch

import pytest

from outboxd.model import Status
from outboxd.ports import LaneSignature, TopicFilter
from outboxd.store import events
from outboxd.store.events import FEW_EVENTS, MySqlEventReader
from tests.conftest import Database
from tests.end_to_end.application import INSERT, Ledger
from tests.store.opened import store_of

LANES = range(64)


def fill(outbox: Database, count: int) -> None:
    """New events of several lanes; some dated, some in retry, in processing, in error; and dead letters that hold."""
    with outbox.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(INSERT, [Ledger().row(f"a{number % 9}", "orders") for number in range(count)])
        for status, due, every in (
            (Status.NEW, "2030-01-01", 4),
            (Status.RETRY, "2037-01-01", 5),
            (Status.PROCESSING, None, 7),
            (Status.ERROR, None, 11),
        ):
            changed = f"UPDATE outbox_events SET status = %s, next_attempt_at = %s WHERE MOD(id, {every}) = 0"
            cursor.execute(changed, (status, due))
        columns = "id, event_id, event_type, aggregate_type, aggregate_id, topic, payload, attempt_count"
        cursor.execute(f"INSERT INTO outbox_deadletters ({columns}) SELECT {columns} FROM outbox_events LIMIT 12")
        cursor.execute("UPDATE outbox_deadletters SET holds = 1 WHERE id <= 8")


@contextmanager
def noted(reader: MySqlEventReader) -> Iterator[list[str]]:
    """The names of the ways that it reads by, as they are taken."""
    taken: list[str] = []

    def way(name: str) -> Any:
        true = getattr(reader, name)
        return lambda *values: (taken.append(name), true(*values))[1]

    with patch.multiple(reader, _together=way("_together"), _apart=way("_apart")):
        yield taken


@pytest.mark.parametrize("lanes", [LANES, range(0, 64, 2)])
@pytest.mark.parametrize("limit", [1, 7, 60])
async def test_both_ways_find_the_same(outbox: Database, limit: int, lanes: Sequence[int]) -> None:
    """The events, what blocks in their lanes, and whether rows with a due time stand behind those that were cut off."""
    fill(outbox, 60)
    async with store_of(outbox) as store:
        reader = cast(MySqlEventReader, store.reader)
        one, other = [
            await reader._session.run(lambda connection, way=way: way(connection, list(lanes), limit))
            for way in (reader._together, lambda *values: reader._apart(*values, TopicFilter()))
        ]
    # Without their ages.
    assert [event[:-1] for event in one.events] == [event[:-1] for event in other.events]
    assert 0 < len(one.events) <= limit
    assert all(type(event.id) is int for event in one.events)
    read = {event.lane for event in one.events}
    assert {lane: found for lane, found in one.standing.signatures.items() if lane in read} == other.standing.signatures
    assert other.standing.signatures
    assert one.standing.cut_lane_dated == other.standing.cut_lane_dated
    assert one.standing.cut_lane_dated == (limit < 60)


async def test_sums_beyond_the_largest_integer(outbox: Database) -> None:
    """Of ids that an application made: both ways and our own sum are the same."""
    ids = (2**62 + 5, 2**63 - 2)
    with outbox.connect() as connection, connection.cursor() as cursor:
        cursor.executemany(INSERT, [Ledger().row("a", "orders") for _ in range(3)])
        for number, chosen in enumerate(ids, 1):
            cursor.execute("UPDATE outbox_events SET id = %s, status = 2 WHERE id = %s", (chosen, number))
    async with store_of(outbox) as store:
        snapshot = await store.reader.snapshot(LANES, 10, TopicFilter(), {})
        found = await store.reader.read(LANES, 10)
    [signature] = found.standing.signatures.values()
    assert signature == LaneSignature().plus(ids[0]).plus(ids[1])
    assert snapshot.standing.signatures == found.standing.signatures


async def test_a_backlog_is_read_apart(outbox: Database) -> None:
    """And so is what a filter leaves; where few events are found, the next ones are read together with what blocks."""
    fill(outbox, 4 * FEW_EVENTS)
    async with store_of(outbox) as store:
        reader = cast(MySqlEventReader, store.reader)
        with noted(reader) as taken:
            for limit in (1000, 3, 3):
                await reader.read(LANES, limit)
            await reader.read(LANES, 3, TopicFilter(without=("another",)))
    assert taken == ["_together", "_apart", "_together", "_apart"]


async def test_very_many_blocking_rows_are_not_counted_for_every_batch(
    outbox: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once they were met, only those of lanes that have events are."""
    fill(outbox, 60)
    monkeypatch.setattr(events, "MANY_BLOCKING", 20)
    async with store_of(outbox) as store:
        reader = cast(MySqlEventReader, store.reader)
        with noted(reader) as taken:
            for _ in range(3):
                await reader.read(LANES, 10)
            reader._crowded_until = 0.0
            await reader.read(LANES, 10)
    assert taken == ["_together", "_apart", "_apart", "_together"]
