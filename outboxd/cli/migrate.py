"""`outboxd migrate`: the tables of all sources, up, down, looked at, or as SQL."""

from collections.abc import Callable
from typing import NamedTuple

import click

from outboxd.cli.options import config_options, pick_source
from outboxd.config.settings import Settings, SourceSettings
from outboxd.store.engine import connect_options
from outboxd.store.migrator import BASE, HEAD, Migrator

Say = Callable[[str], None]


@click.command(name="migrate", short_help="Make, adopt and upgrade the tables.")
@click.argument("action", type=click.Choice(["up", "down", "history"]), default="up")
@click.option("--to", metavar="REVISION", help="Where to go.  [default: up to the newest, down by one]")
@click.option("--check", is_flag=True, help="Change nothing; exit 1 when the tables are behind.")
@click.option("--sql", is_flag=True, help="Print the statements for a DBA; run nothing, ask no database.")
@click.option("--from", "start", metavar="REVISION", help="With --sql: where the tables are.  [default: nowhere yet]")
@click.option("--source", metavar="NAME", help="Only this source.  [default: all]")
@config_options(need_sink=False)
def command(
    *, settings: Settings, action: str, to: str | None, check: bool, sql: bool, start: str | None, source: str | None
) -> None:
    """Make the tables, or adopt those of the Go library overtonx/outbox, and bring them to the newest revision.

    Applications can go on writing meanwhile, and several of these commands may run at once.

    \b
    outboxd migrate            up to the newest revision, or --to one
    outboxd migrate down       back by one revision, or --to one ("base": before the first)
    outboxd migrate history    what revisions there are, and which are applied
    """
    job = _job(action, to, check=check, sql=sql, start=start)
    chosen = dict([pick_source(settings, source)]) if source else settings.sources
    behind = [_run(job, one, f"[{name}] " if len(chosen) > 1 else "") for name, one in chosen.items()]
    if any(behind):
        raise click.exceptions.Exit(1)


class _Job(NamedTuple):
    action: str
    to: str | None
    start: str = BASE


def _job(action: str, to: str | None, *, check: bool, sql: bool, start: str | None) -> _Job:
    """The arguments as one word for what to do. Raises UsageError where they contradict one another."""
    flags = [flag for flag, given in (("--check", check), ("--sql", sql)) if given]
    if len(flags) > 1 or (flags and action != "up"):
        raise click.UsageError(f"{' and '.join(flags if action == 'up' else [*flags, action])} do not go together")
    if start and not sql:
        raise click.UsageError("--from goes with --sql only")
    if to and (check or action == "history"):
        raise click.UsageError("--to goes with up, down and --sql only")
    return _Job(flags[0].removeprefix("--") if flags else action, to, start or BASE)


def _run(job: _Job, source: SourceSettings, prefix: str) -> bool:
    """Does one source's job. True when it was to check and the tables are behind."""

    def say(line: str) -> None:
        click.echo(f"{prefix}{line}")

    url = source.database.url.get_secret_value()
    migrator = Migrator(url, source.tables.names, connect_options(source.database), report=say)
    match job.action:
        case "check":
            return _check(migrator, source.tables.events, say)
        case "sql":
            click.echo(f"-- {source.database.place}\n{migrator.sql(job.start, job.to or HEAD)}", nl=False)
        case "history":
            for revision in migrator.history():
                say(f"{revision.id}  {'applied' if revision.applied else 'missing'}  {revision.title}")
        case "down":
            migrator.downgrade(job.to)
        case _:
            migrator.upgrade(job.to or HEAD)
    return False


def _check(migrator: Migrator, table: str, say: Say) -> bool:
    current = migrator.current()
    if not migrator.behind():
        say(f"{table}: up to date, at revision {current}")
        return False
    migrator.check()
    say(f"{table}: behind, {f'at revision {current}' if current else 'not migrated yet'}; run `outboxd migrate`")
    return True
