"""A throw-away PostgreSQL cluster for the tests: ``initdb`` in a temporary directory, loopback, no fsync.

Its time zone is deliberately not UTC, so that a query that leans on the server's zone is found out.
By hand: ``python -m tests.servers.postgresql``.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from tests.servers.hosts import Host
from tests.servers.keeper import Running, Server, run_by_hand
from tests.servers.parts import UnavailableError, run, under_ci
from tests.servers.processes import StartError, end, free_port, give, start, tail, unprivileged, wait_until

USER = "tasks"
BOOT_SECONDS = 60.0
PORT_TRIES = 5
HOST_PORT = 5432
SETTINGS = """\
listen_addresses = '127.0.0.1'
unix_socket_directories = ''
fsync = off
synchronous_commit = off
full_page_writes = off
max_connections = 300
shared_buffers = '64MB'
timezone = 'Asia/Kathmandu'
log_timezone = 'UTC'
"""


@dataclass(frozen=True, slots=True)
class PostgreSQL(Server):
    """A cluster of whatever PostgreSQL the machine has."""

    @property
    def name(self) -> str:
        """The server's name in the run directory."""
        return "postgresql"

    def prepare(self) -> None:
        """Find the binaries; on a fresh machine of the CI, as root, install Debian's."""
        try:
            _binaries()
        except UnavailableError:
            if not (under_ci() and os.getuid() == 0 and shutil.which("apt-get")):
                raise
            quiet = {"DEBIAN_FRONTEND": "noninteractive"}
            run(["apt-get", "-q", "update"], what="the list of packages", environment=quiet)
            run(["apt-get", "-qy", "install", "postgresql"], what="PostgreSQL", environment=quiet)
            _binaries()

    def start(self, directory: Path) -> Running:
        """Make a cluster and start it on a free port."""
        _cluster(directory)
        process, port = _started(directory)
        return Running({"port": port, "user": USER}, process.poll, lambda: end(process, signal.SIGINT))


SERVER = PostgreSQL()


@contextmanager
def on_host(host: Host) -> Iterator[str]:
    """A cluster of its own that listens on a host's address, for the hosts beside it; yields a new database's URL.

    It lies in a directory of its own: the server is nobody, whom pytest's temporary directories do not let through.
    """
    with TemporaryDirectory(prefix="tasks-service-host-") as directory:
        yield from _served(Path(directory), host)


@dataclass
class Crashing:
    """A cluster that may be crashed: what was committed is there once it is started again."""

    directory: Path
    process: subprocess.Popen[bytes]
    port: int

    def restart(self) -> None:
        """Start it again where it was, and return when it answers: it has recovered what it had committed."""
        self.process = _start(self.directory, self.port)

    def crash(self) -> None:
        """End it at once, as PostgreSQL's immediate shutdown does: nothing is written down on the way."""
        end(self.process, signal.SIGQUIT)


@contextmanager
def crashing() -> Iterator[Crashing]:
    """A cluster of its own that a test may crash; in a directory of its own, as `on_host` has."""
    with TemporaryDirectory(prefix="tasks-service-crashing-") as directory:
        _cluster(Path(directory), "synchronous_commit = on\n")
        cluster = Crashing(Path(directory), *_started(Path(directory)))
        try:
            yield cluster
        finally:
            cluster.crash()


def _started(directory: Path) -> tuple[subprocess.Popen[bytes], int]:
    """Start a cluster on a free port; somebody else may take that first."""
    for left in reversed(range(PORT_TRIES)):
        port = free_port()
        try:
            return _start(directory, port), port
        except StartError:
            if not left or "could not bind" not in tail(directory / "output.log"):
                raise
    raise StartError("no free port")


def _start(directory: Path, port: int) -> subprocess.Popen[bytes]:
    """Start a cluster, and return when it answers."""
    log = directory / "output.log"
    command = [str(_binaries() / "postgres"), "-D", str(directory / "data"), "-p", str(port)]
    process = start(command, log=log, cwd=directory, as_nobody=True, orphaned=signal.SIGQUIT)
    wait_until(lambda: _answers(port), process, log=log, seconds=BOOT_SECONDS)
    return process


def _cluster(directory: Path, more: str = "") -> tuple[Path, Path, Path]:
    """Make a cluster with these settings, too; returns where the binaries, the data and the log are."""
    binaries, data, log = _binaries(), directory / "data", directory / "output.log"
    data.mkdir()
    give(directory)
    _initdb(binaries, data)
    with (data / "postgresql.conf").open("a") as settings:
        settings.write(SETTINGS + more)
    return binaries, data, log


def _served(directory: Path, host: Host) -> Iterator[str]:
    binaries, data, log = _cluster(directory, f"listen_addresses = '{host.address}'\n")
    with (data / "pg_hba.conf").open("a") as access:
        access.write(f"host all all {host.address}/24 trust\n")
    uid, gid = unprivileged() or (os.getuid(), os.getgid())
    as_nobody = ("setpriv", f"--reuid={uid}", f"--regid={gid}", "--clear-groups")
    server = (*host.inside, *as_nobody, str(binaries / "postgres"), "-D", str(data), "-p", str(HOST_PORT))
    process = start(server, log=log, cwd=directory, orphaned=signal.SIGQUIT)
    create = (*host.inside, str(binaries / "createdb"), "-h", host.address, "-p", str(HOST_PORT), "-U", USER, "tasks")
    try:
        wait_until(
            lambda: subprocess.run(create, capture_output=True, check=False).returncode == 0,
            process,
            log=log,
            seconds=BOOT_SECONDS,
        )
        yield f"postgresql+psycopg://{USER}@{host.address}:{HOST_PORT}/tasks"
    finally:
        end(process, signal.SIGINT)


def _binaries() -> Path:
    """The directory that has both ``initdb`` and ``postgres``; the newest version where there are several."""
    found = shutil.which("initdb")
    places = [Path(found).resolve().parent] if found else []
    debian = [path for path in Path("/usr/lib/postgresql").glob("*/bin") if path.parent.name.isdigit()]
    places += sorted(debian, key=lambda path: -int(path.parent.name))
    for place in places:
        if (place / "initdb").exists() and (place / "postgres").exists():
            return place
    raise UnavailableError("PostgreSQL needs initdb and postgres, in PATH or below /usr/lib/postgresql")


def _initdb(binaries: Path, data: Path) -> None:
    uid, gid = unprivileged() or (None, None)
    done = subprocess.run(
        [
            str(binaries / "initdb"),
            f"--pgdata={data}",
            f"--username={USER}",
            "--auth=trust",
            "--encoding=UTF8",
            "--locale=C",
            "--no-sync",
        ],
        cwd=data,
        user=uid,
        group=gid,
        extra_groups=None if uid is None else [],
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise StartError(f"initdb ended with {done.returncode}: {done.stdout[-1000:]}{done.stderr[-2000:]}")


def _answers(port: int) -> bool:
    import psycopg

    try:
        with psycopg.connect(
            host="127.0.0.1", port=port, user=USER, dbname="postgres", connect_timeout=5
        ) as connection:
            connection.execute("SELECT 1")
    except psycopg.OperationalError:
        return False
    return True


def create_database(port: int, name: str) -> str:
    """Create an empty database; returns its SQLAlchemy URL."""
    import psycopg

    with psycopg.connect(host="127.0.0.1", port=port, user=USER, dbname="postgres", autocommit=True) as connection:
        connection.execute(psycopg.sql.SQL("CREATE DATABASE {}").format(psycopg.sql.Identifier(name)))
    return f"postgresql+psycopg://{USER}@127.0.0.1:{port}/{name}"


if __name__ == "__main__":
    run_by_hand(SERVER)
