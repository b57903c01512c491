"""The ruler itself: it runs, it counts rightly, and it says when a target is missed."""

from pathlib import Path

import pytest
from rich.console import Console

from bench import report
from bench.backlog import make_events
from bench.quick import measure, parse
from bench.topic import Message, compare
from tests.servers.kafka import Kafka
from tests.servers.mariadb import MariaDB


def test_a_small_run_delivers_everything_and_is_written_down(
    kafka: Kafka, mariadb: MariaDB, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With both programs, as their own processes. (The fixtures only say when a server is missing.)"""
    assert kafka.running
    assert mariadb.running
    arguments = parse(["--databases", "mariadb", "--events", "500", "--rounds", "1", "--seconds", "1"])
    console = Console(record=True, width=160)
    figures = measure(arguments, console)
    (comparison,) = figures.comparisons
    for drain in (*comparison.ruler, *comparison.program):
        assert drain.delivery.delivered == 500
        assert drain.delivery.flawless
        assert drain.rate > 0
    assert figures.latencies[0].p50 > 0
    monkeypatch.setattr(report, "RESULTS", tmp_path)
    assert report.save(figures, []).read_text().startswith("{")
    report.show(figures, console)
    assert "bare loop" in console.export_text()


def test_what_went_wrong_on_the_way_is_counted() -> None:
    """A lost, a doubled, a swapped and a foreign message."""
    written = make_events(6, 1)
    right = [Message(event.event_id, event.aggregate_id, 0) for event in written]
    assert compare(right, written).flawless
    assert compare(right[1:], written).missing == 1
    assert compare([*right, right[5]], written).duplicates == 1
    assert compare([right[1], right[0], *right[2:]], written).out_of_order == 1
    assert compare([*right, Message("stranger", "key", 0)], written).foreign == 1
