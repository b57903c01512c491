"""A backlog in a table that holds millions of rows which were sent before."""

import re
import time
from collections.abc import Callable
from functools import partial
from itertools import count
from typing import Any, Final

from bench.backlog import make_events, migrated_database, scalar
from bench.contenders import bare_loop, outboxd
from bench.drain import Drain, drain_in
from bench.measurements import contest
from bench.measurements.contest import Contest
from bench.measurements.measurement import Measurement
from bench.program import Program
from bench.scene import Scene, fewer

EVENTS: Final = 30_000
AGGREGATES: Final = 1000
EMPTY, FULL = "without sent rows", "with sent rows"
FIRST: Final = 1000
CHUNK: Final = 500_000
"""Rows that one statement copies."""
KEY: Final = re.compile(r"^\s+((?:UNIQUE )?KEY `(\w+)` .*?),?$", re.MULTILINE)

SEED: Final = (
    "INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload, status) "
    "VALUES (UUID(), 'order.changed', 'order', %s, 'sent-before', '{}', 1)"
)
COPY: Final = (
    "INSERT INTO outbox_events (event_id, event_type, aggregate_type, aggregate_id, topic, payload, status) "
    "SELECT UUID(), event_type, aggregate_type, aggregate_id, topic, payload, 1 FROM outbox_events LIMIT {rows}"
)

_seeds = count(1000)


def measure(scene: Scene) -> Contest:
    """The bare loop and outboxd, each in an empty table and in a full one."""
    events = scene.events(EVENTS)
    rows = scene.sent_rows
    with migrated_database(scene.server) as full, scene.server.connect(full) as connection:
        began = time.monotonic()
        fill_sent(connection, rows)
        scene.wait_until_calm()
        scene.tell(f"{rows:,} sent rows written in {time.monotonic() - began:.0f} s")
        turns: dict[contest.Turn, Callable[[], Drain]] = {}
        for one in (bare_loop(scene), outboxd(scene)):
            turns[EMPTY, one.name] = partial(one.drain, events=events, aggregates=AGGREGATES)
            turns[FULL, one.name] = _turn_in(scene, full, one.program, events)
        return contest.hold(scene, turns, scene.fewer_rounds)


def _turn_in(scene: Scene, database: str, program: Program, events: int) -> Callable[[], Drain]:
    # Each round writes events that the table does not have yet.
    return lambda: drain_in(
        database,
        program,
        scene.server,
        scene.kafka,
        scene.log(program),
        make_events(events, AGGREGATES, next(_seeds)),
    )


def fill_sent(connection: Any, rows: int) -> None:
    """Fills an empty table by doubling, without its secondary indexes, which are built afterwards."""
    with connection.cursor() as cursor:
        cursor.execute("SET SESSION sql_log_bin = 0")
        cursor.execute("SHOW CREATE TABLE outbox_events")
        keys = KEY.findall(cursor.fetchone()[1])
        cursor.execute("ALTER TABLE outbox_events " + ", ".join(f"DROP KEY `{name}`" for _, name in keys))
        cursor.executemany(SEED, [(f"order-{number:06d}",) for number in range(min(FIRST, rows))])
        written = min(FIRST, rows)
        while written < rows:
            more = min(written, rows - written, CHUNK)
            cursor.execute(COPY.format(rows=more))
            written += more
        cursor.execute("ALTER TABLE outbox_events " + ", ".join(f"ADD {definition}" for definition, _ in keys))
        cursor.execute("ANALYZE TABLE outbox_events")
        cursor.execute("SET SESSION sql_log_bin = 1")
    assert scalar(connection, "SELECT COUNT(*) FROM outbox_events") == rows


MEASUREMENT: Final = Measurement(
    "sent-rows",
    "Size of the table",
    lambda scale, rounds: 110 + fewer(rounds) * (10 + 25 * scale),  # with as many rows as by default
    Contest,
    measure,
    contest.HEADINGS,
    contest.rows,
)
