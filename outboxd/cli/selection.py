"""Which dead letters a command means: ids, ranges of ids, filters."""

import re
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import reduce, wraps
from typing import Any, Final, NamedTuple

import click

from outboxd.config.types import duration
from outboxd.store.dead_letters import DeadLetters, Selection

Command = Callable[..., Any]
MAX_ID: Final = 2**63 - 1
_IDS: Final = re.compile(r"(-?[0-9]{1,19})(?:-(-?[0-9]{1,19}))?")


def id_range(text: str) -> range:
    """`17` or `20-40`, as a range."""
    match = _IDS.fullmatch(text)
    if match is None:
        raise click.BadParameter("expected an id such as 17 or a range such as 20-40, got other text")
    low, high = int(match[1]), int(match[2] or match[1])
    if high > MAX_ID:
        raise click.BadParameter(f"an id is at most {MAX_ID}")
    if low > high:
        raise click.BadParameter(f"the range ends before it begins; write {high}-{low}")
    return range(low, high + 1)


def moment(text: str) -> datetime | timedelta:
    """A time in ISO 8601, UTC where it says nothing else, without a time zone as the database has it; or a duration."""
    try:
        return timedelta(seconds=duration(text))
    except ValueError:
        pass
    try:
        found = datetime.fromisoformat(text)
        return found if found.tzinfo is None else found.astimezone(UTC).replace(tzinfo=None)
    except (ValueError, OverflowError):
        raise click.BadParameter(
            "expected a time such as 2026-01-31T12:00:00 (UTC) or a duration such as 2h, got other text"
        ) from None


class Wanted(NamedTuple):
    """A selection whose durations are not yet times: the database's clock decides."""

    selection: Selection
    before: datetime | timedelta | None
    after: datetime | timedelta | None

    def given(self) -> bool:
        """Whether anything was selected."""
        return self != Wanted(Selection(), None, None)

    def resolved(self, letters: DeadLetters, *, moved_already: bool = False) -> Selection:
        """As it stands now; with `moved_already`, without what becomes a dead letter later."""
        now = letters.now()
        before, after = _time(self.before, now), _time(self.after, now)
        return replace(self.selection, before=before, after=after, as_of=now if moved_already else None)


def _time(moment: datetime | timedelta | None, now: datetime) -> datetime | None:
    return now - moment if isinstance(moment, timedelta) else moment


_OPTIONS: Final = (
    click.argument("ids", nargs=-1, type=id_range, metavar="[ID | ID-ID]..."),
    click.option("--topic", metavar="TOPIC", help="Of this topic."),
    click.option("--aggregate", "aggregate_id", metavar="ID", help="Of this aggregate_id."),
    click.option("--aggregate-type", metavar="TYPE", help="Of this aggregate_type."),
    click.option("--event-type", metavar="TYPE", help="Of this event_type."),
    click.option("--reason", metavar="WORD", help="With this reason, e.g. message_too_large."),
    click.option("--before", type=moment, metavar="TIME", help="Moved before this time, or longer ago than e.g. 2h."),
    click.option("--after", type=moment, metavar="TIME", help="Moved at this time or later, or within e.g. 2h."),
)


def selection_options(command: Command) -> Command:
    """Adds the ids and filters, and passes them as `wanted`."""

    @wraps(command)
    def with_selection(
        *args: Any,
        ids: tuple[range, ...],
        topic: str | None,
        aggregate_id: str | None,
        aggregate_type: str | None,
        event_type: str | None,
        reason: str | None,
        before: datetime | timedelta | None,
        after: datetime | timedelta | None,
        **others: Any,
    ) -> Any:
        selection = Selection(ids, topic, aggregate_id, aggregate_type, event_type, reason)
        return command(*args, wanted=Wanted(selection, before, after), **others)

    return reduce(lambda decorated, option: option(decorated), reversed(_OPTIONS), with_selection)
