"""The wheel works outside of the checkout."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

from tests.conftest import Database
from tests.end_to_end.application import Ledger, fill
from tests.end_to_end.daemon import Daemon, until

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="module")
def installed(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built and installed into an empty environment; the path of its `outboxd`."""
    folder = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--disable-pip-version-check", "-q"]
    subprocess.run([*pip, "wheel", "--no-deps", "-w", str(folder), str(ROOT)], check=True, cwd=folder)
    venv.create(folder / "venv", with_pip=True)
    python = folder / "venv" / "bin" / "python"
    (wheel,) = folder.glob("outboxd-*.whl")
    subprocess.run([python, "-m", "pip", "-q", "--disable-pip-version-check", "install", wheel], check=True, cwd=folder)
    return folder / "venv" / "bin" / "outboxd"


def test_it_migrates_and_delivers_from_any_folder(database: Database, installed: Path, tmp_path: Path) -> None:
    """`outboxd migrate`, then `outboxd run` with the stdout sink; nothing of the checkout is within reach."""
    migrated = subprocess.run(
        [installed, "migrate", "--database-url", database.url], cwd=tmp_path, capture_output=True, text=True, check=True
    )
    assert "done" in migrated.stdout
    ledger = Ledger()
    with database.connect() as connection, connection.cursor() as cursor:
        fill(connection, ledger, "orders", 100, 10)
        with Daemon(database.url, "", program=[str(installed)], cwd=tmp_path, SINK__KIND="stdout") as running:

            def sent() -> bool:
                cursor.execute("SELECT COUNT(*) FROM outbox_events WHERE status = 1")
                return bool(cursor.fetchone() == (100,))

            until(sent, "everything is printed")
            assert running.stop() == 0
            assert len(running.stdout) == 100
