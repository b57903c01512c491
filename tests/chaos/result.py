"""Counting a scene out against its ledger, and what a scenario makes of it."""

from dataclasses import asdict, dataclass, field
from typing import Any

from tests.chaos.scenario import MEGABYTE, Scenario
from tests.chaos.scene import Scene
from tests.chaos.servers import APPLICATION
from tests.end_to_end.application import Ledger
from tests.end_to_end.checker import Verdict, check, consume

TALKATIVE = 150
"""Log lines of a daemon that cannot be about changes only."""


@dataclass
class Result:
    """The figures of one scenario. `problems` empty: as expected."""

    scenario: str
    database: str
    committed: int = 0
    delivered: int = 0
    missing: int = 0
    reordered: int = 0
    changed: int = 0
    strangers: int = 0
    duplicates: int = 0
    explained: int = 0
    """How many of the duplicates a kill or an unknown outcome explains."""
    dead_letters: int = 0
    attempts: int = 0
    """The most that an event has spent which was not poison."""
    recovery: float = 0.0
    """Seconds from the end of a fault until what it held up was delivered; the longest."""
    memory: int = 0
    """Resident, of the largest daemon at its peak."""
    seconds: float = 0.0
    rounds: int = 1
    """How often it was played; more than 1 in a sum only."""
    problems: list[str] = field(default_factory=list)
    differences: list[str] = field(default_factory=list)
    """Event by event."""
    log: list[str] = field(default_factory=list)
    """What the daemons said last; of a failed scenario only."""

    @property
    def passed(self) -> bool:
        """Whether everything was as expected."""
        return not self.problems

    def as_json(self) -> dict[str, Any]:
        """For the file of figures."""
        return asdict(self) | {"passed": self.passed}


def count_out(scene: Scene, result: Result) -> None:
    """Fills in the figures, and what is wrong with them in any scenario."""
    ledger = _ledger(scene)
    dead = _join(scene, ledger, result)
    messages = [*scene.earlier]
    for topic in scene.topics:
        messages += consume(scene.kafka.bootstrap, topic)
    verdict = check(messages, ledger, dead)
    result.committed = len(ledger.events)
    result.dead_letters = len(dead)
    _take(result, verdict)
    if not verdict.clean:
        result.problems.append("missing, reordered, changed or strange messages")
    if dead != scene.poison:
        found, expected = len(dead - scene.poison), len(scene.poison - dead)
        result.problems.append(f"dead letters: {found} that should not be, {expected} that should")


def judge(scenario: Scenario, scene: Scene, result: Result) -> None:
    """What this scenario expects of the figures."""
    result.explained = min(result.duplicates, scene.explained)
    result.recovery = max(scene.recoveries, default=0.0)
    result.memory = scene.peak
    if result.duplicates and not (scenario.unknown or scene.stalls):
        result.problems.append(f"{result.duplicates} duplicates, without a fault that could explain one")
    elif result.duplicates > result.explained:
        result.problems.append(f"{result.duplicates} duplicates, and only {result.explained} can be explained")
    if result.attempts > scenario.attempts:
        result.problems.append(f"an event spent {result.attempts} attempts, and {scenario.attempts} are expected")
    if result.memory > scenario.memory:
        result.problems.append(f"{result.memory / MEGABYTE:.0f} MB of memory, above {scenario.memory / MEGABYTE:.0f}")
    if result.committed == 0:
        result.problems.append("nothing was written, so nothing was tested")
    result.problems += _tracebacks(scene)
    said = max((len(running.daemon.log) for running in scene.running), default=0)
    if said > TALKATIVE:
        result.problems.append(f"a daemon wrote {said} log lines, as if there were one per event")


def _tracebacks(scene: Scene) -> list[str]:
    """No log line has one, whatever happens: the operator has nothing to look for in our code."""
    lines = [line for running in scene.running for line in running.daemon.log]
    found = [line for line in lines if "exception" in line or line["event"] == "not json"]
    if not found:
        return []
    first = found[0].get("line") or f"{found[0]['event']}: {found[0]['exception'].strip().splitlines()[-1]}"
    return [f"{len(found)} tracebacks in the log; the first: {first.splitlines()[0][:200]}"]


def _ledger(scene: Scene) -> Ledger:
    """What was committed. COMMITs of unknown outcome are looked up, once no such session is left to commit."""
    scene.until(
        lambda: (
            not scene.server.query(
                "SELECT id FROM information_schema.processlist WHERE user = %s AND db = %s", APPLICATION, scene.database
            )
        ),
        "the writers' sessions have ended",
    )

    def found(event_ids: Any) -> set[str]:
        there: set[str] = set()
        for table in ("outbox_events", "outbox_deadletters") if event_ids else ():
            there |= {row[0] for row in scene.query(f"SELECT event_id FROM {table} WHERE event_id IN %s", event_ids)}
        return there

    return scene.writers.settled(found)


def _join(scene: Scene, ledger: Ledger, result: Result) -> set[str]:
    """Puts the rows' ids and stored payloads into the ledger, and returns the dead letters' event ids."""
    columns = "id, event_id, topic, payload, attempt_count"
    rows = scene.query(f"SELECT {columns}, status FROM outbox_events")
    dead = scene.query(f"SELECT {columns}, 3 FROM outbox_deadletters")
    unsettled = 0
    for row_id, event_id, topic, payload, attempts, status in [*rows, *dead]:
        committed = ledger.events.get(event_id)
        if committed is None:
            result.problems.append(f"the table has event {event_id}, which nobody committed")
            continue
        committed.number, committed.topic, committed.stored = row_id, topic, payload.encode()
        unsettled += status not in (1, 3)
        if event_id not in scene.poison:
            result.attempts = max(result.attempts, attempts)
    vanished = len(ledger.events) - len(rows) - len(dead)
    if vanished and scene.keeps_sent:
        result.problems.append(f"{vanished} committed events are in neither table")
    if unsettled:
        result.problems.append(f"{unsettled} events are neither sent nor dead")
    return {row[1] for row in dead}


def _take(result: Result, verdict: Verdict) -> None:
    for name in ("delivered", "missing", "reordered", "changed", "strangers", "duplicates", "differences"):
        setattr(result, name, getattr(verdict, name))
