"""Ctrl-C, SIGTERM and SIGHUP end the demo in good order."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

SIGNALS: Final = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


@contextmanager
def interruptible() -> Iterator[Callable[[], None]]:
    """Each signal raises KeyboardInterrupt in the block, once: from then on, cleaning up is not disturbed.

    The block gets a function that makes it deaf, for a clean-up that no signal began.
    """

    def deafen() -> None:
        for number in SIGNALS:
            signal.signal(number, signal.SIG_IGN)

    def interrupt(_number: int, _frame: FrameType | None) -> None:
        deafen()
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in SIGNALS}
    try:
        yield deafen
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
