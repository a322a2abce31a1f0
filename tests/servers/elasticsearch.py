"""A real Elasticsearch for the tests, from the distribution its makers publish for integration tests.

That distribution has no JDK, no painless and no ``GET /`` (405): readiness is ``_cluster/health``, the
version is in ``_nodes``. By hand: ``python -m tests.servers.elasticsearch [--version 9.1.0] [--port 9200]``.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import urllib.error
import urllib.request
import zipfile
from dataclasses import dataclass
from pathlib import Path

from tests.servers.keeper import Running, Server, run_by_hand
from tests.servers.parts import UnavailableError, cached, run
from tests.servers.processes import end, give, start, wait_until

GROUP = "org.elasticsearch.distribution.integ-test-zip"
COPY = "org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy"
BOOT_SECONDS = 240.0
ALONE = """\
node.name: one
discovery.type: single-node
"""
SETTINGS = """\
cluster.name: tests
network.host: 127.0.0.1
http.port: {port}
transport.port: 0
path.data: {data}
path.logs: {logs}
node.portsfile: true
xpack.security.enabled: false
cluster.routing.allocation.disk.threshold_enabled: false
"""


@dataclass(frozen=True, slots=True)
class Elasticsearch(Server):
    """One node of one version.

    Attributes:
        version: of the distribution.
        javas: the first and last major version of Java it runs on.
        heap: of the JVM, as ``-Xmx`` takes it.
        port: 0 for any free one.
    """

    version: str = "8.19.16"
    javas: tuple[int, int] = (17, 23)
    heap: str = "1g"
    port: int = 0

    @property
    def name(self) -> str:
        """The server's name in the run directory."""
        return f"elasticsearch-{self.version}"

    def prepare(self) -> None:
        """Fetch the distribution and find a Java."""
        java_home(*self.javas)
        _archive(self.version)

    def start(self, directory: Path) -> Running:
        """Unpack (the node must own its tree; a cache below a closed home cannot be entered), boot, wait."""
        process, ports = self.boot(directory, self.unpack(directory), ALONE)
        return Running({"url": url_of(ports)}, process.poll, lambda: end(process))

    def unpack(self, directory: Path) -> Path:
        """Unpack the distribution below the directory."""
        return _unpack(_archive(self.version), directory)

    def boot(self, directory: Path, home: Path, role: str) -> tuple[subprocess.Popen[bytes], Path]:
        """Start one node of the distribution at ``home``; return when it answers.

        Args:
            directory: for its files; a node that comes again finds its data there.
            home: where the distribution is.
            role: the lines of its settings that say which node it is and how it finds others.

        Returns:
            Its process, and the file of the addresses at which it answers HTTP; ``transport.ports`` lies beside it.
        """
        java = java_home(*self.javas)
        data, logs, temporary, config = (directory / name for name in ("data", "logs", "tmp", "config"))
        shutil.rmtree(logs, ignore_errors=True)
        for path in (data, logs, temporary):
            path.mkdir(exist_ok=True)
        shutil.copytree(home / "config", config, dirs_exist_ok=True)
        settings = role + SETTINGS.format(port=self.port, data=data, logs=logs)
        (config / "elasticsearch.yml").write_text(settings)
        heap = f"-Xms{self.heap}\n-Xmx{self.heap}\n"
        (config / "jvm.options.d" / "heap.options").write_text(heap)
        give(directory)
        log = directory / "output.log"
        places = {"ES_JAVA_HOME": java, "ES_PATH_CONF": config, "ES_TMPDIR": temporary, "HOME": temporary}
        process = start(
            [str(home / "bin" / "elasticsearch")],
            log=log,
            cwd=home,
            environment={name: str(path) for name, path in places.items()},
            as_nobody=True,
        )
        ports = logs / "http.ports"
        wait_until(lambda: _ready(ports), process, log=log, seconds=BOOT_SECONDS)
        return process, ports


SERVER_8 = Elasticsearch()
SERVER_9 = Elasticsearch(version="9.1.0", javas=(21, 25), heap="512m")


def java_home(lowest: int, highest: int) -> Path:
    """The home of a Java of a major version in the range: from the environment, PATH, or the usual places.

    Raises:
        UnavailableError: none was found.
    """
    homes = [Path(os.environ[name]) for name in ("ES_JAVA_HOME", "JAVA_HOME") if os.environ.get(name)]
    found = shutil.which("java")
    if found:
        homes.append(Path(found).resolve().parent.parent)
    homes += sorted(Path("/usr/lib/jvm").glob("*"))
    homes += sorted(Path("/Library/Java/JavaVirtualMachines").glob("*/Contents/Home"))
    for home in homes:
        if lowest <= _java_major(home) <= highest:
            return home
    raise UnavailableError(f"Elasticsearch needs a Java {lowest} to {highest}; set ES_JAVA_HOME to the home of one")


def _java_major(home: Path) -> int:
    release = home / "release"
    if not release.is_file() or not (home / "bin" / "java").exists():
        return 0
    match = re.search(r'^JAVA_VERSION="(\d+)', release.read_text(), re.MULTILINE)
    return int(match[1]) if match else 0


def _archive(version: str) -> Path:
    name = f"elasticsearch-{version}.zip"

    def fetch(directory: Path) -> Path:
        run(
            [
                "mvn",
                "-B",
                "-q",
                COPY,
                f"-Dartifact={GROUP}:elasticsearch:{version}:zip",
                f"-DoutputDirectory={directory}",
            ],
            what=f"Elasticsearch {version}",
        )
        return directory / name

    return cached(name, fetch)


def _unpack(archive: Path, directory: Path) -> Path:
    """Unpack with the mode bits, which ``zipfile`` alone leaves out."""
    with zipfile.ZipFile(archive) as packed:
        for member in packed.infolist():
            path = Path(packed.extract(member, directory))
            mode = member.external_attr >> 16
            if mode and not member.is_dir():
                path.chmod(mode & 0o777)
    return directory / archive.stem


def url_of(ports: Path) -> str:
    """The URL of the node that wrote this file of its addresses."""
    first = next(line for line in ports.read_text().splitlines() if line.startswith("127."))
    return f"http://{first}"


def _ready(ports: Path) -> bool:
    if not ports.exists():
        return False
    try:
        health = f"{url_of(ports)}/_cluster/health?wait_for_status=yellow&timeout=5s"
        with urllib.request.urlopen(health, timeout=10) as answer:  # noqa: S310 -- loopback
            return answer.status == 200
    except (urllib.error.URLError, OSError, StopIteration):
        return False


def main() -> None:
    """Run one in the foreground until interrupted."""
    parser = argparse.ArgumentParser(description="Run a real Elasticsearch on loopback until interrupted.")
    parser.add_argument("--version", default=SERVER_8.version)
    parser.add_argument("--port", type=int, default=9200)
    parser.add_argument("--heap", default="1g")
    chosen = parser.parse_args()
    javas = SERVER_8.javas if chosen.version.startswith("8.") else SERVER_9.javas
    run_by_hand(Elasticsearch(version=chosen.version, javas=javas, heap=chosen.heap, port=chosen.port))


if __name__ == "__main__":
    main()
