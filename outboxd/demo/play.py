"""The play: who comes on when, and that everybody goes when it is over, or is broken off."""

import random
import time
from contextlib import ExitStack
from typing import Final, NamedTuple

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError

from outboxd.demo.application import CONNECTIONS, Application, Names
from outboxd.demo.child import BrokenError
from outboxd.demo.consumer import Consumer
from outboxd.demo.daemon import Daemon
from outboxd.demo.interrupts import interruptible
from outboxd.demo.ledger import Account, DeadLetter, account
from outboxd.demo.plan import HOPELESS, transactions
from outboxd.demo.scene import Scene, Servers, set_up
from outboxd.demo.stage import Stage
from outboxd.store.session import describe

PATIENCE: Final = 20.0
"""Seconds without any progress after which what has not arrived is called missing."""
GLANCE: Final = 0.1
"""Seconds between two looks at the numbers."""


class Script(NamedTuple):
    """How much happens, and how fast."""

    events: int
    aggregates: int
    rate: float
    """Events a second; 0: as fast as they can be written."""


def perform(script: Script, servers: Servers, stage: Stage) -> Account:
    """Plays it all, and leaves nothing behind, also on Ctrl-C (KeyboardInterrupt). Raises OutboxdError."""
    try:
        with interruptible() as deafen, ExitStack() as stack:
            try:
                scene = set_up(servers, stage, stack)
                cast = _enter(scene, script.aggregates, stage, stack)
                _watch(scene, cast, script, stage)
                return _conclude(scene, cast, stage)
            finally:
                deafen()
    except DBAPIError as error:
        raise BrokenError(f"the database failed: {describe(error)}") from error


class _Cast(NamedTuple):
    daemon: Daemon
    application: Application
    consumer: Consumer
    connection: Connection
    """To look into the tables."""


def _enter(scene: Scene, aggregates: int, stage: Stage, stack: ExitStack) -> _Cast:
    with stage.step("outboxd run") as done:
        daemon = Daemon(scene.environ, scene.folder)
        stack.callback(daemon.kill)
        done(f"outboxd run, process {daemon.pid}, is ready")
    consumer = Consumer(scene.client, scene.topic)
    stack.callback(consumer.stop)
    consumer.start()
    source = scene.settings
    names = Names(scene.orders, source.tables.events, scene.topic, int(source.kafka.max_message_bytes) + 1)
    application = Application(scene.engine, names)
    stack.callback(application.stop)
    application.prepare(aggregates)
    return _Cast(daemon, application, consumer, stack.enter_context(scene.engine.connect()))


def _watch(scene: Scene, cast: _Cast, script: Script, stage: Stage) -> None:
    """Until every event is where it belongs, or nothing has moved for too long."""
    what = f"{script.events:,} events of {script.aggregates:,} orders, committed by {CONNECTIONS} connections"
    totals = {"committed": script.events, "delivered": script.events - HOPELESS, "dead letters": HOPELESS}
    with stage.bars(what, totals) as update:
        dice = random.Random()  # noqa: S311 - which order gets an event is no secret
        cast.application.start(transactions(script.events, script.aggregates, dice), script.rate)
        seen, since = (0, 0, 0), time.monotonic()
        while time.monotonic() - since < PATIENCE:
            for part in (scene, cast.daemon, cast.consumer):
                part.check()
            written = cast.application.finished
            ledger, delivered = cast.application.ledger, cast.consumer.delivered
            now = (len(ledger.committed), len(delivered), len(_dead_letters(scene, cast)))
            update(now)
            if written and now[1] + now[2] >= now[0]:
                return
            if now != seen:
                seen, since = now, time.monotonic()
            time.sleep(GLANCE)
        if not cast.application.finished:
            raise BrokenError(f"the application could not commit anything for {PATIENCE:.0f} s", cast.daemon.tail)


def _conclude(scene: Scene, cast: _Cast, stage: Stage) -> Account:
    """Once the daemon is gone nothing more can come, so what the consumer reads then is all there is."""
    cast.application.stop()
    with stage.step("outboxd stops") as done:
        cast.daemon.stop()
        cast.consumer.drain()
        done("outboxd stopped on SIGTERM, the topic is read to its end")
    found = account(cast.application.ledger, cast.consumer.arrivals, _dead_letters(scene, cast))
    if not found.holds:
        stage.tail(cast.daemon.tail)
    return found


def _dead_letters(scene: Scene, cast: _Cast) -> list[DeadLetter]:
    table = scene.settings.tables.dead_letters
    rows = cast.connection.exec_driver_sql(f"SELECT event_id, reason, last_error FROM {table}").all()
    return [DeadLetter(*row) for row in rows]
