"""`outboxd config`: whether the configuration holds, and what it amounts to."""

from collections.abc import Iterator
from functools import reduce
from typing import Any

import click

from outboxd.cli.options import config_options
from outboxd.config.keys import DAEMON_KEYS, SOURCE_KEYS, Key, Origins, dotted, local, toml
from outboxd.config.settings import DEFAULT_SOURCE, Settings


@click.group("config")
def command() -> None:
    """Check or show the configuration."""


@command.command("check")
@config_options()
def check(settings: Settings) -> None:
    """Read the configuration and connect to nothing. Exit code 2 with one line a problem, if there is any."""
    click.echo("ok")
    for name, source in settings.sources.items():
        way = f"{source.database.place} {source.tables.events} -> {source.sink.kind}"
        servers = ",".join(source.kafka.bootstrap_servers) if source.sink.kind == "kafka" else ""
        click.echo(f"{name}: {way} {servers}".rstrip())


@command.command("show")
@config_options(with_origins=True)
def show(settings: Settings, origins: Origins) -> None:
    """Print every key with its value, and where that comes from. Secrets are masked."""
    click.echo("\n".join(rendered(settings, origins)))


def rendered(settings: Settings, origins: Origins) -> Iterator[str]:
    """The lines of a TOML file that says the same."""
    only_default = list(settings.sources) == [DEFAULT_SOURCE] and not any(key[0] == "sources" for key in origins)
    for name in settings.sources:
        at: Key = () if only_default else ("sources", name)
        yield from _tables(settings.sources[name], SOURCE_KEYS, at, origins)
    yield from _tables(settings, DAEMON_KEYS, (), origins)


def _tables(model: Any, keys: dict[Key, Any], at: Key, origins: Origins) -> Iterator[str]:
    section: Key = ()
    for key, field in keys.items():
        if key[:-1] != section:
            section = key[:-1]
            yield f"\n[{dotted((*at, *section))}]"
        value = reduce(getattr, key, model)
        unset = "default" if value == field.default else "derived"
        origin = origins.get((*at, *key)) or origins.get(local(key)) or unset
        yield f"{key[-1]} = {toml(field, value)}  # {origin}"
