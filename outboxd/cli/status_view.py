"""A source's state for people, for grep and for programs."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final, NamedTuple

import click

from outboxd.cli.output import fields, on_terminal, printable, shortened, table
from outboxd.config.types import format_duration
from outboxd.store.inspection import Count, DeadGroup, Held, Inspection, Instance


class _Total(NamedTuple):
    """A number that belongs to a section: the word of its own line, and what the table's title calls it."""

    word: str
    label: str
    number: Callable[[Inspection], str]


class _Section(NamedTuple):
    """A table of the terminal; elsewhere its lines begin with the word."""

    word: str
    title: str
    columns: tuple[str, ...]
    rows: Callable[[Inspection], Iterator[Sequence[Any]]]
    total: _Total | None = None


def show(name: str, found: Inspection) -> None:
    """Prints it."""
    if on_terminal():
        click.echo(f"source {name} at {_time(found.at)}")
    else:
        fields("source", name, found.at)
    for section in SECTIONS:
        (_draw if on_terminal() else _write)(section, found)


def _write(section: _Section, found: Inspection) -> None:
    for row in section.rows(found):
        fields(section.word, *row)
    if section.total:
        fields(section.total.word, section.total.number(found))


def _draw(section: _Section, found: Inspection) -> None:
    number = section.total.number(found) if section.total else "0"
    title = f"{section.title} ({section.total.label}: {number})" if section.total else section.title
    if rows := list(section.rows(found)):
        table(section.columns, rows, title)
    elif number != "0":
        click.echo(title)


def _events(found: Inspection) -> Iterator[Sequence[Any]]:
    for state, backlog in found.events.items():
        yield state, _count(backlog.events), _age(backlog.oldest_seconds)


def _instances(found: Inspection) -> Iterator[Sequence[Any]]:
    for one in found.instances:
        lease = f"{one.lease_seconds:.0f}s" if one.lease_seconds > 0 else "expired"
        in_flight = one.report.get("in_flight")
        yield one.id, one.name, one.host, one.pid, one.version, _time(one.started_at), lease, one.lanes, in_flight


def _circuits(found: Inspection) -> Iterator[Sequence[Any]]:
    for instance, circuit in circuits(found):
        seconds = circuit.get("seconds")
        age = _age(float(seconds)) if isinstance(seconds, int | float) and math.isfinite(seconds) else None
        topic = circuit.get("topic")
        yield instance.id, "all topics" if topic is None else topic, circuit.get("cause"), age, circuit.get("reason")


def circuits(found: Inspection) -> Iterator[tuple[Instance, dict[str, Any]]]:
    """What the instances say is paused, as far as it can be read."""
    for instance in found.instances:
        reported = instance.report.get("circuits")
        for circuit in reported if isinstance(reported, list) else []:
            if isinstance(circuit, dict):
                yield instance, circuit


def _held(found: Inspection) -> Iterator[Sequence[Any]]:
    for one in found.held:
        error = shortened(printable(one.last_error))
        yield one.aggregate_id, one.waiting, one.behind, one.kind, _time(one.since), _time(one.due_at), error


def _dead_letters(found: Inspection) -> Iterator[Sequence[Any]]:
    for group in found.dead_letters:
        yield group.reason, group.letters, group.holding, _time(group.newest_at)


SECTIONS: Final = (
    _Section("events", "Events", ("state", "events", "oldest"), _events),
    _Section(
        "instance",
        "Instances",
        ("instance", "name", "host", "pid", "version", "started", "lease", "lanes", "in flight"),
        _instances,
        _Total("free_lanes", "free lanes", lambda found: str(found.free_lanes)),
    ),
    _Section("paused", "Paused", ("instance", "topic", "cause", "for", "reason"), _circuits),
    _Section(
        "held",
        "Held aggregates",
        ("aggregate", "waiting", "behind", "which is", "since", "due", "error"),
        _held,
        _Total("held_total", "in all", lambda found: _count(found.held_aggregates)),
    ),
    _Section(
        "dead_letters",
        "Dead letters",
        ("reason", "dead letters", "holding", "newest"),
        _dead_letters,
        _Total("dead_letters_total", "in all", lambda found: _count(found.dead_letters_total)),
    ),
)


def as_json(found: Inspection) -> dict[str, Any]:
    """For programs: docs/operations.md describes it."""
    return {
        "at": found.at,
        "events": {
            state: _count_as_json(backlog.events) | {"oldest_seconds": backlog.oldest_seconds}
            for state, backlog in found.events.items()
        },
        "instances": [_instance_as_json(one) for one in found.instances],
        "free_lanes": found.free_lanes,
        "circuits": [{"instance": instance.id} | circuit for instance, circuit in circuits(found)],
        "held": _count_as_json(found.held_aggregates) | {"aggregates": [_held_as_json(one) for one in found.held]},
        "dead_letters": _count_as_json(found.dead_letters_total)
        | {"reasons": [_dead_as_json(group) for group in found.dead_letters]},
    }


def _count_as_json(count: Count) -> dict[str, Any]:
    return {"count": count.number, "more": count.more}


def _held_as_json(held: Held) -> dict[str, Any]:
    return held._asdict()


def _dead_as_json(group: DeadGroup) -> dict[str, Any]:
    return {"reason": group.reason, "count": group.letters, "holding": group.holding, "newest_at": group.newest_at}


def _instance_as_json(instance: Instance) -> dict[str, Any]:
    """Without its circuits, which stand in a list of their own."""
    report = {name: value for name, value in instance.report.items() if name != "circuits"}
    return instance._asdict() | {"alive": instance.lease_seconds > 0, "report": report}


def _count(count: Count) -> str:
    return f"{count.number}+" if count.more else str(count.number)


def _age(seconds: float | None) -> str | None:
    if seconds is None:
        return None
    return format_duration(round(max(0.0, seconds), 1 if seconds < 10 else None))


def _time(text: str | None) -> str | None:
    return text and f"{text[:19]}Z"
