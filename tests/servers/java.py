"""What Java programs need: Java itself, and their jars by Maven."""

import re
import shutil
import subprocess
from pathlib import Path

from tests.servers.cache import UnavailableError


def java() -> str:
    """The path of Java 17 or later. Raises UnavailableError with the cure."""
    found = shutil.which("java")
    if found is None:
        raise UnavailableError("no Java 17 or later (Debian: apt-get install default-jre-headless maven)")
    told = subprocess.run([found, "-version"], capture_output=True, text=True, check=False).stderr
    version = re.search(r'version "(\d+)', told)
    if version is None or int(version[1]) < 17:
        raise UnavailableError("Java is older than 17 (Debian: apt-get install default-jre-headless)")
    return found


def copy_jars(pom: Path, folder: Path, *properties: str) -> None:
    """Downloads what `pom` depends on. `properties` as `name=value`. Raises UnavailableError."""
    maven = shutil.which("mvn")
    if maven is None:
        raise UnavailableError("no Maven to download with (Debian: apt-get install maven)")
    options = [f"-D{setting}" for setting in (*properties, f"outputDirectory={folder}")]
    command = [maven, "-q", "-B", "-f", str(pom), *options, "dependency:copy-dependencies"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        lines = [line for line in done.stdout.splitlines() if line.startswith("[ERROR]")] or ["no output"]
        raise UnavailableError(f"Maven failed: {lines[0]}")
