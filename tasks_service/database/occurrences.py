"""What became of a task's occurrences: the runs that name them, and the ranges that were skipped.

Reading only. What lives here: finding both in the order of time. What does not: which occurrences a range had, and
putting both together (api/occurrences.py). Rows are written by due.py, backfills.py, runs.py and journal.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy.orm import load_only
from sqlmodel import Session, col, select

from tasks_service.database.models import Run, Skip
from tasks_service.database.statements import Direction

# A run that somebody asked for has a moment of its own, which is no occurrence of the schedule.
_OF_THE_SCHEDULE = ("schedule", "backfill")


@dataclass(frozen=True)
class Span:
    """Occurrences from `start` on (inclusive) and before `end` (exclusive); None bounds nothing."""

    start: datetime | None = None
    end: datetime | None = None


def occurrences_with_runs(
    session: Session, task_id: int, span: Span, *, limit: int, direction: Direction
) -> list[datetime]:
    """Return up to `limit` occurrences that have a run; the newest first, in direction `previous` the oldest first.

    Among them are those that the schedule skipped and a backfill ran.
    """
    query = select(Run.occurrence).where(Run.task_id == task_id, col(Run.kind).in_(_OF_THE_SCHEDULE)).distinct()
    if span.start is not None:
        query = query.where(col(Run.occurrence) >= span.start)
    if span.end is not None:
        query = query.where(col(Run.occurrence) < span.end)
    order = col(Run.occurrence).asc() if direction == "previous" else col(Run.occurrence).desc()
    return list(session.exec(query.order_by(order).limit(limit)).all())


def skipped_ranges(
    session: Session, task_id: int, span: Span, *, reason: str | None, limit: int, direction: Direction
) -> Sequence[Skip]:
    """Return up to `limit` ranges that have a part in the span, in the order of `occurrences_with_runs`."""
    query = select(Skip).where(Skip.task_id == task_id)
    if span.start is not None:
        query = query.where(col(Skip.last_occurrence) >= span.start)
    if span.end is not None:
        query = query.where(col(Skip.first_occurrence) < span.end)
    if reason is not None:
        query = query.where(Skip.reason == reason)
    order = col(Skip.first_occurrence).asc() if direction == "previous" else col(Skip.first_occurrence).desc()
    return session.exec(query.order_by(order).limit(limit)).all()


def runs_of(session: Session, task_id: int, occurrences: Iterable[datetime]) -> dict[datetime, list[Run]]:
    """Return the runs that name occurrences, oldest first, by occurrence; read of them is what a list shows."""
    found: dict[datetime, list[Run]] = {}
    # Without its definition, which may be long.
    shown: Any = (Run.occurrence, Run.kind, Run.state, Run.reason, Run.backfill_id)
    query = (
        select(Run)
        .where(Run.task_id == task_id, col(Run.occurrence).in_(set(occurrences)), col(Run.kind) != "manual")
        .options(load_only(*shown))
        .order_by(col(Run.id))
    )
    for run in session.exec(query).all():
        found.setdefault(run.occurrence, []).append(run)
    return found


def skips_around(session: Session, task_id: int, first: datetime, last: datetime) -> Sequence[Skip]:
    """Return the ranges that have a part in the time from `first` to `last`, oldest first."""
    query = select(Skip).where(Skip.task_id == task_id)
    query = query.where(col(Skip.last_occurrence) >= first, col(Skip.first_occurrence) <= last)
    return session.exec(query.order_by(col(Skip.first_occurrence))).all()
