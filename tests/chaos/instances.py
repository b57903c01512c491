"""Daemons that die, hang, come and go."""

import signal
from contextlib import suppress

import pymysql

from tests.chaos.scenario import scenario
from tests.chaos.scene import SHORT_LEASE, Scene
from tests.end_to_end.daemon import Daemon

MORTAL = {"LEASE__TTL": f"{SHORT_LEASE}s"}
"""For a daemon whose lease will end without it."""

BELL = {"DOORBELL__KIND": "binlog"}


def _shares(scene: Scene, *expected: int) -> None:
    shares = "SELECT COUNT(*) FROM outbox_lanes WHERE owner IS NOT NULL GROUP BY owner ORDER BY 1 DESC"
    scene.until(lambda: [row[0] for row in scene.query(shares)] == list(expected), f"the lanes are shared {expected}")


@scenario(attempts=3)
def killed_again_and_again(scene: Scene) -> None:
    """kill -9 in mid batch, three times: what was in flight comes again, and nothing innocent is a dead letter."""
    topic = scene.topic()
    scene.fill(topic, 12_000)
    scene.write(topic, pace=200)
    for _ in range(3):
        daemon = scene.daemon(LEASE__TTL="2s")
        scene.flow(scene.dice.randrange(100, 2000))
        scene.kill(daemon)
    scene.daemon()
    scene.recovers(within=20)


@scenario()
def stopped_again_and_again(scene: Scene) -> None:
    """SIGTERM in mid batch, and a start, four times: no event comes twice, no exit code but 0."""
    topic = scene.topic()
    scene.fill(topic, 12_000)
    scene.write(topic, pace=200)
    for _ in range(4):
        daemon = scene.daemon()
        scene.flow(scene.dice.randrange(100, 1500))
        scene.stop(daemon)
    scene.daemon()
    scene.recovers(within=15)


@scenario(attempts=1)
def replicas_join_leave_and_die(scene: Scene) -> None:
    """Three share 64 lanes 22/21/21; one leaves, one is killed: its lanes are served again within lease + 2 s."""
    scene.write(scene.topic())
    first = scene.daemon(**MORTAL)
    scene.flow()
    second, third = scene.daemon(**MORTAL), scene.daemon(**MORTAL)
    _shares(scene, 22, 21, 21)
    scene.flow()
    scene.stop(first)
    _shares(scene, 32, 32)
    scene.kill(scene.dice.choice([second, third]))
    scene.recovers(within=SHORT_LEASE + 2)
    _shares(scene, 64)


@scenario(attempts=1)
def frozen_past_its_lease(scene: Scene) -> None:
    """SIGSTOP of one of two beyond its lease: the other serves its lanes; SIGCONT: it disturbs nobody."""
    scene.write(scene.topic(), pace=900)
    daemons = [scene.daemon(**MORTAL), scene.daemon(**MORTAL)]
    _shares(scene, 32, 32)
    scene.flow()
    frozen = scene.dice.choice(daemons)
    scene.freeze(frozen)
    scene.recovers(within=SHORT_LEASE + 2)
    _shares(scene, 64)
    scene.rest(0, 1)
    scene.thaw(frozen)
    _shares(scene, 32, 32)
    scene.recovers(within=5)


@scenario()
def frozen_within_its_lease(scene: Scene) -> None:
    """SIGSTOP and SIGCONT so short that the lease holds: as if nothing had been."""
    scene.write(scene.topic())
    daemon = scene.daemon()
    scene.flow()
    for _ in range(5):
        daemon.signal(signal.SIGSTOP)
        scene.rest(0.1, 0.8)
        scene.thaw(daemon)
        scene.rest(0.1, 0.5)
    scene.recovers(within=5)


@scenario()
def rolling_restart(scene: Scene) -> None:
    """Three are replaced one after the other under load: no event comes twice."""
    scene.write(scene.topic())
    daemons = [scene.start_daemon() for _ in range(3)]
    _shares(scene, 22, 21, 21)
    for daemon in daemons:
        scene.stop(daemon)
        scene.daemon()
        scene.flow(100)
    _shares(scene, 22, 21, 21)
    scene.recovers(within=5)


@scenario()
def two_of_the_same_name(scene: Scene) -> None:
    """A second daemon with the name of the first is refused its lease; the first is not disturbed."""
    scene.write(scene.topic())
    first = scene.daemon(INSTANCE__NAME="outboxd-0")
    second = scene.start_daemon(INSTANCE__NAME="outboxd-0")
    scene.hears(second, "lease.refused")
    scene.flow(600)
    assert not second.events("lease.lanes"), "both have lanes"
    scene.stop(first)
    scene.hears(second, "lease.lanes", owned=64)
    scene.recovers(within=5)


@scenario(attempts=3, unknown=True)
def everything_at_once(scene: Scene) -> None:
    """Two daemons with doorbells; kills, freezes, KILLs of sessions and resets of connections, as the dice say."""
    scene.write(scene.topic())
    daemons = [scene.daemon(broker_proxy=True, **BELL), scene.daemon(broker_proxy=True, **BELL)]
    scene.flow()
    for _ in range(6):
        _any_fault(scene, daemons)
        scene.rest(0.1, 0.6)
    scene.recovers(within=20)


def _any_fault(scene: Scene, daemons: list[Daemon]) -> None:
    fault = scene.dice.randrange(4)
    victim = scene.dice.randrange(2)
    if fault == 0:
        scene.kill(daemons[victim])
        daemons[victim] = scene.start_daemon(broker_proxy=True, **BELL)
    elif fault == 1:
        scene.freeze(daemons[victim])
        scene.rest(0.5, 4)
        scene.thaw(daemons[victim])
    elif fault == 2:
        for (session,) in scene.query("SELECT id FROM information_schema.processlist WHERE user = 'daemon'"):
            with suppress(pymysql.OperationalError):  # it has ended by itself
                scene.query(f"KILL {session}")
    else:
        scene.servers.kafka_proxy.spoil("reset_peer", timeout=scene.dice.randrange(100))
        scene.rest(0.1, 1)
        scene.servers.kafka_proxy.heal()
