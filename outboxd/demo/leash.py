"""`python -m outboxd.demo.leash PARENT COMMAND...`: becomes COMMAND, which ends when process PARENT does.

That is Linux's own service; elsewhere COMMAND just runs, and only a demo that is killed with -9 leaves it behind.
"""

import ctypes
import os
import signal
import sys
from typing import Final

PR_SET_PDEATHSIG: Final = 1


def main(parent: str, *command: str) -> None:
    """Replaces this process."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
        if os.getppid() != int(parent):  # it ended before it could be noticed
            sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606 - no shell is wanted


if __name__ == "__main__":
    main(*sys.argv[1:])
