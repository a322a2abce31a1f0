"""Processes of the test servers: an unprivileged identity, death with their parent, an orderly end, ports."""

from __future__ import annotations

import contextlib
import ctypes
import os
import pwd
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from threading import Event

PR_SET_PDEATHSIG = 1
END_SECONDS = 20.0


class StartError(Exception):
    """A server whose parts are there did not come up; the message ends with its own last words."""


def unprivileged() -> tuple[int, int] | None:
    """The (uid, gid) servers that refuse root run under, or None where we are not root ourselves."""
    if os.getuid() != 0:
        return None
    entry = pwd.getpwnam("nobody")
    return entry.pw_uid, entry.pw_gid


def give(path: Path) -> None:
    """Hand a directory and all in it to the unprivileged identity."""
    identity = unprivileged()
    if identity is None:
        return
    for directory, _, names in os.walk(path):
        os.chown(directory, *identity)
        for name in names:
            os.chown(Path(directory) / name, *identity, follow_symlinks=False)


def free_port() -> int:
    """A loopback port nobody listens on now; the caller tries again where somebody else takes it first."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _die_with_parent(how: signal.Signals) -> Callable[[], None] | None:
    """What a child runs before exec to get a signal when the thread that started it ends (Linux only)."""
    if sys.platform != "linux":
        return None
    libc = ctypes.CDLL(None, use_errno=True)
    return lambda: libc.prctl(PR_SET_PDEATHSIG, how, 0, 0, 0) and None


def start(
    command: Sequence[str],
    *,
    log: Path,
    cwd: Path,
    environment: dict[str, str] | None = None,
    as_nobody: bool = False,
    orphaned: signal.Signals = signal.SIGKILL,
) -> subprocess.Popen[bytes]:
    """Start a server in its own session, output to ``log``, ``orphaned`` sent to it if we are killed."""
    identity = unprivileged() if as_nobody else None
    uid, gid = identity or (None, None)
    with log.open("ab") as output:
        return subprocess.Popen(
            list(command),
            stdin=subprocess.PIPE,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=cwd,
            env={**os.environ, **(environment or {})},
            user=uid,
            group=gid,
            extra_groups=[] if identity else None,
            start_new_session=True,
            preexec_fn=_die_with_parent(orphaned),  # noqa: PLW1509 -- the keeper has one thread
        )


def end(process: subprocess.Popen[bytes], how: signal.Signals = signal.SIGTERM) -> None:
    """Ask a server to end, then make it; returns when it is gone."""
    with contextlib.suppress(ProcessLookupError):
        process.send_signal(how)
    try:
        process.wait(END_SECONDS)
    except subprocess.TimeoutExpired:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    if process.stdin:
        with contextlib.suppress(OSError):
            process.stdin.close()


def wait_until(ready: Callable[[], bool], process: subprocess.Popen[bytes], *, log: Path, seconds: float) -> None:
    """Return once ``ready()`` is true.

    Raises:
        StartError: the process ended first, or the time is over; with the end of its log.
    """
    deadline = time.monotonic() + seconds
    pause = Event()
    problem = ""
    try:
        while not problem and not ready():
            if process.poll() is not None:
                problem = f"ended with {process.returncode}"
            elif time.monotonic() > deadline:
                problem = f"was not ready after {seconds:.0f} s"
            pause.wait(0.1)
    except BaseException:
        end(process, signal.SIGKILL)
        raise
    if problem:
        end(process, signal.SIGKILL)
        raise StartError(f"{process.args!r} {problem}: {tail(log)}")


def tail(log: Path, characters: int = 3000) -> str:
    """The end of a log file."""
    return log.read_text(errors="replace")[-characters:] if log.exists() else "(no log)"
