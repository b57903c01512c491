"""Exit codes, and how an error reaches the terminal."""

from collections.abc import Iterator
from contextlib import contextmanager
from enum import IntEnum
from typing import IO, Any

import click

from outboxd.errors import ConfigError, OutboxdError


class Exit(IntEnum):
    """Exit codes of every command."""

    OK = 0
    FAILURE = 1
    """It was tried, and went wrong."""
    USAGE = 2
    """Nothing was tried: the command line or the configuration is wrong."""
    INTERRUPTED = 130
    """Ctrl-C, or a second signal to a daemon that was stopping."""


class Failed(click.ClickException):
    """An error as click shows it: one line on stderr, no traceback."""

    exit_code = Exit.FAILURE

    def lines(self) -> list[str]:
        """What to print."""
        return [" ".join(self.message.split())]

    def show(self, file: IO[Any] | None = None) -> None:
        """Prints it; click calls this."""
        for line in self.lines():
            click.echo(f"outboxd: {line}", file=file, err=True)


class Misconfigured(Failed):
    """The configuration's problems, one a line."""

    exit_code = Exit.USAGE

    def lines(self) -> list[str]:
        """What to print."""
        return self.message.splitlines()


@contextmanager
def reported() -> Iterator[None]:
    """Turns the errors that a user may see into lines and exit codes."""
    try:
        yield
    except ConfigError as error:
        raise Misconfigured(str(error)) from error
    except OutboxdError as error:
        raise Failed(str(error)) from error
    except KeyboardInterrupt:
        raise click.exceptions.Exit(Exit.INTERRUPTED) from None
