"""Keeps payloads and secrets out of the log: a structlog processor that is the last to see a line before it is text."""

import re
from collections.abc import Mapping
from typing import Final

from structlog.typing import EventDict, WrappedLogger

REDACTED: Final = "[redacted]"

_SECRET_KEYS: Final = frozenset({"dsn", "headers", "parameters", "payload", "url", "value"})
_SECRET_PARTS: Final = ("credential", "passphrase", "password", "secret", "token")
# Greedy up to the last @ of the word: a password that was not percent-encoded may hold an @, a slash or a quote.
_CREDENTIALS: Final = re.compile(r"(?<=://)\S*@")
# SQLAlchemy appends the values of a statement that failed to its exceptions.
_SQL_PARAMETERS: Final = re.compile(r"\[parameters: .*")


def redact(logger: WrappedLogger, method: str, event: EventDict) -> EventDict:
    """Replaces values whose key says that they are private, and masks credentials in every text that is left."""
    for key, value in event.items():
        event[key] = REDACTED if _is_secret(key) else _clean(value)
    return event


def mask(text: str) -> str:
    """The text without credentials in URLs and without the values of SQL statements."""
    return _SQL_PARAMETERS.sub(f"[parameters: {REDACTED}]", _CREDENTIALS.sub("***@", text))


def _is_secret(key: str) -> bool:
    name = key.lower()
    return name.rsplit("_", 1)[-1] in _SECRET_KEYS or any(part in name for part in _SECRET_PARTS)


def _clean(value: object) -> object:
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, Mapping):
        return {str(key): REDACTED if _is_secret(str(key)) else _clean(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_clean(item) for item in value]
    # Renderers would ask other objects, exceptions among them, for a text that nobody has looked at.
    return mask(str(value))
