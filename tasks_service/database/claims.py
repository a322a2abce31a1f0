"""A worker's view of a run: claiming the fairest one, and every write that is made under its lease.

A claim is fenced: each function below names the lease token it holds, returns False and changes nothing
once another worker has taken the run over or it has ended. Each may be repeated when its answer was lost:
what it has written already counts as written. Which run is the fairest is fairness.py; what an ending means
for retries is the runner's business. Called by runner.py, lease.py and tests; what lies about to be deleted
is leftovers.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Literal

from sqlalchemy import case, literal, update
from sqlmodel import Session, col, or_, select

from tasks_service.database.fairness import fairest, one_claim_at_a_time
from tasks_service.database.journal import log_event
from tasks_service.database.leftovers import expired_files, mark_file_deleted, mark_swept, sweepable
from tasks_service.database.models import Attempt, Instant, Run, Task
from tasks_service.database.runs import lock_task, task_after
from tasks_service.database.statements import changed, identity

__all__ = [
    "Beat",
    "Claim",
    "beat",
    "cancelled",
    "claim_run",
    "expired_files",
    "fail",
    "hand_back",
    "mark_file_deleted",
    "mark_swept",
    "name_object",
    "publish",
    "record_query",
    "sweepable",
]


Ending = Literal["now", "before", "lost"]
"""How an attempt's end went.

Written now, found written before (the answer was lost), or not this claim's to write.
"""


@dataclass(frozen=True)
class Claim:
    """A run that is one worker's for as long as its lease is renewed.

    `attempt_number` counts claims from 1; `attempts` counts the attempts that failed before this one,
    without those that were interrupted or abandoned. `definition` is {"target": ..., "trigger": ...} as it
    was when the run was made.
    """

    run_id: int
    task_id: int
    chain: int
    kind: str
    occurrence: datetime
    definition: dict[str, Any]
    attempt_number: int
    attempts: int
    lease_token: int
    owner: str
    client_id: str


@dataclass(frozen=True)
class Beat:
    """What a heartbeat learns: whether the run is still this worker's, and whether it is to be cancelled."""

    owned: bool
    cancel_requested: bool


def claim_run(
    session: Session,
    *,
    now: datetime,
    owner: str,
    lease_seconds: float,
    running_per_chain: int,
    max_claims: int,
) -> Claim | None:
    """Take the fairest run there is to carry out, for `lease_seconds`; None where there is none.

    Taken is a queued run that is available, or a running one whose lease has lapsed: its attempt is
    abandoned. On the way, lapsed runs that were to be cancelled are cancelled, and runs that were claimed
    `max_claims` times without an end are failed with reason `poison`: such a run ends its workers.
    """
    # Without the lock first: a worker that polls for nothing keeps nobody waiting.
    if fairest(session, now=now, running_per_chain=running_per_chain) is None:
        return None
    one_claim_at_a_time(session)
    while (run_id := fairest(session, now=now, running_per_chain=running_per_chain)) is not None:
        run = session.get_one(Run, run_id, populate_existing=True)
        lock_task(session, run.task_id)
        task = session.get_one(Task, run.task_id, populate_existing=True)
        if run.cancel_requested_at is not None or task.deleted_at is not None:
            _give_up(session, run, now=now, state="cancelled", reason="cancelled", detail=None)
        elif run.claims >= max_claims:
            detail = f"Given up after {run.claims} attempts, none of which lived to its end."
            _give_up(session, run, now=now, state="failed", reason="poison", detail=detail)
        elif _take(session, run, now=now, owner=owner, lease_seconds=lease_seconds):
            return _taken(session, run, task, now=now, owner=owner)
        session.expire(run)
    return None


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
        log_event(
            session,
            task_id=run.task_id,
            run_id=run.id,
            now=now,
            level="warning",
            event="attempt.abandoned",
            message=f"Attempt {run.claims}: its worker {run.lease_owner} was not heard of any more.",
        )
    return True


def _taken(session: Session, run: Run, task: Task, *, now: datetime, owner: str) -> Claim:
    """Write down a claim that has succeeded (`run` still shows it as it was before), and describe it."""
    run_id, number, token = identity(run), run.claims + 1, run.lease_token + 1
    session.add(Attempt(run_id=run_id, number=number, worker=owner, lease_token=token, started_at=now))
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


def _held(claim: Claim) -> tuple[Any, ...]:
    """Return the conditions under which a run is still this claim's."""
    return (col(Run.id) == claim.run_id, col(Run.lease_token) == claim.lease_token, col(Run.state) == "running")


def beat(
    session: Session,
    claim: Claim,
    *,
    now: datetime,
    lease_seconds: float,
    rows: int,
    total: int | None,
    bytes_written: int,
) -> Beat:
    """Renew the lease and note the progress. `progress_at` moves only where there was some."""
    moved = or_(col(Run.rows) != rows, col(Run.bytes_written) != bytes_written)
    renewed = session.exec(
        update(Run)
        .where(*_held(claim))
        .values(
            lease_until=now + timedelta(seconds=lease_seconds),
            rows=rows,
            total=total,
            bytes_written=bytes_written,
            progress_at=case((moved, literal(now, Instant())), else_=col(Run.progress_at)),
        )
        .returning(col(Run.cancel_requested_at))
        .execution_options(synchronize_session=False)
    ).all()
    if not renewed:
        return Beat(owned=False, cancel_requested=False)
    return Beat(owned=True, cancel_requested=renewed[0][0] is not None)


def name_object(session: Session, claim: Claim, object_name: str) -> bool:
    """Note where this attempt writes, before its first byte.

    The sweeper finds it whatever becomes of the worker.
    """
    named = session.exec(
        update(Attempt)
        .where(
            col(Attempt.run_id) == claim.run_id,
            col(Attempt.lease_token) == claim.lease_token,
            col(Attempt.ended_at).is_(None),
        )
        .values(object_name=object_name)
        .execution_options(synchronize_session=False)
    )
    return changed(named)


def record_query(session: Session, claim: Claim, query: dict[str, Any]) -> bool:
    """Note the query the run's segment was compiled to."""
    noted = session.exec(
        update(Run).where(*_held(claim)).values(query=query).execution_options(synchronize_session=False)
    )
    return changed(noted)


def publish(
    session: Session,
    claim: Claim,
    *,
    now: datetime,
    artifact: dict[str, Any] | None,
    expires_at: datetime | None,
    query: dict[str, Any] | None,
) -> bool:
    """Make the artifact *the* file of the run, by compare-and-set: the only way a file becomes visible.

    `artifact` None is a run that rightly made no file. A cancellation asked for in the meantime came too
    late; the file of a task deleted in the meantime expires at once.
    """
    lock_task(session, claim.task_id)
    if session.exec(select(Task.deleted_at).where(Task.id == claim.task_id)).one() is not None:
        expires_at = now
    values: dict[str, Any] = {
        "state": "done",
        "artifact": artifact,
        "expires_at": expires_at if artifact is not None else None,
    }
    if query is not None:
        values["query"] = query
    if artifact is not None:
        values |= {"rows": artifact["rows"], "total": artifact["rows"], "bytes_written": artifact["bytes"]}
    ended = _end(session, claim, now=now, outcome="published", run=values)
    if ended != "now":
        return ended == "before"
    task_after(session, claim.task_id, claim.run_id, now=now, state="DONE", reason=None)
    said = f"Published: {artifact['rows']} rows, {artifact['bytes']} bytes." if artifact else "Done without a file."
    _log_end(session, claim, now=now, event="run.published", message=said)
    return True


def fail(session: Session, claim: Claim, *, now: datetime, code: str, detail: str, retry_at: datetime | None) -> bool:
    """Record that the attempt failed; the run is tried again at `retry_at`, or has failed for good (None).

    A run whose cancellation was asked for is cancelled instead of being tried again.
    """
    if retry_at is None:
        values = {"state": "failed", "reason": code, "detail": detail, "attempts": claim.attempts + 1}
        ended = _end(session, claim, now=now, outcome="failed", code=code, detail=detail, run=values)
        if ended != "now":
            return ended == "before"
        task_after(session, claim.task_id, claim.run_id, now=now, state="ERROR", reason=code)
        _log_end(session, claim, now=now, event="run.failed", message=f"{code}: {detail}", level="error")
        return True
    values = {"available_at": retry_at, "reason": code, "detail": detail, "attempts": claim.attempts + 1}
    ended = _requeue(session, claim, now=now, outcome="retried", code=code, detail=detail, run=values)
    if ended != "now":
        return ended == "before"
    when = f"{retry_at:%Y-%m-%dT%H:%M:%SZ}"
    said = f"Attempt {claim.attempt_number}: {code}: {detail} Tried again at {when}."
    _log_end(session, claim, now=now, event="attempt.failed", message=said, level="warning")
    return True


def hand_back(session: Session, claim: Claim, *, now: datetime) -> bool:
    """Give the run back to the queue because its worker is stopping; that burns no attempt."""
    ended = _requeue(session, claim, now=now, outcome="interrupted", run={})
    if ended != "now":
        return ended == "before"
    said = f"Attempt {claim.attempt_number} was interrupted; the run goes back to the queue."
    _log_end(session, claim, now=now, event="attempt.interrupted", message=said, level="warning")
    return True


def cancelled(session: Session, claim: Claim, *, now: datetime) -> bool:
    """Record that the run was cancelled, as somebody had asked."""
    values = {"state": "cancelled", "reason": "cancelled"}
    ended = _end(session, claim, now=now, outcome="cancelled", run=values)
    if ended != "now":
        return ended == "before"
    task_after(session, claim.task_id, claim.run_id, now=now, state="ERROR", reason="cancelled")
    _log_end(session, claim, now=now, event="run.cancelled", message="Cancelled.")
    return True


def _requeue(
    session: Session,
    claim: Claim,
    *,
    now: datetime,
    outcome: str,
    run: dict[str, Any],
    code: str | None = None,
    detail: str | None = None,
) -> Ending:
    """Put the run back into the queue, or cancel it where that was asked for."""
    asked = session.exec(select(Run.cancel_requested_at).where(*_held(claim))).first()
    if asked is not None:
        return "before" if cancelled(session, claim, now=now) else "lost"
    values = {"state": "queued", **run}
    return _end(session, claim, now=now, outcome=outcome, code=code, detail=detail, run=values)


def _end(
    session: Session,
    claim: Claim,
    *,
    now: datetime,
    outcome: str,
    run: dict[str, Any],
    code: str | None = None,
    detail: str | None = None,
) -> Ending:
    """End the attempt and change its run.

    If the run is still this claim's (or has ended this very way before).
    """
    lock_task(session, claim.task_id)
    values = {"lease_until": None, "lease_owner": None, **run}
    if run["state"] != "queued":
        values["finished_at"] = now
    ended = session.exec(update(Run).where(*_held(claim)).values(values).execution_options(synchronize_session="fetch"))
    if not changed(ended):
        return "before" if _ended_before(session, claim, outcome) else "lost"
    session.exec(
        update(Attempt)
        .where(col(Attempt.run_id) == claim.run_id, col(Attempt.lease_token) == claim.lease_token)
        .values(ended_at=now, outcome=outcome, code=code, detail=detail)
        .execution_options(synchronize_session="fetch")
    )
    return "now"


def _ended_before(session: Session, claim: Claim, outcome: str) -> bool:
    """Tell whether this claim has ended so already.

    A commit whose answer was lost, which is being repeated.
    """
    found = session.exec(
        select(Attempt.outcome).where(Attempt.run_id == claim.run_id, Attempt.lease_token == claim.lease_token)
    ).first()
    # What would have gone back to the queue was cancelled instead, where that had been asked for.
    return found == outcome or (outcome in {"retried", "interrupted"} and found == "cancelled")


def _log_end(session: Session, claim: Claim, *, now: datetime, event: str, message: str, level: str = "info") -> None:
    log_event(session, task_id=claim.task_id, run_id=claim.run_id, now=now, event=event, message=message, level=level)
