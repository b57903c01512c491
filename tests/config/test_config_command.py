"""The entry point, its exit codes, and `outboxd config`."""

import subprocess
import sys
import tomllib
from pathlib import Path

import click
import pytest
from click.testing import CliRunner, Result

from outboxd.cli import main
from outboxd.cli.exits import Exit
from outboxd.cli.main import COMMANDS, LazyGroup
from outboxd.cli.options import config_options, pick_source
from outboxd.config import Settings, load
from outboxd.errors import ConfigError, SchemaError

SECRET = "hunter2"
URL = f"mysql://someone:{SECRET}@db/shop"


@pytest.fixture(autouse=True)
def _no_variables(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.environ", {"PATH": "/usr/bin"})


def _run(*arguments: str, **environ: str) -> Result:
    return CliRunner(env=environ).invoke(main, list(arguments), prog_name="outboxd")


def test_check_says_ok_and_where_each_source_goes() -> None:
    """Without user and password."""
    result = _run("config", "check", "--database-url", URL, "--kafka", "k1:9092,k2:9092")
    assert (result.exit_code, result.output) == (
        0,
        "ok\ndefault: db:3306/shop outbox_events -> kafka k1:9092,k2:9092\n",
    )


def test_check_says_each_problem_on_stderr() -> None:
    """Exit code 2, and nothing on stdout."""
    result = _run("config", "check", "--set", "retry.max_attempts=x", "--kafka", "k:1")
    assert (result.exit_code, result.stdout) == (2, "")
    assert [line.split(": ")[:2] for line in result.stderr.splitlines()] == [
        ["outboxd", "database.url"],
        ["outboxd", "retry.max_attempts"],
    ]


def test_the_file_comes_from_the_variable_or_the_option(tmp_path: Path) -> None:
    """The option wins."""
    for name in ("variable", "option"):
        (tmp_path / name).write_text(f'[database]\nurl = "mysql://u:p@{name}/shop"\n[kafka]\nbootstrap_servers = "k:1"')
    variable = {"OUTBOXD_CONFIG": str(tmp_path / "variable")}
    assert "variable:3306" in _run("config", "check", **variable).output
    assert "option:3306" in _run("config", "check", "-c", str(tmp_path / "option"), **variable).output


def test_show_prints_what_loads_to_the_same(tmp_path: Path) -> None:
    """All keys as TOML, with their origins and without secrets."""
    toml = f"""
        kafka.bootstrap_servers = ["k:1"]
        database.url = "{URL}"
        [sources.a]
        [sources.b]
        tables.events = "b"
    """
    file = tmp_path / "outboxd.toml"
    file.write_text(toml)
    result = _run("config", "show", "-c", str(file), "--set", "retry.base_delay=90s", OUTBOXD_HTTP__PORT="0")
    assert result.exit_code == 0
    lines = result.output.splitlines()
    assert f'url = "mysql+pymysql://********@db:3306/shop"  # {file}' in lines
    assert lines.count('base_delay = "1m30s"  # --set retry.base_delay') == 2
    assert "port = 0  # OUTBOXD_HTTP__PORT" in lines
    assert 'lanes = "b_lanes"  # derived' in lines
    assert 'ttl = "15s"  # default' in lines
    assert SECRET not in result.output and "someone" not in result.output

    tomllib.loads(result.output)
    shown = tmp_path / "shown.toml"
    shown.write_text(result.output.replace("********@db:3306", f"someone:{SECRET}@db"))
    original = load(file, {"retry.base_delay": "90s", "http.port": 0}, environ={})
    assert load(shown, {}, environ={}).model_dump() == original.model_dump()


def test_show_writes_one_source_at_the_top_level() -> None:
    """As a user would write it."""
    tables = tomllib.loads(_run("config", "show", "--database-url", URL, "--kafka", "k:1").output)
    assert "sources" not in tables
    assert tables["retention"] == {"sent": "1d", "dead_letters": "never", "interval": "1m"}


@pytest.mark.parametrize("flag", ["-h", "--help"])
def test_help_lists_the_commands_without_importing_them(flag: str) -> None:
    """In a fresh interpreter: no database driver, no broker client, no model."""
    script = f"import sys; from outboxd.cli import main; main(['{flag}'], standalone_mode=False)\n"
    script += (
        "print([name for name in ('sqlalchemy', 'aiokafka', 'pydantic', 'outboxd.config') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, env={})
    assert done.stdout.splitlines()[-1] == "[]"
    assert [line.split()[0] for line in done.stdout.partition("Commands:\n")[2].splitlines()[:-1]] == list(COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_each_command_has_a_help(name: str) -> None:
    """Its module is there, and exports `command`."""
    result = _run(name, "--help")
    assert result.exit_code == 0
    assert result.output.startswith(f"Usage: outboxd {name} ")


def test_a_wrong_command_is_a_wrong_usage() -> None:
    """Exit code 2."""
    assert _run("deliver").exit_code == Exit.USAGE
    assert _run("config", "check", "--nope").exit_code == Exit.USAGE
    assert _run("config", "check", "--set", "nope").exit_code == Exit.USAGE


def test_errors_become_one_line_and_interrupts_a_code(monkeypatch: pytest.MonkeyPatch) -> None:
    """What a command raises for the user to see; anything else is a defect and keeps its traceback."""
    outcomes: list[BaseException] = [SchemaError("the tables\nare behind"), KeyboardInterrupt(), ZeroDivisionError()]

    @click.command()
    def failing() -> None:
        raise outcomes.pop(0)

    monkeypatch.setattr(LazyGroup, "get_command", lambda *_: failing)
    result = _run("migrate")
    assert (result.exit_code, result.stderr) == (Exit.FAILURE, "outboxd: the tables are behind\n")
    result = _run("migrate")
    assert (result.exit_code, result.output) == (Exit.INTERRUPTED, "")
    assert isinstance(_run("migrate").exception, ZeroDivisionError)


def test_a_source_is_picked_by_name(tmp_path: Path) -> None:
    """The only one needs no name; of several, one must be named."""
    one = load(None, {"database.url": URL}, environ={}, need_sink=False)
    assert pick_source(one, None) == ("default", one.sources["default"])
    file = tmp_path / "outboxd.toml"
    file.write_text(f'[database]\nurl = "{URL}"\n[sources.b]\ntables.events = "b"\n[sources.a]')
    two = load(file, {}, environ={}, need_sink=False)
    assert pick_source(two, "b") == ("b", two.sources["b"])
    for name, what in ((None, "there are several sources"), ("c", "there is no such source")):
        with pytest.raises(ConfigError, match=f"^--source: {what}; write one of a, b$"):
            pick_source(two, name)


def test_commands_for_the_database_do_without_brokers(monkeypatch: pytest.MonkeyPatch) -> None:
    """They have no --kafka either."""

    @click.command()
    @config_options(need_sink=False)
    def looking(settings: Settings) -> None:
        click.echo(settings.sources["default"].database.place)

    monkeypatch.setattr(LazyGroup, "get_command", lambda *_: looking)
    assert _run("migrate", "--database-url", URL).output == "db:3306/shop\n"
    assert "--kafka" not in _run("migrate", "--help").output
