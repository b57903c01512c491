"""Texts that no message can carry, as of a row that the store could not decode: they hold surrogates."""

from typing import Final

from outboxd.errors import Failure, FailureKind
from outboxd.model import Event

COLUMNS: Final = ("event_id", "event_type", "aggregate_type", "aggregate_id", "topic", "trace_id", "span_id")


def bad_text(event: Event) -> Failure | None:
    """The failure of an event that has such a text."""
    for column in COLUMNS:
        text: str | None = getattr(event, column)
        if text is not None and not encodes(text):
            problem = "holds what is no UTF-8, such as half of a surrogate pair; correct the row and requeue it"
            return Failure(FailureKind.PERMANENT, "bad_text", f"column {column} {problem}")
    return None


def encodes(text: str) -> bool:
    """Whether it has a form in UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
