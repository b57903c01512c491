"""`outboxd status`: what waits, who works, and what is in the way."""

import json
from typing import Any

import click

from outboxd.cli.exits import Exit
from outboxd.cli.options import config_options, pick_source
from outboxd.cli.status_view import as_json, show
from outboxd.config.settings import Settings, SourceSettings
from outboxd.errors import OutboxdError
from outboxd.store.direct import connected
from outboxd.store.engine import connect_options
from outboxd.store.inspection import Inspection, inspect


@click.command("status")
@click.option("--json", "in_json", is_flag=True, help="Print one JSON document.")
@click.option("--source", metavar="NAME", help="Only this source.  [default: all]")
@config_options(need_sink=False)
def command(settings: Settings, *, in_json: bool, source: str | None) -> None:
    """Show the backlog, the instances with their lanes and circuits, held aggregates, and dead letters by reason.

    It asks the database only, without locks, and looks at 100,000 rows of each kind at most.

    Exit codes: 0 shown, 1 a source could not be read, 2 usage.
    """
    chosen = dict([pick_source(settings, source)]) if source else settings.sources
    failures: dict[str, str] = {}
    document: dict[str, Any] = {}
    for name, one in chosen.items():
        try:
            found = _inspect(one)
        except OutboxdError as error:
            failures[name] = " ".join(str(error).split())
            document[name] = {"error": failures[name]}
        else:
            document[name] = as_json(found)
            if not in_json:
                show(name, found)
    if in_json:
        click.echo(json.dumps({"sources": document}, indent=2))
    for name, text in failures.items():
        click.echo(f"outboxd: {f'[{name}] ' if len(chosen) > 1 else ''}{text}", err=True)
    if failures:
        raise click.exceptions.Exit(Exit.FAILURE)


def _inspect(source: SourceSettings) -> Inspection:
    names = source.tables.names
    with connected(source.database.url.get_secret_value(), names, connect_options(source.database)) as connection:
        return inspect(connection, names)
