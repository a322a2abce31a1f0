"""Batched look-ups for pages: what many rows refer to, in one query each instead of one per row.

Reading only. Called by api/, which shows tasks with their authors and results and runs with their attempts
and logs.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from sqlmodel import Session, col, select

from tasks_service.database.models import Attempt, Client, Event, Run
from tasks_service.database.runs import GOING
from tasks_service.database.statements import identity

# Runs that found no row may have published no file; so many of them in a row are looked behind.
_LOOKED_AT = 100


def clients_by_id(session: Session, ids: Iterable[str]) -> dict[str, Client]:
    """Return clients by id, removed ones too."""
    found = session.exec(select(Client).where(col(Client.id).in_(set(ids))))
    return {client.id: client for client in found}


def runs_by_id(session: Session, ids: Iterable[int | None]) -> dict[int, Run]:
    """Return runs by id; None among the ids is passed over."""
    wanted = {one for one in ids if one is not None}
    if not wanted:
        return {}
    return {identity(run): run for run in session.exec(select(Run).where(col(Run.id).in_(wanted)))}


def attempts_by_run(session: Session, run_ids: Iterable[int]) -> dict[int, list[Attempt]]:
    """Return the attempts of runs, first to last, by run."""
    wanted = set(run_ids)
    grouped: dict[int, list[Attempt]] = {run_id: [] for run_id in wanted}
    query = select(Attempt).where(col(Attempt.run_id).in_(wanted)).order_by(col(Attempt.number))
    for attempt in session.exec(query):
        grouped[attempt.run_id].append(attempt)
    return grouped


def events_by_run(session: Session, run_ids: Iterable[int]) -> dict[int, list[Event]]:
    """Return the log entries of runs, oldest first, by run."""
    wanted = set(run_ids)
    grouped: dict[int, list[Event]] = {run_id: [] for run_id in wanted}
    query = select(Event).where(col(Event.run_id).in_(wanted)).order_by(col(Event.id))
    for event in session.exec(query):
        if event.run_id is not None:
            grouped[event.run_id].append(event)
    return grouped


def latest_published(session: Session, task_id: int) -> Run | None:
    """Return the newest run of a task that published a file; those of backfills are of the past."""
    query = (
        select(Run)
        .where(Run.task_id == task_id, col(Run.state) == "done", col(Run.backfill_id).is_(None))
        .order_by(col(Run.id).desc())
        .limit(_LOOKED_AT)
    )
    return next((run for run in session.exec(query) if run.artifact is not None), None)


def repeat_going(session: Session, run_id: int) -> Run | None:
    """Return a run that repeats this one and has not ended."""
    query = select(Run).where(Run.repeats_run_id == run_id, col(Run.state).in_(GOING))
    return session.exec(query).first()


def files_of(session: Session, task_id: int, *, limit: int) -> Sequence[Run]:
    """Return a task's runs whose files were not deleted yet, newest first."""
    query = (
        select(Run)
        .where(Run.task_id == task_id, col(Run.expires_at).is_not(None), col(Run.file_deleted_at).is_(None))
        .order_by(col(Run.id).desc())
        .limit(limit)
    )
    return session.exec(query).all()
