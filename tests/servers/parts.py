"""Where the parts of the servers come from and where they are kept between runs.

The cache lies outside the checkout, is filled under a lock and by rename, so that any number of test runs may
share it and a killed download leaves nothing half. Nothing here starts a server.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path


class UnavailableError(Exception):
    """A part of a server cannot be had on this machine; the message says which and what would help."""


def under_ci() -> bool:
    """Whether a part that is missing must fail the tests instead of skipping them."""
    return os.environ.get("CI", "").lower() in {"1", "true", "yes"}


def cache_directory() -> Path:
    """``$TASKS_TEST_CACHE``, else ``tasks-service-tests`` in the user's cache directory; created here."""
    chosen = os.environ.get("TASKS_TEST_CACHE")
    if chosen:
        directory = Path(chosen)
    else:
        base = os.environ.get("XDG_CACHE_HOME") or str(Path.home() / ".cache")
        directory = Path(base) / "tasks-service-tests"
    directory.mkdir(parents=True, exist_ok=True)
    return directory


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock on a file, between processes; the kernel drops it when the holder dies."""
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def cached(name: str, fetch: Callable[[Path], Path]) -> Path:
    """The cached file of that name; where it is absent, ``fetch(directory)`` makes it in a new directory."""
    cache = cache_directory()
    wanted = cache / name
    if wanted.exists():
        return wanted
    with locked(cache / f"{name}.lock"):
        for abandoned in cache.glob(f".{name}.*"):  # of a fetch that was killed: the lock is ours now
            shutil.rmtree(abandoned, ignore_errors=True)
        if not wanted.exists():
            temporary = Path(tempfile.mkdtemp(prefix=f".{name}.", dir=cache))
            try:
                fetch(temporary).rename(wanted)
            finally:
                shutil.rmtree(temporary, ignore_errors=True)
    return wanted


def run(command: list[str], *, what: str, environment: dict[str, str] | None = None) -> None:
    """Run a command that fetches a part.

    Raises:
        UnavailableError: the program is missing or it failed; with the end of what it printed.
    """
    if shutil.which(command[0]) is None:
        raise UnavailableError(f"{what} needs the program {command[0]!r}, which is not in PATH")
    done = subprocess.run(
        command,
        env={**os.environ, **(environment or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
    if done.returncode != 0:
        raise UnavailableError(f"{what} could not be had ({command[0]} ended {done.returncode}): {done.stdout[-1500:]}")
