"""Fixtures of the telemetry tests."""

from pathlib import Path

import pytest

from tests.servers import promtool as prometheus


@pytest.fixture(scope="session")
def promtool() -> Path:
    """The path of a real `promtool`."""
    return prometheus.find()
