"""The systemd unit, judged by systemd itself."""

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from outboxd.config import load
from outboxd.store.store import CLOSING
from outboxd.workers.crew import GOODBYE
from outboxd.workers.relay.suspects import TAKE_BACK

UNIT = Path(__file__).parents[2] / "deploy" / "systemd" / "outboxd.service"
EXECUTABLE = "/opt/outboxd/bin/outboxd"


def analyze(*arguments: str | Path) -> tuple[int, str]:
    done = subprocess.run(
        ["systemd-analyze", "--no-pager", *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False
    )
    return done.returncode, done.stdout.decode()


def setting(key: str) -> str:
    [value] = re.findall(rf"^{key}=(.*)$", UNIT.read_text(), re.MULTILINE)
    return str(value)


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The unit as it would stand on a machine where the executable exists; only its path is another."""
    unit = tmp_path / UNIT.name
    unit.write_text(UNIT.read_text().replace(EXECUTABLE, sys.executable))
    return unit


def test_systemd_has_nothing_to_say_about_the_unit(installed: Path) -> None:
    """`systemd-analyze verify` accepts the unit without a word, and does not accept an unknown setting."""
    assert analyze("verify", "--man=no", installed) == (0, "")
    installed.write_text(installed.read_text().replace("ProtectHome=", "ProtectHouse="))
    assert "ProtectHouse" in analyze("verify", "--man=no", installed)[1]


def test_the_sandbox_is_tight() -> None:
    """`systemd-analyze security` sees an exposure of at most 2.0 out of 10."""
    code, report = analyze("security", "--offline=true", "--threshold=20", UNIT)
    found = re.search(r"Overall exposure level for outboxd.service: ([\d.]+)", report)
    assert found is not None, report
    assert float(found[1]) <= 2.0
    assert code == 0


def test_the_command_of_the_unit_exists() -> None:
    """The daemon accepts the command line that the unit starts it with."""
    program, *arguments = shlex.split(setting("ExecStart"))
    assert program == EXECUTABLE
    done = subprocess.run([sys.executable, "-m", "outboxd", *arguments, "--help"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_the_credential_is_the_database_url(tmp_path: Path) -> None:
    """The file that the unit hands over is read as the URL of the database."""
    credential, _ = setting("LoadCredential").split(":")
    (tmp_path / credential).write_text("mysql+pymysql://app:hunter2@db:3306/shop\n")
    [variable] = re.findall(r"^Environment=(OUTBOXD_.*)$", UNIT.read_text(), re.MULTILINE)
    name, value = variable.replace("%d", str(tmp_path)).split("=")
    settings = load(None, {}, environ={name: value, "OUTBOXD_KAFKA__BOOTSTRAP_SERVERS": "kafka:9092"})
    [source] = settings.sources.values()
    assert "hunter2" in source.database.url.get_secret_value()


def test_systemd_waits_for_the_drain() -> None:
    """By default, its patience at a stop is longer than all of that may take, where broker and database are silent:
    taking back an attempt, draining, taking back those of the batches, the producer's end, the lease, the store."""
    needed = {"OUTBOXD_DATABASE_URL": "mysql://a:b@c/d", "OUTBOXD_KAFKA__BOOTSTRAP_SERVERS": "kafka:9092"}
    [source] = load(None, {}, environ=needed).sources.values()
    needed_seconds = 2 * TAKE_BACK + source.relay.drain_timeout + 2 * source.close_seconds + GOODBYE + CLOSING
    assert float(setting("TimeoutStopSec").removesuffix("s")) > needed_seconds
