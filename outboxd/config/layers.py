"""Where values come from: a TOML file, the environment, flags. Each is read into a layer; later ones win."""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from outboxd.config.keys import PREFIX, Key, dotted, known, suggestions, variable
from outboxd.config.types import Untyped

CONFIG_VARIABLE: Final = f"{PREFIX}CONFIG"
"""Names the file; it is no key."""
FLAGS: Final = {"database.url": "--database-url", "kafka.bootstrap_servers": "--kafka"}
"""The keys that have a flag of their own; any other is given by `--set KEY=VALUE`."""


@dataclass
class Layer:
    """The values of one place, nested, and where each comes from."""

    values: dict[str, Any] = field(default_factory=dict)
    origins: dict[Key, str] = field(default_factory=dict)
    problems: list[str] = field(default_factory=list)

    def put(self, key: Key, value: Any, origin: str) -> None:
        """Adds a value at a known key."""
        table = self.values
        for part in key[:-1]:
            table = table.setdefault(part, {})
        table[key[-1]] = value
        self.origins[key] = origin


# --- the file ---------------------------------------------------------------------------------------------------


def read_file(path: Path) -> Layer:
    """The layer of a TOML file."""
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        return Layer(problems=[f"{path}: cannot be read ({error.strerror}); name the file with --config"])
    except UnicodeDecodeError:
        return Layer(problems=[f"{path}: is not UTF-8 text; save it as UTF-8"])
    except tomllib.TOMLDecodeError as error:
        return Layer(problems=[f"{path}{_syntax_error(str(error))}"])
    return Layer(values, dict.fromkeys(places(values), str(path)))


def _syntax_error(message: str) -> str:
    """tomllib says `Invalid value (at line 3, column 7)`; its words hold no values."""
    what, _, where = message.removesuffix(")").partition(" (at ")
    return (
        f", {where or 'somewhere'}: is no TOML, {what[:1].lower()}{what[1:]}; text stands in quotes, tables as [name]"
    )


def places(values: Mapping[str, Any], at: Key = ()) -> list[Key]:
    """Where values stand, and empty tables."""
    found: list[Key] = []
    for name, value in values.items():
        below = places(value, (*at, name)) if isinstance(value, Mapping) else []
        found += below or [(*at, name)]
    return found


# --- the environment --------------------------------------------------------------------------------------------

_KUBERNETES: Final = re.compile(
    r"OUTBOXD_(?:(?!.*__)[A-Z0-9_]+_)?(?:SERVICE_HOST|SERVICE_PORT(?:_[A-Z0-9_]+)?|PORT(?:_[0-9]+_(?:TCP|UDP|SCTP).*)?)"
)
"""What Kubernetes sets in every pod beside a service named outboxd, or outboxd-metrics."""


def read_environment(environ: Mapping[str, str]) -> Layer:
    """The layer of the variables `OUTBOXD_...`. An empty one counts as not set, as container tools pass them on."""
    layer = Layer()
    for name, text in sorted(environ.items()):
        if not name.startswith(PREFIX) or name == CONFIG_VARIABLE or not text:
            continue
        key, is_file = _key_of(name)
        if not known(key):
            if not _is_kubernetes(name, text):
                layer.problems.append(_unknown_variable(name, key))
        elif key in layer.origins:
            first = layer.origins[key]
            layer.problems.append(f"{name}: sets {dotted(key)}, as {first} does; keep one of them")
        elif is_file:
            _put_content(layer, key, name, Path(text))
        else:
            layer.put(key, Untyped(text), name)
    return layer


def _key_of(name: str) -> tuple[Key, bool]:
    """The key that a variable sets, and whether it names a file with the value."""
    key = tuple(name.removeprefix(PREFIX).lower().split("__"))
    if key[0] in ("database_url", "database_url_file"):
        key = ("database", key[0].removeprefix("database_"), *key[1:])
    if not known(key) and key[-1].endswith("_file"):
        return (*key[:-1], key[-1].removesuffix("_file")), True
    return key, False


def _is_kubernetes(name: str, text: str) -> bool:
    if name.endswith("_PORT") and not name.endswith("_SERVICE_PORT"):
        return _KUBERNETES.fullmatch(name) is not None and "://" in text
    return _KUBERNETES.fullmatch(name) is not None


def _unknown_variable(name: str, key: Key) -> str:
    meant = " or ".join(variable(other) for other in suggestions(key))
    cure = f"did you mean {meant}?" if meant else "unset it, or write the section and the key with __ between them"
    return f"{name}: unknown variable; {cure}"


def _put_content(layer: Layer, key: Key, name: str, path: Path) -> None:
    """Adds the value that stands in a file, without the newline that editors append."""
    try:
        text = path.read_text(encoding="utf-8")
    except OSError as error:
        layer.problems.append(f"{name}: the file cannot be read ({error.strerror}); write the path of a readable one")
    except (UnicodeDecodeError, ValueError):
        layer.problems.append(f"{name}: the file is not UTF-8 text; write the value alone into it")
    else:
        layer.put(key, Untyped(text.removesuffix("\n").removesuffix("\r")), f"the file of {name}")


# --- flags ------------------------------------------------------------------------------------------------------


def read_flags(flags: Mapping[str, Any]) -> Layer:
    """The layer of the command line: dotted keys, values as text (or of the key's own type)."""
    layer = Layer()
    for name, value in flags.items():
        key, flag = tuple(name.split(".")), FLAGS.get(name, f"--set {name}")
        if not known(key):
            meant = " or ".join(dotted(other) for other in suggestions(key))
            cure = f"did you mean {meant}?" if meant else "write SECTION.KEY=VALUE, e.g. relay.in_flight=3"
            layer.problems.append(f"{flag}: unknown key; {cure}")
        else:
            layer.put(key, Untyped(value) if isinstance(value, str) else value, flag)
    return layer


def overridden_flags(flags: Layer, below: Mapping[Key, str]) -> list[str]:
    """Flags for all sources that would do nothing in one, because it sets the key itself."""
    return [
        f"{flag}: has no effect on source {other[1]}, which sets {dotted(key)} itself (in {origin}); "
        f"write --set {dotted(other)}=..."
        for key, flag in flags.origins.items()
        for other, origin in below.items()
        if other[:1] == ("sources",) and other[2:] == key
    ]
