"""Debian's packages: installed by apt where that is allowed, or unpacked into a folder without being installed."""

import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from tests.servers.cache import UnavailableError

_APT = Path("/etc/apt")
_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")


def install(*packages: str) -> None:
    """Installs packages. Raises UnavailableError with the cure when this user or this system cannot."""
    cure = f"apt-get install --no-install-recommends {' '.join(packages)}"
    if shutil.which("apt-get") is None:
        raise UnavailableError(f"this system has no apt-get; install what Debian calls {' and '.join(packages)}")
    become_root = _become_root()
    if become_root is None:
        raise UnavailableError(f"not root, and sudo asks for a password; as root: {cure}")
    print(f"  installing from the system's packages: {' '.join(packages)}", flush=True)
    apt = [*become_root, "env", "DEBIAN_FRONTEND=noninteractive", "apt-get", "-qq", "-o", "Acquire::Retries=3"]
    # One unreachable source must not keep us from the others: whether it was enough shows at the installation.
    subprocess.run([*apt, "update"], capture_output=True, check=False)
    _run([*apt, "install", "-y", "--no-install-recommends", *packages], cure)


def unpack(package: str, folder: Path, *, suite: str | None = None, dependencies: bool = True) -> None:
    """Downloads a package from `suite` (None: the system's own release) and unpacks it into `folder`.

    Needs no root. With `dependencies` everything it needs comes along, down to the C library. Raises UnavailableError.
    """
    for program in ("apt-get", "dpkg"):
        if shutil.which(program) is None:
            raise UnavailableError(f"{package} comes from Debian's packages, and this system has no {program}")
    suite = suite or _release()
    with tempfile.TemporaryDirectory(prefix="outboxd-apt-") as scratch:
        root = Path(scratch)
        apt = _private_apt(root, suite)
        print(f"  downloading {package} from Debian {suite}; it is unpacked, not installed", flush=True)
        _run([*apt, "update"], f"is Debian {suite} within reach?")
        if dependencies:
            archives = root / "cache" / "archives"
            _run([*apt, "install", "--download-only", "-y", "--no-install-recommends", package], "see above")
        else:
            archives = root
            _run([*apt, "download", package], "see above", cwd=root)
        for archive in sorted(archives.glob("*.deb")):
            _run(["dpkg", "-x", archive, folder], "is the disk full?")


def _private_apt(root: Path, suite: str) -> list[str]:
    """An apt-get that knows only `suite`, and nothing of what is installed."""
    for folder in ("lists/partial", "cache/archives/partial"):
        (root / folder).mkdir(parents=True)
    signed = f"[signed-by={_KEYRING}] " if _KEYRING.exists() else ""
    (root / "sources.list").write_text(f"deb {signed}{_mirror()} {suite} main\n")
    options = {
        "Dir::Etc::SourceList": root / "sources.list",
        "Dir::Etc::SourceParts": "/dev/null",
        "Dir::Etc::Preferences": "/dev/null",
        "Dir::Etc::PreferencesParts": "/dev/null",
        "Dir::State::Lists": root / "lists",
        "Dir::State::status": "/dev/null",
        "Dir::Cache": root / "cache",
        "Acquire::Languages": "none",
        "Acquire::Retries": "3",
        "APT::Get::List-Cleanup": "0",
        "APT::Sandbox::User": "",
    }
    return ["apt-get", "-qq", *(part for key, value in options.items() for part in ("-o", f"{key}={value}"))]


def _mirror() -> str:
    """Where this system gets its own packages from."""
    for file in (_APT / "sources.list.d" / "debian.sources", _APT / "sources.list"):
        if file.exists():
            found = re.search(r"^(?:URIs:|deb(?: +\[.*?\])?) +(\S+)", file.read_text(), re.MULTILINE)
            if found:
                return found[1]
    raise UnavailableError("this system has no Debian mirror in /etc/apt")


def _release() -> str:
    found = re.search(r"^VERSION_CODENAME=(\w+)", Path("/etc/os-release").read_text(), re.MULTILINE)
    if found is None:
        raise UnavailableError("this system does not tell its release in /etc/os-release")
    return found[1]


def _become_root() -> list[str] | None:
    if os.geteuid() == 0:
        return []
    sudo = shutil.which("sudo")
    if sudo and subprocess.run([sudo, "-n", "true"], capture_output=True, check=False).returncode == 0:
        return [sudo, "-n"]
    return None


def _run(command: Sequence[str | Path], cure: str, cwd: Path | None = None) -> None:
    done = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = (done.stderr or done.stdout).strip().splitlines() or ["no output"]
        raise UnavailableError(f"{Path(command[0]).name} failed ({lines[-1]}); {cure}")
