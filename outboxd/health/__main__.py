"""The health check of a container: `python -m outboxd.health [PORT]` asks /livez and exits 0 or 1.

Without PORT it is OUTBOXD_HTTP__PORT. Standard library only, because it is started anew every few seconds.
"""

import os
import sys
from http.client import HTTPConnection, HTTPException

TIMEOUT = 3.0
"""Seconds."""


def main() -> int:
    """Prints what the daemon answered; returns the exit code."""
    port = sys.argv[1] if len(sys.argv) > 1 else os.environ.get("OUTBOXD_HTTP__PORT", "")
    if not port.isdecimal():
        print("which port? Name it, or set OUTBOXD_HTTP__PORT to the port of the daemon")  # noqa: T201
        return 1
    try:
        connection = HTTPConnection("127.0.0.1", int(port), timeout=TIMEOUT)
        connection.request("GET", "/livez")
        response = connection.getresponse()
        answer = response.read().decode(errors="replace")
    except (OSError, OverflowError, HTTPException) as error:
        print(f"port {port}: {error}")  # noqa: T201
        return 1
    print(answer)  # noqa: T201
    return 0 if response.status == 200 else 1


if __name__ == "__main__":
    sys.exit(main())
