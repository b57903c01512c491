"""The compose file: its form, and that what it sets means something to outboxd."""

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml

from outboxd.config import load

FILE = Path(__file__).parents[2] / "deploy" / "compose.yaml"


def services() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load(FILE.read_text())["services"]
    return found


def test_the_file_follows_the_compose_specification(tmp_path: Path) -> None:
    """The specification's own schema accepts the file, and does not accept a misspelt key."""
    check = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.compose-spec"]
    done = subprocess.run([*check, FILE], capture_output=True, check=False)
    assert done.returncode == 0, done.stdout.decode()
    wrong = tmp_path / "compose.yaml"
    wrong.write_text(FILE.read_text().replace("depends_on", "depend_on"))
    assert subprocess.run([*check, wrong], capture_output=True, check=False).returncode != 0


def test_outboxd_understands_its_environment() -> None:
    """The variables that outboxd and its migration get are keys of the configuration, and name the other services."""
    for name in ("migrate", "outboxd"):
        environment = services()[name]["environment"]
        with_defaults = {key: re.sub(r"\$\{\w+:-(\w+)\}", r"\1", value) for key, value in environment.items()}
        settings = load(None, {}, environ=with_defaults)
        [source] = settings.sources.values()
        assert source.database.url.get_secret_value() == "mysql+pymysql://outboxd:outboxd@mysql:3306/shop"
        assert tuple(source.kafka.bootstrap_servers) == ("kafka:9092",)


def test_outboxd_starts_behind_its_migration() -> None:
    """The daemon waits for the migration to succeed, and that for a database that is up."""
    waits = {
        (name, other): wait["condition"]
        for name, service in services().items()
        for other, wait in service.get("depends_on", {}).items()
    }
    assert waits == {
        ("migrate", "mysql"): "service_healthy",
        ("outboxd", "migrate"): "service_completed_successfully",
        ("outboxd", "kafka"): "service_healthy",
    }
    assert all("test" in services()[name]["healthcheck"] for name in ("mysql", "kafka"))


def test_what_is_mounted_exists_and_ports_stay_on_this_machine() -> None:
    """Every file that a service mounts is there, and no port is open to the network."""
    volumes = [volume.split(":")[0] for service in services().values() for volume in service.get("volumes", [])]
    files = [FILE.parent / volume for volume in volumes if volume.startswith(".")]
    assert len(files) == 2
    assert all(file.is_file() for file in files)
    ports = [port for service in services().values() for port in service.get("ports", [])]
    assert len(ports) == 4
    assert all(port.startswith("127.0.0.1:") for port in ports)
