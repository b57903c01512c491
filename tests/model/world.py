"""A world of a database, a broker, some daemons and a fate that decides what happens next."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import NamedTuple

from outboxd.model import Status
from outboxd.order import OrderPolicy
from tests.model.broker import FOR_EVER, SimulatedBroker, Wire
from tests.model.connection import Job
from tests.model.database import HELD_UNTIL, Row, SimulatedDatabase, Violation
from tests.model.doorbell import Ring
from tests.model.loop import SimulatedClock
from tests.model.process import MAX_ATTEMPTS, Process, simulated

AGGREGATES = ("a", "b", "c", "d", "f")
TOPICS = ("x", "y")
MAX_PROCESSES = 4
UNHURRIED = (Status.RETRY, Status.PROCESSING, Status.ERROR)
PATIENCE = 400
"""Rounds in which everything must settle once nothing is broken any more; each is half a second."""


class Step(NamedTuple):
    """What happens next, and to which of those that it may happen to."""

    action: str
    which: int = 0
    how: int = 0


@dataclass(frozen=True)
class Scenario:
    """A run, to be repeated at will."""

    hold: bool
    processes: int
    aggregates: int
    steps: list[Step]
    bell: bool = False
    """Whether the daemons have a doorbell."""


@dataclass(slots=True)
class Late:
    """What may happen yet although nobody waits for it."""

    what: str
    land: Callable[[], object]


class World:
    """Steps are methods of the names that `Step.action` has; a step that makes no sense now is passed over."""

    def __init__(self, scenario: Scenario, *, probe: bool = True) -> None:
        """`probe`: at the end, each aggregate gets an event by which open circuits can close."""
        self._probe = probe
        self.story: list[str] = []
        self._scenario = scenario
        self._clock = SimulatedClock()
        self._broker = SimulatedBroker(self._tell)
        self._db = SimulatedDatabase(
            self._clock,
            OrderPolicy(hold=scenario.hold),
            MAX_ATTEMPTS,
            delivered=self._broker.delivered.__contains__,
            may_fail=self._broker.refused.__contains__,
        )
        self._broker.database = self._db
        self._processes: list[Process] = []
        self._buried: list[Process] = []
        self._open: list[Row] = []
        self._late: list[Late] = []
        self._broken: list[Violation] = []
        self._committed: set[int] = set()
        self._discarded: set[int] = set()

    # --- the run

    def live(self) -> None:
        """The whole scenario. Raises Violation, with the story."""
        with ExitStack() as stack:
            self._broken = stack.enter_context(simulated(self._clock))
            stack.callback(self._end)
            try:
                for _ in range(self._scenario.processes):
                    self.join()
                self._calm(rounds=4)
                self._tell("-- the steps")
                for step in self._scenario.steps:
                    getattr(self, step.action)(step.which, step.how)
                    self._run()
                self._settle()
            except Violation as broken:
                raise Violation(broken.promise, "\n".join([str(broken), *self.story])) from None

    def _end(self) -> None:
        for process in (*self._processes, *self._buried):
            process.loop.end()

    def _tell(self, what: str) -> None:
        self.story.append(f"{self._clock.now - 1000:6.2f} {what}")

    def _break(self, broken: Violation) -> None:
        self._broken.append(broken)

    def _run(self) -> None:
        for process in self._processes:
            process.run()
            if process.loop.errors:
                raise Violation("no bug", process.loop.errors[0])
            if process.dead:
                self._tell(f"{process.name} has ended")
                self._bury(process)
        self._processes = [process for process in self._processes if not process.dead]
        if self._broken:
            raise self._broken[0]

    def _bury(self, process: Process) -> None:
        """What was on its way to the database or the broker may arrive yet."""
        process.dead = True
        for job in process.store.heads:
            self._abandon(job)
        process.sink.sever()
        self._buried.append(process)

    def _abandon(self, job: Job) -> None:
        what = str(job)
        land = job.abandon()
        if land is not None:
            self._late.append(Late(what, land))

    def _late_wire(self, wire: Wire) -> None:
        self._late.append(Late(str(wire), wire.arrive))

    def _agenda(self) -> list[Job | Wire | Ring]:
        return [item for process in self._processes for item in process.agenda]

    def _proceed(self, item: Job | Wire | Ring) -> None:
        if item.done:
            return
        self._tell(str(item))
        item.proceed()
        item.asked = True
        self._run()

    def _pass(self, seconds: float) -> None:
        """Time passes; each timer in its turn."""
        until = self._clock.now + seconds
        while True:
            timers = [p.loop.next_timer for p in self._processes if not p.frozen]
            due = min((timer for timer in timers if timer is not None and timer <= until), default=None)
            if due is None:
                break
            self._clock.now = max(self._clock.now, due)
            self._run()
        self._clock.now = until
        self._run()

    # --- steps: what goes well

    def go(self, which: int = 0, how: int = 0) -> None:
        """The first of what waits happens."""
        for item in self._agenda()[: (4, 1, 2, 99)[how]]:
            self._proceed(item)

    def pick(self, which: int, how: int = 0) -> None:
        """One of them."""
        agenda = self._agenda()
        if agenda:
            self._proceed(agenda[which % len(agenda)])

    def tick(self, which: int = 0, how: int = 0) -> None:
        """Time passes."""
        seconds = (0.1, 0.5, 1.0, 2.5)[how]
        self._tell(f"-- {seconds} s pass")
        self._pass(seconds)

    def _new(self, which: int, how: int) -> Row:
        row = Row(self._db.next_id, AGGREGATES[which % self._scenario.aggregates], TOPICS[how % 2])
        self._db.next_id += 1
        return row

    def _commit(self, row: Row, note: str = "") -> None:
        self._db.insert(row)
        self._committed.add(row.id)
        self._tell(f"application: {row.id} of {row.aggregate} (lane {row.lane}) to {row.topic}{note}")
        self._hear()

    def _hear(self) -> None:
        for process in self._processes:
            process.doorbell.committed()

    def commit(self, which: int, how: int) -> None:
        """The application writes one event, or two."""
        self._commit(self._new(which, how))
        if how >= 2:
            self._commit(self._new(which, how))

    def begin(self, which: int, how: int) -> None:
        """A transaction takes its id."""
        self._open.append(self._new(which, how))

    def finish(self, which: int, how: int) -> None:
        """One of those commits, or is rolled back."""
        if self._open:
            row = self._open.pop(which % len(self._open))
            if how:
                self._commit(row, ", which took its id earlier")

    def delayed(self, which: int, how: int) -> None:
        """The application writes a delayed event, or a new one that carries a due time."""
        row = self._new(which, how)
        row.status = Status.RETRY if how >= 2 else Status.NEW
        row.due = self._clock.now + (0.5, 3.0)[which % 2]
        self._commit(row, f", {row.status.name} and due in {row.due - self._clock.now} s")

    def foreign(self, which: int, how: int) -> None:
        """Another dispatcher left an event in processing."""
        row = self._new(which, how)
        row.status = Status.PROCESSING
        self._commit(row, ", in processing")

    def poison(self, which: int, how: int) -> None:
        """An event that the broker refuses once, three times, or for ever."""
        row = self._new(which, how)
        self._broker.bad[row.id] = (1, MAX_ATTEMPTS, FOR_EVER, FOR_EVER)[how]
        self._commit(row, f", refused {('once', 'three times', 'for ever', 'for ever')[how]}")

    # --- steps: what goes wrong

    def lose(self, which: int, how: int) -> None:
        """A connection is lost in the middle of something."""
        agenda = self._agenda()
        if not agenda:
            return
        item = agenda[which % len(agenda)]
        if isinstance(item, Wire):
            self._tell(f"{item.owner} loses the connection to the broker at: {item}")
            if how % 2 and not item.arrived:
                item.arrive()
            item.lose()
        elif isinstance(item, Ring):
            self._tell(f"never: {item}")
            item.lose()
        elif how == 0:
            self._tell(f"lost before it happens: {item}")
            item.lose()
        elif how == 1:
            self._tell(f"it happens, the answer is lost: {item}")
            item.lose_answer()
        else:
            self._tell(f"no answer in time: {item}")
            self._abandon(item)

    def late(self, which: int, how: int) -> None:
        """What nobody waits for any more happens, or never will."""
        if not self._late:
            return
        late = self._late.pop(which % len(self._late))
        self._tell(f"late: {late.what}")
        late.land()

    def crash(self, which: int, how: int) -> None:
        """SIGKILL."""
        if self._processes:
            process = self._processes.pop(which % len(self._processes))
            self._tell(f"{process.name} is killed")
            self._bury(process)

    def freeze(self, which: int, how: int) -> None:
        """SIGSTOP."""
        awake = [process for process in self._processes if not process.frozen]
        if awake:
            process = awake[which % len(awake)]
            process.frozen = True
            for item in (*process.store.heads, *process.sink.wires):
                item.asked = False
            self._tell(f"{process.name} is frozen")

    def resume(self, which: int, how: int) -> None:
        """SIGCONT."""
        frozen = [process for process in self._processes if process.frozen]
        if frozen:
            process = frozen[which % len(frozen)]
            process.frozen = False
            self._tell(f"{process.name} goes on")

    def stall(self, which: int, how: int) -> None:
        """Nobody answers for longer than a lease lasts."""
        self._tell("-- 10.5 s pass")
        self._pass(10.5)

    def stop(self, which: int, how: int) -> None:
        """SIGTERM."""
        awake = [process for process in self._processes if not process.frozen]
        if awake:
            process = awake[which % len(awake)]
            self._tell(f"{process.name} is told to stop")
            process.stop()

    def join(self, which: int = 0, how: int = 0) -> None:
        """A daemon starts."""
        if len(self._processes) < MAX_PROCESSES:
            name = f"d{len(self._processes) + len(self._buried) + 1}"
            self._tell(f"{name} starts")
            self._processes.append(
                Process(
                    name,
                    self._db,
                    self._broker,
                    self._clock,
                    bell=self._scenario.bell,
                    tell=self._tell,
                    late=self._late_wire,
                    broken=self._break,
                )
            )

    def outage(self, which: int, how: int) -> None:
        """The broker is down, or up again."""
        self._broker.down = not self._broker.down
        self._tell(f"the broker is {'down' if self._broker.down else 'up'}")

    def trouble(self, which: int, how: int) -> None:
        """A topic is in trouble, or no more."""
        self._broker.missing ^= {TOPICS[which % len(TOPICS)]}
        self._tell(f"topics in trouble: {sorted(self._broker.missing)}")

    def lock(self, which: int, how: int) -> None:
        """A session holds a row that waits for a worker other than the relay, or all that it holds are free again."""
        waiting = sorted(row.id for row in self._db.rows.values() if row.status in UNHURRIED)
        if how == 3 or not waiting:
            self._db.locked.clear()
            self._tell("no row is locked")
            return
        self._db.locked.add(waiting[which % len(waiting)])
        self._tell(f"locked: {sorted(self._db.locked)}")

    def ring(self, which: int, how: int) -> None:
        """A bell rings for no reason, or once more."""
        if self._processes:
            process = self._processes[which % len(self._processes)]
            self._tell(f"{process.name} hears the bell, whatever for")
            process.doorbell.ring()

    def fall(self, which: int, how: int) -> None:
        """A bell does not ring any more, and says so or not. Nobody hangs it again but `hang`."""
        if self._processes:
            process = self._processes[which % len(self._processes)]
            told = how % 2 == 1
            self._tell(f"{process.name} hears no bell any more{'' if told else ', and does not know it'}")
            process.doorbell.fall(told=told)

    def hang(self, which: int, how: int) -> None:
        """It rings again."""
        if self._processes:
            process = self._processes[which % len(self._processes)]
            self._tell(f"{process.name} hears the bell from now on")
            process.doorbell.hang()

    def operate(self, which: int, how: int) -> None:
        """An operator requeues or discards a dead letter."""
        if not self._db.dead:
            return
        event_id = sorted(self._db.dead)[which % len(self._db.dead)]
        if how == 3:
            self._tell(f"operator: discard {event_id}")
            self._db.discard(event_id)
            self._discarded.add(event_id)
        else:
            self._requeue(event_id, repaired=how > 0)

    def _requeue(self, event_id: int, *, repaired: bool) -> None:
        self._tell(f"operator: requeue {event_id}{', repaired' if repaired else ''}")
        if repaired:
            self._broker.bad.pop(event_id, None)
        self._broker.refused.discard(event_id)
        self._db.requeue(event_id)
        self._hear()

    # --- the end

    def _settle(self) -> None:
        """Nothing is broken any more: everything must come to its end."""
        self._tell("-- nothing is broken any more")
        self._broker.down, self._broker.missing = False, set()
        self._db.locked.clear()
        for process in self._processes:
            process.frozen = False
        while self._late:
            self.late(0, 0)
        for row in self._open:
            self._commit(row, ", which took its id earlier")
        self._run()
        self._until(lambda: not any(self._waiting()), "these are not settled")
        self._check_delivered(self._committed - self._db.dead.keys() - set(self._held()))
        for event_id in sorted(self._db.dead):
            self._requeue(event_id, repaired=True)
        self._broker.bad.clear()
        self._until(lambda: not any(self._waiting()) and not self._db.dead, "these are not settled in the end")
        self._check_delivered(self._committed)
        if self._probe:
            self._check_circuits()

    def _check_delivered(self, expected: set[int]) -> None:
        missing = expected - self._broker.delivered - self._discarded
        if missing:
            raise Violation("nothing is lost", f"never delivered: {sorted(missing)}")

    def _held(self) -> Iterator[int]:
        """Behind a dead letter that holds."""
        holders = [row for row in self._db.dead.values() if row.holds]
        for row in self._db.rows.values():
            if row.due == HELD_UNTIL and any(h.aggregate == row.aggregate and h.id < row.id for h in holders):
                yield row.id

    def _waiting(self) -> Iterator[int]:
        """Rows that something must become of."""
        held = set(self._held())
        yield from (row.id for row in self._db.rows.values() if row.status is not Status.SENT and row.id not in held)

    def _until(self, settled: Callable[[], bool], what: str) -> None:
        for _ in range(PATIENCE):
            if settled():
                return
            self._calm(rounds=1)
        rows = [f"{self._db.rows[event_id]}" for event_id in self._waiting()]
        raise Violation("nothing is lost", f"{what}: {rows} {list(self._db.dead)}")

    def _calm(self, rounds: int) -> None:
        for _ in range(rounds):
            if not self._processes:
                self.join()
            for _ in range(50):
                agenda = self._agenda()
                if not agenda:
                    break
                for item in agenda:
                    self._proceed(item)
            self._pass(0.5)

    def _check_circuits(self) -> None:
        """An event in each lane, so that topics can be probed; then all circuits are closed."""
        for aggregate in range(self._scenario.aggregates):
            for topic in range(len(TOPICS)):
                self._commit(self._new(aggregate, topic))
        self._until(lambda: not any(self._waiting()), "these are not settled after all")
        self._calm(rounds=20)
        for process in self._processes:
            paused = dict(process.crew._relay.pauses.open_circuits())
            if paused:
                raise Violation("circuits close", f"{process.name} is paused: {paused}")

    @property
    def watching(self) -> list[str]:
        """Who looks for events again and again, in the end."""
        return [process.name for process in self._processes if process.store.watches]

    @property
    def not_ready(self) -> dict[str, str]:
        """Why which daemon is not ready, in the end."""
        found = {}
        for process in self._processes:
            reason = process.crew.readiness()["sink"]
            if reason is not None:
                found[process.name] = reason
        return found
