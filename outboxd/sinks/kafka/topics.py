"""Topic names are checked here: a broker asked for a bad one does not refuse it, the request times out."""

import re
from typing import Final

from outboxd.errors import Failure, FailureKind

MAX_LENGTH: Final = 249
_LEGAL: Final = re.compile(r"[a-zA-Z0-9._-]+")


def topic_failure(name: str) -> Failure | None:
    """What is wrong with a topic name, or None. The rules are those of Kafka's own `Topic.validate`."""
    if not name:
        problem = "is empty"
    elif name in {".", ".."}:
        problem = f"is {name!r}, which Kafka does not allow"
    elif len(name) > MAX_LENGTH:
        problem = f"has {len(name)} characters, Kafka allows {MAX_LENGTH}"
    elif not _LEGAL.fullmatch(name):
        problem = "has characters other than letters, digits, '.', '_' and '-'"
    else:
        return None
    return Failure(
        FailureKind.PERMANENT,
        "invalid_topic",
        f"column topic {problem}; correct the row's topic and requeue it"
        + (", or set kafka.default_topic" if not name else ""),
    )
