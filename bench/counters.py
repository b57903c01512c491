"""What a database server counts, and the CPU of the processes that take part."""

from collections.abc import Mapping
from typing import Any, Final

from bench.program import cpu_seconds

STATUS: Final = {
    "Questions": "statements",
    "Com_select": "select",
    "Com_insert": "insert",
    "Com_update": "update",
    "Com_delete": "delete",
    "Com_begin": "begin",
    "Com_commit": "commit",
    "Innodb_os_log_written": "redo_bytes",
    "Bytes_sent": "sent_bytes",
}
"""The server's name of a counter, and ours. One statement is one round trip: drivers send one at a time."""


def counters(connection: Any) -> dict[str, float]:
    """The counters of STATUS, and the size of the binary log. It counts itself: two statements."""
    names = ",".join(f"'{name}'" for name in STATUS)
    with connection.cursor() as cursor:
        cursor.execute(f"SHOW GLOBAL STATUS WHERE Variable_name IN ({names})")
        found = {STATUS[name]: float(value) for name, value in cursor.fetchall()}
        cursor.execute("SHOW BINARY LOGS")
        found["binlog_bytes"] = float(sum(row[1] for row in cursor.fetchall()))
    return found


def cpu(pids: Mapping[str, int]) -> dict[str, float]:
    """Seconds of CPU by the name of the process."""
    return {name: cpu_seconds(pid) for name, pid in pids.items()}


def difference(after: Mapping[str, float], before: Mapping[str, float]) -> dict[str, float]:
    """What was counted in between."""
    return {name: value - before[name] for name, value in after.items()}
