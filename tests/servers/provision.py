"""`python -m tests.servers.provision`: gets the servers that the tests run against. Quick when they are there."""

import fcntl
import shutil
import sys
from collections.abc import Callable

from tests.servers import faketime, kafka, mariadb, mysql, mysqlclient, promtool, tlc, toxiproxy
from tests.servers.cache import CACHE, UnavailableError, record


def _systemd_analyze() -> str:
    found = shutil.which("systemd-analyze")
    if found is None:
        raise UnavailableError("not installed (Debian: apt-get install systemd)")
    return found


PROVIDERS: dict[str, Callable[[], str]] = {
    mariadb.MariaDB.name: mariadb.provide,
    mysql.MySQL.name: mysql.provide,
    kafka.Kafka.name: kafka.provide,
    toxiproxy.Toxiproxy.name: toxiproxy.provide,
    "promtool": promtool.provide,
    faketime.NAME: faketime.provide,
    mysqlclient.NAME: mysqlclient.provide,
    "TLC": tlc.provide,
    "systemd-analyze": _systemd_analyze,
}


def main() -> int:
    """Provides what it can. What it cannot, it says, and the tests will too; that is no failure of its own."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        for name, provide in PROVIDERS.items():
            try:
                print(f"{name}: {provide()}")
                record(name, None)
            except (UnavailableError, OSError) as reason:
                print(f"{name}: UNAVAILABLE: {reason}")
                record(name, str(reason))
    return 0


if __name__ == "__main__":
    sys.exit(main())
