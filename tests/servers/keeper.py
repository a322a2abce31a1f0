"""One server for one whole test run, whoever asks for it first, and never longer than the run.

The process that leads the run (pytest, or the controller of pytest-xdist) makes a *run directory* and holds a
lock in it. Whoever needs a server starts its *keeper*, a small process of its own: it starts the server,
writes its state (where it listens, or why it cannot be had) for everybody to read, and waits for the leader's
lock. The kernel gives it that lock when the leader ends, however it died; the keeper then ends the server and
removes its files. A server whose keeper is killed is killed by the kernel (Linux), see ``processes``.
"""

from __future__ import annotations

import abc
import contextlib
import fcntl
import importlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from tests.servers.parts import UnavailableError, locked
from tests.servers.processes import StartError

RUN_VARIABLE = "TASKS_TEST_RUN"
ATTACH_SECONDS = 900.0  # a first start downloads; ``prepare`` keeps that out of the tests
KEEPER_SECONDS = 60.0  # within which a keeper holds its lock
LEAVE_SECONDS = 60.0
_ENDING = {signal.SIGTERM, signal.SIGINT, signal.SIGHUP}
ROOT = Path(__file__).resolve().parents[2]

_keepers: list[subprocess.Popen[bytes]] = []  # kept so that no destructor complains about a running child


@dataclass(frozen=True, slots=True)
class Running:
    """A started server: what to tell those who use it, its exit code or None, how to end it."""

    state: dict[str, Any]
    poll: Callable[[], int | None]
    end: Callable[[], None]


class Server(abc.ABC):
    """A kind of server that can be started."""

    __slots__ = ()

    @property
    @abc.abstractmethod
    def name(self) -> str:
        """Its name in the run directory."""

    @abc.abstractmethod
    def prepare(self) -> None:
        """Fetch what starting needs. Raises UnavailableError where it cannot be had."""

    @abc.abstractmethod
    def start(self, directory: Path) -> Running:
        """Start it with all its files below ``directory``; return when it answers. Raises StartError."""


@contextlib.contextmanager
def leading() -> Iterator[Path]:
    """Lead a run: servers attached to inside the block are ended, and gone, after it.

    Where a run is led already (``python -m tests.servers.shared``, its directory in the environment), it is joined.
    """
    led = os.environ.get(RUN_VARIABLE)
    if led is not None and _is_held(Path(led) / "leader"):
        yield Path(led)
        return
    run = Path(tempfile.mkdtemp(prefix="tasks-service-tests-"))
    run.chmod(0o755)  # servers run under another user
    with (run / "leader").open("w") as leader:
        fcntl.lockf(leader, fcntl.LOCK_EX)
        os.environ[RUN_VARIABLE] = str(run)
        try:
            yield run
        finally:
            os.environ.pop(RUN_VARIABLE, None)
            fcntl.lockf(leader, fcntl.LOCK_UN)
            _wait_for_keepers(run)
    shutil.rmtree(run, ignore_errors=True)


def begin(specification: str) -> Path:
    """Start the keeper of a server unless somebody has; returns the file its state appears in.

    Args:
        specification: where the server is defined, ``"package.module:NAME"``.
    """
    run = Path(os.environ[RUN_VARIABLE])
    stem = specification.rpartition(".")[2].replace(":", "-")
    log = run / f"{stem}.log"
    with locked(run / f"{stem}.lock"):
        if not log.exists():
            with log.open("wb") as output:
                _keepers.append(
                    subprocess.Popen(
                        [sys.executable, "-m", "tests.servers.keeper", specification, str(run), stem],
                        cwd=ROOT,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=subprocess.STDOUT,
                        start_new_session=True,
                    )
                )
    return run / f"{stem}.json"


def attach(specification: str) -> dict[str, Any]:
    """The state of a running server, started here if nobody has.

    Raises:
        UnavailableError: its parts cannot be had.
        StartError: it did not come up, or went away.
    """
    path = begin(specification)
    deadline = time.monotonic() + ATTACH_SECONDS
    pause = threading.Event()
    expected = time.monotonic() + KEEPER_SECONDS
    while not path.exists():
        gone = not _is_held(path.with_suffix(".keeper")) and time.monotonic() > expected
        if (gone and not path.exists()) or time.monotonic() > deadline:
            log = path.with_suffix(".log").read_text(errors="replace")
            raise StartError(f"the keeper of {specification} left no state: {log[-3000:]}")
        pause.wait(0.05)
    state = json.loads(path.read_text())
    if "unavailable" in state:
        raise UnavailableError(state["unavailable"])
    if "failed" in state:
        raise StartError(state["failed"])
    return state


def run_by_hand(server: Server) -> None:
    """Run a server in the foreground until SIGINT or SIGTERM."""
    signal.signal(signal.SIGTERM, _leave)
    with tempfile.TemporaryDirectory(prefix="tasks-service-server-") as name:
        directory = Path(name)
        directory.chmod(0o755)
        _say(f"fetching and starting {server.name} ...")
        try:
            server.prepare()
            running = server.start(directory)
        except (UnavailableError, StartError) as error:
            sys.exit(str(error))
        _say(f"{server.name} is ready: {json.dumps(running.state)}; Ctrl-C ends it and removes its data")
        pause = threading.Event()
        try:
            while running.poll() is None:
                pause.wait(0.5)
        except KeyboardInterrupt:
            pass
        finally:
            running.end()


def _say(line: str) -> None:
    sys.stdout.write(line + "\n")
    sys.stdout.flush()


def _leave(_signal: int, _frame: object) -> None:
    raise SystemExit(0)


def _keep(specification: str, run: Path, stem: str) -> None:
    """The life of a keeper: hold one's own lock, start, tell, wait for the leader's end, clean up."""
    own = _hold(run / f"{stem}.keeper")
    for number in _ENDING:
        signal.signal(number, _leave)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, _ENDING)  # a leader that waits for them blocks them, and its children
    threading.Thread(target=_watch, args=(run / "leader",), daemon=True).start()
    directory = run / stem
    directory.mkdir()
    directory.chmod(0o755)
    running = None
    try:
        running = _start(specification, directory, run / f"{stem}.json")
        pause = threading.Event()
        while running is not None and running.poll() is None:
            pause.wait(3600)
    finally:
        for number in _ENDING:
            signal.signal(number, signal.SIG_IGN)
        if running is not None:
            running.end()
        shutil.rmtree(directory, ignore_errors=True)
        if not _is_held(run / "leader") and not any(path.is_dir() for path in run.glob("*")):
            shutil.rmtree(run, ignore_errors=True)
        own.close()


def _start(specification: str, directory: Path, state: Path) -> Running | None:
    module, _, attribute = specification.partition(":")
    server: Server = getattr(importlib.import_module(module), attribute)
    try:
        server.prepare()
        running = server.start(directory)
    except UnavailableError as error:
        _write(state, {"unavailable": str(error)})
    except Exception as error:  # noqa: BLE001 -- whatever it is, those who wait must hear of it
        _write(state, {"failed": f"{server.name}: {error}"})
    else:
        _write(state, running.state)
        return running
    return None


def _write(path: Path, state: dict[str, Any]) -> None:
    temporary = path.with_suffix(".part")
    temporary.write_text(json.dumps(state))
    temporary.rename(path)


def _watch(leader: Path) -> None:
    """Wait until nobody leads, then have the main thread leave."""
    with leader.open("r+") as handle:
        fcntl.lockf(handle, fcntl.LOCK_SH)
        os.kill(os.getpid(), signal.SIGTERM)


def _hold(path: Path) -> IO[str]:
    handle = path.open("w")
    fcntl.lockf(handle, fcntl.LOCK_EX)
    return handle


def _is_held(path: Path) -> bool:
    """Whether another process holds the lock of that file (a POSIX lock: never our own, never inherited)."""
    try:
        with path.open("r+") as handle:
            fcntl.lockf(handle, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def _wait_for_keepers(run: Path) -> None:
    deadline = time.monotonic() + LEAVE_SECONDS
    pause = threading.Event()
    while any(_is_held(path) for path in run.glob("*.keeper")) and time.monotonic() < deadline:
        pause.wait(0.05)
    for keeper in _keepers:
        with contextlib.suppress(subprocess.TimeoutExpired):
            keeper.wait(5)
    _keepers.clear()


if __name__ == "__main__":
    _keep(sys.argv[1], Path(sys.argv[2]), sys.argv[3])
