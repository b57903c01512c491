"""config.example.toml against the model: every key, its default, and a reason."""

import tomllib
from pathlib import Path
from typing import Any

import pytest

from outboxd.config.keys import KEYS, Key, dotted, toml
from outboxd.config.load import load
from outboxd.config.types import duration, size

EXAMPLE = Path(__file__).parents[2] / "config.example.toml"


def _values() -> dict[Key, Any]:
    tables = tomllib.loads(EXAMPLE.read_text())
    return {(section, key): value for section, table in tables.items() for key, value in table.items()}


def test_it_has_every_key_and_no_other() -> None:
    """A key that is added to the model, or taken away, must be so here too."""
    assert set(_values()) == set(KEYS)


def test_it_says_the_defaults() -> None:
    """Loaded, it is the same as a configuration that names only the two required keys."""
    required = {key: _values()[key] for key, field in KEYS.items() if field.is_required()}
    assert set(required) == {("database", "url"), ("kafka", "bootstrap_servers")}
    bare = load(None, {dotted(key): value for key, value in required.items()}, environ={})
    assert load(EXAMPLE, {}, environ={}).model_dump() == bare.model_dump()


@pytest.mark.parametrize("key", [key for key, field in KEYS.items() if not field.is_required()], ids=dotted)
def test_it_writes_the_default_of_the_key(key: Key) -> None:
    """The value that stands there means the model's default, for each key alone."""
    written, default = _values()[key], tomllib.loads(f"x = {toml(KEYS[key], KEYS[key].default)}")["x"]
    assert _meaning(written) == _meaning(default)


def _meaning(value: Any) -> Any:
    """Seconds of a duration and bytes of a size: "24h" means "1d"."""
    for read in (duration, size):
        try:
            return read(value)
        except (TypeError, ValueError):
            continue
    return value


def test_each_key_has_one_line_of_why() -> None:
    """Each line with a key ends with a comment."""
    lines = [line for line in EXAMPLE.read_text().splitlines() if " = " in line and not line.startswith("#")]
    assert len(lines) == len(KEYS)
    assert [line for line in lines if len(line.rpartition(" # ")[2]) < 10] == []


def test_its_sources_work_when_the_comment_signs_are_taken_away(tmp_path: Path) -> None:
    """The block on several sources is an example that loads."""
    head, _, tail = EXAMPLE.read_text().partition("# Several sources")
    lines = tail.partition("#\n")[2].splitlines()
    block = "\n".join(line.removeprefix("#") for line in lines)
    file = tmp_path / "outboxd.toml"
    file.write_text(head + block)
    sources = load(file, {}, environ={}).sources
    assert {name: source.retry.max_attempts for name, source in sources.items()} == {"orders": 3, "billing": 10}
    assert sources["orders"].database.place == "orders-db:3306/orders"
