"""A wrong configuration is refused in words that name the key, the kind of what stands there, where, and the cure."""

import re
from collections.abc import Mapping
from functools import reduce
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from _pytest.mark import ParameterSet
from hypothesis import given, settings
from hypothesis import strategies as st

from outboxd.config import load
from outboxd.config.keys import KEYS, Key, variable
from outboxd.config.layers import Layer, places
from outboxd.config.settings import merged
from outboxd.errors import ConfigError

HERE = Path(__file__).parent
DATABASE = '[database]\nurl = "mysql://u:p@db/shop"\n'
KAFKA = '[kafka]\nbootstrap_servers = ["k:9092"]\n'
ENOUGH = {"database.url": "mysql://u:p@db/shop", "kafka.bootstrap_servers": "k:9092"}
WRITE_URL = 'write url = "mysql+pymysql://user:password@host:3306/shop" under'
WRITE_SERVERS = 'write bootstrap_servers = ["kafka1:9092"] under'


def _cases(name: str) -> list[ParameterSet]:
    """The cases of a file: `--- id`, what is wrong, and after `=> ` the line that says so."""
    text = (HERE / name).read_text().replace("@FILE@", __file__)
    cases = (case.partition("\n") for case in text.split("--- ")[1:])
    return [pytest.param(*rest.rstrip("\n").split("\n=> "), id=case_id) for case_id, _, rest in cases]


def _problems(toml: str, tmp_path: Path, environ: Mapping[str, str] | None = None, **flags: str) -> list[str]:
    file = tmp_path / "outboxd.toml"
    file.write_text(toml)
    with pytest.raises(ConfigError) as refused:
        load(file, flags, environ=environ or {})
    return str(refused.value).replace(str(file), "outboxd.toml").splitlines()


@pytest.mark.parametrize(("toml", "line"), _cases("wrong_files.txt"))
def test_a_wrong_file_is_refused_in_one_line(toml: str, line: str, tmp_path: Path) -> None:
    """The rest of the file is right, so there is exactly this one problem; no password is in it."""
    rest = "".join(section for section in (DATABASE, KAFKA) if section.split("\n")[0] not in toml)
    assert _problems(f"{toml}\n{rest}", tmp_path) == [line]
    assert "hunter2" not in line


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    """From every layer; what the top level gives to several sources is said once."""
    toml = "[retry]\nmax_attempts = 0\n[sources.a]\n[sources.b]\n"
    environ = {"OUTBOXD_RELAY__IN_FLIGHT": "many", "OUTBOXD_RETRY_JITTER": "1"}
    assert _problems(toml, tmp_path, environ, **{"lease.tll": "2s", "kafka.bootstrap_servers": "k:1"}) == [
        "OUTBOXD_RETRY_JITTER: unknown variable; did you mean OUTBOXD_RETRY__JITTER?",
        "--set lease.tll: unknown key; did you mean lease.ttl?",
        f"sources.a.database.url: is missing; {WRITE_URL} [sources.a.database], "
        "or set OUTBOXD_SOURCES__A__DATABASE__URL",
        "relay.in_flight: expected a whole number from 1 to 16, got text (in OUTBOXD_RELAY__IN_FLIGHT); write e.g. 3",
        "retry.max_attempts: expected a whole number from 1 to 1000, got a smaller one (in outboxd.toml); write e.g. 3",
        f"sources.b.database.url: is missing; {WRITE_URL} [sources.b.database], "
        "or set OUTBOXD_SOURCES__B__DATABASE__URL",
    ]


def test_nothing_given_names_the_two_keys_that_are_needed() -> None:
    """The first thing that a newcomer sees."""
    with pytest.raises(ConfigError) as refused:
        load(None, {}, environ={})
    assert str(refused.value).splitlines() == [
        f"database.url: is missing; {WRITE_URL} [database], or set OUTBOXD_DATABASE_URL",
        f"kafka.bootstrap_servers: is missing; {WRITE_SERVERS} [kafka], or set OUTBOXD_KAFKA__BOOTSTRAP_SERVERS",
    ]


@pytest.mark.parametrize(("assignment", "line"), _cases("wrong_variables.txt"))
def test_a_wrong_variable_is_refused_by_its_name(assignment: str, line: str) -> None:
    """Nobody sees that a misspelt variable does nothing, so it is an error."""
    name, _, text = assignment.partition("=")
    enough = {"OUTBOXD_DATABASE_URL": "mysql://u:p@db/shop", "OUTBOXD_KAFKA__BOOTSTRAP_SERVERS": "k:1"}
    with pytest.raises(ConfigError) as refused:
        load(None, {}, environ=enough | {name: text})
    assert str(refused.value) == line


def test_a_flag_that_one_source_would_not_see_is_refused(tmp_path: Path) -> None:
    """`migrate --database-url` must not run against another database than the one it names."""
    toml = DATABASE + KAFKA + '[sources.a]\n[sources.b.database]\nurl = "mysql://u:p@other/shop"'
    assert _problems(toml, tmp_path, None, **{"database.url": "mysql://u:p@third/shop"}) == [
        "--database-url: has no effect on source b, which sets database.url itself (in outboxd.toml); "
        "write --set sources.b.database.url=..."
    ]


def test_a_file_that_cannot_be_read_is_the_only_problem(tmp_path: Path) -> None:
    """Nothing is called missing, as it may stand in that file."""
    file = tmp_path / "outboxd.toml"
    file.write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError) as refused:
        load(file, {}, environ={})
    assert str(refused.value) == f"{file}: is not UTF-8 text; save it as UTF-8"
    assert _problems("[retry", tmp_path)[1:] == []


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    """Also a folder."""
    for path, reason in ((tmp_path / "none", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ConfigError) as refused:
            load(path, {}, environ={})
        assert str(refused.value) == f"{path}: cannot be read ({reason}); name the file with --config"


SECRET = "hunter2hunter2"
LEAKS = [
    {"database.url": SECRET},
    {"database.url": f"jdbc:mysql://u:{SECRET}@db/shop"},
    {"database.url": f"mysql://u:{SECRET}@db"},
    {"database.url": f"mysql://u:{SECRET}@db:x/shop"},
    {"database.url": f"mysql+other://u:{SECRET}@db/shop"},
    {"database.connect_timeout": SECRET},
    {"kafka.sasl_password": SECRET},
    {"kafka.bootstrap_servers": f"u:{SECRET}@k"},
    {"kafka.security_protocol": SECRET},
    {"kafka.tls_key": SECRET},
    {"tables.events": f"{SECRET}-"},
    {"telemetry.otlp_endpoint": f"http://u:{SECRET}@k"},
    {"retry.max_attempts": SECRET},
    {"relay.batch_bytes": SECRET},
]


@pytest.mark.parametrize("flags", LEAKS, ids=lambda flags: next(iter(flags)))
def test_no_error_says_a_value(flags: dict[str, str]) -> None:
    """Not in its text, nor in what it was raised from, nor where the secret stands at another key by mistake."""
    with pytest.raises(ConfigError) as refused:
        load(None, ENOUGH | flags, environ={})
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_the_settings_do_not_show_secrets() -> None:
    """When they are printed."""
    assert SECRET not in repr(load(None, ENOUGH | {"database.url": f"mysql://u:{SECRET}@db/shop"}, environ={}))


WORDS = st.text(alphabet="QXZ", min_size=5, max_size=8)
VALUES = st.recursive(
    WORDS | st.integers() | st.floats() | st.booleans() | st.dates() | st.datetimes() | st.just(""),
    lambda inner: (
        st.lists(inner, max_size=2) | st.dictionaries(st.sampled_from(["url", "kind", "zz"]), inner, max_size=2)
    ),
)


@settings(deadline=None)
@given(
    key=st.sampled_from([*KEYS, *{key[:1] for key in KEYS}, ("sources",), ("sources", "a")]), value=VALUES, word=WORDS
)
def test_whatever_stands_in_a_file_is_taken_or_refused_by_its_key(key: Key, value: Any, word: str) -> None:
    """No value at any place gives anything else than settings or ConfigError, whose lines hold no text of the value."""
    tree = reduce(lambda below, part: {part: below}, reversed(key), value)
    enough = {"database": {"url": f"mysql://u:{word}@db/shop"}, "kafka": {"bootstrap_servers": "k:1"}}
    values = merged(enough, tree)
    layer = Layer(values, dict.fromkeys(places(values), "outboxd.toml"))
    with patch("outboxd.config.load.read_file", lambda _: layer):
        try:
            load(Path("outboxd.toml"), {}, environ={})
        except ConfigError as error:
            said = str(error)
            assert said.splitlines()[0].startswith((".".join(key), "sources."))
            assert not re.search("[QXZ]{5}", said)


@settings(deadline=None)
@given(st.from_regex(r"OUTBOXD_[A-Z_]{0,20}", fullmatch=True) | st.sampled_from([*map(variable, KEYS)]), WORDS)
def test_whatever_stands_in_a_variable_is_taken_or_refused(name: str, text: str) -> None:
    """The same for the environment."""
    try:
        load(None, ENOUGH, environ={name: text})
    except ConfigError as error:
        assert name in str(error)
        assert text not in str(error).replace(name, "")
