"""The result of a run: figures by measurement and database, with what they were measured on, as JSON."""

import json
import os
import platform
import re
import subprocess
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final, Self

from pydantic import TypeAdapter, ValidationError

from bench.measurements.measurement import Measurement
from bench.registry import MEASUREMENTS
from tests.servers.java import java

RESULTS: Final = Path(__file__).parent / "results"
PACKAGES: Final = (
    "outboxd",
    "aiokafka",
    "PyMySQL",
    "mysqlclient",
    "SQLAlchemy",
    "confluent-kafka",
    "mysql-replication",
)
"""Those that are not installed are left out."""


@dataclass
class Result:
    """`figures`: by measurement, then by the database's name. `failures`: what a measurement died of, likewise."""

    at: str
    machine: dict[str, str]
    settings: list[str]
    scale: float
    rounds: int
    sent_rows: int
    figures: dict[str, dict[str, Any]] = field(default_factory=dict)
    failures: dict[str, dict[str, str]] = field(default_factory=dict)

    def add(self, measurement: Measurement[Any], database: str, figures: Any) -> None:
        """What was measured on one database."""
        self.figures.setdefault(measurement.name, {})[database] = measurement.to_json(figures)

    def fail(self, measurement: Measurement[Any], database: str, reason: str) -> None:
        """A measurement has failed."""
        self.failures.setdefault(measurement.name, {})[database] = reason

    def get(self, name: str, database: str) -> Any:
        """The figures as the measurement's dataclass; None when there are none, or those of another day's shape."""
        with suppress(KeyError, ValidationError):
            return MEASUREMENTS[name].from_json(self.figures[name][database])
        return None

    @property
    def databases(self) -> list[str]:
        """In the order in which they were measured."""
        found = (*self.figures.values(), *self.failures.values())
        return list(dict.fromkeys(name for by_database in found for name in by_database))

    def save(self, path: Path) -> None:
        """Writes it as JSON; whoever reads meanwhile sees the old file or the new one."""
        path.parent.mkdir(parents=True, exist_ok=True)
        fresh = path.with_suffix(".new")
        fresh.write_text(json.dumps(TypeAdapter(Result).dump_python(self, mode="json"), indent=1) + "\n")
        fresh.replace(path)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Reads what `save` has written."""
        return TypeAdapter(cls).validate_json(path.read_bytes())


def machine() -> dict[str, str]:
    """On what it is measured, without the servers. Raises UnavailableError without Java."""
    return {
        "cpus": str(os.cpu_count()),
        "cpu": _cpu(),
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
        **_packages(),
        "java": _java(),
        "commit": _commit(),
    }


def now() -> str:
    """The time for `Result.at`."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def default_path(at: str) -> Path:
    """Where the result of a run goes unless told otherwise."""
    return RESULTS / f"bench-{at[:19].replace(':', '').replace('-', '')}.json"


def _packages() -> dict[str, str]:
    found = {}
    for package in PACKAGES:
        with suppress(PackageNotFoundError):
            found[package] = version(package)
    return found


def _java() -> str:
    """What runs the broker and Debezium. Raises UnavailableError."""
    told = subprocess.run([java(), "-version"], capture_output=True, text=True, check=False).stderr
    found = re.search(r'version "([^"]+)"', told)
    return found[1] if found else "unknown"


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.machine()


def _commit() -> str:
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "unknown"
