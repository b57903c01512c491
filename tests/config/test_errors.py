"""Each wrong configuration is refused in words that name the key, the kind of what stands there, where, and the cure."""

from collections.abc import Mapping
from pathlib import Path

import pytest

from outboxd.config import load
from outboxd.errors import ConfigError

URL = '[database]\nurl = "mysql://u:p@db/shop"\n'
BASE = URL + '[kafka]\nbootstrap_servers = ["k:9092"]\n'
EXAMPLE_URL = "mysql+pymysql://user:password@host:3306/shop"


def _problems(toml: str, tmp_path: Path, environ: Mapping[str, str] | None = None, **flags: str) -> list[str]:
    file = tmp_path / "outboxd.toml"
    file.write_text(toml)
    with pytest.raises(ConfigError) as refused:
        load(file, flags, environ=environ or {})
    return str(refused.value).replace(str(file), "outboxd.toml").splitlines()


@pytest.mark.parametrize(("toml", "line"), FILES.values(), ids=FILES.keys())
def test_a_wrong_file_is_refused_in_one_line(toml: str, line: str, tmp_path: Path) -> None:
    """The rest of the file is right, so there is exactly this one problem."""
    rest = URL if "[kafka]" in toml else BASE
    assert _problems(f"{toml}\n{rest}", tmp_path) == [line]


@pytest.mark.parametrize(("url", "text"), URLS.values(), ids=URLS.keys())
def test_a_wrong_url_is_refused_without_being_said(url: str, text: str, tmp_path: Path) -> None:
    """The password stands in it."""
    toml = f'[database]\nurl = "{url}"\n[kafka]\nbootstrap_servers = ["k:9092"]'
    assert _problems(toml, tmp_path) == [f"database.url: {text}"]


def test_all_problems_are_said_at_once(tmp_path: Path) -> None:
    """From every layer; what the top level gives to several sources is said once."""
    toml = "[retry]\nmax_attempts = 0\n[sources.a]\n[sources.b]\n"
    environ = {"OUTBOXD_RELAY__IN_FLIGHT": "many", "OUTBOXD_RETRY_JITTER": "1"}
    assert _problems(toml, tmp_path, environ, **{"lease.tll": "2s", "kafka.bootstrap_servers": "k:1"}) == [
        "OUTBOXD_RETRY_JITTER: unknown variable; did you mean OUTBOXD_RETRY__JITTER?",
        "--set lease.tll: unknown key; did you mean lease.ttl?",
        f'sources.a.database.url: is missing; write url = "{EXAMPLE_URL}" under [sources.a.database], or set OUTBOXD_SOURCES__A__DATABASE__URL',
        "relay.in_flight: expected a whole number from 1 to 16, got text (in OUTBOXD_RELAY__IN_FLIGHT); write e.g. 3",
        "retry.max_attempts: expected a whole number from 1 to 1000, got a smaller one (in outboxd.toml); write e.g. 3",
        f'sources.b.database.url: is missing; write url = "{EXAMPLE_URL}" under [sources.b.database], or set OUTBOXD_SOURCES__B__DATABASE__URL',
    ]  # fmt: skip


def test_nothing_given_names_the_two_keys_that_are_needed() -> None:
    """The first thing that a newcomer sees."""
    with pytest.raises(ConfigError) as refused:
        load(None, {}, environ={})
    assert str(refused.value).splitlines() == [
        f'database.url: is missing; write url = "{EXAMPLE_URL}" under [database], or set OUTBOXD_DATABASE_URL',
        'kafka.bootstrap_servers: is missing; write bootstrap_servers = ["kafka1:9092"] under [kafka], or set OUTBOXD_KAFKA__BOOTSTRAP_SERVERS',
    ]  # fmt: skip


@pytest.mark.parametrize(("environ", "line"), VARIABLES.values(), ids=VARIABLES.keys())
def test_a_wrong_variable_is_refused_by_its_name(environ: dict[str, str], line: str) -> None:
    """Nobody sees that a misspelt variable does nothing, so it is an error."""
    enough = {"OUTBOXD_DATABASE_URL": "mysql://u:p@db/shop", "OUTBOXD_KAFKA__BOOTSTRAP_SERVERS": "k:1"}
    with pytest.raises(ConfigError) as refused:
        load(None, {}, environ=enough | environ)
    assert str(refused.value) == line


def test_a_flag_that_one_source_would_not_see_is_refused(tmp_path: Path) -> None:
    """`migrate --database-url` must not run against another database than the one it names."""
    toml = BASE + '[sources.a]\n[sources.b.database]\nurl = "mysql://u:p@other/shop"'
    assert _problems(toml, tmp_path, None, **{"database.url": "mysql://u:p@third/shop"}) == [
        "--database-url: has no effect on source b, which sets sources.b.database.url itself (in outboxd.toml); "
        "write --set sources.b.database.url=..."
    ]


@pytest.mark.parametrize(
    ("content", "line"),
    [
        (b"[retry]\nmax_attempts = s3cret\n", "outboxd.toml, line 2, column 16: is no TOML, invalid value; text stands in quotes, tables as [name]"),
        (b"[retry\n", "outboxd.toml, line 1, column 7: is no TOML, expected ']' at the end of a table declaration; text stands in quotes, tables as [name]"),
        (b"\xff\xfe", "outboxd.toml: is not UTF-8 text; save it as UTF-8"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_toml_is_refused_with_the_place(content: bytes, line: str, tmp_path: Path) -> None:
    """And nothing is called missing, as it may stand in that file."""
    file = tmp_path / "outboxd.toml"
    file.write_bytes(content)
    with pytest.raises(ConfigError) as refused:
        load(file, {}, environ={})
    assert str(refused.value).replace(str(file), "outboxd.toml") == line


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
    enough = {"database.url": f"mysql://u:{SECRET}@db/shop", "kafka.bootstrap_servers": "k:1"}
    with pytest.raises(ConfigError) as refused:
        load(None, enough | flags, environ={})
    assert SECRET not in str(refused.value)
    assert refused.value.__cause__ is None
    assert refused.value.__suppress_context__ or refused.value.__context__ is None


def test_the_settings_do_not_show_secrets() -> None:
    """When they are printed."""
    given = {"database.url": f"mysql://u:{SECRET}@db/shop", "kafka.bootstrap_servers": "k:1"}
    assert SECRET not in repr(load(None, given, environ={}))
