"""How each of the writer examples is made ready and run, with the tools of its language."""

import hashlib
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.conftest import Database
from tests.servers.cache import CHECKOUT, UnavailableError, fill

EXAMPLES: Final = CHECKOUT / "docs" / "examples"
DOWNLOAD_TIMEOUT: Final = 300
RUN_TIMEOUT: Final = 60


@dataclass(frozen=True)
class Example:
    """An example that is ready to be run: the command, and how its language writes where the database is."""

    command: Sequence[str | Path]
    dsn: str

    def run(self, database: Database, order: int, total: str) -> "subprocess.CompletedProcess[str]":
        """Places an order, as its own process."""
        where = self.dsn.format(port=database.server.port, name=database.name)
        return subprocess.run(
            [*self.command, str(order), total],
            env={"DATABASE_DSN": where},
            capture_output=True,
            text=True,
            timeout=RUN_TIMEOUT,
            check=False,
        )


def python() -> Example:
    """The interpreter of the tests, which has PyMySQL."""
    return Example([sys.executable, EXAMPLES / "python" / "main.py"], "mysql://root@127.0.0.1:{port}/{name}")


def go() -> Example:
    """A binary."""
    program = _tool("go", "golang")

    def build(folder: Path) -> None:
        source = EXAMPLES / "go"
        _download([program, "mod", "download"], source)
        _compile([program, "build", "-o", folder / "place_order", "."], source)

    return Example([_built("go", build) / "place_order"], "root@tcp(127.0.0.1:{port})/{name}")


def java() -> Example:
    """Classes, and the driver beside them."""
    compiler, maven = _tool("javac", "default-jdk-headless"), _tool("mvn", "maven")

    def build(folder: Path) -> None:
        source = EXAMPLES / "java"
        _download([maven, "-q", "-B", "dependency:copy-dependencies", f"-DoutputDirectory={folder / 'lib'}"], source)
        _compile([compiler, "-d", folder, *source.glob("*.java")], source)

    folder = _built("java", build)
    command = [_tool("java", "default-jre-headless"), "-cp", f"{folder}:{folder / 'lib'}/*", "Main"]
    return Example(command, "jdbc:mariadb://127.0.0.1:{port}/{name}?user=root")


def php() -> Example:
    """The interpreter, if it has the driver."""
    program = _tool("php", "php-cli php-mysql")
    modules = subprocess.run([program, "-m"], capture_output=True, text=True, check=True).stdout.split()
    if "pdo_mysql" not in modules:
        raise UnavailableError("PHP has no pdo_mysql (Debian: apt-get install php-mysql)")
    return Example(
        [program, EXAMPLES / "php" / "main.php"],
        "mysql:host=127.0.0.1;port={port};dbname={name};user=root;charset=utf8mb4",
    )


def node() -> Example:
    """A copy of the example with its modules, since Node looks for them beside the program."""
    program, npm = _tool("node", "nodejs"), _tool("npm", "npm")

    def build(folder: Path) -> None:
        shutil.copytree(EXAMPLES / "node", folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("node_modules"))
        _download([npm, "ci", "--no-audit", "--no-fund", "--ignore-scripts"], folder)

    return Example([program, _built("node", build) / "main.mjs"], "mysql://root@127.0.0.1:{port}/{name}")


LANGUAGES: Final[dict[str, Callable[[], Example]]] = {
    "python": python,
    "go": go,
    "java": java,
    "php": php,
    "node": node,
}
"""Each raises UnavailableError where its tools are missing, or its libraries cannot be downloaded."""


def _tool(name: str, package: str) -> str:
    found = shutil.which(name)
    if found is None:
        raise UnavailableError(f"no `{name}` (Debian: apt-get install {package})")
    return found


def _built(language: str, build: Callable[[Path], None]) -> Path:
    """The folder of the cache that holds this very version of the example."""
    digest = hashlib.sha256()
    for file in sorted(path for path in (EXAMPLES / language).iterdir() if path.is_file()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return fill(f"example-{language}-{digest.hexdigest()[:12]}", build)


def _download(command: Sequence[str], folder: Path) -> None:
    try:
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, timeout=DOWNLOAD_TIMEOUT, check=False
        )
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"`{Path(command[0]).name}` did not end within {DOWNLOAD_TIMEOUT} s") from error
    if done.returncode != 0:
        lines = (done.stderr.strip() or done.stdout.strip() or "no output").splitlines()
        raise UnavailableError(f"`{' '.join(map(str, command[:3]))}` failed: {lines[0]}")


def _compile(command: Sequence[str | Path], folder: Path) -> None:
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
