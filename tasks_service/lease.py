"""Holding a claim while its attempt goes: progress, and every reason to stop.

A claim is a row with a token and a time; whoever beats (beats.py, in a process of its own: beater.py) keeps that time
ahead of the clock. This module tells it where the attempt stands, and turns what it hears (cancelled, taken over, no
answer from the database, draining, no progress) into the exception that `report` raises in the exporting thread. The
database's clock decides about leases; the monotonic clock here only decides when to stop believing in one that could
not be renewed. Called by runner.py and helping.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

from tasks_service.beats import Beater, Beats, Hold, Standing, Word
from tasks_service.config import WorkerSettings
from tasks_service.errors import Cancelled, Interrupted, LeaseLost, TransientError
from tasks_service.progress import Progress

_SAY_SECONDS = 0.25
"""Where an attempt stands is told this often at most."""


class StalledError(TransientError):
    """The attempt made no progress for too long and was ended."""

    code = "stalled"


@dataclass
class Drain:
    """When the worker was asked to stop, by its monotonic clock; None while it was not."""

    since: float | None = None


class Lease:
    """A context: inside it the claim is being renewed, and `report` tells whether the attempt may go on."""

    def __init__(
        self,
        hold: Hold,
        settings: WorkerSettings,
        drain: Drain,
        beater: Beater,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Take what is held, and what renews it."""
        self._hold = hold
        self._settings = settings
        self._drain = drain
        self._beater = beater
        self._clock = clock
        now = clock()
        self._standing = self._said = Standing(now, now)
        self._renewed_at = now
        self._stop: BaseException | None = None
        self._beats: Beats | None = None

    def __enter__(self) -> Self:
        """Have it renewed from now on."""
        self._beats = self._beater(self._hold, self._standing, self._hear)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Have it renewed no more: the last word on the run is the runner's."""
        if self._beats is not None:
            self._beats.end()

    def report(self, progress: Progress) -> None:
        """Take note of progress; raise the StopAttempt (or StalledError) that ends the attempt."""
        now = self._clock()
        moved = progress != self._standing.progress
        self._standing = Standing(now if moved else self._standing.moved_at, now, progress)
        if self._beats is not None:
            # First of all: what was answered in the meantime may lie there, if this process did not get to hear it.
            self._beats.listen()
        stop = self._reason_to_stop(now)
        self._say(now, at_once=stop is not None)
        if stop is not None:
            raise stop

    def _reason_to_stop(self, now: float) -> BaseException | None:
        if self._stop is not None:
            return self._stop
        if now - self._renewed_at > self._settings.lease_seconds:
            return LeaseLost()
        if self._drain.since is not None and now - self._drain.since > self._settings.grace_seconds:
            return Interrupted()
        if now - self._standing.moved_at > self._settings.stall_timeout_seconds:
            return StalledError()
        return None

    def _say(self, now: float, *, at_once: bool) -> None:
        """Tell who beats where this attempt stands: now and then, and whatever it must not miss at once."""
        first_total = self._said.progress.total is None and self._standing.progress.total is not None
        if self._beats is not None and (at_once or first_total or now - self._said.looked_at >= _SAY_SECONDS):
            self._beats.say(self._standing)
            self._said = self._standing

    def _hear(self, word: Word, began_at: float) -> None:
        if word == "lost":
            self._stop = LeaseLost()
        elif word == "cancel":
            self._stop = Cancelled()
        else:
            self._renewed_at = began_at
