"""Logging: structlog and the standard library's loggers, as one stream of lines on standard error.

Standard output belongs to the stdout sink.
"""

import logging
import os
import sys
import threading
from queue import Queue
from typing import Final

import structlog
from structlog.typing import Processor

from outboxd.errors import ConfigError
from outboxd.telemetry.redaction import redact

LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}
FORMATS: Final = ("auto", "console", "json")

# Libraries say nothing below a warning at any level: sqlalchemy's debug lines hold rows, and so payloads.
# Two of them repeat themselves for as long as an outage lasts, which outboxd reports itself, once at each change.
_NOISY: Final = ("aiokafka", "opentelemetry", "pymysqlreplication")


QUEUE: Final = 1000
"""Lines that wait for a slow reader; those behind them are lost."""

GOODBYE: Final = 1.0
"""Seconds in which the last lines must be written."""


class LogHandler(logging.Handler):
    """Writes lines to a file descriptor, in a thread. A line that cannot be written is counted and forgotten.

    So neither a full disk, nor a closed pipe, nor one whose reader sleeps stops delivery.
    """

    def __init__(self, descriptor: int) -> None:
        super().__init__()
        self.descriptor = descriptor
        self.lost = 0
        """Lines that could not be written."""
        self._counting = threading.Lock()
        self._lines: Queue[bytes] = Queue(QUEUE)
        self._writer: threading.Thread | None = None

    def emit(self, record: logging.LogRecord) -> None:
        """Hands over one line, or counts it as lost; never raises, never waits."""
        try:
            line = (self.format(record) + "\n").encode(errors="backslashreplace")
            self._lines.put_nowait(line)
            if self._writer is None:
                # A daemon thread: it may hang in its write, and must not keep the process from ending.
                self._writer = threading.Thread(target=self._write_lines, name="log", daemon=True)
                self._writer.start()
        except Exception:
            self._lose()

    def flush(self) -> None:
        """Waits until the lines so far are written; not for ever. `logging` calls it when the process ends."""
        with self._lines.all_tasks_done:
            self._lines.all_tasks_done.wait_for(lambda: not self._lines.unfinished_tasks, GOODBYE)

    def _write_lines(self) -> None:
        while True:
            line = self._lines.get()
            try:
                while line:
                    line = line[os.write(self.descriptor, line) :]
            except OSError:
                self._lose()
            finally:
                self._lines.task_done()

    def _lose(self) -> None:
        with self._counting:
            self.lost += 1


def configure(level: str = "info", format: str = "auto", descriptor: int | None = None) -> LogHandler:  # noqa: A002
    """Sets up logging for the process; may be called again.

    `level` is one of LEVELS; `format` is one of FORMATS, where auto is console on a terminal and else json;
    `descriptor` is standard error unless told otherwise. Raises ConfigError for other values.
    """
    if level not in LEVELS:
        raise ConfigError(f"log.level: expected one of {', '.join(LEVELS)}, got another text")
    if format not in FORMATS:
        raise ConfigError(f"log.format: expected one of {', '.join(FORMATS)}, got another text")
    handler = LogHandler(_standard_error() if descriptor is None else descriptor)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=_shared_processors(),
            processors=[
                structlog.stdlib.ProcessorFormatter.remove_processors_meta,
                redact,
                _renderer(format, handler.descriptor),
            ],
        )
    )
    structlog.configure(
        processors=[*_shared_processors(), structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        wrapper_class=structlog.make_filtering_bound_logger(LEVELS[level]),
        logger_factory=structlog.stdlib.LoggerFactory(),
    )
    _route_standard_library(LEVELS[level], handler)
    return handler


def _standard_error() -> int:
    if sys.stderr is None or sys.stderr.closed:
        return -1  # not 2: the next socket to be opened may have that number
    try:
        return sys.stderr.fileno()
    except OSError:  # replaced by something that is no file
        return 2


def _shared_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        # As plain text and before `redact`: tracebacks with local variables would hold payloads.
        structlog.processors.format_exc_info,
    ]


def _renderer(format: str, descriptor: int) -> Processor:  # noqa: A002
    terminal = os.isatty(descriptor)
    if format == "json" or (format == "auto" and not terminal):
        return structlog.processors.JSONRenderer()
    return structlog.dev.ConsoleRenderer(
        colors=terminal and "NO_COLOR" not in os.environ,
        exception_formatter=structlog.dev.plain_traceback,
    )


def _route_standard_library(level: int, handler: LogHandler) -> None:
    root = logging.getLogger()
    for old in root.handlers[:]:
        if isinstance(old, LogHandler):
            root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(max(level, logging.WARNING))
    logging.getLogger("outboxd").setLevel(level)
    for name in _NOISY:
        logging.getLogger(name).setLevel(logging.INFO if level == logging.DEBUG else logging.CRITICAL)
    logging.captureWarnings(True)
