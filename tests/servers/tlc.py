"""TLC, the model checker of TLA+, from Maven Central."""

import subprocess
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.servers.cache import CACHE, UnavailableError, fill
from tests.servers.java import copy_jars, java

VERSION = "1.1.0"
_POM = Path(__file__).with_name("tlc-pom.xml")


def provide() -> str:
    """Downloads its jar. Returns where it is."""
    java()
    return str(fill(f"tlc-{VERSION}", lambda folder: copy_jars(_POM, folder, f"tlc.version={VERSION}")))


class Tlc:
    """TLC, ready to run. Raises UnavailableError when it was not provided, or there is no Java."""

    def __init__(self) -> None:
        self._java = java()
        self._jars = CACHE / f"tlc-{VERSION}"
        if not self._jars.is_dir():
            raise UnavailableError("TLC is not in the cache: run `make servers`")

    def check(self, model: Path, config: Path, *options: str, timeout: float) -> str:
        """Checks a model within `timeout` seconds. Returns what TLC says: the violation, or that there is none."""
        with TemporaryDirectory(prefix="outboxd-tlc-") as folder:
            java = [self._java, "-Xmx1g", "-XX:+UseParallelGC", f"-Djava.io.tmpdir={folder}", "-cp", f"{self._jars}/*"]
            arguments = ["-workers", "2", "-metadir", folder, "-config", str(config), *options]
            done = subprocess.run(
                [*java, "tlc2.TLC", *arguments, model],
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                timeout=timeout,
                check=False,
                cwd=model.parent,
            )
        return done.stdout
