"""A process's connections to the simulated database: statements wait until somebody lets them happen, or fail."""

import asyncio
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from outboxd.errors import DatabaseUnavailableError, LeaseLostError
from outboxd.model import Event, Status
from outboxd.ports import (
    EVERY_TOPIC,
    NOTHING_STANDS,
    Blocked,
    DueEvent,
    Found,
    HeldEvent,
    Hold,
    LaneSignature,
    LeaseView,
    QueueSizes,
    Rejection,
    Sighting,
    Snapshot,
    Standing,
    StuckEvent,
    TopicFilter,
    UnknownStatus,
)
from tests.model.database import SimulatedDatabase, stale_lanes

Statement = Callable[[], Any]


@dataclass(eq=False, slots=True)
class Job:
    """Statements of one connection, one after the other; in a transaction only the last, COMMIT, changes anything."""

    owner: str
    session: str
    label: str
    statements: list[Statement]
    answer: "asyncio.Future[Any]"
    begin: Statement = lambda: None
    end: Statement = lambda: None
    """What a transaction holds from its first statement on, and lets go of at its end."""
    begun: bool = False
    asked: bool = False
    """A process that is frozen has sent the present statement, and has not seen its answer."""

    def __str__(self) -> str:
        more = f", {len(self.statements)} statements left" if len(self.statements) > 1 else ""
        return f"{self.owner} {self.label}{more}"

    @property
    def done(self) -> bool:
        return not self.statements

    def proceed(self) -> None:
        """The present statement happens, and is answered."""
        statement = self.statements.pop(0)
        try:
            result = statement()
        except LeaseLostError as error:
            self._finish(error=error)
            return
        if not self.begun and self.statements:
            self.begin()
            self.begun = True
        if not self.statements:
            self._finish(result=result)

    def lose(self) -> None:
        """The connection is lost before the present statement happens."""
        self._finish(error=DatabaseUnavailableError("the connection was lost"))

    def lose_answer(self) -> None:
        """It happens, but nobody is told. What was not the last statement of a transaction is rolled back."""
        last = self.statements.pop() if len(self.statements) == 1 else None
        try:
            if last is not None:
                last()
        except LeaseLostError:
            pass
        finally:
            self.lose()

    def abandon(self) -> Statement | None:
        """Nobody waits any more. What the server may still do, if the last statement was on its way to it."""
        last = self.statements.pop() if len(self.statements) == 1 else None
        self.statements = []
        if not self.answer.done():
            self.answer.set_exception(DatabaseUnavailableError("no answer in time"))
        if last is None:
            self._let_go()
            return None

        def land() -> None:
            try:
                last()
            except LeaseLostError:
                pass
            finally:
                self._let_go()

        return land

    def _let_go(self) -> None:
        if self.begun:
            self.begun = False
            self.end()

    def _finish(self, *, result: Any = None, error: Exception | None = None) -> None:
        self.statements = []
        self._let_go()
        if self.answer.done():
            return  # cancelled
        if error is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(result)


class SimulatedStore:
    """All ports of `outboxd.ports` that a store has, for one process. Reads that find nothing are answered at once;
    but what `looks_wait` concerns: with a bell, much may happen between a look and its answer."""

    def __init__(
        self, owner: str, database: SimulatedDatabase, tell: Callable[[str], None], *, looks_wait: bool
    ) -> None:
        self._owner = owner
        self._looks_wait = looks_wait
        self._db = database
        self._tell = tell
        self.jobs: list[Job] = []
        self._watch: asyncio.TimerHandle | None = None
        self.read_at: dict[int, int] = {}
        """Of each event, the version of the database that the last read of it saw."""

    @property
    def heads(self) -> list[Job]:
        """What each connection is at work on."""
        self.jobs = [job for job in self.jobs if not job.done]
        found: dict[str, Job] = {}
        for job in self.jobs:
            found.setdefault(job.session, job)
        return list(found.values())

    async def _run(self, session: str, label: str, *statements: Statement) -> Any:
        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.jobs.append(Job(self._owner, session, label, list(statements), answer))
        return await answer

    async def _fenced(self, session: str, label: str, instance: str, commit: Statement) -> Any:
        """The instance's row is held from the fence to the end."""

        def lock(by: int) -> None:
            if instance in self._db.members:
                self._db.members[instance].locks += by

        answer: asyncio.Future[Any] = asyncio.get_running_loop().create_future()
        self.jobs.append(
            Job(
                self._owner,
                session,
                label,
                [partial(self._db.fence, instance), commit],
                answer,
                begin=partial(lock, 1),
                end=partial(lock, -1),
            )
        )
        return await answer

    # --- EventReader

    def _read(self, lanes: Sequence[int], limit: int, topics: TopicFilter) -> list[Event]:
        events = self._db.read(lanes, limit, topics)
        for event in events:
            self.read_at[event.id] = self._db.version
        if events:
            self._tell(f"{self._owner} reads {[event.id for event in events]} of lanes {list(lanes)}")
        return events

    async def read(self, lanes: Sequence[int], limit: int, topics: TopicFilter = EVERY_TOPIC) -> Found:
        events = await self.events(lanes, limit, topics)
        if not events:
            return Found(events, NOTHING_STANDS)
        cut_lane = events[-1].lane if len(events) == limit else None
        return Found(events, await self._standing(sorted({event.lane for event in events}), cut_lane))

    async def events(self, lanes: Sequence[int], limit: int, topics: TopicFilter) -> list[Event]:
        """The first of the statements."""
        if not self._db.read(lanes, 1, topics):
            return []
        return list(await self._run("read", "read", lambda: self._read(lanes, limit, topics)))

    def watch(self, lanes: Sequence[int], interval: float, found: Callable[[], None], *, seconds: float) -> None:
        """A look is nothing that anybody else notices."""
        if self._watch is not None:
            self._watch.cancel()
            self._watch = None
        if seconds <= 0:
            return

        def look() -> None:
            if self._db.read(lanes, 1, EVERY_TOPIC):
                self._watch = None
                found()
            else:
                self.watch(lanes, interval, found, seconds=seconds - interval)

        self._watch = asyncio.get_running_loop().call_later(interval, look)

    @property
    def watches(self) -> bool:
        """Whether the next look is near."""
        return self._watch is not None

    async def load_payloads(self, ids: Sequence[int]) -> dict[int, tuple[bytes | None, bytes | None]]:
        raise AssertionError("every payload is small")

    async def _standing(self, lanes: Sequence[int], cut_lane: int | None) -> Standing:
        """Two statements: each of its own moment."""
        found: dict[int, LaneSignature] = {}

        def look() -> None:
            found.update(self._db.signatures(lanes))

        if cut_lane is None:
            await self._run("read", "standing", look)
            return Standing(found, cut_lane_dated=False)
        dated = await self._run("read", "standing", look, lambda: self._db.dated(cut_lane))
        return Standing(found, dated)

    async def snapshot(
        self, lanes: Sequence[int], limit: int, topics: TopicFilter, known: Mapping[int, LaneSignature]
    ) -> Snapshot:
        def look() -> Snapshot:
            events = self._read(lanes, limit, topics)
            signatures = self._db.signatures(lanes)
            dated = len(events) == limit and self._db.dated(events[-1].lane)
            wanted = stale_lanes(lanes, known, signatures)
            return Snapshot(events, Standing(signatures, dated), self._db.blocked(wanted))

        result: Snapshot = await self._run("read", "snapshot", look)
        return result

    # --- Settler

    async def sent(self, events: Sequence[Event], _asked_at: float) -> int:
        ids = [event.id for event in events]
        return int(await self._run("settle", f"sent {list(ids)}", lambda: self._db.sent(ids)))

    async def reject(
        self, instance: str, rejections: Sequence[Rejection], holds: Sequence[Hold], _asked_at: float
    ) -> None:
        what = [f"{r.status.name} {[event.id for event in r.events]}" for r in rejections]
        what += [f"hold {[event.id for event in hold.events]} behind {hold.predecessor}" for hold in holds]
        await self._fenced("settle", "; ".join(what), instance, lambda: self._db.reject(rejections, holds))

    async def mark_suspects(self, instance: str, events: Sequence[Event], alone: Event | None) -> None:
        label = f"mark {[event.id for event in events]}"
        await self._fenced("settle", label, instance, lambda: self._db.mark_suspects(instance, events, alone))

    async def unmark_suspects(self, instance: str, events: Sequence[Event]) -> None:
        label = f"unmark {[event.id for event in events]}"
        await self._fenced("settle", label, instance, lambda: self._db.unmark_suspects(events))

    async def clear_suspects(self, instance: str, lanes: Collection[int]) -> None:
        label = f"clear {sorted(lanes)}"
        await self._fenced("settle", label, instance, lambda: self._db.clear_suspects(instance, lanes))

    # --- LeaseStore

    async def register(self, instance: str, name: str | None, ttl: float) -> None:
        await self._run("lease", "register", lambda: self._db.register(instance, name, ttl))

    async def renew(self, instance: str, ttl: float, report: str) -> None:
        await self._run("lease", "renew", lambda: self._db.renew(instance, ttl))

    async def evict_expired(self, instance: str) -> list[str]:
        if not self._db.expired():
            return []
        return list(await self._run("lease", "evict", self._db.evict))

    async def take(self, instance: str, count: int) -> None:
        def commit() -> None:
            self._db.take(instance, count)

        await self._fenced("lease", f"take {count}", instance, commit)

    async def give_back(self, instance: str, lanes: Collection[int]) -> None:
        label = f"give back {sorted(lanes)}"
        await self._run("lease", label, lambda: self._db.give_back(instance, lanes))

    async def view(self, instance: str) -> LeaseView:
        def look() -> LeaseView:
            alive = self._db.alive()
            others = [left for member, left in alive.items() if member != instance]
            expired = bool(self._db.expired())
            return LeaseView(tuple(alive), tuple(self._db.grants(instance)), min(others, default=None), expired)

        seen: LeaseView = await self._run("lease", "view", look)
        return seen

    async def deregister(self, instance: str) -> None:
        await self._run("lease", "deregister", lambda: self._db.deregister(instance))

    # --- Lookout

    async def look(self, lanes: Sequence[int]) -> Sighting:
        if not self._looks_wait:
            return self._seen(lanes)
        seen: list[Sighting] = []
        answer: Sighting = await self._run("look", "look", lambda: seen.append(self._seen(lanes)), lambda: seen[0])
        return answer

    def _seen(self, lanes: Sequence[int]) -> Sighting:
        db = self._db
        return Sighting(
            new=bool(db.read(lanes, 1, EVERY_TOPIC)),
            due=bool(db.due(lanes)),
            held=bool(db.held_lanes(lanes)),
            failed=bool(db.failed(lanes, (-1, 0), 1)),
        )

    # --- Upkeep

    async def held_lanes(self, lanes: Sequence[int]) -> list[int]:
        return self._db.held_lanes(lanes)

    async def holding(self, lanes: Sequence[int]) -> dict[int, LaneSignature]:
        return dict(await self._run("upkeep", "holding", lambda: self._db.holding(lanes)))

    async def holding_rows(self, lane: int) -> list[Blocked]:
        return list(await self._run("upkeep", "holding rows", lambda: self._db.holding_rows(lane)))

    async def held(self, lane: int, after: int, limit: int) -> list[HeldEvent]:
        if not self._db.held([lane], after):
            return []
        return list(await self._run("upkeep", "held", lambda: self._db.held([lane], after)))

    async def release_held(self, instance: str, ids: Sequence[int]) -> int:
        label = f"release {list(ids)}"
        return int(await self._fenced("upkeep", label, instance, lambda: self._db.release_held(ids)))

    async def due_lanes(self, lanes: Sequence[int]) -> list[int]:
        return sorted({event.lane for event in self._db.due(lanes)})

    async def due(self, lanes: Sequence[int], limit: int) -> list[DueEvent]:
        if not self._db.due(lanes):
            return []
        return list(await self._run("upkeep", "due", lambda: self._db.due(lanes)))

    async def promote(self, instance: str, due: Sequence[DueEvent]) -> int:
        label = f"promote {[event.id for event in due]}"
        return int(await self._fenced("upkeep", label, instance, lambda: self._db.promote(due)))

    async def undate(self, instance: str, lanes: Sequence[int], limit: int) -> int:
        ids = list(await self._run("upkeep", "dated", lambda: self._db.dated_ids(lanes, limit)))
        if ids:
            await self._fenced("upkeep", f"undate {ids}", instance, lambda: self._db.undate(ids))
        return len(ids)

    async def stuck_lanes(self, lanes: Sequence[int], age: float) -> list[int]:
        return sorted({lane for lane, _ in self._db.stuck(lanes, age)})

    async def stuck(self, lanes: Sequence[int], age: float, limit: int) -> list[StuckEvent]:
        if not self._db.stuck(lanes, age):
            return []
        return list(await self._run("upkeep", "stuck", lambda: [row for _, row in self._db.stuck(lanes, age)]))

    async def release(self, instance: str, status: Status, ids: Sequence[int], last_error: str) -> int:
        label = f"recover {list(ids)}"
        return int(await self._fenced("upkeep", label, instance, lambda: self._db.release(status, ids, last_error)))

    async def unknown_status(self, lanes: Sequence[int], limit: int) -> list[UnknownStatus]:
        return []

    async def give_up(self, instance: str, status: Status, ids: Sequence[int], last_error: str) -> int:
        raise AssertionError("every status is known")

    async def move_dead(
        self, instance: str, lanes: Sequence[int], after: tuple[int, int], limit: int
    ) -> tuple[list[str], int, tuple[int, int] | None]:
        found = self._db.failed(lanes, after, limit)
        if not found:
            return [], 0, None
        ids = [event_id for _, event_id in found]
        moved = await self._fenced("upkeep", f"move {ids}", instance, lambda: self._db.move(ids))
        return moved, 0, found[-1]

    async def expired_sent(self, after: int, age: float, limit: int) -> tuple[list[int], int | None]:
        return [], None

    async def expired_dead(self, after: int, age: float, limit: int) -> tuple[list[int], int | None]:
        return [], None

    async def delete_sent(self, ids: Sequence[int]) -> int:
        return 0

    async def delete_dead(self, ids: Sequence[int]) -> int:
        return 0

    # --- Sampler

    async def sample(self, lanes: Sequence[int]) -> QueueSizes:
        return QueueSizes({}, 0.0)
