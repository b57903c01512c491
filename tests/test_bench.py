"""The ruler itself: it runs, it counts rightly, and it says when a target is missed."""

import io
import time
from collections import Counter
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from rich.console import Console

from bench import bare_loop, traffic
from bench.__main__ import make
from bench.backlog import PAYLOAD, make_events
from bench.debezium import Debezium
from bench.document import DOCUMENT, KEPT, MISSING, PLACE, fill_in, parts_of
from bench.drain import Drain
from bench.latency import Latency, summarise
from bench.measurements import (
    aggregates,
    contest,
    crash,
    doorbell,
    drain,
    idle,
    latency,
    profile,
    settings,
    start,
    sustained,
    writers,
)
from bench.measurements.contest import Contest, Drained
from bench.measurements.cost import Cost, Costs
from bench.measurements.sustained import Search, Step, Wait, ages, limit_of, looks, search, waits
from bench.program import Usage
from bench.registry import MEASUREMENTS
from bench.result import Result
from bench.sampling import Samples
from bench.scene import Scene
from bench.servers import start_mariadb
from bench.stage import Contender, Fresh
from bench.tables import show, targets
from bench.targets import TUNED, verdicts
from bench.topic import Delivery, Message, compare
from bench.writer import PER_SECOND, SINGLE, Ledger, steady
from outboxd.store import engine
from tests.servers.kafka import Kafka
from tests.servers.mariadb import MariaDB

RIGHT = Delivery(10, 0, 0, 0, 0)


def drained(program: str, *rates: float, variant: str = "", cpu: float = 10.0) -> Drained:
    return Drained(variant, program, 50_000, list(rates), cpu, 80 * 10**6, 0.5, [])


def result_of(figures: dict[str, Any]) -> Result:
    """A result that has these figures on MySQL."""
    result = Result("2026-01-01T00:00:00+00:00", {"cpus": "2"}, [], 1.0, 3, 1000)
    for name, figure in figures.items():
        result.add(MEASUREMENTS[name], "MySQL", figure)
    return result


def good_figures() -> dict[str, Any]:
    """Figures that reach their targets."""
    quick = Latency("MySQL", 100, 50, 0.003, 0.004, 0.005, 0.006)
    return {
        "drain": Contest([drained("bare loop", 100, 120), drained("outboxd", 100, 102), drained(TUNED, 60)]),
        "latency": latency.Latencies([latency.Line("outboxd", latency.DOORBELL, quick)], ""),
        "settings": settings.Settings(
            [settings.Setting("default", 10, [100], 760, 300, {"daemon": 1, "database": 2}, [])]
        ),
        "doorbell": doorbell.Doorbells(
            [doorbell.Beside(doorbell.QUIET, 100, {"daemon": 0.01, "database": 0.02}, 80, quick)], ""
        ),
        "idle": idle.Idles([idle.Idle("outboxd", idle.POLLING, 10, 22, {"daemon": 0.01}, 80)], "no bell"),
        "start": start.Starts([start.Start("outboxd", [0.8, 0.9, 1.2])]),
        "crash": crash.Crashes([crash.Crash("outboxd", 10, 3, 15.0, RIGHT._replace(duplicates=2))]),
        "writers": writers.Writers(
            500, [writers.Written(writers.WITHOUT, [100], [1], [2]), writers.Written(writers.WITH, [96], [1], [2])]
        ),
    }


@pytest.mark.usefixtures("mysqlclient")
def test_a_small_run_delivers_everything_and_is_written_down(kafka: Kafka, mariadb: MariaDB, tmp_path: Path) -> None:
    """With both programs and a writer, as their own processes."""
    scene = Scene(mariadb, kafka, tmp_path, scale=0.01, rounds=1, peers=False, sustained=400)
    console = Console(record=True, width=160, file=io.StringIO())
    make(["drain", "writers"], scene, result_of({}), tmp_path / "result.json", console)
    result = Result.load(tmp_path / "result.json")
    assert not result.failures
    found: Contest = result.get("drain", "MariaDB")
    assert {one.program for one in found.drained} == {"bare loop", "outboxd", "outboxd, mysqlclient"}
    for one in found.drained:
        assert one.events == 1000
        assert one.rate > 0
        assert not one.flaws
    written: writers.Writers = result.get("writers", "MariaDB")
    assert [way.way for way in written.ways] == [writers.WITHOUT, "with bare loop", writers.WITH]
    assert all(way.rates[0] > 0 for way in written.ways)
    show(result, console)
    assert "bare loop" in console.export_text()


@pytest.mark.usefixtures("mariadb")
def test_settings_the_doorbell_and_a_profile_in_small(
    kafka: Kafka, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The server's setting reaches the daemon and is taken back; others' traffic fills the log and leaves nothing."""
    monkeypatch.setattr(settings, "VARIANTS", (settings.DEFAULT, settings.BOTH))
    monkeypatch.setattr(doorbell, "TRAFFIC", {"rows": 50_000})
    # No more than the bell can follow on a machine that is busy otherwise.
    monkeypatch.setattr(traffic, "PER_SECOND", 5_000_000)
    with start_mariadb() as server:
        scene = Scene(server, kafka, tmp_path, scale=0.01, rounds=1, peers=False)
        make(
            ["settings", "doorbell", "profile"],
            scene,
            result_of({}),
            tmp_path / "result.json",
            Console(file=io.StringIO()),
        )
        assert server.query("SELECT @@GLOBAL.binlog_row_image") == [("FULL",)]
        assert server.query("SHOW DATABASES LIKE 'traffic'") == []
    result = Result.load(tmp_path / "result.json")
    assert not result.failures
    found: settings.Settings = result.get("settings", "MariaDB")
    assert [one.flaws for one in found.variants] == [[], []]
    default, both = found.variants
    assert default.binlog_bytes > 2 * PAYLOAD > PAYLOAD > both.binlog_bytes > 0
    (beside,) = result.get("doorbell", "MariaDB").lines
    assert beside.log_bytes_per_second > 100_000
    assert beside.cpu["daemon"] > 0
    assert beside.latency.events > 10
    profiled: profile.Profile = result.get("profile", "MariaDB")
    assert not profiled.missing
    assert profiled.batches > 1
    # A thread is seen where it runs just then: of those of the database, some moments are too short for it.
    assert {"MainThread", "database", "broker"} <= {one.name for one in profiled.shares}
    assert 0 < sum(profiled.functions.values()) <= 1


def test_what_a_profiler_has_seen_is_read_by_thread_and_function() -> None:
    """Lines differ within a function; a stack without frames tells nothing."""
    raw = (
        "thread (7): MainThread;main (a.py:1);send (b.py:2) 3\n"
        "thread (7): MainThread;main (a.py:1);send (b.py:9) 2\n"
        "thread (8): db-read;read (c.py:4) 1\n"
        "thread (9): idle 5\n"
    )
    samples = Samples.of(raw)
    assert samples.names == {7: "MainThread", 8: "db-read"}
    assert samples.tops == {"MainThread": {"send (b.py)": 5}, "db-read": {"read (c.py)": 1}}


def test_the_limit_reads_as_the_daemon_does() -> None:
    """Else it would be none."""
    assert bare_loop.READ_BUFFER == engine.READ_BUFFER


def test_what_went_wrong_on_the_way_is_counted() -> None:
    """A lost, a doubled, a swapped and a foreign message."""
    written = make_events(6, 1)
    right = [Message(event.event_id, event.aggregate_id, 0) for event in written]
    assert compare(right, written).flawless
    assert compare(right[1:], written).missing == 1
    assert compare([*right, right[5]], written).duplicates == 1
    assert compare([right[1], right[0], *right[2:]], written).out_of_order == 1
    assert compare([*right, Message("stranger", "key", 0)], written).foreign == 1


@pytest.mark.parametrize(("number", "wanted"), [(10, 1), (250, 100), (5000, 2500)])
def test_all_aggregates_occur(number: int, wanted: int) -> None:
    """As often as each other, and in random turn."""
    events = make_events(number, wanted, seed=7)
    times = Counter(event.aggregate_id for event in events)
    assert len(times) == wanted
    assert max(times.values()) - min(times.values()) <= 1
    if wanted > 1:
        assert list(times) != sorted(times)


def test_as_many_aggregates_as_there_are_events_for() -> None:
    """And the variant is called by what it is."""
    assert aggregates.numbers(200_000) == (1, 100, 100_000)
    assert aggregates.numbers(60_000) == (1, 100, 30_000)
    assert [aggregates.variant(number) for number in (1, 30_000)] == [aggregates.ONE, "30,000 aggregates"]
    figures = Contest([drained("outboxd", rate, variant=aggregates.variant(n)) for n, rate in ((1, 10), (30_000, 8))])
    assert aggregates.most(figures) == "30,000 aggregates"
    judged = {one.target: one for one in verdicts(result_of({"aggregates": figures}))}
    found = judged["rate with 100,000 aggregates"]
    assert (found.measured, found.reached) == ("0.80 (30,000 aggregates)", False)


@pytest.mark.parametrize(("scale", "events", "ahead"), [(1.0, 200_000, 40_000), (0.5, 1000, 20_000), (0.01, 1000, 400)])
def test_debezium_has_a_run_up_however_small_the_backlog_is(
    tmp_path: Path, scale: float, events: int, ahead: int
) -> None:
    """Of small events, and other ones each time; outboxd needs none."""
    scene = Scene(None, None, tmp_path, scale=scale)  # type: ignore[arg-type]
    with ExitStack() as kept:
        peer = Debezium(scene, kept, tuned=True)
        first, second = peer.run_up(events), peer.run_up(events)
    assert len(first) == ahead
    assert len(first[0].payload) < 2 * PAYLOAD
    assert not {event.event_id for event in first} & {event.event_id for event in second}
    assert not Fresh(scene, scene.bare_loop).run_up(events)


@pytest.mark.parametrize("size", [250, 1000, 10_000, 100_000])
def test_payloads_are_as_large_as_asked_for(size: int) -> None:
    for event in make_events(5, 1, payload=size):
        assert len(event.payload) == pytest.approx(size, rel=0.1)


def test_percentiles() -> None:
    found = summarise([number / 1000 for number in range(101)], "MySQL", 50)
    assert (found.p50, found.p95, found.p99, found.max) == pytest.approx((0.050, 0.095, 0.099, 0.100))


def test_sittings_are_one_by_their_medians(monkeypatch: pytest.MonkeyPatch) -> None:
    """In turns: who was first is last in the next; a rate without sittings has one."""
    order: list[str] = []

    def line(_scene: Scene, _contender: Contender, way: str, rate: int) -> latency.Line:
        order.append(way)
        worse = order.count(way) ** 2
        return latency.Line(
            "outboxd", way, Latency("MySQL", 10, rate, *(part * worse for part in (1.0, 2.0, 3.0, 4.0)))
        )

    monkeypatch.setattr(latency, "_line", line)
    ways: dict[str, Any] = {latency.POLLING: None, latency.DOORBELL: None}
    scene: Any = None
    found = list(latency._in_turns(scene, ways, 50))
    assert order == ["polling", "doorbell", "doorbell", "polling", "polling", "doorbell"]
    assert [(one.way, one.latency) for one in found] == [
        (way, Latency("MySQL", 30, 50, 4.0, 8.0, 12.0, 36.0)) for way in ways
    ]
    assert [one.latency.events for one in latency._in_turns(scene, ways, 1)] == [10, 10]


@pytest.mark.parametrize("capacity", [300, 900, 4000, 4001, 17_000, 60_000])
def test_the_search_finds_what_a_system_can_do(capacity: int) -> None:
    asked: list[int] = []

    def holds(rate: int) -> bool:
        asked.append(rate)
        return rate <= capacity

    found = search(holds, start=4000, steps=20)
    assert capacity * 0.85 <= found <= capacity
    assert len(asked) == len(set(asked)) <= 12


def test_the_search_ends_when_nothing_holds_and_when_its_steps_are_used_up() -> None:
    assert search(lambda _: False, start=4000, steps=9) == 0
    assert search(lambda _: True, start=1000, steps=4) == 8000


@pytest.mark.parametrize(
    ("step", "holds", "kept_up"),
    [
        (Step(1000, 990, 0.02, 0.03), True, True),
        (Step(1000, 900, 0.02, 0.03), False, True),
        (Step(1000, 950, 0.02, 0.1), True, True),
        (Step(1000, 990, 0.3, 0.44), True, True),
        (Step(1000, 990, 0.02, 0.11), False, False),
        (Step(1000, 990, 0.1, 0.45), False, False),
        (Step(1000, 990, 0.05, 0.8), False, False),
        (Step(1000, 990, 2.0, 3.0), False, False),
        (Step(1000, 990, 1.0, 1.0), False, False),
    ],
    ids=[
        "flat",
        "the writers are too slow",
        "as old as two polls",
        "a little older than it was",
        "older than two polls, and than it was",
        "it piles up slowly",
        "it piles up",
        "it was old from the beginning",
        "flat, and too old",
    ],
)
def test_when_a_rate_holds(step: Step, holds: bool, kept_up: bool) -> None:
    assert (step.holds, step.kept_up) == (holds, kept_up)


def test_who_is_the_limit() -> None:
    held = Step(1000, 1000, 0.01, 0.01)
    assert limit_of("outboxd", 1000, [held]) == "not found"
    assert limit_of("outboxd", 1000, [held, Step(2000, 2000, 0.1, 2.0)]) == "outboxd"
    behind = [held, Step(4000, 4000, 0.1, 2.0), Step(2000, 1500, 0.01, 0.01)]
    assert limit_of("outboxd", 1000, behind) == "writers or database"


def test_the_oldest_age_is_that_of_what_is_committed_and_not_yet_in_the_topic() -> None:
    """Whoever delivers: by the writers' ledger and the broker's time. What never arrives gets older and older."""
    ledger = Ledger({"a": 10.0, "b": 10.1, "c": 10.3}, ["k"] * 3, [], began=10.0, ended=11.0)
    assert looks(ledger) == pytest.approx([10.2, 10.4, 10.6, 10.8, 11.0])
    waited = [Wait(10.0, 10.15), Wait(10.3, float("inf")), Wait(10.1, 10.5)]
    assert list(ages(waited, [9.9, 10.1, 10.2, 10.4, 10.6, 11.0])) == pytest.approx([0.0, 0.1, 0.1, 0.3, 0.3, 0.7])
    assert list(ages([], [1.0])) == [0.0]
    behind = time.time() - time.monotonic()
    first, again = (Message("a", "k", round((at + behind) * 1000)) for at in (10.2, 10.9))
    found = waits(ledger, [first, again])
    assert found[0] == pytest.approx((10.0, 10.2), abs=0.01)
    assert found[1:] == [(10.1, float("inf")), (10.3, float("inf"))]


@pytest.mark.parametrize("rate", [1, 50, 500, 5000, 20_000])
def test_a_steady_load_has_as_many_events_as_its_rate_and_not_too_many_transactions(rate: int) -> None:
    load = steady(rate, 10)
    assert load.events == rate * 10
    assert rate / load.rows <= (SINGLE if rate <= SINGLE else PER_SECOND)
    assert (load.rows == 1) == (rate <= SINGLE)


def test_rounds_take_turns(tmp_path: Path) -> None:
    """Who was first in a round is last in the next."""
    order: list[str] = []

    def turn(program: str) -> Callable[[], Drain]:
        def drain_once() -> Drain:
            order.append(program)
            return Drain("MySQL", program, 1000, 1.0 + order.count(program), 0.1, Usage(0.5, 100), RIGHT)

        return drain_once

    scene = Scene(None, None, tmp_path, tell=lambda _: None, starts={"a": Usage(0.1, 50)})  # type: ignore[arg-type]
    held = contest.hold(scene, {("", "a"): turn("a"), ("", "b"): turn("b")}, rounds=3)
    assert order == ["a", "b", "b", "a", "a", "b"]
    one = held.of("a")
    assert one is not None
    assert one.rates == pytest.approx([500, 1000 / 3, 250])
    assert one.cpu_us_per_event == pytest.approx(400)
    assert held.ratio("b", to="a") == pytest.approx(1)
    assert held.ratio("c") is None


def test_a_drain_with_flaws_shows_them() -> None:
    lost = Drain("MySQL", "outboxd", 10, 1.0, 0.1, Usage(0.5, 100), RIGHT._replace(missing=1))
    assert "missing=1" in contest.summarise("", [lost], {}).flaws[0]


def test_the_estimate_counts_what_does_not_shrink() -> None:
    """A peer's start and the steps of the search take their time at any scale; rounds count where there are some."""
    rounds = {"drain", "payloads", "aggregates", "replicas", "writers", "settings", "start", "sent-rows"}
    for name, measurement in MEASUREMENTS.items():
        assert 0 < measurement.seconds(0.01, 1) <= measurement.seconds(1, 1) <= measurement.seconds(1, 3)
        assert (measurement.seconds(1, 1) < measurement.seconds(1, 3)) == (name in rounds)
    assert sustained.MEASUREMENT.seconds(0.5, 2) == sustained.MEASUREMENT.seconds(1, 3)


def test_cpu_per_event_is_shown_of_large_backlogs_only() -> None:
    """In small ones it is noise: neither shown nor judged."""
    large = drained("outboxd", 100)
    small = replace(large, events=49_999)
    assert [row[5] for row in contest.rows(Contest([large, small]))] == ["10.0 µs", "-"]
    for one, reached in ((large, True), (small, None)):
        judged = {each.target: each.reached for each in verdicts(result_of({"drain": Contest([one])}))}
        assert judged["CPU of the daemon per event"] is reached


def test_targets_are_judged() -> None:
    judged = {(one.target, one.wanted): one for one in verdicts(result_of(good_figures()))}
    assert [one.measured for one in judged.values() if one.reached is False] == []
    assert sum(one.reached is True for one in judged.values()) == 9
    assert judged["drain", "at least 0.85 of the bare loop"].measured == "0.92"
    bad = good_figures() | {
        "drain": Contest([drained("bare loop", 100), drained("outboxd", 50, cpu=20), drained(TUNED, 60)]),
        "crash": crash.Crashes([crash.Crash("outboxd", 10, 3, 15.0, RIGHT._replace(missing=1))]),
        "start": start.Starts([start.Start("outboxd", [1.1])]),
    }
    missed = {one.target for one in verdicts(result_of(bad)) if one.reached is False}
    assert missed == {
        "drain",
        "CPU of the daemon per event",
        "duplicates after kill -9 amid 100,000",
        "start to first delivery",
    }
    assert "**no**" in targets(result_of(bad)).markdown()


def test_a_result_survives_its_file(tmp_path: Path) -> None:
    counted = Cost("outboxd", 10, 1.0, {"statements": 0.1}, 300, 700, {"daemon": 1, "database": 2, "broker": 3}, 80)
    searched = Search("outboxd", 1000, "outboxd", [Step(1, 1.0, 0.1, 0.2)], [])
    figures = good_figures() | {"sustained": sustained.Sustained([searched]), "cost": Costs([counted])}
    result = result_of(figures)
    result.fail(drain.MEASUREMENT, "MariaDB", "RuntimeError: it did not end")
    result.save(tmp_path / "result.json")
    read = Result.load(tmp_path / "result.json")
    assert {name: read.get(name, "MySQL") for name in figures} == figures
    assert parts_of(read) == parts_of(result)
    assert "FAILED: RuntimeError: it did not end" in parts_of(result)["drain"]


def test_figures_of_another_days_shape_are_not_measured() -> None:
    """They neither break the document nor are they taken for something else."""
    result = result_of(good_figures())
    result.figures["idle"]["MySQL"] = {"watts": 5}
    result.figures["crash"]["MySQL"] = {"watts": 5}
    assert result.get("idle", "MySQL") is None
    assert "idle" not in parts_of(result)
    judged = {one.target: one.reached for one in verdicts(result)}
    assert judged["duplicates after kill -9 amid 100,000"] is None


def test_the_document_is_filled_in() -> None:
    text = "before\n<!-- figures: a -->\nold\n<!-- end -->\nbetween\n<!-- figures: b -->\n<!-- end -->\n"
    filled = fill_in(text, {"a": "| new |\n"})
    assert filled == (
        "before\n<!-- figures: a -->\n\n| new |\n\n<!-- end -->\nbetween\n"
        f"<!-- figures: b -->\n\n{MISSING}\n<!-- end -->\n"
    )
    assert fill_in(filled, {"a": "| new |\n"}) == filled
    with pytest.raises(ValueError, match="no place for c"):
        fill_in(text, {"c": ""})


def test_a_drawing_of_another_run_is_not_linked() -> None:
    """It lies in the folder; this run has measured nothing that could be drawn, or failed."""
    result = result_of(good_figures())
    assert "![drain](benchmarks/drain.svg)" in parts_of(result)["drain"]
    result.figures["drain"].clear()
    assert "drain" not in parts_of(result)
    result.fail(drain.MEASUREMENT, "MySQL", "RuntimeError: it did not end")
    assert "FAILED" in parts_of(result)["drain"]
    assert "svg" not in parts_of(result)["drain"]


def test_writers_are_compared_by_their_transactions_too() -> None:
    """The rate is diluted by the pause."""
    alone = writers.Written(writers.WITHOUT, [100, 100], [0.004, 0.006], [0.01, 0.01])
    beside = writers.Written(writers.WITH, [95, 95], [0.006, 0.009], [0.02, 0.02])
    figures = writers.Writers(100, [alone, beside])
    assert [row[-2:] for row in writers.rows(figures)] == [("", ""), ("-5.0%", "+50.0%")]
    assert {len(row) for row in writers.rows(figures)} == {len(writers.MEASUREMENT.headings)}


def test_every_measurement_has_its_place_in_the_document() -> None:
    assert {found[2] for found in PLACE.finditer(DOCUMENT.read_text())} == {*MEASUREMENTS, "targets", "machine"}


def test_the_document_says_what_was_measured() -> None:
    """No figure is typed by hand: it is rewritten by `python -m bench.document docs/benchmarks/result.json`."""
    text = DOCUMENT.read_text()
    assert fill_in(text, parts_of(Result.load(KEPT))) == text
