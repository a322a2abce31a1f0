"""What lies in the storage and is nobody's any more.

Objects of attempts that were not published, there and at destinations, and expired files.

An attempt is listed only once it has ended here, by the same compare-and-set that fences its worker; so
nothing is listed that could still become the file of a run. Called by sweeper.py (through claims.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Boolean, ColumnElement, literal_column, update
from sqlmodel import Session, col, or_, select

from tasks_service.database.models import Attempt, Run, Task
from tasks_service.database.statements import identity

_UNSWEPT: ColumnElement[bool] = literal_column(
    "object_name IS NOT NULL AND swept_at IS NULL AND outcome <> 'published'", Boolean
)
_UNSWEPT_PUSH: ColumnElement[bool] = literal_column(
    "push IS NOT NULL AND push_swept_at IS NULL AND outcome <> 'published'", Boolean
)
_FRESH = timedelta(minutes=5)


@dataclass(frozen=True)
class Orphan:
    """Where an attempt that was not published may have left objects: in the folder of `object_name`."""

    attempt_id: int
    run_id: int
    object_name: str


@dataclass(frozen=True)
class LeftPush:
    """What an attempt that was not published may have left at a destination.

    `push` is as it was noted (destinations/pushing.py); `settled` says that nothing can come to it any more;
    `published` names the objects that the run has published since.
    """

    attempt_id: int
    run_id: int
    push: dict[str, Any]
    ended_at: datetime
    settled: bool
    published: frozenset[str]


@dataclass(frozen=True)
class ExpiredFile:
    """The published artifact of a run whose time is over, or whose task was deleted."""

    run_id: int
    artifact: dict[str, Any]


def sweepable(session: Session, *, now: datetime, limit: int, settled_seconds: float = 0) -> list[Orphan]:
    """Return attempts that ended `settled_seconds` ago or earlier unpublished and were not swept.

    Latest end first, so that what is looked at again and again, or refused, keeps nothing new waiting.

    A worker that lost its lease may still finish its upload before it learns so; where that must be found
    too, let `settled_seconds` be longer than an upload's last step.
    """
    query = (
        select(Attempt.id, Attempt.run_id, Attempt.object_name)
        .where(_UNSWEPT, col(Attempt.ended_at) <= now - timedelta(seconds=settled_seconds))
        .order_by(col(Attempt.ended_at).desc(), col(Attempt.id).desc())
        .limit(limit)
    )
    return [
        Orphan(attempt_id=attempt_id, run_id=run_id, object_name=name)
        for attempt_id, run_id, name in session.exec(query).all()
        if attempt_id is not None and name is not None
    ]


def mark_swept(session: Session, attempt_id: int, *, now: datetime) -> None:
    """Note that nothing of this attempt lies in the storage any more."""
    session.exec(update(Attempt).where(col(Attempt.id) == attempt_id).values(swept_at=now))


def sweepable_pushes(session: Session, *, now: datetime, limit: int, settled_seconds: float = 0) -> list[LeftPush]:
    """Return the pushes of attempts that ended unpublished, of runs that are final, and were not swept.

    Latest end first. While a run goes on its next attempt replaces what lies at the destination; nothing of it is
    touched then. Those that ended within the last `_FRESH` are returned, and those that ended `settled_seconds` ago or
    earlier: a destination is somebody else's, and not asked all the time.
    """
    settled = now - timedelta(seconds=settled_seconds)
    query = (
        select(Attempt)
        .join(Run, col(Run.id) == col(Attempt.run_id))
        .where(_UNSWEPT_PUSH, col(Run.state).in_(("done", "failed", "cancelled")))
        .where(or_(col(Attempt.ended_at) > now - _FRESH, col(Attempt.ended_at) <= settled))
        .order_by(col(Attempt.ended_at).desc(), col(Attempt.id).desc())
        .limit(limit)
    )
    return [
        LeftPush(
            attempt_id=identity(one),
            run_id=one.run_id,
            push=one.push,
            ended_at=one.ended_at,
            settled=one.ended_at <= settled,
            published=_published(session, one.run_id),
        )
        for one in session.exec(query).all()
        if one.push is not None and one.ended_at is not None
    ]


def _published(session: Session, run_id: int) -> frozenset[str]:
    query = select(Attempt).where(Attempt.run_id == run_id, Attempt.outcome == "published")
    return frozenset(name for one in session.exec(query).all() for name in (one.push or {}).get("objects", ()))


def mark_push_swept(session: Session, attempt_id: int, *, now: datetime) -> None:
    """Note that nothing of this attempt lies at its destination any more, or is looked for no more."""
    session.exec(update(Attempt).where(col(Attempt.id) == attempt_id).values(push_swept_at=now))


def expired_files(session: Session, *, now: datetime, limit: int) -> list[ExpiredFile]:
    """Return the files whose time is over and that were not deleted yet, longest expired first."""
    query = (
        select(Run)
        .where(col(Run.expires_at).is_not(None), col(Run.file_deleted_at).is_(None), col(Run.expires_at) <= now)
        .order_by(col(Run.expires_at), col(Run.id))
        .limit(limit)
    )
    return [ExpiredFile(identity(run), run.artifact) for run in session.exec(query).all() if run.artifact is not None]


def mark_file_deleted(session: Session, run_id: int, *, now: datetime) -> None:
    """Note that the file of a run is gone; its task shows another result from now on."""
    run = session.get(Run, run_id)
    if run is None or run.file_deleted_at is not None:
        return
    run.file_deleted_at = now
    session.add(run)
    session.exec(
        update(Task)
        .where(col(Task.id) == run.task_id, col(Task.result_run_id) == run_id)
        .values(revision=col(Task.revision) + 1, modified_at=now)
    )
