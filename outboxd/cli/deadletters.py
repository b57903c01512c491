"""`outboxd deadletters`: what could not be delivered, and what becomes of it."""

import json
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import click

from outboxd.cli.exits import Exit, Failed
from outboxd.cli.options import config_options, pick_source
from outboxd.cli.output import fields, on_terminal, printable, shortened, table
from outboxd.cli.selection import MAX_ID, Wanted, selection_options
from outboxd.config.settings import Settings
from outboxd.model import Status
from outboxd.store.dead_letters import COUNT_LIMIT, Chunk, Conflict, DeadLetter, DeadLetters, Detail, Selection
from outboxd.store.direct import connected
from outboxd.store.engine import connect_options

COLUMNS: Final = ("id", "event_id", "topic", "aggregate_id", "attempts", "reason", "moved_at", "holds", "last_error")
SHOWN: Final = 20
"""How many a dry run shows."""

_source = click.option("--source", metavar="NAME", help="Of this source; needed where there are several.")
_json = click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")
_all = click.option("--all", "everything", is_flag=True, help="All dead letters of the source.")
_dry_run = click.option("--dry-run", is_flag=True, help="Change nothing; say how many it would be, and which.")
_limit = click.option("--limit", type=click.IntRange(1), metavar="N", help="At most N, those with the lowest ids.")


@click.group("deadletters")
def command() -> None:
    """List, show, requeue or discard dead letters: events that could not be delivered."""


@command.command("list")
@selection_options
@click.option("--limit", type=click.IntRange(1), default=50, show_default=True, metavar="N", help="At most N.")
@_json
@_source
@config_options(need_sink=False)
def list_(*, settings: Settings, wanted: Wanted, limit: int, as_json: bool, source: str | None) -> None:
    """List dead letters, the highest ids first."""
    with _open(settings, source) as letters:
        selection = wanted.resolved(letters)
        found, total = letters.last(selection, limit), letters.count(selection, COUNT_LIMIT + 1)
    if as_json:
        counted = {"total": min(total, COUNT_LIMIT), "more": total > COUNT_LIMIT}
        click.echo(json.dumps(counted | {"dead_letters": [_as_json(letter) for letter in found]}, indent=2))
        return
    _list(found)
    click.echo(f"{len(found)} of {_number(total)}", err=True)


@command.command("show")
@click.argument("letter_id", type=click.IntRange(0, MAX_ID), metavar="ID")
@click.option("--payload", is_flag=True, help="Show the payload too.")
@_json
@_source
@config_options(need_sink=False)
def show(*, settings: Settings, letter_id: int, payload: bool, as_json: bool, source: str | None) -> None:
    """Show all of one dead letter; its payload only with --payload."""
    with _open(settings, source) as letters:
        found = letters.detail(letter_id, payload=payload)
        if found is None:
            raise Failed(_absent(letter_id, letters.missing([letter_id]).get(letter_id)))
    letter, detail = found
    shown = _as_json(letter) | _detail_as_json(detail, payload=payload)
    if as_json:
        click.echo(json.dumps(shown, indent=2))
        return
    shown["holds"] = _yes(letter.holds)
    shown.setdefault("payload", f"not shown ({detail.payload_bytes} bytes): --payload shows it")
    if on_terminal():
        table(("column", "value"), list(shown.items()))
        return
    for name, value in shown.items():
        fields(name, value)


@command.command("requeue")
@selection_options
@_all
@_limit
@_dry_run
@_source
@config_options(need_sink=False)
def requeue(
    *, settings: Settings, wanted: Wanted, everything: bool, limit: int | None, dry_run: bool, source: str | None
) -> None:
    """Put dead letters back into the events as new, without attempts, under their own ids and in that order.

    Repair the cause before. One whose id or event_id the events have already is left where it is, and named. It may be
    broken off at any time, and run again.

    Exit codes: 0 done, 1 something was left or an id is no dead letter, 2 usage.
    """
    _check(wanted, everything=everything)
    with _open(settings, source) as letters:
        selection = wanted.resolved(letters)
        absent = _report_absent(letters, wanted)
        if dry_run:
            _preview(letters, selection, limit, "requeue")
        else:
            absent |= _report_conflicts(_tally("requeued", letters.requeue(selection, limit)))
    if absent:
        raise click.exceptions.Exit(Exit.FAILURE)


@command.command("discard")
@selection_options
@_all
@_limit
@_dry_run
@click.option("--yes", is_flag=True, help="Do not ask.")
@_source
@config_options(need_sink=False)
def discard(
    *,
    settings: Settings,
    wanted: Wanted,
    everything: bool,
    limit: int | None,
    dry_run: bool,
    yes: bool,
    source: str | None,
) -> None:
    """Delete dead letters for good, and print each. They are lost; asks before, unless --yes.

    Exit codes: 0 done, 1 refused when asked, or an id is no dead letter, 2 usage.
    """
    _check(wanted, everything=everything)
    if not (yes or dry_run or sys.stdin.isatty()):
        raise click.UsageError("nobody can be asked here: write --yes to delete for good, or --dry-run to look")
    with _open(settings, source) as letters:
        selection = wanted.resolved(letters, moved_already=True)
        absent = _report_absent(letters, wanted)
        if dry_run:
            _preview(letters, selection, limit, "discard")
        elif yes or _agreed(_count(letters, selection, limit)):
            _tally("discarded", _printed(letters.discard(selection, limit)))
    if absent:
        raise click.exceptions.Exit(Exit.FAILURE)


# --- what is meant ----------------------------------------------------------------------------------------------


@contextmanager
def _open(settings: Settings, name: str | None) -> Iterator[DeadLetters]:
    source = pick_source(settings, name).settings
    url, names = source.database.url.get_secret_value(), source.tables.names
    with connected(url, names, connect_options(source.database)) as connection:
        yield DeadLetters(connection, names)


def _check(wanted: Wanted, *, everything: bool) -> None:
    if everything and wanted.given():
        raise click.UsageError("--all does not go together with ids and filters")
    if not (everything or wanted.given()):
        raise click.UsageError("which ones? Write ids, or filters such as --reason, or --all")


def _report_absent(letters: DeadLetters, wanted: Wanted) -> bool:
    """Names the ids that are no dead letters. True when there are any."""
    absent = letters.missing(wanted.selection.named())
    for letter_id, status in absent.items():
        click.echo(f"outboxd: {_absent(letter_id, status)}", err=True)
    return bool(absent)


def _absent(letter_id: int, status: int | None) -> str:
    if status is None:
        return f"{letter_id} is no dead letter, and not an event either"
    return f"{letter_id} is no dead letter: it is an event with status {_status(status)}"


def _status(status: int) -> str:
    return Status(status).name.lower() if status in set(Status) else str(status)


# --- what is done -----------------------------------------------------------------------------------------------


def _tally(done: str, chunks: Iterable[Chunk]) -> list[Conflict]:
    """Works through the chunks and says how many it were, also when it is broken off. Returns the conflicts."""
    count, conflicts = 0, []
    try:
        for chunk in chunks:
            count += len(chunk.done)
            conflicts += chunk.conflicts
    except BaseException:
        click.echo(f"outboxd: broken off; {done} for certain: {count}. It can be run again", err=True)
        raise
    click.echo(f"{done} {count} dead {'letter' if count == 1 else 'letters'}", err=done == "discarded")
    return conflicts


def _report_conflicts(conflicts: Sequence[Conflict]) -> bool:
    for conflict in conflicts:
        what = "its id" if conflict.id == conflict.standing_id else "its event_id"
        click.echo(
            f"outboxd: {conflict.id} is left: event {conflict.standing_id} has {what} already, "
            f"with status {_status(conflict.status)}",
            err=True,
        )
    return bool(conflicts)


def _printed(chunks: Iterable[Chunk]) -> Iterator[Chunk]:
    for chunk in chunks:
        for letter in chunk.done:
            fields("discarded", *_row(letter))
        yield chunk


def _agreed(count: int) -> bool:
    """Asks. Raises Exit when the answer is no."""
    if not count:
        return True
    what = f"{_number(count)} dead {'letter' if count == 1 else 'letters'}"
    if not click.confirm(f"Delete {what} for good?", default=False, err=True):
        click.echo("outboxd: nothing was discarded", err=True)
        raise click.exceptions.Exit(Exit.FAILURE)
    return True


def _count(letters: DeadLetters, selection: Selection, limit: int | None) -> int:
    return letters.count(selection, COUNT_LIMIT + 1 if limit is None else min(limit, COUNT_LIMIT + 1))


def _preview(letters: DeadLetters, selection: Selection, limit: int | None, verb: str) -> None:
    """What would be changed: the first of them, and how many."""
    first = letters.first(selection, SHOWN if limit is None else min(limit, SHOWN))
    _list(first)
    count = _count(letters, selection, limit)
    rest = f"; the first {len(first)} are shown" if count > len(first) else ""
    click.echo(f"would {verb} {_number(count)}{rest}", err=True)


# --- how it is shown --------------------------------------------------------------------------------------------


def _list(letters: Sequence[DeadLetter]) -> None:
    table(COLUMNS, [_row(letter) for letter in letters])


def _row(letter: DeadLetter) -> tuple[Any, ...]:
    return (
        letter.id,
        letter.event_id,
        letter.topic,
        letter.aggregate_id,
        letter.attempt_count,
        letter.reason,
        letter.moved_at and f"{letter.moved_at[:19]}Z",
        _yes(letter.holds),
        shortened(printable(letter.last_error)),
    )


def _yes(flag: bool) -> str:
    return "yes" if flag else "no"


def _number(count: int) -> str:
    return f"{COUNT_LIMIT}+" if count > COUNT_LIMIT else str(count)


def _as_json(letter: DeadLetter) -> dict[str, Any]:
    return letter._asdict()


def _detail_as_json(detail: Detail, *, payload: bool) -> dict[str, Any]:
    shown = detail._asdict()
    return shown if payload else {name: value for name, value in shown.items() if name != "payload"}
