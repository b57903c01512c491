"""`outboxd`: the entry point. A subcommand's module is imported when it is called, so that the start is quick."""

import gc
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from typing import Any, Final

import click

from outboxd import __version__
from outboxd.absence import without
from outboxd.cli.exits import reported

COMMANDS: Final = {
    "run": ("outboxd.cli.run", "Deliver events until stopped."),
    "migrate": ("outboxd.cli.migrate", "Create the tables, or bring them to the newest revision."),
    "grants": ("outboxd.cli.grants", "Print the SQL for users with the least privileges."),
    "status": ("outboxd.cli.status", "Show what waits, who works, and what is in the way."),
    "deadletters": ("outboxd.cli.deadletters", "List, show, requeue or discard dead letters."),
    "config": ("outboxd.cli.config_command", "Check or show the configuration."),
    "demo": ("outboxd.cli.demo", "See it at work, with a database and a broker of its own."),
}
"""Name to module, which exports `command`, and a short help."""


class LazyGroup(click.Group):
    """Commands by name; help lists them without importing any."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of use."""
        return list(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Imports the module of the command."""
        if cmd_name not in COMMANDS:
            return None
        with _nothing_collected():
            _import_structlog()
            command = import_module(COMMANDS[cmd_name][0]).command
        assert isinstance(command, click.Command)  # noqa: S101 - for the type; a test calls each
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The table of commands in the help."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in COMMANDS.items()])

    def invoke(self, ctx: click.Context) -> Any:
        """Runs the command; errors that a user may see become lines."""
        with reported():
            return super().invoke(ctx)


@contextmanager
def _nothing_collected() -> Iterator[None]:
    """For imports: what they make stays, and looking through all of it again and again was a sixth of the start."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()
        gc.enable()


def _import_structlog() -> None:
    """Without rich, which it would import for a kind of traceback that the log does not use: 4 MB of a daemon."""
    with without("rich"):
        import_module("structlog")


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(__version__, prog_name="outboxd")
def main() -> None:
    """Delivers the rows of a MySQL outbox table to Kafka: every one, in order per aggregate."""
