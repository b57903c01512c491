"""The model seen flat: its keys, how each is written, and which one a misspelt key may have meant."""

import json
import re
from collections.abc import Mapping
from difflib import get_close_matches
from typing import Any, Final, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo

from outboxd.config.settings import Settings, SourceSettings
from outboxd.config.types import Kind

Key = tuple[str, ...]
"""Where a value stands: `("retry", "max_attempts")`, `("sources", "orders", "database", "url")`."""
Origins = Mapping[Key, str]
"""Where each value that was given comes from: a file's name, a variable's, a flag."""

PREFIX: Final = "OUTBOXD_"
DATABASE_URL: Final[Key] = ("database", "url")


def _flat(model: type[BaseModel], at: Key = ()) -> dict[Key, FieldInfo]:
    found: dict[Key, FieldInfo] = {}
    for name, field in model.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            found |= _flat(inner, (*at, name))
        elif name != "sources":
            found[(*at, name)] = field
    return found


SOURCE_KEYS: Final = _flat(SourceSettings)
"""What each source has, at the top level for all of them or under `[sources.NAME]`."""
DAEMON_KEYS: Final = _flat(Settings)
KEYS: Final = SOURCE_KEYS | DAEMON_KEYS


def local(key: Key) -> Key:
    """The key without `sources.NAME`."""
    return key[2:] if key[:1] == ("sources",) and len(key) > 2 else key


def known(key: Key) -> bool:
    """Whether a value may stand there."""
    return local(key) in (KEYS if local(key) == key else SOURCE_KEYS)


def dotted(key: Key) -> str:
    """As a user writes it; what came from a file may hold any character."""
    return ".".join(part if re.fullmatch(r"[A-Za-z0-9_-]+", part) else json.dumps(part) for part in key)


def variable(key: Key) -> str:
    """The environment variable that sets it."""
    return PREFIX + ("DATABASE_URL" if key == DATABASE_URL else "__".join(key).upper())


def kind_of(field: FieldInfo) -> Kind:
    """How the field's values are named and written."""
    if get_origin(field.annotation) is Literal:
        choices = get_args(field.annotation)
        return Kind("one of " + ", ".join(map(json.dumps, choices)), json.dumps(field.default))
    return next(item for item in field.metadata if isinstance(item, Kind))


def toml(field: FieldInfo, value: Any) -> str:
    """A value of the field as TOML; secrets are masked."""
    return json.dumps(kind_of(field).show(value), ensure_ascii=False)


def suggestions(key: Key, *, sections: bool = False) -> list[Key]:
    """Up to two keys (or sections) that may have been meant, the likeliest first, in the unknown key's own source."""
    prefix, own = key[: len(key) - len(local(key))], local(key)
    pool = _beside(key, sections)
    siblings = {other[-1]: other for other in pool if other[:-1] == own[:-1]}
    if near := get_close_matches(own[-1], siblings, 1):
        return [(*prefix, *siblings[near[0]])]
    if same := [other for other in pool if other[-1] == own[-1] and len(other) > 1]:
        return [(*prefix, *other) for other in same[:2]]
    if len(own) > 1 and siblings:
        return []
    whole = {".".join(other): other for other in pool if len(other) > 1}
    return [(*prefix, *whole[name]) for name in get_close_matches(".".join(own), whole, 1, 0.7)]


def _beside(key: Key, sections: bool) -> list[Key]:
    """The keys that are possible where `key` stands, and the sections."""
    keys = KEYS if local(key) == key else SOURCE_KEYS
    return [*dict.fromkeys(other[:1] for other in keys if sections), *keys]


def siblings_of(key: Key) -> list[str]:
    """The names that could stand in its place."""
    return [other[-1] for other in _beside(key, sections=True) if other[:-1] == local(key)[:-1]]
