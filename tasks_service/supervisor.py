"""The supervisor of `serve`: child processes that are started, watched, restarted, drained, and never left behind.

What lives here: one parent, many children, signals, backoff, and the child's side of the bond: a pipe on its
standard input whose other end only the parent holds, so that the kernel closes it however the parent died. What does
not: what the children do. Called by cli/processes.py.
"""

from __future__ import annotations

import os
import queue
import selectors
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from types import FrameType

import structlog

from tasks_service import metrics

log = structlog.stdlib.get_logger(__name__)

REFUSED = 2
"""The exit code of a child that refuses its configuration: starting it again cannot help."""
_FIRST_DELAY = 0.5
_LONGEST_DELAY = 30.0
# A child that lived so long was healthy: its end is news, not the next failure of a series.
_HEALTHY_SECONDS = 30.0
_MARGIN_SECONDS = 5.0


@dataclass(frozen=True)
class Child:
    """One process to keep running: its name in the log, its command line, and settings of its own."""

    name: str
    command: tuple[str, ...]
    environ: Mapping[str, str] = field(default_factory=dict[str, str])


@dataclass
class _Kept:
    """A child and its present process."""

    child: Child
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    failures: int = 0
    restart_at: float = 0.0
    lives: int = 0


def restart_delay(failures: int) -> float:
    """Return the seconds before a restart after so many failures in a row: doubled each time, capped."""
    return min(_LONGEST_DELAY, _FIRST_DELAY * 2.0 ** min(max(failures, 1) - 1, 30))


class Supervisor:
    """Keeps children running until a signal, then drains them. Runs in the main thread, for signals come there."""

    def __init__(self, children: Sequence[Child], *, grace_seconds: float, environ: Mapping[str, str]) -> None:
        self._kept = [_Kept(child) for child in children]
        self._grace_seconds = grace_seconds
        self._environ = dict(environ)

    def run(self) -> int:
        """Keep the children running until SIGTERM or SIGINT; return the exit code of the whole.

        0: every child drained and ended. 1: one had to be killed, or a second signal came. 2: one refused its
        configuration when it was first started.
        """
        with _signals() as wait:
            code: int | None = None
            while code is None:
                for kept in self._kept:
                    if kept.process is None and time.monotonic() >= kept.restart_at:
                        self._start(kept)
                if {signal.SIGTERM, signal.SIGINT} & set(wait(self._seconds_to_next_start())):
                    code = 0
                elif any(self._reap(kept) == REFUSED and kept.lives == 1 for kept in self._kept):
                    code = REFUSED
            return max(code, self._drain(wait))

    def _start(self, kept: _Kept) -> None:
        kept.process = subprocess.Popen(  # noqa: S603 -- our own command line
            kept.child.command,
            stdin=subprocess.PIPE,  # the bond: it closes when this process ends
            env={**self._environ, **kept.child.environ},
            start_new_session=True,  # Ctrl-C reaches the supervisor alone, which passes it on once
        )
        kept.started_at = time.monotonic()
        kept.lives += 1
        log.info("process.started", child=kept.child.name, pid=kept.process.pid)

    def _reap(self, kept: _Kept) -> int | None:
        """Note the end of a child and plan its restart; return its exit code if it has ended just now."""
        if kept.process is None or (code := kept.process.poll()) is None:
            return None
        _close(kept.process)
        now = time.monotonic()
        kept.failures = 1 if now - kept.started_at >= _HEALTHY_SECONDS else kept.failures + 1
        delay = restart_delay(kept.failures)
        kept.restart_at = now + delay
        metrics.PROCESS_ENDS.count(process=kept.child.name.partition("-")[0])
        log.warning("process.ended", child=kept.child.name, pid=kept.process.pid, code=code, restart_seconds=delay)
        kept.process = None
        return code

    def _seconds_to_next_start(self) -> float | None:
        waiting = [kept.restart_at for kept in self._kept if kept.process is None]
        return max(0.0, min(waiting) - time.monotonic()) if waiting else None

    def _drain(self, wait: Callable[[float | None], list[int]]) -> int:
        """Ask every child to end, wait for the grace, kill what is left; return 0 if nothing was."""
        living = self._running()
        log.info("process.draining", children=len(living), grace_seconds=self._grace_seconds)
        for process in living:
            process.terminate()
        deadline = time.monotonic() + self._grace_seconds + _MARGIN_SECONDS
        while (living := self._running()) and (left := deadline - time.monotonic()) > 0:
            if {signal.SIGTERM, signal.SIGINT} & set(wait(left)):
                log.warning("process.impatient", children=len(living))
                deadline = time.monotonic()
        for process in living:
            log.error("process.killed", pid=process.pid)
            # The whole session of the child: gunicorn's workers are in it.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        for kept in self._kept:
            if kept.process is not None:
                _close(kept.process)
        log.info("process.drained")
        return 1 if living else 0

    def _running(self) -> list[subprocess.Popen[bytes]]:
        return [kept.process for kept in self._kept if kept.process is not None and kept.process.poll() is None]


def _close(process: subprocess.Popen[bytes]) -> None:
    if process.stdin is not None:
        with suppress(OSError):
            process.stdin.close()


@contextmanager
def _signals() -> Generator[Callable[[float | None], list[int]]]:
    """Yield a function that waits for SIGTERM, SIGINT or SIGCHLD and returns which came.

    The numbers arrive through a pipe that the interpreter writes to: a handler that took a lock could find it
    taken by the very thread it interrupted.
    """
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    os.set_blocking(writing, False)
    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGCHLD)
    old_handlers = {number: signal.signal(number, _noted) for number in numbers}
    old_fd = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    selector = selectors.DefaultSelector()
    selector.register(reading, selectors.EVENT_READ)

    def wait(timeout: float | None) -> list[int]:
        return list(os.read(reading, 512)) if selector.select(timeout) else []

    try:
        yield wait
    finally:
        signal.set_wakeup_fd(old_fd)
        for number, handler in old_handlers.items():
            signal.signal(number, handler)
        selector.close()
        os.close(reading)
        os.close(writing)


def _noted(_number: int, _frame: FrameType | None) -> None:
    """Do nothing: the number is in the wake-up pipe."""


# -- the child's side ---------------------------------------------------------------------------------------------


@contextmanager
def stopped_by_signals() -> Generator[threading.Event]:
    """Yield an event that the first SIGTERM or SIGINT sets; the second ends the process at once.

    A handler only puts the number into a queue that bears being interrupted; a thread sets the event.
    """
    arrived: queue.SimpleQueue[int] = queue.SimpleQueue()
    stop = threading.Event()

    def noted(number: int, _frame: FrameType | None) -> None:
        arrived.put(number)

    def act() -> None:
        arrived.get()
        log.info("process.stopping")
        stop.set()
        number = arrived.get()
        log.warning("process.stopped_at_once")
        os._exit(128 + number)

    numbers = (signal.SIGTERM, signal.SIGINT)
    old_handlers = {number: signal.signal(number, noted) for number in numbers}
    threading.Thread(target=act, name="signals", daemon=True).start()
    try:
        yield stop
    finally:
        for number, handler in old_handlers.items():
            signal.signal(number, handler)


def watch_parent(on_gone: Callable[[], None], *, descriptor: int = 0, grace_seconds: float | None = None) -> None:
    """Call `on_gone` from a thread once the parent's end of the pipe on our standard input is closed.

    With a grace, the process ends at once where it still lives that much later: nobody is left to kill it.
    """

    def watch() -> None:
        with suppress(OSError):
            while os.read(descriptor, 64):
                pass
        log.warning("process.parent_gone")
        on_gone()
        if grace_seconds is not None:
            threading.Event().wait(grace_seconds + _MARGIN_SECONDS)
            os._exit(1)

    threading.Thread(target=watch, name="parent", daemon=True).start()
