"""A doorbell that is cut off: it rings again, and what was written meanwhile is found."""

from contextlib import suppress

import pymysql

from tests.chaos.scenario import scenario
from tests.chaos.scene import OPEN, Scene
from tests.end_to_end.daemon import Daemon

BELL_ALONE = {"DOORBELL__KIND": "binlog", "RELAY__POLL_INTERVAL": "1h"}
"""Nobody polls: what is delivered was heard of, or found when the bell hung again."""


def _ringing(scene: Scene) -> Daemon:
    daemon = scene.daemon(**BELL_ALONE)
    scene.hears(daemon, "doorbell.ringing")
    return daemon


@scenario()
def doorbell_cut_again_and_again(scene: Scene) -> None:
    """The log is flushed and purged, its streams are killed: the bell rings again, and nothing waits that it missed."""
    topic = scene.topic()
    scene.write(topic)
    daemon = _ringing(scene)
    scene.flow()
    _renew_log(scene)
    scene.flow()
    _cut(scene, daemon)
    _renew_log(scene)
    scene.recovers(within=6)
    scene.writers.stop()
    for _ in range(2):
        scene.until(lambda: not scene.count(OPEN), "all is quiet")
        _cut(scene, daemon)
        # Nothing else is written that would ring for it, too.
        scene.rest(0, 0.8)
        scene.insert("missed", topic)
        scene.recovers(within=6)
    _rings_for_one(scene, daemon, topic)


@scenario()
def doorbell_behind_a_crash(scene: Scene) -> None:
    """kill -9 of the database under load, and its restart: without a poll, the bell alone brings the delivery back."""
    topic = scene.topic()
    scene.write(topic)
    daemon = _ringing(scene)
    scene.flow()
    scene.server.kill()
    scene.rest(0, 0.5)
    scene.server.start()
    scene.recovers(within=12)
    scene.writers.stop()
    _rings_for_one(scene, daemon, topic)


def _hung(scene: Scene, daemon: Daemon) -> None:
    scene.until(lambda: daemon.metric("outbox_doorbell_connected") == 1, "the bell hangs")


def _cut(scene: Scene, daemon: Daemon) -> None:
    """KILL of whoever follows the log, once the daemon does."""
    _hung(scene, daemon)
    lost = len(daemon.events("doorbell.lost"))
    for (session,) in scene.query("SELECT id FROM information_schema.processlist WHERE command LIKE 'Binlog Dump%'"):
        with suppress(pymysql.OperationalError):  # it has ended by itself
            scene.query(f"KILL {session}")
    scene.until(lambda: len(daemon.events("doorbell.lost")) > lost, "the bell is lost")


def _renew_log(scene: Scene) -> None:
    """A new file of the log, and none of the old ones."""
    scene.query("FLUSH BINARY LOGS")
    newest = scene.query("SHOW BINARY LOGS")[-1][0]

    def purged() -> bool:
        with suppress(pymysql.OperationalError):  # somebody still reads an old one
            scene.query(f"PURGE BINARY LOGS TO '{newest}'")
        return scene.query("SHOW BINARY LOGS")[0][0] == newest

    scene.until(purged, "the log is purged")


def _rings_for_one(scene: Scene, daemon: Daemon, topic: str) -> None:
    """For a single event, when nothing else is written that it could ring for."""
    scene.until(lambda: not scene.count(OPEN), "all is quiet")
    _hung(scene, daemon)
    rung = daemon.metric("outbox_doorbell_rings_total")
    scene.insert("heard", topic)
    scene.until(lambda: daemon.metric("outbox_doorbell_rings_total") > rung, "the bell rings")
    scene.recovers(within=3)
