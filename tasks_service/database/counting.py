"""What a transaction does, counted and said in the log once it is committed: what is undone or tried again is neither.

What lives here: a function for each fact that the database decides, beside its metrics and the event of its line.
What does not: the log of tasks and runs, which is rows (journal.py). Called by the other modules of database/ where a
fact is written, and by engine.py, which knows when it holds.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TYPE_CHECKING

import structlog
from sqlmodel import Session

from tasks_service import metrics

if TYPE_CHECKING:
    from tasks_service.database.journal import SkippedRange

log = structlog.stdlib.get_logger(__name__)

_KEY = "tasks_service.counted"


def when_committed(session: Session, count: Callable[[], None]) -> None:
    """Call `count`, which moves a metric, once this session's transaction is committed."""
    session.info.setdefault(_KEY, []).append(count)


def count_committed(session: Session) -> None:
    """Make the calls of a transaction that was committed."""
    counts: list[Callable[[], None]] = session.info.pop(_KEY, [])
    for count in counts:
        count()


def run_made(session: Session, kind: str) -> None:
    """Count a run that somebody asked for."""
    when_committed(session, lambda: metrics.RUNS_MADE.count(kind=kind))


def runs_fired(session: Session, lateness_seconds: Sequence[float]) -> None:
    """Count the runs that a schedule made, and how long after its occurrence each came."""

    def count() -> None:
        metrics.RUNS_MADE.count(len(lateness_seconds), kind="schedule")
        metrics.FIRING_LATENESS.observe_each(lateness_seconds)

    when_committed(session, count)


def not_run(session: Session, task_id: int, skipped: SkippedRange) -> None:
    """Count occurrences that will not be run."""

    def count() -> None:
        metrics.OCCURRENCES_NOT_RUN.count(skipped.count, reason=skipped.reason)
        log.warning(
            "occurrence.skipped",
            task_id=task_id,
            reason=skipped.reason,
            count=skipped.count,
            first=skipped.first.isoformat(),
            last=skipped.last.isoformat(),
        )

    when_committed(session, count)


def task_paused(session: Session, task_id: int, reason: str) -> None:
    """Count a schedule that nobody but the service paused."""

    def count() -> None:
        metrics.TASKS_PAUSED.count(reason=reason)
        log.warning("task.paused", task_id=task_id, reason=reason)

    when_committed(session, count)


def run_claimed(session: Session, *, available_at: datetime, now: datetime) -> None:
    """Count a claim of a run that was queued, and how long it could have been claimed before."""

    def count() -> None:
        metrics.CLAIMS.count()
        metrics.START_DELAY.observe((now - available_at).total_seconds())

    when_committed(session, count)


def run_rescued(session: Session, run_id: int, *, lost: str | None) -> None:
    """Count a claim of a run that its worker, `lost`, let lapse."""

    def count() -> None:
        metrics.CLAIMS.count()
        metrics.RESCUES.count()
        log.warning("run.rescued", run_id=run_id, lost_worker=lost)

    when_committed(session, count)


def attempt_ended(session: Session, outcome: str, code: str | None = None) -> None:
    """Count an attempt by how it ended."""
    when_committed(session, lambda: metrics.ATTEMPTS.count(outcome=outcome, code=code or ""))


def run_ended(session: Session, run_id: int, reason: str | None) -> None:
    """Count a run that is final: done where there is no reason, else cancelled or failed."""
    state = "done" if reason is None else "cancelled" if reason == "cancelled" else "failed"

    def count() -> None:
        metrics.RUNS_ENDED.count(state=state, code=reason or "")
        if reason == "poison":
            metrics.POISONED.count()
            log.error("run.poisoned", run_id=run_id)

    when_committed(session, count)


def run_cancelled_after(session: Session, seconds: float) -> None:
    """Note how long a run still went after its cancellation was asked for."""
    when_committed(session, lambda: metrics.CANCEL_DELAY.observe(seconds))


def write_fenced(session: Session, run_id: int, write: str) -> None:
    """Count a write of a worker whose run is another's by now, or has ended; it changed nothing."""

    def count() -> None:
        metrics.FENCED_WRITES.count(write=write)
        log.warning("run.write_fenced", run_id=run_id, write=write)

    when_committed(session, count)
