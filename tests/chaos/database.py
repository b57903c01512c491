"""A database that dies, hangs, refuses, locks; and the way to it."""

import threading
import time
from contextlib import ExitStack, suppress
from typing import Any

import pymysql
from pymysql.constants import ER

from tests.chaos.scenario import scenario
from tests.chaos.scene import Scene
from tests.chaos.servers import DAEMON


@scenario()
def database_restarted(scene: Scene) -> None:
    """The database restarts in good order under load."""
    scene.write(scene.topic())
    scene.daemon()
    scene.flow()
    scene.server.restart()
    scene.recovers(within=8)


@scenario()
def database_killed(scene: Scene) -> None:
    """kill -9 of the database under load, also of the writers' transactions, and its restart."""
    scene.write(scene.topic())
    scene.daemon()
    for _ in range(2):
        scene.flow(100)
        scene.server.kill()
        scene.rest(0, 1)
        scene.server.start()
        scene.recovers(within=8)


@scenario(unknown=True)
def database_frozen(scene: Scene) -> None:
    """SIGSTOP of the database beyond the lease, and SIGCONT: queries that hang are given up."""
    scene.write(scene.topic())
    scene.daemon()
    scene.flow()
    scene.server.pause()
    scene.rest(4, 5)
    scene.server.resume()
    scene.recovers(within=10)


@scenario()
def sessions_killed(scene: Scene) -> None:
    """KILL of sessions by chance, the daemon's and the writers', in the middle of statements and COMMITs."""
    scene.write(scene.topic())
    scene.daemon()
    scene.flow()
    end = time.monotonic() + scene.dice.uniform(2, 3)
    while time.monotonic() < end:
        _kill_sessions(scene, 0.4)
        scene.rest(0.02, 0.2)
    scene.recovers(within=8)
    assert any(writer.errors for writer in scene.writers.all), "no writer lost its connection"


def _kill_sessions(scene: Scene, share: float) -> None:
    sessions = "SELECT id FROM information_schema.processlist WHERE db = %s AND user <> 'root'"
    for (session,) in scene.query(sessions, scene.database):
        if scene.dice.random() < share:
            with suppress(pymysql.OperationalError):
                scene.query(f"KILL {session}")


@scenario()
def failover_to_a_read_only_node(scene: Scene) -> None:
    """The node becomes read-only under load (1290), connections stay; then it is the primary again."""
    scene.write(scene.topic())
    daemon = scene.daemon()
    scene.flow()
    scene.query("SET GLOBAL read_only = ON")
    scene.hears(daemon, "database.unavailable")
    scene.rest(1, 2)
    scene.query("SET GLOBAL read_only = OFF")
    scene.recovers(within=8)


@scenario()
def connection_limit_reached(scene: Scene) -> None:
    """Others have every connection, and some of the daemon's are killed, then all: it is refused (1040), and waits."""
    scene.write(scene.topic())
    daemon = scene.daemon()
    scene.flow()
    with ExitStack() as stack:
        # The one that is kept for root is taken, too: all is said on a connection that is there already.
        root = stack.enter_context(scene.connect("root", read_timeout=60)).cursor()
        for _ in range(20):
            stack.enter_context(scene.connect())
        root.execute("SET GLOBAL max_connections = 10")
        try:
            for share in (0.5, 1.0):
                before = _refusals(root)
                _kill_daemons_sessions(scene, root, share)
                scene.until(lambda before=before: _refusals(root) > before, "the daemon is refused a connection")
                scene.rest(0.5, 1.5)
            scene.hears(daemon, "database.unavailable")
        finally:
            root.execute("SET GLOBAL max_connections = 151")
    scene.recovers(within=8)


def _kill_daemons_sessions(scene: Scene, root: Any, share: float) -> None:
    root.execute("SELECT id FROM information_schema.processlist WHERE user = %s ORDER BY id", DAEMON)
    sessions = [session for (session,) in root.fetchall()]
    for session in scene.dice.sample(sessions, round(share * len(sessions))):
        with suppress(pymysql.OperationalError):  # it has ended by itself
            root.execute(f"KILL {session}")


def _refusals(root: Any) -> int:
    """How many connections the server refused. MariaDB counts those apart that come to the place it keeps for root."""
    counted = "'Connection_errors_max_connections', 'Aborted_connects'"
    root.execute(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({counted})")
    return sum(int(row[1]) for row in root.fetchall())


@scenario()
def rows_locked(scene: Scene) -> None:
    """A session holds locks on the newest rows for seconds: what the daemon writes waits, and its reads do not."""
    scene.write(scene.topic())
    scene.daemon()
    scene.flow()
    for _ in range(2):
        with scene.connect() as connection, connection.cursor() as cursor:
            cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
            connection.begin()
            newest = "SELECT id FROM outbox_events WHERE id > (SELECT MAX(id) - 300 FROM outbox_events) FOR UPDATE"
            cursor.execute(newest)
            scene.rest(1, 4)
            connection.rollback()
    scene.recovers(within=8)


@scenario()
def deadlocks(scene: Scene) -> None:
    """Sessions lock rows in the order opposite to the daemon's, so that the database ends one of both (1213)."""
    scene.write(scene.topic())
    scene.daemon()
    scene.flow()
    stop, met = threading.Event(), threading.Event()
    lockers = [threading.Thread(target=_lock_backwards, args=(scene, stop, met), daemon=True) for _ in range(3)]
    for locker in lockers:
        locker.start()
    scene.until(met.is_set, "a deadlock is provoked")
    scene.rest(2, 3)
    stop.set()
    for locker in lockers:
        locker.join()
    scene.recovers(within=8)


def _lock_backwards(scene: Scene, stop: threading.Event, met: threading.Event) -> None:
    """They do not meet each other, as all go backwards; and have changed nothing, so that they are the victims."""
    with scene.connect(read_timeout=60) as connection, connection.cursor() as cursor:
        cursor.execute("SET SESSION TRANSACTION ISOLATION LEVEL READ COMMITTED")
        while not stop.is_set():
            try:
                connection.begin()
                cursor.execute("SELECT id FROM outbox_events WHERE status = 0 ORDER BY id DESC LIMIT 30")
                for (row,) in cursor.fetchall():
                    cursor.execute("SELECT id FROM outbox_events WHERE id = %s FOR UPDATE", (row,))
                connection.rollback()
            except pymysql.OperationalError as error:
                if error.args[0] not in (ER.LOCK_DEADLOCK, ER.LOCK_WAIT_TIMEOUT):
                    raise
                if error.args[0] == ER.LOCK_DEADLOCK:
                    met.set()


@scenario()
def cut_at_commit(scene: Scene) -> None:
    """The connections to the database end in the middle of statements, or of their answers: the outcome is unknown."""
    scene.write(scene.topic())
    scene.daemon(database_proxy=True)
    scene.flow()
    for _ in range(8):
        stream = scene.dice.choice(("upstream", "downstream"))
        scene.database_proxy.spoil("limit_data", stream, bytes=scene.dice.randrange(10, 20_000))
        scene.rest(0.1, 0.4)
        scene.database_proxy.heal()
        scene.rest(0.1, 0.4)
    scene.recovers(within=8)


@scenario(unknown=True)
def database_answers_lost(scene: Scene) -> None:
    """Half open: the database does what it is told, its answers vanish for longer than the lease."""
    scene.write(scene.topic())
    scene.daemon(database_proxy=True)
    scene.flow()
    scene.database_proxy.spoil("timeout", "downstream", timeout=0)
    scene.rest(3.5, 5)
    scene.database_proxy.heal()
    scene.recovers(within=10)


@scenario(unknown=True)
def database_out_of_reach(scene: Scene) -> None:
    """A black hole between daemon and database for longer than the lease, while the writers go on."""
    scene.write(scene.topic())
    scene.daemon(database_proxy=True)
    scene.flow()
    scene.database_proxy.spoil("timeout", "upstream", timeout=0)
    scene.database_proxy.spoil("timeout", "downstream", timeout=0)
    scene.rest(3.5, 5)
    scene.database_proxy.heal()
    scene.recovers(within=10)


@scenario(unknown=True)
def broker_and_database_away(scene: Scene) -> None:
    """Both are killed at once, and come back one after the other."""
    scene.write(scene.topic())
    scene.daemon()
    scene.flow()
    servers = [scene.server, scene.servers.kafka]
    for server in servers:
        server.kill()
    scene.rest(1, 3)
    for server in scene.dice.sample(servers, 2):
        server.start()
    scene.recovers(within=15)
