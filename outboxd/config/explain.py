"""Validation errors as lines for a user: the key, the kind of what stands there, where, and the cure. Never a value."""

import datetime
import json
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from math import isfinite
from typing import Any, Final, get_args

from annotated_types import Ge, Le
from pydantic import ValidationError
from pydantic.fields import FieldInfo
from pydantic_core import ErrorDetails

from outboxd.config.keys import (
    DAEMON_KEYS,
    KEYS,
    Key,
    Origins,
    dotted,
    kind_of,
    local,
    siblings_of,
    suggestions,
    toml,
    variable,
)

_TABLE_EXPECTED: Final = frozenset({"model_type", "model_attributes_type", "dict_type"})


def explain(error: ValidationError, origins: Origins) -> list[str]:
    """One line for each problem. What stands at the top level for several sources is said once."""
    found = error.errors(include_url=False)
    return list(dict.fromkeys(line for item in found for line in _lines(item, origins)))


def _lines(item: ErrorDetails, origins: Origins) -> Iterator[str]:
    at = tuple(str(part) for part in item["loc"] if part != "[key]")
    context = item.get("ctx", {})
    if item["type"] == "contradiction":
        for key, text in context["found"]:
            yield _line((*at, *key.split(".")), text, origins)
    elif item["type"] == "refusal":
        yield _line(at, context["text"], origins)
    elif item["type"] == "missing":
        yield _line(at, _missing(written(at, origins)), origins)
    elif item["type"] == "extra_forbidden":
        yield _line(at, _unknown(at), origins)
    elif item["type"] in _TABLE_EXPECTED:
        name = dotted(written(at, origins))
        yield _line(at, f"expected a table, got {_kind(item['input'])}; write [{name}] and its keys below it", origins)
    else:
        yield _line(at, _unfit(at, item), origins)


def _line(at: Key, text: str, origins: Origins) -> str:
    """`KEY: WHAT (in ORIGIN); CURE`."""
    key = written(at, origins)
    origin = next((origin for place, origin in origins.items() if place[: len(key)] == key), None)
    what, semicolon, cure = text.partition(";")
    return f"{dotted(key)}: {what}{f' (in {origin})' if origin else ''}{semicolon}{cure}"


def written(at: Key, origins: Origins) -> Key:
    """Where the user wrote it, or would: under the source, or at the top level for all of them."""
    own = local(at)
    for key in (at, own):
        if any(place[: len(key)] == key for place in origins):
            return key
    declared = any(place[:2] == at[:2] for place in origins)
    return at if declared else own


def _missing(key: Key) -> str:
    example = f"{key[-1]} = {kind_of(KEYS[local(key)]).example} under [{dotted(key[:-1])}]"
    return f"is missing; write {example}" + (f", or set {variable(key)}" if "-" not in dotted(key) else "")


def _unknown(at: Key) -> str:
    if local(at) != at and local(at)[0] in {key[0] for key in DAEMON_KEYS}:
        return f"unknown key; [{local(at)[0]}] is for the whole daemon, write it at the top level"
    if meant := suggestions(at, sections=True):
        return f"unknown key; did you mean {' or '.join(dotted(local(key)) for key in meant)}?"
    return f"unknown key; there are {', '.join(siblings_of(at))}"


def _unfit(at: Key, item: ErrorDetails) -> str:
    """A value of the wrong type, out of range, or none of the choices."""
    field = KEYS.get(local(at))
    if field is None:  # the name of a source
        return "is no name for a source; write a-z, 0-9, and single _ or - between them, at most 32"
    kind, value = kind_of(field), item["input"]
    match item["type"]:
        case "greater_than_equal":
            got = "a smaller one"
        case "less_than_equal":
            got = "a larger one"
        case _:
            other = "other " if isinstance(value, str) and value and kind.example.startswith('"') else ""
            got = item.get("ctx", {}).get("got") or other + _kind(value)
    return f"expected {kind.noun}{_range(field)}, got {got}; {_cure(field, value)}"


def _range(field: FieldInfo) -> str:
    show = kind_of(field).show
    low = next((show(item.ge) for item in field.metadata if isinstance(item, Ge)), None)
    high = next((show(item.le) for item in field.metadata if isinstance(item, Le)), None)
    if high is None:
        return "" if low is None else f" of at least {low}"
    return f" from {low} to {high}"


def _cure(field: FieldInfo, value: Any) -> str:
    choices = [choice for choice in get_args(field.annotation) if isinstance(choice, str)]
    if isinstance(value, str) and (near := get_close_matches(value.lower(), {c.lower(): c for c in choices}, 1)):
        return "did you mean " + json.dumps(next(c for c in choices if c.lower() == near[0])) + "?"
    kind = kind_of(field)
    nothing = field.is_required() or field.default is None or kind.show(field.default) == ""
    return f"write e.g. {kind.example if nothing else toml(field, field.default)}"


def _kind(value: Any) -> str:
    """What a value is, without saying the value."""
    kinds: list[tuple[type | tuple[type, ...], str]] = [
        (bool, "a boolean"),
        (int, "a whole number"),
        (float, "a number with a fraction" if isinstance(value, float) and isfinite(value) else "no finite number"),
        (str, "text" if value else "empty text"),
        (Mapping, "a table"),
        (list, "a list"),
        ((datetime.date, datetime.time), "a date or time"),
    ]
    return next((name for kind, name in kinds if isinstance(value, kind)), "something else")
