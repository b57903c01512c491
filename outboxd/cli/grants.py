"""`outboxd grants`: SQL for the administrator of the database."""

import click
from sqlalchemy.engine import make_url

from outboxd.cli.options import config_options, pick_source
from outboxd.config.settings import Settings, SourceSettings
from outboxd.store.grants import Account, daemon_grants, migrator_grants


@click.command(name="grants", short_help="Print the least privileges that outboxd needs.")
@click.option("--user", metavar="USER@HOST", help="The daemon's user.  [default: that of database.url, at '%']")
@click.option(
    "--migrate-user", metavar="USER@HOST", default="'outboxd_migrate'@'%'", show_default=True, help="Who migrates."
)
@click.option("--source", metavar="NAME", help="Only this source.  [default: all]")
@config_options(need_sink=False)
def command(settings: Settings, user: str | None, migrate_user: str, source: str | None) -> None:
    """Print the GRANT statements for the daemon's user and for the one that runs `outboxd migrate`.

    Nothing is run, and no database is asked. The users must exist.
    """
    sources = [pick_source(settings, source).settings] if source else list(settings.sources.values())
    migrating = Account.parse(migrate_user)
    click.echo("-- 1. before `outboxd migrate`")
    for one in sources:
        _echo(migrator_grants(_database(one), one.tables.names, migrating))
    click.echo("\n-- 2. after it, before `outboxd run`: a user can be granted only what is there")
    for one in sources:
        binlog = one.doorbell.kind == "binlog"
        _echo(daemon_grants(_database(one), one.tables.names, _daemon(one, user), binlog=binlog))


def _database(source: SourceSettings) -> str:
    return make_url(source.database.url.get_secret_value()).database or ""


def _daemon(source: SourceSettings, user: str | None) -> Account:
    return Account.parse(user or make_url(source.database.url.get_secret_value()).username or "outboxd")


def _echo(statements: list[str]) -> None:
    for statement in statements:
        click.echo(statement)
