"""What has happened, for good: the log of tasks and runs, skipped occurrences, the counting of revisions.

Append-only. Written by the other modules of database/ in the transaction of what they log; read by api/ and
cli/.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Protocol

from sqlmodel import Session, col, select

from tasks_service.database.counting import not_run
from tasks_service.database.models import Event, Skip, Task


class SkippedRange(Protocol):
    """Occurrences from `first` to `last`, `count` in all, that are not run, and why (a slug)."""

    @property
    def first(self) -> datetime: ...  # noqa: D102
    @property
    def last(self) -> datetime: ...  # noqa: D102
    @property
    def count(self) -> int: ...  # noqa: D102
    @property
    def reason(self) -> str: ...  # noqa: D102


def touch(session: Session, task: Task, *, now: datetime) -> None:
    """Note that something shown of the task has changed."""
    task.revision += 1
    task.modified_at = now
    session.add(task)


def record_skips(session: Session, task_id: int, skips: Iterable[SkippedRange], *, now: datetime) -> None:
    """Record occurrences that will not be run, and say so in the task's log."""
    for skip in skips:
        not_run(session, task_id, skip)
        session.add(
            Skip(
                task_id=task_id,
                first_occurrence=skip.first,
                last_occurrence=skip.last,
                count=skip.count,
                reason=skip.reason,
                recorded_at=now,
            )
        )
        log_event(
            session,
            task_id=task_id,
            now=now,
            level="warning",
            event="occurrence.skipped",
            message=skip_message(skip),
        )


def skip_message(skip: SkippedRange) -> str:
    """Say in a sentence what was skipped, and why."""
    when = f"{skip.first:%Y-%m-%dT%H:%M:%SZ}"
    if skip.count > 1:
        when += f" to {skip.last:%Y-%m-%dT%H:%M:%SZ} ({skip.count} occurrences)"
    return f"Not run: {when}, reason {skip.reason}."


def skips(session: Session, task_id: int, *, limit: int = 100) -> Sequence[Skip]:
    """Return the occurrences of a task that were not run, newest first."""
    query = select(Skip).where(Skip.task_id == task_id).order_by(col(Skip.first_occurrence).desc()).limit(limit)
    return session.exec(query).all()


def log_event(
    session: Session,
    *,
    task_id: int,
    now: datetime,
    event: str,
    message: str,
    run_id: int | None = None,
    level: str = "info",
) -> None:
    """Append to the log of a task (and of a run)."""
    session.add(Event(task_id=task_id, run_id=run_id, time=now, level=level, event=event, message=message))


def events(
    session: Session, *, task_id: int | None = None, run_id: int | None = None, limit: int, offset: int = 0
) -> Sequence[Event]:
    """Return the log of a task or of a run, newest first."""
    query = select(Event).order_by(col(Event.id).desc()).limit(limit).offset(offset)
    if task_id is not None:
        query = query.where(Event.task_id == task_id)
    if run_id is not None:
        query = query.where(Event.run_id == run_id)
    return session.exec(query).all()
