"""The Dockerfile, as far as it can be judged without an engine. CI does not build the image."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

from outboxd.config import load

ROOT = Path(__file__).parents[2]
DOCKERFILE = ROOT / "Dockerfile"
TEXT = DOCKERFILE.read_text().replace("\\\n", " ")


def copied() -> list[str]:
    """What goes from the checkout into the image."""
    return [source for line in re.findall(r"^COPY (?!--from)(.*) \S+$", TEXT, re.MULTILINE) for source in line.split()]


def test_the_linter_has_nothing_to_say(tmp_path: Path) -> None:
    """hadolint finds nothing, and finds something in a Dockerfile that runs as root."""
    hadolint = Path(sys.executable).with_name("hadolint")
    done = subprocess.run([hadolint, DOCKERFILE], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=False)
    assert (done.returncode, done.stdout) == (0, b"")
    wrong = tmp_path / "Dockerfile"
    wrong.write_text(DOCKERFILE.read_text().replace("USER 900", "USER root"))
    assert b"USER should not be root" in subprocess.run([hadolint, wrong], capture_output=True, check=False).stdout


def test_what_is_copied_makes_a_whole_wheel(tmp_path: Path) -> None:
    """The files that the Dockerfile copies, none of them ignored, are enough to build the wheel with its migrations."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    for source in copied():
        assert f"!{source}" in ignored, f"{source} is not in the build context"
        if (ROOT / source).is_dir():
            shutil.copytree(ROOT / source, tmp_path / source, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / source, tmp_path / source)
    wheels = tmp_path / "wheels"
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", wheels, tmp_path]
    done = subprocess.run(build, capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    [wheel] = wheels.iterdir()
    names = subprocess.run([sys.executable, "-m", "zipfile", "-l", wheel], capture_output=True, check=True).stdout
    assert b"outboxd/__main__.py" in names
    assert b"outboxd/migrations/env.py" in names


def test_nothing_is_compiled_at_a_start(tmp_path: Path) -> None:
    """The command that compiles the standard library leaves out nothing that the daemon or a health check imports."""
    [command] = re.findall(r"^RUN (python -m compileall .*)$", TEXT, re.MULTILINE)
    (tmp_path / "python").symlink_to(sys.executable)
    here = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "PYTHONPYCACHEPREFIX": str(tmp_path / "bytecode")}
    done = subprocess.run(command, shell=True, env=os.environ | here, capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
    program = """
import os, pathlib, sys
import outboxd.cli.run, outboxd.health.__main__, outboxd.sinks.kafka, pymysql
library = pathlib.Path(os.__file__).parent
specs = [getattr(module, "__spec__", None) for module in list(sys.modules.values())]
files = [spec for spec in specs if spec and spec.cached and "site-packages" not in spec.origin]
ours = [spec for spec in files if library in pathlib.Path(spec.origin).parents]
missing = [spec.name for spec in ours if not os.path.exists(spec.cached)]
print(len(ours) > 100, missing)
"""
    unwritten = here | {"PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run([sys.executable, "-c", program], env=os.environ | unwritten, capture_output=True, check=False)
    assert done.stdout == b"True []\n", done.stdout + done.stderr


def test_outboxd_understands_the_images_environment() -> None:
    """The variables that the image sets are keys of the configuration: it listens where the health check asks."""
    environment = dict(re.findall(r"(OUTBOXD_\w+)=(\S+)", TEXT))
    needed = {"OUTBOXD_DATABASE_URL": "mysql://a:b@c/d", "OUTBOXD_KAFKA__BOOTSTRAP_SERVERS": "kafka:9092"}
    settings = load(None, {}, environ=environment | needed)
    [exposed] = re.findall(r"^EXPOSE (\d+)$", TEXT, re.MULTILINE)
    assert (settings.http.host, settings.http.port) == ("0.0.0.0", int(exposed))


def test_the_image_starts_the_daemon_and_stops_it_gently() -> None:
    """Without arguments the image runs `outboxd run`, as no root; stopping it is SIGTERM; its health is asked."""
    [entry] = re.findall(r"^ENTRYPOINT (.*)$", TEXT, re.MULTILINE)
    [command] = re.findall(r"^CMD (.*)$", TEXT, re.MULTILINE)
    words = json.loads(entry) + json.loads(command)
    assert words == ["outboxd", "run"]
    done = subprocess.run([sys.executable, "-m", *words, "--help"], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()
    assert re.findall(r"^USER (\d+)$", TEXT, re.MULTILINE) == ["900"]
    assert re.findall(r"^STOPSIGNAL (\w+)$", TEXT, re.MULTILINE) == ["SIGTERM"]
    [health] = re.findall(r"^HEALTHCHECK .* CMD (\[.*\])$", TEXT, re.MULTILINE)
    assert json.loads(health) == ["python", "-m", "outboxd.health"]
