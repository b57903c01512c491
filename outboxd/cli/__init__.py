"""The command line."""

from outboxd.cli.main import main

__all__ = ["main"]
