"""Imports of what a daemon does not need, and would pay for in memory as long as it runs."""

import sys
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def without(package: str) -> Iterator[None]:
    """While it lasts the package cannot be imported, unless it is there already; libraries that can do without do."""
    if package in sys.modules:
        yield
        return
    sys.modules[package] = None  # type: ignore[assignment]  # as the import system has it: there is none
    try:
        yield
    finally:
        del sys.modules[package]
