"""What can go wrong with a delivery, and the exceptions that cross a border between layers."""

from enum import Enum
from typing import NamedTuple


class FailureKind(Enum):
    """How a failed delivery is treated. The classification of a sink's own errors lies with the sink."""

    PERMANENT = "permanent"
    """Can never succeed: the event goes to the dead letters."""
    CAPPED = "capped"
    """May succeed later: a retry with backoff, until the attempts are used up."""
    OUTAGE = "outage"
    """Broker or network: delivery pauses, no event spends an attempt."""
    PAUSE = "pause"
    """Credentials, authorization, TLS: as an outage, but somebody has to repair it."""
    REBUILD = "rebuild"
    """The producer is unusable: it is built anew, and the events are sent again."""


class Failure(NamedTuple):
    """Why an event, or all of them, could not be delivered. Never holds a payload or a secret."""

    kind: FailureKind
    code: str
    """A short stable word such as `message_too_large`: metrics and `outbox_deadletters.reason` carry it."""
    text: str
    """One sentence for the person on call: what, and the cure."""

    @property
    def last_error(self) -> str:
        """As it is written to `outbox_events.last_error`; the mover takes the code back out of it."""
        return f"{self.code}: {self.text}"


class OutboxdError(Exception):
    """Base of the errors that a user sees as one clear line."""


class ConfigError(OutboxdError):
    """The configuration cannot be used; the text names the key, the value's kind and the cure."""


class UnsupportedServerError(OutboxdError):
    """The database is older than what outboxd supports, or not MySQL or MariaDB at all."""


class SchemaError(OutboxdError):
    """The tables are missing, behind, or differ from what outboxd expects."""


class DatabaseUnavailableError(OutboxdError):
    """The database could not be reached, or the connection was lost; the outcome of a write is unknown."""


class SinkUnavailableError(OutboxdError):
    """The sink cannot be used now."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.last_error)
        self.failure = failure


class LeaseLostError(OutboxdError):
    """The instance's lease has ended, so a fenced write was refused; nothing was written."""
