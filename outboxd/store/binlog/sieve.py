"""What of a replication stream concerns one table. Looks at a few bytes of each event, and passes over the rest.

A busy server writes tens of megabytes a second of other tables' rows into its log. They are neither decoded nor kept:
of each event the head is read, of a TABLE_MAP the names, of an insert the number of its table.
"""

from collections.abc import Callable
from enum import Enum, auto
from typing import Final

from pymysql.err import OperationalError
from pymysqlreplication.constants import BINLOG

WRITES: Final = frozenset({BINLOG.WRITE_ROWS_EVENT_V1, BINLOG.WRITE_ROWS_EVENT_V2, 0xA6})
"""Inserts; the last is MariaDB's compressed form."""

TEXTS: Final = frozenset({BINLOG.QUERY_EVENT, 0xA5})
"""Statements, plain and as MariaDB compresses them: DDL, XA COMMIT, and all there is without the format ROW."""

TRANSACTION_PAYLOAD: Final = 0x28
"""A whole transaction in one compressed event, where MySQL has binlog_transaction_compression=ON."""

_FRAME: Final = 4
"""Bytes of a packet's own head: its length, and a number."""
_HEAD: Final = 20
"""Bytes of an event's head, with the zero that says that it is one."""
_FULL: Final = 0xFFFFFF
"""A packet of this length goes on in the next one."""
_CHUNK: Final = 64 * 1024
"""What is passed over is read in pieces, so that a row of a gigabyte takes no memory here."""
_SHORT: Final = 1024
"""No BEGIN is longer, with all that stands around it."""
LOST: Final = 2013
"""The driver's number of an error: the connection has ended."""


class Heard(Enum):
    """What the log tells."""

    INSERT = auto()
    """A transaction that inserted into the table was committed."""
    UNCLEAR = auto()
    """Something was committed that may concern the table."""


class Sieve:
    """Reads the stream. `read` returns as many bytes as it is asked for, or less at the end of the stream."""

    def __init__(self, read: Callable[[int], bytes], schema: str, table: str) -> None:
        self._read = read
        names = b"".join(bytes([len(name)]) + name + b"\0" for name in (schema.encode(), table.encode()))
        self._names = names.decode(errors="replace").lower()
        """As a TABLE_MAP has them. Servers that ignore case write them in lower case."""
        self._names_size = len(names)
        self._table_id: bytes | None = None
        self._inserted = False

    def next(self) -> Heard:
        """Waits for something that concerns the table. Raises OperationalError when the stream has ended."""
        while True:
            head = self._read(_FRAME + _HEAD)
            if len(head) < _FRAME + _HEAD or head[_FRAME]:
                raise self._ended(head)
            size = head[0] | head[1] << 8 | head[2] << 16
            heard, taken = self._look(head[_FRAME + 5], size - _HEAD)
            self._pass(size - _HEAD - taken, more=size == _FULL)
            if heard is not None:
                return heard

    def _look(self, kind: int, size: int) -> tuple[Heard | None, int]:
        """What an event tells, and how many of its `size` bytes that took."""
        if kind == BINLOG.TABLE_MAP_EVENT:
            # Number (6 bytes), flags (2), then the names.
            body = self._read(min(size, 8 + self._names_size))
            if body[8:].decode(errors="replace").lower() == self._names:
                self._table_id = body[:6]
            return None, len(body)
        if kind in WRITES:
            table_id = self._read(6)
            self._inserted = self._inserted or table_id == self._table_id
            return None, len(table_id)
        if kind == BINLOG.XID_EVENT:
            inserted, self._inserted = self._inserted, False
            return (Heard.INSERT if inserted else None), 0
        if kind in TEXTS:
            return self._text(size)
        return (Heard.UNCLEAR if kind == TRANSACTION_PAYLOAD else None), 0

    def _text(self, size: int) -> tuple[Heard | None, int]:
        """Anything but the beginning of a transaction may concern the table. (A checksum may follow the text.)"""
        if size > _SHORT:
            return Heard.UNCLEAR, 0
        body = self._read(size)
        begins = body.endswith(b"BEGIN") or body[:-4].endswith(b"BEGIN")
        return (None if begins else Heard.UNCLEAR), size

    def _pass(self, size: int, *, more: bool) -> None:
        while size > 0:
            passed = len(self._read(min(size, _CHUNK)))
            if not passed:
                raise OperationalError(LOST, "the server has ended the replication stream")
            size -= passed
        if more:
            head = self._read(_FRAME)
            size = int.from_bytes(head[:3], "little")
            self._pass(size, more=size == _FULL)

    def _ended(self, head: bytes) -> OperationalError:
        """The server's own reason, where it gave one: its number (2 bytes), a state (6), and text."""
        if len(head) > _FRAME and head[_FRAME] == 0xFF:
            size = int.from_bytes(head[:3], "little")
            error = head[_FRAME:] + self._read(max(0, size - len(head) + _FRAME))
            return OperationalError(int.from_bytes(error[1:3], "little"), error[9:].decode(errors="replace"))
        return OperationalError(LOST, "the server has ended the replication stream")
