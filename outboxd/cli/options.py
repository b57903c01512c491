"""Options that commands share."""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from outboxd.config.layers import CONFIG_VARIABLE
from outboxd.config.load import Loaded, load_with_origins
from outboxd.config.settings import Settings, SourceSettings
from outboxd.errors import ConfigError

Command = Callable[..., Any]


class Source(NamedTuple):
    """One source, by its name."""

    name: str
    settings: SourceSettings


_CONFIG = click.option(
    "-c",
    "--config",
    "config_file",
    metavar="FILE",
    type=click.Path(path_type=Path),
    envvar=CONFIG_VARIABLE,
    show_envvar=True,
    help="The configuration, in TOML.",
)
_DATABASE_URL = click.option(
    "--database-url", metavar="URL", help="As database.url. Others see a command line: with a password, use a variable."
)
_KAFKA = click.option("--kafka", metavar="HOST:PORT,...", help="As kafka.bootstrap_servers.")
_SET = click.option(
    "--set",
    "assignments",
    metavar="KEY=VALUE",
    multiple=True,
    help="Any key, e.g. --set retry.max_attempts=5. May be repeated.",
)


def config_options(*, need_sink: bool = True) -> Callable[[Command], Command]:
    """Adds --config, --database-url, --kafka and --set, and passes the configuration they give as `settings`.

    Without `need_sink` there is no --kafka, and brokers may be missing. ConfigError ends the program with code 2.
    """
    return _loading(need_sink, lambda loaded: {"settings": loaded.settings})


def config_options_with_origins(*, need_sink: bool = True) -> Callable[[Command], Command]:
    """As `config_options`; passes `loaded`, which also knows where each value comes from."""
    return _loading(need_sink, lambda loaded: {"loaded": loaded})


def _loading(need_sink: bool, passed: Callable[[Loaded], dict[str, Any]]) -> Callable[[Command], Command]:
    def decorate(command: Command) -> Command:
        @wraps(command)
        def with_settings(
            *args: Any,
            config_file: Path | None,
            database_url: str | None,
            assignments: Sequence[str],
            kafka: str | None = None,
            **others: Any,
        ) -> Any:
            named = {"database.url": database_url, "kafka.bootstrap_servers": kafka}
            flags = {key: value for key, value in named.items() if value is not None} | _assigned(assignments)
            loaded = load_with_origins(config_file, flags, need_sink=need_sink)
            return command(*args, **passed(loaded), **others)

        options = [_CONFIG, _DATABASE_URL, _KAFKA, _SET] if need_sink else [_CONFIG, _DATABASE_URL, _SET]
        decorated: Command = with_settings
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def _assigned(assignments: Sequence[str]) -> dict[str, str]:
    flags: dict[str, str] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError("--set: expected KEY=VALUE, got text without =; write e.g. --set retry.max_attempts=5")
        flags[key.strip()] = value
    return flags


def source_option(command: Command) -> Command:
    """Adds --source NAME and passes `source`. Stands below `config_options`; the command still gets `settings`."""

    @wraps(command)
    def with_source(*args: Any, settings: Settings, source_name: str | None, **others: Any) -> Any:
        return command(*args, settings=settings, source=pick_source(settings, source_name), **others)

    option = click.option("--source", "source_name", metavar="NAME", help="Which source, where there are several.")
    return option(with_source)


def pick_source(settings: Settings, name: str | None) -> Source:
    """The source of that name, or the only one. Raises ConfigError."""
    if name is None and len(settings.sources) == 1:
        return Source(*next(iter(settings.sources.items())))
    if name is None or name not in settings.sources:
        what = "there are several sources" if name is None else "there is no such source"
        raise ConfigError(f"--source: {what}; write one of {', '.join(sorted(settings.sources))}")
    return Source(name, settings.sources[name])
