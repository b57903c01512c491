"""The doorbell: a thread that listens to the binary log, and begins anew whenever that ends."""

import asyncio
import threading
import time
from contextlib import suppress
from dataclasses import replace
from functools import partial
from typing import Any, Final

import structlog
from pymysql.err import Error
from pymysqlreplication.exceptions import BinLogNotEnabled
from sqlalchemy.exc import DBAPIError

from outboxd.backoff import Backoff
from outboxd.ports import Bell
from outboxd.store.binlog.sieve import Heard
from outboxd.store.binlog.stream import SILENCE, Stream
from outboxd.store.engine import ConnectOptions, error_code, normalise, open_engine

log = structlog.get_logger(__name__)

AGAIN: Final = Backoff(base=0.2, max=15.0, jitter=0.3)

PACE: Final = 0.003
"""Seconds between two rings: what comes in between is one more, so that batches do not become tiny."""

UNCLEAR_PACE: Final = 0.05
"""The same for what may be somebody else's: such a bell must not cost more than polling."""

STABLE: Final = 5.0
"""Seconds after which a stream counts as well, and the back-off begins from the start."""

_DENIED: Final = frozenset({1044, 1045, 1142, 1227})
_NO_LOG: Final = 1381


class BinlogDoorbell:
    """See `ports.Doorbell`. It logs in as the store does; always by PyMySQL, whatever the URL's driver."""

    def __init__(self, url: str, table: str, options: ConnectOptions) -> None:
        parsed = normalise(url).set(drivername="mysql+pymysql")
        self._engine = open_engine(parsed.render_as_string(hide_password=False), replace(options, read_timeout=SILENCE))
        self._names = (parsed.database or "", table)
        self._stopping = threading.Event()
        self._stream: Stream | None = None
        self._lock = threading.Lock()

    def start(self, bell: Bell) -> None:
        """Begins to listen, in a thread that does not keep the process from ending."""
        rope = _Rope(bell, asyncio.get_running_loop())
        threading.Thread(target=self._serve, args=(rope,), name="doorbell", daemon=True).start()

    def stop(self) -> None:
        """The thread ends by itself, soon."""
        with self._lock:
            self._stopping.set()
            if self._stream is not None:
                self._stream.interrupt()

    def _serve(self, rope: "_Rope") -> None:
        failures = 0
        while not self._stopping.is_set():
            began = time.monotonic()
            try:
                self._listen(rope)
            except (DBAPIError, Error, OSError, BinLogNotEnabled) as error:
                reason = _reason(error)
            except Exception as error:
                # The library's view of what the server sent. It must not end the doorbell for ever.
                log.debug("doorbell.failed", exc_info=error)
                reason = f"{type(error).__name__} while the log was read"
            if not self._stopping.is_set():
                rope.lost(reason)
                failures = 1 if time.monotonic() - began > STABLE else failures + 1
                self._stopping.wait(AGAIN.delay(failures))

    def _listen(self, rope: "_Rope") -> None:
        """Rings until the stream ends, which raises."""
        stream = Stream(self._engine, rope.let_go)
        with self._lock:
            self._stream = stream
            if self._stopping.is_set():
                return
        try:
            sieve = stream.open(*self._names)
            rope.hung(stream.row_format)
            while True:
                rope.pull(sieve.next())
        finally:
            stream.close()


class _Rope:
    """From the thread to the bell in the event loop."""

    def __init__(self, bell: Bell, loop: asyncio.AbstractEventLoop) -> None:
        self._bell = bell
        self._loop = loop
        self._pulled = self._certain = False
        self._rung_at = 0.0

    def hung(self, row_format: str) -> None:
        """The log is listened to from now on. What was written before may not have been heard of."""
        self._tell(self._bell.hung, row_format)

    def lost(self, reason: str) -> None:
        """It is no longer. What was pulled is forgotten: `hung` makes everybody read."""
        self._pulled = self._certain = False
        self._tell(self._bell.lost, reason)

    def pull(self, heard: Heard) -> None:
        """It will ring when all that has come is looked at."""
        self._certain = self._certain or heard is Heard.INSERT
        self._pulled = self._certain or self._pulled or time.monotonic() - self._rung_at >= UNCLEAR_PACE

    def let_go(self) -> None:
        """Rings, if it was pulled; then the thread sleeps, so that a stream of commits wakes it once in a while, and
        not for each of them."""
        if self._pulled:
            self._rung_at = time.monotonic()
            self._tell(partial(self._bell.ring, certain=self._certain))
            self._pulled = self._certain = False
            time.sleep(PACE)

    def _tell(self, call: Any, *values: str) -> None:
        with suppress(RuntimeError):  # the event loop is closed
            self._loop.call_soon_threadsafe(call, *values)


def _reason(error: Exception) -> str:
    """What is wrong, and the cure where we know it."""
    code = error_code(error)
    original = error.orig if isinstance(error, DBAPIError) and error.orig is not None else error
    text = " ".join(str(part) for part in original.args) or type(original).__name__
    if isinstance(error, BinLogNotEnabled) or code == _NO_LOG:
        return 'the server writes no binary log; start it with log_bin, or write doorbell.kind = "none"'
    if code in _DENIED:
        return f"{text}; `outboxd grants` prints what is needed"
    return text
