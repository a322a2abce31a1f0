"""Holding a claim while its attempt goes: heartbeats, progress, and every reason to stop.

A claim is a row with a token and a time; this module keeps that time ahead of the clock from a thread of its own and
turns what it hears (cancelled, taken over, no answer from the database, draining, no progress) into the exception that
`report` raises in the exporting thread. The database's clock decides about leases; the monotonic clock here only
decides when to stop believing in one that could not be renewed. Called by runner.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Protocol, Self

import structlog

from tasks_service import metrics
from tasks_service.config import WorkerSettings
from tasks_service.database import claims
from tasks_service.database.engine import Database
from tasks_service.errors import Cancelled, Interrupted, LeaseLost, ServiceError, TransientError
from tasks_service.fault_points import fault_point
from tasks_service.progress import Progress

log = structlog.stdlib.get_logger(__name__)

_PROGRESS_SECONDS = 2.0
"""Progress is written this often at most; a lone heartbeat less often still."""


class StalledError(TransientError):
    """The attempt made no progress for too long and was ended."""

    code = "stalled"


class Held(Protocol):
    """Whatever is held by a lease: a run's claim, or a part's."""

    @property
    def run_id(self) -> int:
        """The run it is, or belongs to."""
        ...


@dataclass
class Drain:
    """When the worker was asked to stop, by its monotonic clock; None while it was not."""

    since: float | None = None


class Lease:
    """A context: inside it the claim is being renewed, and `report` tells whether the attempt may go on."""

    def __init__(
        self,
        database: Database,
        claim: Held,
        settings: WorkerSettings,
        drain: Drain,
        *,
        beat: Callable[..., claims.Beat] = claims.beat,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._database = database
        self._claim = claim
        self._beat_claim: Callable[..., claims.Beat] = beat
        self._settings = settings
        self._drain = drain
        self._clock = clock
        self._progress = Progress()
        self._moved_at = self._renewed_at = clock()
        self._stop: BaseException | None = None
        self._wake = threading.Event()
        self._closing = False
        self._thread = threading.Thread(target=self._renew, name=f"lease-{claim.run_id}", daemon=True)

    def __enter__(self) -> Self:
        """Start renewing."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop renewing: the last word on the run is the runner's."""
        self._closing = True
        self._wake.set()
        self._thread.join()

    def report(self, progress: Progress) -> None:
        """Take note of progress; raise the StopAttempt (or StalledError) that ends the attempt."""
        now = self._clock()
        first_total = self._progress.total is None and progress.total is not None
        if progress != self._progress:
            self._progress, self._moved_at = progress, now
        if first_total:
            self._wake.set()
        if self._stop is not None:
            raise self._stop
        if now - self._renewed_at > self._settings.lease_seconds:
            raise LeaseLost
        if self._drain.since is not None and now - self._drain.since > self._settings.grace_seconds:
            raise Interrupted
        if now - self._moved_at > self._settings.stall_timeout_seconds:
            raise StalledError

    def _renew(self) -> None:
        """Beat until the attempt ends; write progress in between while it moves."""
        interval = min(_PROGRESS_SECONDS, self._settings.heartbeat_seconds)
        beaten_at = self._clock()
        written = Progress()
        while True:
            self._wake.wait(interval)
            self._wake.clear()
            if self._closing or self._stop is not None:
                return
            progress, now = self._progress, self._clock()
            if progress == written and now - beaten_at < self._settings.heartbeat_seconds:
                continue
            if now - self._moved_at > self._settings.stall_timeout_seconds:
                # The exporting thread may hang where it cannot look: let the lease lapse, so that another worker
                # takes the run over.
                continue
            try:
                self._beat(progress, now)
            except ServiceError as error:
                metrics.BEATS.count(outcome="failed")
                log.warning("lease.beat_failed", run_id=self._claim.run_id, code=error.code)
            else:
                beaten_at, written = now, progress

    def _beat(self, progress: Progress, now: float) -> None:
        def beat(session: claims.Session) -> claims.Beat:
            answer = self._beat_claim(
                session,
                self._claim,
                now=self._database.now(session),
                lease_seconds=self._settings.lease_seconds,
                rows=progress.rows,
                total=progress.total,
                bytes_written=progress.bytes_written,
            )
            fault_point("beat.written")
            return answer

        answer = self._database.retrying(beat)
        fault_point("beat.committed")
        metrics.BEATS.count(outcome="ok" if answer.owned else "lost")
        if not answer.owned:
            self._stop = LeaseLost()
        elif answer.cancel_requested:
            self._stop = Cancelled()
            log.info("lease.cancel_heard", run_id=self._claim.run_id)
        else:
            # Counted from before the call: the database's lease began no earlier.
            self._renewed_at = now
