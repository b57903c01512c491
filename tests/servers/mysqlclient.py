"""The driver in C, PyPI's mysqlclient: it is compiled, against MariaDB's library."""

import importlib
import shutil
import subprocess
import sys
import sysconfig
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

from tests.servers import debian
from tests.servers.cache import CHECKOUT, UnavailableError

NAME = "mysqlclient"


def provide() -> str:
    """Compiles it, unless it is there. Returns its version."""
    try:
        return find()
    except UnavailableError:
        _compile()
        importlib.invalidate_caches()
        return find()


def find() -> str:
    """Its version. Raises UnavailableError with the cure."""
    try:
        return version(NAME)
    except PackageNotFoundError as error:
        raise UnavailableError(f"{NAME} is missing: run `make servers`, or pip install 'outboxd[mysqldb]'") from error


def _compile() -> None:
    needed = {"gcc": _there("gcc"), "pkg-config": _there("pkg-config"), "libmariadb-dev": _there("mariadb_config")}
    needed["python3-dev"] = Path(sysconfig.get_path("include"), "Python.h").exists()
    missing = [package for package, there in needed.items() if not there]
    if missing:
        debian.install(*missing)
    command = [sys.executable, "-m", "pip", "install", "--quiet", "--editable", f"{CHECKOUT}[mysqldb]"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise UnavailableError(f"pip cannot compile {NAME}: {(done.stderr.strip() or 'no reason given')[-500:]}")


def _there(program: str) -> bool:
    return shutil.which(program) is not None
