"""Temporary folders with short names: the path of a socket must not be long."""

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture
def tmp() -> Iterator[Path]:
    """For a demo's temporary folder."""
    with tempfile.TemporaryDirectory(prefix="demo-test-") as folder:
        yield Path(folder)
