"""The loops of a process: each says that it still turns, and none ends of an exception.

What lives here: the pulse of a loop, the thread that keeps a loop going, and the watch that ends a process whose
loops have stopped for good, so that its supervisor starts it again. What does not: what loops do. Used by every
process of cli/; /healthz (vitals.py, api/health.py) tells what is noted here.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Mapping
from typing import TypeVar

import structlog

from tasks_service import metrics

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

MISSED_INTERVALS = 3
"""A loop that has not ticked for so many of its intervals counts as dead."""

LONGEST_LOOK_SECONDS = 20.0
"""No loop that asks the database is called dead sooner than after three of these: one that is away, silent or busy is
given up after so long (database/engine.py: an answer and a connection are waited for, or SQLite's lock)."""

_WATCH_SECONDS = 1.0


class Loop:
    """The pulse of one loop: `tick` at every turn. Safe to share between threads."""

    def __init__(self, name: str, interval_seconds: float, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the loop's name, and how often it turns at the least."""
        self.name = name
        self._clock = clock
        self._interval = interval_seconds
        self._until = clock() + MISSED_INTERVALS * interval_seconds

    def tick(self, *, within_seconds: float | None = None) -> None:
        """Say that the loop turns. `within_seconds`: the next tick may come so late (else after three intervals)."""
        metrics.LOOP_TURNS.count(loop=self.name)
        allowed = MISSED_INTERVALS * self._interval if within_seconds is None else within_seconds
        self._until = self._clock() + allowed

    def alive(self) -> bool:
        """Tell whether the loop has ticked when it had to."""
        return self._clock() < self._until


class Loops:
    """Every loop of a process, by name."""

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        """Take the clock that ticks are measured by: seconds, monotonic."""
        self._clock = clock
        self._alive: dict[str, Callable[[], bool]] = {}
        self._spared: frozenset[str] = frozenset()
        self._stopping = threading.Event()

    def add(self, name: str, interval_seconds: float) -> Loop:
        """Add a loop that turns by itself; a second one of the same name takes the place of the first."""
        loop = Loop(name, interval_seconds, self._clock)
        self.ask(name, loop.alive)
        return loop

    def ask(self, name: str, alive: Callable[[], bool]) -> None:
        """Add a loop that tells itself whether it is alive."""
        self._alive = {**self._alive, name: alive}  # whoever reads it now goes on with the old one

    def start(self, name: str, body: Callable[[], object], *, every_seconds: float, ends_process: bool = True) -> None:
        """Call `body` from a thread now and then every so many seconds, until `stop`; whatever it raises is logged.

        `ends_process`: whether its death ends the process, too (`end_process_when_dead`), or is shown alone.
        """
        loop = self.add(name, max(every_seconds, LONGEST_LOOK_SECONDS))
        if not ends_process:
            self._spared |= {name}

        def turn() -> None:
            while not self._stopping.is_set():
                loop.tick()
                attempted(name, body)
                self._stopping.wait(every_seconds)

        threading.Thread(target=turn, name=name, daemon=True).start()

    def stop(self) -> None:
        """End the loops that `start` started, and the watch."""
        self._stopping.set()

    def state(self) -> Mapping[str, bool]:
        """Return whether each loop is alive, by name."""
        return {name: alive() for name, alive in self._alive.items()}

    def end_process_when_dead(self, end: Callable[[int], None] = os._exit) -> None:
        """Watch the loops from a thread; where one is dead, end the process with exit code 1, at once.

        A loop that hangs cannot be repaired from within; the supervisor starts the process again, and what it held is
        covered by its lease. Dead is who is so at two looks in a row: a process that was stopped, or held by a call
        that keeps the interpreter, finds them all late when it goes on.
        """

        def watch() -> None:
            before = set[str]()
            while not self._stopping.wait(_WATCH_SECONDS):
                late = {name for name, alive in self.state().items() if not (alive or name in self._spared)}
                dead, before = sorted(late & before), late
                if dead:
                    log.critical("process.loop_dead", loops=dead)
                    end(1)
                    return

        threading.Thread(target=watch, name="loop-watch", daemon=True).start()


def attempted(name: str, body: Callable[[], T]) -> T | None:
    """Carry out one turn of a loop and return its result; whatever it raises is logged, so that the loop goes on."""
    try:
        return body()
    except BaseException:
        # Nothing that ends a process is raised in its loops: they outlive everything.
        metrics.LOOP_FAILURES.count(loop=name)
        log.exception("loop.failed", loop=name)
        return None
