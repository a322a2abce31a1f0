"""The ends of an attempt: published, failed, handed back, cancelled.

Each by compare-and-set on the lease token.

Each returns False and changes nothing where the run is another's by now, and True where it had ended just
so before: a commit whose answer was lost may be repeated. Called by runner.py and beater.py through claims.py.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from sqlalchemy import update
from sqlmodel import Session, col, select

from tasks_service.database.counting import attempt_ended, run_cancelled_after, write_fenced
from tasks_service.database.journal import log_event
from tasks_service.database.leases import Claim, Fenced, held
from tasks_service.database.models import Attempt, Run, Task
from tasks_service.database.runs import lock_task, task_after
from tasks_service.database.statements import changed

Ending = Literal["now", "before", "lost"]
"""How an attempt's end went.

Written now, found written before (the answer was lost), or not this claim's to write.
"""


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
        # Progress counts documents; a file may have several rows of one.
        read = artifact.get("documents", artifact["rows"])
        values |= {"rows": read, "total": read, "bytes_written": artifact["bytes"]}
    ended = _end(session, claim, now=now, outcome="published", run=values)
    if ended != "now":
        return ended == "before"
    task_after(session, claim.task_id, claim.run_id, now=now, state="DONE", reason=None)
    if artifact and (pushed := artifact.get("destination")) is not None:
        said = f"Pushed to {pushed['name']}: {len(pushed['files']) + 1} objects in {pushed['uri']}"
        _log_end(session, claim, now=now, event="run.pushed", message=said)
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


def cancelled(session: Session, claim: Fenced, *, now: datetime) -> bool:
    """Record that the run was cancelled, as somebody had asked."""
    values = {"state": "cancelled", "reason": "cancelled"}
    ended = _end(session, claim, now=now, outcome="cancelled", run=values)
    if ended != "now":
        return ended == "before"
    task_after(session, claim.task_id, claim.run_id, now=now, state="ERROR", reason="cancelled")
    asked = session.exec(select(Run.cancel_requested_at).where(Run.id == claim.run_id)).one()
    if asked is not None:
        run_cancelled_after(session, (now - asked).total_seconds())
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
    asked = session.exec(select(Run.cancel_requested_at).where(*held(claim))).first()
    if asked is not None:
        return "before" if cancelled(session, claim, now=now) else "lost"
    values = {"state": "queued", **run}
    return _end(session, claim, now=now, outcome=outcome, code=code, detail=detail, run=values)


def _end(
    session: Session,
    claim: Fenced,
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
    ended = session.exec(update(Run).where(*held(claim)).values(values).execution_options(synchronize_session="fetch"))
    if not changed(ended):
        if _ended_before(session, claim, outcome):
            return "before"
        write_fenced(session, claim.run_id, outcome)
        return "lost"
    session.exec(
        update(Attempt)
        .where(col(Attempt.run_id) == claim.run_id, col(Attempt.lease_token) == claim.lease_token)
        .values(ended_at=now, outcome=outcome, code=code, detail=detail)
        .execution_options(synchronize_session="fetch")
    )
    attempt_ended(session, outcome, code)
    return "now"


def _ended_before(session: Session, claim: Fenced, outcome: str) -> bool:
    """Tell whether this claim has ended so already.

    A commit whose answer was lost, which is being repeated.
    """
    found = session.exec(
        select(Attempt.outcome).where(Attempt.run_id == claim.run_id, Attempt.lease_token == claim.lease_token)
    ).first()
    # What would have gone back to the queue was cancelled instead, where that had been asked for.
    return found == outcome or (outcome in {"retried", "interrupted"} and found == "cancelled")


def _log_end(session: Session, claim: Fenced, *, now: datetime, event: str, message: str, level: str = "info") -> None:
    log_event(session, task_id=claim.task_id, run_id=claim.run_id, now=now, event=event, message=message, level=level)
