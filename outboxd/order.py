"""What becomes of an aggregate after one of its events became a dead letter. Pure."""

from dataclasses import dataclass
from fnmatch import fnmatchcase


@dataclass(frozen=True, slots=True)
class OrderPolicy:
    """One policy for all events, and the other one for those whose topic or event type matches a pattern.

    Patterns are the shell's: `*`, `?` and `[...]`; case matters.
    """

    hold: bool = False
    """The aggregate waits until the dead letter is requeued or discarded; else its later events go on."""
    except_topics: tuple[str, ...] = ()
    except_event_types: tuple[str, ...] = ()

    def holds(self, topic: str, event_type: str) -> bool:
        """Whether a dead letter of this topic and type holds its aggregate back."""
        excepted = any(fnmatchcase(topic, pattern) for pattern in self.except_topics) or any(
            fnmatchcase(event_type, pattern) for pattern in self.except_event_types
        )
        return self.hold != excepted

    @property
    def may_hold(self) -> bool:
        """Whether any dead letter can hold."""
        return self.hold or bool(self.except_topics or self.except_event_types)
