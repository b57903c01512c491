"""The types of configuration values: how each is read, written back as TOML, and named in an error."""

import re
from collections.abc import Callable
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Annotated, Any, Final

from pydantic import BeforeValidator, ByteSize, SecretStr, TypeAdapter
from pydantic_core import PydanticCustomError


class Untyped(str):
    """Text from where everything is text (environment, flags): here "3" may become a number; in TOML it may not."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Kind:
    """What an error and `outboxd config show` need to know of a type."""

    noun: str
    example: str
    """As it is written in TOML; errors show it where the key's own default says nothing."""
    show: Callable[[Any], Any] = lambda value: value
    """From the value to what TOML can hold."""


def wrong_kind(got: str = "") -> PydanticCustomError:
    """Says no more than that the value is not of the key's kind; the line is worded from the `Kind`."""
    return PydanticCustomError("wrong_kind", "wrong kind", {"got": got})


def refusal(text: str) -> PydanticCustomError:
    """An error whose text the user sees as it stands. Never put a value into it."""
    return PydanticCustomError("refusal", "{text}", {"text": text})


_PLAIN: Final = re.compile(r"[0-9]{1,12}(\.[0-9]{1,12})?")

# --- durations --------------------------------------------------------------------------------------------------

_UNITS: Final = {"d": 86_400_000_000, "h": 3_600_000_000, "m": 60_000_000, "s": 1_000_000, "ms": 1_000}
"""In microseconds, so that sums are exact."""
_NUMBER: Final = r"([0-9]{1,12}(?:\.[0-9]{1,6})?)"
_DURATION: Final = re.compile(rf"(?:{_NUMBER}d)?(?:{_NUMBER}h)?(?:{_NUMBER}m(?!s))?(?:{_NUMBER}s)?(?:{_NUMBER}ms)?")
LONGEST: Final = 3650 * 86_400.0
"""Ten years, in seconds. More is a typing error, and would leave the range of a TIMESTAMP column."""


def duration(text: str) -> float:
    """Seconds of a text such as "50ms", "2s", "1m30s", "24h", "7d". Raises ValueError."""
    match = _DURATION.fullmatch(text)
    if match is None or not text:
        raise ValueError("not a duration")
    parts = zip(match.groups(), _UNITS.values(), strict=True)
    seconds = float(sum((Decimal(number) * unit for number, unit in parts if number), Decimal()) / 1_000_000)
    if seconds > LONGEST:
        raise ValueError("longer than 3650d")
    return seconds


def format_duration(seconds: float) -> str:
    """The shortest text that `duration` reads as `seconds`, to the microsecond."""
    rest = round(seconds * 1_000_000)
    text = ""
    for name in ("d", "h", "m", "s"):
        whole, rest = divmod(rest, _UNITS[name])
        text += f"{whole}{name}" if whole else ""
    if rest:
        text += f"{Decimal(rest) / _UNITS['ms']}ms"
    return text or "0s"


def _read_duration(value: Any, word: str | None = None) -> float | None:
    if word is not None and value == word:
        return None
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise wrong_kind()
    if not isinstance(value, str) or _PLAIN.fullmatch(value):
        raise wrong_kind("a bare number")
    try:
        return duration(value)
    except ValueError:
        raise wrong_kind() from None


def _show_duration(value: float | None, word: str = "") -> str:
    return word if value is None else format_duration(value)


Duration = Annotated[float, BeforeValidator(_read_duration), Kind("a duration", '"2s"', _show_duration)]
"""Seconds."""
DurationOrAuto = Annotated[
    float | None,
    BeforeValidator(partial(_read_duration, word="auto")),
    Kind('a duration or "auto"', '"2s"', partial(_show_duration, word="auto")),
]
"""Seconds, or None where it follows from other keys."""
DurationOrNever = Annotated[
    float | None,
    BeforeValidator(partial(_read_duration, word="never")),
    Kind('a duration or "never"', '"7d"', partial(_show_duration, word="never")),
]
"""Seconds, or None for never."""

# --- numbers ----------------------------------------------------------------------------------------------------

_TRUE: Final = frozenset({"true", "yes", "on", "1"})
_FALSE: Final = frozenset({"false", "no", "off", "0"})


def _read_flag(value: Any) -> Any:
    if isinstance(value, Untyped) and value.lower() in _TRUE | _FALSE:
        return value.lower() in _TRUE
    return value


def _read_whole(value: Any) -> Any:
    return int(value) if isinstance(value, Untyped) and re.fullmatch(r"[+-]?[0-9]{1,18}", value) else value


def _read_jitter(value: Any) -> Any:
    if isinstance(value, Untyped) and _PLAIN.fullmatch(value):
        return float(value)
    value = _read_flag(value)
    if isinstance(value, bool):
        return 0.1 if value else 0.0
    return value


Flag = Annotated[bool, BeforeValidator(_read_flag), Kind("true or false", "true")]
Whole = Annotated[int, BeforeValidator(_read_whole), Kind("a whole number", "3")]
Jitter = Annotated[float, BeforeValidator(_read_jitter), Kind("a number", "0.1")]
"""A share; true and false stand for 0.1 and 0."""

# --- sizes ------------------------------------------------------------------------------------------------------

_SIZE: Final = re.compile(r"[0-9]{1,15}(\.[0-9]{1,6})? *(B|[KMG](i?B)?)?", re.IGNORECASE)
_SIZES: Final = TypeAdapter(ByteSize)


def size(text: str) -> ByteSize:
    """Bytes of a text such as "512KiB", "1MB", "1048576". Raises ValueError."""
    if _SIZE.fullmatch(text) is None:
        raise ValueError("not a size")
    return _SIZES.validate_python(text)


def format_size(value: int) -> str | int:
    """The shortest text that `size` reads as `value`."""
    for name, unit in (("GiB", 2**30), ("MiB", 2**20), ("KiB", 2**10)):
        if value and value % unit == 0:
            return f"{value // unit}{name}"
    return int(value)


def _read_size(value: Any) -> Any:
    if isinstance(value, bool) or not isinstance(value, int | str):
        raise wrong_kind()
    if isinstance(value, str) and _SIZE.fullmatch(value) is None:
        raise wrong_kind()
    return value


Size = Annotated[ByteSize, BeforeValidator(_read_size), Kind("a size", '"512KiB"', format_size)]
"""Bytes."""

# --- text -------------------------------------------------------------------------------------------------------


def matching(pattern: str) -> BeforeValidator:
    """Accepts text that matches the pattern as a whole."""
    compiled = re.compile(pattern)

    def check(value: Any) -> Any:
        if isinstance(value, str) and compiled.fullmatch(value) is None:
            raise wrong_kind()
        return value

    return BeforeValidator(check)


def _read_file_path(value: Any) -> Any:
    if not isinstance(value, str):
        raise wrong_kind()
    if not value:
        return None
    try:
        found = Path(value).is_file()
    except (OSError, ValueError):  # a folder that may not be entered; a zero byte
        found = False
    if not found:
        raise refusal("no file can be read there; write the path of a PEM file, or leave it empty")
    return Path(value)


def _read_servers(value: Any) -> Any:
    if value == NO_SERVERS and isinstance(value, tuple):
        return value
    items = [item.strip() for item in value.split(",")] if isinstance(value, str) else value
    if not isinstance(items, list) or not all(isinstance(item, str) for item in items):
        raise wrong_kind()
    for number, item in enumerate(items, 1):
        match = _SERVER.fullmatch(item)
        if match is None or not 0 < int(match[1]) < 65536:
            raise refusal(f'expected host:port, item {number} is other text; write e.g. "kafka1:9092"')
    if not items:
        raise refusal('expected at least one host:port, got an empty list; write e.g. ["kafka1:9092"]')
    return tuple(items)


def _read_patterns(value: Any) -> Any:
    items = [item.strip() for item in value.split(",") if item.strip()] if isinstance(value, str) else value
    if not isinstance(items, list | tuple) or not all(isinstance(item, str) for item in items):
        raise wrong_kind()
    if "" in items:
        raise refusal('a pattern is empty text; take it out, or write "*" for everything')
    return tuple(items)


_SERVER: Final = re.compile(r"(?:[A-Za-z0-9._-]+|\[[0-9A-Fa-f:.]+\]):([0-9]{1,5})")
NO_SERVERS: Final[tuple[str, ...]] = ()
"""Stands where no broker is needed; no user can write it."""

_TABLE_NAME: Final = r"[A-Za-z0-9_$]{1,64}"


def is_table_name(text: str) -> bool:
    """Whether a table can be called so without quoting tricks."""
    return re.fullmatch(_TABLE_NAME, text) is not None


Text = Annotated[str, Kind("text", '"..."')]
Secret = Annotated[SecretStr, Kind("text", '"..."', lambda value: "********" if value.get_secret_value() else "")]
OptionalFile = Annotated[
    Path | None,
    BeforeValidator(_read_file_path),
    Kind("the path of a file", '"/etc/outboxd/ca.pem"', lambda value: str(value or "")),
]
Servers = Annotated[
    tuple[str, ...], BeforeValidator(_read_servers), Kind("a list of host:port", '["kafka1:9092"]', list)
]
Patterns = Annotated[
    tuple[str, ...], BeforeValidator(_read_patterns), Kind("a list of patterns", '["payments.*"]', list)
]
TableName = Annotated[
    str,
    matching(_TABLE_NAME),
    Kind("a table's name (letters, digits, _ and $, at most 64)", '"outbox_events"'),
]
Topic = Annotated[
    str,
    matching(r"(?!\.{1,2}\Z)[A-Za-z0-9._-]{0,249}"),
    Kind("a topic's name (letters, digits, . _ and -, at most 249)", '"events"'),
]
Name = Annotated[
    str, matching(r"[A-Za-z0-9._:-]{0,64}"), Kind("a name (letters, digits, . _ : and -, at most 64)", '"outboxd-1"')
]
Word = Annotated[str, matching(r"[A-Za-z0-9_.-]{1,64}"), Kind("a word", '"kafka"')]
Filled = Annotated[str, matching(r"[^\s]{1,255}"), Kind("text without spaces", '"127.0.0.1"')]
