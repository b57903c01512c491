"""Options that commands share."""

from collections.abc import Callable, Sequence
from functools import reduce, wraps
from pathlib import Path
from typing import Any, NamedTuple

import click

from outboxd.config.layers import CONFIG_VARIABLE
from outboxd.config.load import load_with_origins
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


def config_options(*, need_sink: bool = True, with_origins: bool = False) -> Callable[[Command], Command]:
    """Adds --config, --database-url, --kafka and --set, and passes the configuration they give as `settings`.

    Without `need_sink` there is no --kafka, and brokers may be missing. Using `with_origins` also passes `origins`,
    which tell where each value comes from. Raises ConfigError, which ends the program with code 2.
    """
    options = [_CONFIG, _DATABASE_URL, _KAFKA, _SET] if need_sink else [_CONFIG, _DATABASE_URL, _SET]

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
            settings, origins = load_with_origins(config_file, flags, need_sink=need_sink)
            return command(*args, settings=settings, **({"origins": origins} if with_origins else {}), **others)

        return reduce(lambda decorated, option: option(decorated), reversed(options), with_settings)

    return decorate


def _assigned(assignments: Sequence[str]) -> dict[str, str]:
    flags: dict[str, str] = {}
    for assignment in assignments:
        key, equals, value = assignment.partition("=")
        if not equals:
            raise ConfigError("--set: expected KEY=VALUE, got text without =; write e.g. --set retry.max_attempts=5")
        flags[key.strip()] = value
    return flags


def pick_source(settings: Settings, name: str | None) -> Source:
    """The source of that name, or the only one. Raises ConfigError."""
    if name is None and len(settings.sources) == 1:
        return Source(*next(iter(settings.sources.items())))
    if name is None or name not in settings.sources:
        what = "there are several sources" if name is None else "there is no such source"
        raise ConfigError(f"--source: {what}; write one of {', '.join(sorted(settings.sources))}")
    return Source(name, settings.sources[name])
