"""A worker's view of a run: claiming the fairest one.

The writes under its lease and its ends are named here too.

A claim is fenced: every function a worker calls names the lease token it holds, returns False and changes
nothing once another worker has taken the run over or it has ended. Which run is the fairest is fairness.py,
the writes while it goes are leases.py, its ends are endings.py, what lies about to be deleted is
leftovers.py; what an ending means for retries is the runner's business. Called by runner.py, beats.py,
beater.py, sweeper.py and tests.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import func, or_, update
from sqlmodel import Session, col, select

from tasks_service.database.counting import attempt_ended, run_claimed, run_rescued
from tasks_service.database.endings import cancelled, fail, hand_back, publish
from tasks_service.database.fairness import fairest, note_turn, one_claim_at_a_time
from tasks_service.database.journal import log_event
from tasks_service.database.leases import Beat, Claim, beat, former_marks, name_object, note_push, record_query
from tasks_service.database.leftovers import (
    LeftPush,
    expired_files,
    mark_file_deleted,
    mark_push_swept,
    mark_swept,
    sweepable,
    sweepable_pushes,
)
from tasks_service.database.models import Attempt, Run, Task
from tasks_service.database.runs import lock_task, task_after
from tasks_service.database.statements import changed, identity
from tasks_service.fault_points import fault_point

__all__ = [
    "Beat",
    "Claim",
    "LeftPush",
    "beat",
    "cancelled",
    "claim_run",
    "expired_files",
    "fail",
    "former_marks",
    "hand_back",
    "mark_file_deleted",
    "mark_push_swept",
    "mark_swept",
    "name_object",
    "note_push",
    "publish",
    "record_query",
    "sweepable",
    "sweepable_pushes",
]


def claim_run(
    session: Session,
    *,
    clock: Callable[[Session], datetime],
    owner: str,
    lease_seconds: float,
    running_per_chain: int,
    max_claims: int,
) -> Claim | None:
    """Take the fairest run there is to carry out, for `lease_seconds`; None where there is none.

    Taken is a queued run that is available, or a running one whose lease has lapsed: its attempt is
    abandoned. On the way, lapsed runs that were to be cancelled are cancelled, and runs that lost the worker of
    `max_claims` of their claims are failed with reason `poison`: such a run ends its workers. A claim that was handed
    back, or failed and is tried again, lost no worker.

    `clock` is `Database.now`, read again after each wait: an attempt never begins before the end of the one
    that made room for it, so that what is written down never shows more going at once than went.
    """

    def next_run() -> int | None:
        return fairest(session, now=clock(session), running_per_chain=running_per_chain)

    # Without the lock first: a worker that polls for nothing keeps nobody waiting.
    run_id = next_run()
    if run_id is not None and one_claim_at_a_time(session):
        run_id = next_run()
    while run_id is not None:
        run = session.get_one(Run, run_id, populate_existing=True)
        lock_task(session, run.task_id)
        task = session.get_one(Task, run.task_id, populate_existing=True)
        now = clock(session)
        if run.cancel_requested_at is not None or task.deleted_at is not None:
            _give_up(session, run, now=now, state="cancelled", reason="cancelled", detail=None)
        elif run.claims >= max_claims and (lost := _workers_lost(session, run_id)) >= max_claims:
            detail = f"Given up after {lost} attempts whose workers did not live to their end."
            _give_up(session, run, now=now, state="failed", reason="poison", detail=detail)
        elif _take(session, run, now=now, owner=owner, lease_seconds=lease_seconds):
            return _taken(session, run, task, now=now, owner=owner)
        run_id = next_run()
    return None


def _workers_lost(session: Session, run_id: int) -> int:
    """Count the claims of a run whose worker was not heard of any more; of one that lapsed, the last is still open."""
    unheard = or_(col(Attempt.outcome).is_(None), col(Attempt.outcome) == "abandoned")
    return session.exec(select(func.count()).where(Attempt.run_id == run_id, unheard)).one()


def _take(session: Session, run: Run, *, now: datetime, owner: str, lease_seconds: float) -> bool:
    """Take the run if it is still as it was read; its former attempt, if it has one, is abandoned."""
    return _replace(
        session,
        run,
        now=now,
        values={
            "state": "running",
            "reason": None,
            "detail": None,
            "started_at": run.started_at or now,
            "claims": run.claims + 1,
            "lease_owner": owner,
            "lease_until": now + timedelta(seconds=lease_seconds),
            "rows": 0,
            "total": None,
            "bytes_written": 0,
            "progress_at": now,
        },
    )


def _give_up(session: Session, run: Run, *, now: datetime, state: str, reason: str, detail: str | None) -> None:
    """End a run that nobody holds without another attempt."""
    values = {"state": state, "reason": reason, "detail": detail, "finished_at": now, "lease_until": None}
    if not _replace(session, run, now=now, values=values):
        return
    run_id = identity(run)
    task_after(session, run.task_id, run_id, now=now, state="ERROR", reason=reason)
    said = detail or "Cancelled."
    log_event(session, task_id=run.task_id, run_id=run_id, now=now, level="error", event=f"run.{state}", message=said)


def _replace(session: Session, run: Run, *, now: datetime, values: dict[str, Any]) -> bool:
    """Change a run that nobody holds, if it is still as it was read, and end its lapsed attempt."""
    held = col(Run.lease_until) <= now if run.state == "running" else col(Run.state) == "queued"
    taken = session.exec(
        update(Run)
        .where(col(Run.id) == run.id, col(Run.lease_token) == run.lease_token, col(Run.state) == run.state, held)
        .values(lease_token=run.lease_token + 1, **values)
        .execution_options(synchronize_session=False)
    )
    if not changed(taken):
        return False
    if run.state == "running":
        session.exec(
            update(Attempt)
            .where(col(Attempt.run_id) == run.id, col(Attempt.ended_at).is_(None))
            .values(ended_at=now, outcome="abandoned")
            .execution_options(synchronize_session=False)
        )
        attempt_ended(session, "abandoned")
        log_event(
            session,
            task_id=run.task_id,
            run_id=run.id,
            now=now,
            level="warning",
            event="attempt.abandoned",
            message=f"Attempt {run.claims}: its worker {run.lease_owner} was not heard of any more.",
        )
        fault_point("claim.abandoned")
    return True


def _taken(session: Session, run: Run, task: Task, *, now: datetime, owner: str) -> Claim:
    """Write down a claim that has succeeded (`run` still shows it as it was before), and describe it."""
    run_id, number, token = identity(run), run.claims + 1, run.lease_token + 1
    session.add(Attempt(run_id=run_id, number=number, worker=owner, lease_token=token, started_at=now))
    note_turn(session, run.chain, now=now)
    if run.state == "running":
        run_rescued(session, run_id, lost=run.lease_owner)
    else:
        run_claimed(session, available_at=run.available_at, now=now)
    if run.backfill_id is None:  # what a task shows is its schedule's
        if run.started_at is None:
            task.last_run_at, task.last_run_id = now, run_id
        task.state, task.state_reason = "INPROGRESS", None
    task.revision += 1
    task.modified_at = now
    session.add(task)
    log_event(
        session,
        task_id=run.task_id,
        run_id=run_id,
        now=now,
        event="run.started",
        message=f"Attempt {number} by {owner}.",
    )
    return Claim(
        run_id=run_id,
        task_id=run.task_id,
        chain=run.chain,
        kind=run.kind,
        occurrence=run.occurrence,
        definition=run.definition,
        attempt_number=number,
        attempts=run.attempts,
        lease_token=token,
        owner=owner,
        client_id=task.client_id,
    )
