"""`outboxd demo`: see it at work."""

import json
import sys
import time
from typing import Final

import click
from rich.console import Console

from outboxd.cli.exits import Exit
from outboxd.errors import OutboxdError

try:
    from outboxd.demo import database, installation, report
    from outboxd.demo.child import BrokenError
    from outboxd.demo.play import Script, perform
    from outboxd.demo.scene import Servers
    from outboxd.demo.stage import Stage
except ModuleNotFoundError as error:
    if error.name != "confluent_kafka":
        raise
    raise OutboxdError("the demo needs librdkafka: pip install 'outboxd[demo]'") from error


LOG_WIDTH: Final = 120
"""Columns, where there is no terminal to tell."""


@click.command("demo")
@click.option("--events", type=click.IntRange(100, 1_000_000), default=5_000, show_default=True)
@click.option("--aggregates", type=click.IntRange(1, 100_000), default=200, show_default=True)
@click.option(
    "--rate",
    type=click.IntRange(0),
    default=1_000,
    show_default=True,
    help="Events that are written in a second; 0: as many as the database takes.",
)
@click.option(
    "--database-url",
    metavar="URL",
    envvar="DEMO_DATABASE_URL",
    show_envvar=True,
    help="A database of your own, in place of a private one. The demo makes tables of its own in it, and drops them.",
)
@click.option(
    "--kafka",
    metavar="HOST:PORT,...",
    help="Brokers of your own, in place of an embedded one. The demo makes a topic of its own, and deletes it.",
)
@click.option("--server", metavar="PROGRAM", help="The mariadbd or mysqld for the private database.")
@click.option("--install", is_flag=True, help="Install MariaDB from Debian's packages, if it is missing.")
@click.option("--json", "as_json", is_flag=True, help="Print the result as JSON; progress goes to stderr.")
def command(
    *,
    events: int,
    aggregates: int,
    rate: int,
    database_url: str | None,
    kafka: str | None,
    server: str | None,
    install: bool,
    as_json: bool,
) -> None:
    """See it at work: a database, a broker, an application that writes events, the daemon, and a consumer that counts.

    Everything is private, temporary, and gone when it ends, also on Ctrl-C. Of the OUTBOXD_ variables in the
    environment only OUTBOXD_DATABASE__... count with --database-url, and OUTBOXD_KAFKA__... with --kafka (for TLS
    and SASL).

    Exit codes: 0 all is well, 1 something is missing or out of order, or the demo failed, 2 usage, 130 Ctrl-C.
    """
    began = time.monotonic()
    console = Console(stderr=as_json)
    if not console.is_terminal:
        console.width = LOG_WIDTH
    stage = Stage(console)
    program = None if database_url else _server(server, stage, install=install)
    try:
        account = perform(Script(events, aggregates, rate), Servers(database_url, kafka, program), stage)
    except BrokenError as error:
        stage.tail(error.tail)
        raise
    except KeyboardInterrupt:
        stage.say("Broken off; everything is cleaned up.")
        raise
    if as_json:
        click.echo(json.dumps(report.as_json(account) | {"seconds": round(time.monotonic() - began, 1)}, indent=2))
    else:
        report.show(console, account)
    if not account.holds:
        raise click.exceptions.Exit(Exit.FAILURE)


def _server(named: str | None, stage: Stage, *, install: bool) -> database.Program:
    """The server of the private database, which is installed if it is missing and the user agrees."""
    program = database.find(named)
    if program is None and named:
        raise OutboxdError("--server: there is no such program, or mariadb-install-db, which it needs, is missing")
    if program is None:
        _install(stage, agreed=install)
        program = database.find()
    if program is None:
        raise installation.MissingServerError
    return program


def _install(stage: Stage, *, agreed: bool) -> None:
    """Says what it is about to do, and asks, where that was not agreed to before and there is somebody to ask."""
    installation.check()
    if not agreed and not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise installation.MissingServerError
    stage.say(installation.ANNOUNCEMENT)
    if not agreed and not click.confirm("Install them now?", default=True, err=True):
        raise installation.MissingServerError
    with stage.step("installing MariaDB") as done:
        installation.install()
        done("MariaDB is installed")
