"""What has happened, for good: the log of tasks and runs, skipped occurrences, the counting of revisions.

Append-only. Written by the other modules of database/ in the transaction of what they log; read by api/ and
cli/.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol

from sqlmodel import Session, col, select

from tasks_service.database.counting import not_run
from tasks_service.database.models import Event, Skip, Task
from tasks_service.database.statements import identity

# What somebody did to the task itself is no reason to worry.
_ON_PURPOSE = ("executed", "deleted")


@dataclass(frozen=True)
class Skipped:
    """A `SkippedRange` that this package decides on."""

    first: datetime
    last: datetime
    count: int
    reason: str


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


def record_skips(session: Session, task: Task, skips: Iterable[SkippedRange], *, now: datetime) -> None:
    """Record occurrences of a task, by its trigger as it is, that will not be run, and say so in its log."""
    task_id = identity(task)
    for skip in skips:
        not_run(session, task_id, skip)
        session.add(Skip(**skip_row(task_id, task.trigger, skip, now=now)))
        log_event(
            session,
            task_id=task_id,
            now=now,
            level="info" if skip.reason in _ON_PURPOSE else "warning",
            event="occurrence.skipped",
            message=skip_message(skip),
        )


def skip_row(task_id: int, trigger: Mapping[str, Any], skip: SkippedRange, *, now: datetime) -> dict[str, Any]:
    """Return the row of a range of a task's occurrences; its trigger, as it is, says which they were."""
    return {
        "task_id": task_id,
        "first_occurrence": skip.first,
        "last_occurrence": skip.last,
        "count": skip.count,
        "reason": skip.reason,
        "cron": trigger.get("cron"),
        "timezone": trigger.get("timezone"),
        "recorded_at": now,
    }


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
