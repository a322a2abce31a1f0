"""Runs as everybody but their worker sees them: making, finding and cancelling them.

What a worker does under its lease is claims.py; runs that are made because an occurrence is due are due.py.
Called by api/ and cli/. A run's end changes its task's state in the same transaction, by `task_after`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, Literal, Protocol

from sqlalchemy import JSON, ColumnElement, Dialect, Text, cast, func, literal, text, update
from sqlmodel import Session, col, select

from tasks_service.database.counting import run_ended, run_made, task_paused
from tasks_service.database.journal import Skipped, log_event, record_skips, touch
from tasks_service.database.models import Attempt, Backfill, Run, SegmentVersion, Task
from tasks_service.database.segments import newest_versions
from tasks_service.database.statements import Direction, changed, identity, insert_unless_there, page

Kind = Literal["schedule", "manual", "backfill", "retry"]
GOING = ("queued", "running")


class Offer(Protocol):
    """Announces a run inside the transaction that queues it, for `at` where it is available only then."""

    def __call__(self, session: Session, run_id: int, *, at: datetime | None = None) -> None:
        """Announce one run; executors have it."""
        ...


def create_run(
    session: Session,
    task: Task,
    *,
    kind: Kind,
    occurrence: datetime,
    now: datetime,
    repeats: Run | None = None,
    backfill: Backfill | None = None,
    available_at: datetime | None = None,
) -> Run | None:
    """Queue a run of a task read with `lock=True`; None where that scheduled occurrence has its run already.

    `repeats` is the run a retry repeats: with its definition and, as the caller should give it, its
    occurrence; it belongs to the same backfill. `backfill` is the one whose run this is. A manual run before a
    future `once` consumes it. A manual run or a retry shows the task as READY until it is claimed, so that
    whoever waits for DONE or ERROR does not take the former ending for this one's.
    """
    origin = repeats or backfill
    if origin is not None:
        definition = origin.definition
    else:
        definition = definition_of(task, newest_versions(session, [task.segment_id]))
    backfill_id = backfill.id if backfill is not None else repeats.backfill_id if repeats is not None else None
    values = {
        "task_id": identity(task),
        "chain": task.chain,
        "kind": kind,
        "occurrence": occurrence,
        "repeats_run_id": repeats.id if repeats is not None else None,
        "backfill_id": backfill_id,
        "task_version": origin.task_version if origin is not None else task.version,
        "definition": definition,
        "serial": backfill_id is None and task.trigger.get("overlap") != "allow",
        "state": "queued",
        "created_at": now,
        "available_at": available_at or now,
        **UNTOUCHED,
    }
    statement = insert_unless_there(session.get_bind().dialect, Run).values(values)
    run_id = session.exec(statement.on_conflict_do_nothing().returning(col(Run.id))).scalar_one_or_none()
    if run_id is None:
        return None
    run_made(session, kind)
    if kind == "manual" and "once" in task.trigger and (once := task.next_run_at) is not None:
        task.next_run_at = None
        record_skips(session, task, [Skipped(once, once, 1, "executed")], now=now)
    if kind in {"manual", "retry"} and backfill_id is None and task.state != "INPROGRESS":
        task.state, task.state_reason = "READY", None
    touch(session, task, now=now)
    log_event(
        session,
        task_id=identity(task),
        run_id=run_id,
        now=now,
        event="run.queued",
        message=f"Queued ({kind}).",
    )
    return session.get_one(Run, run_id)


# What a bulk insert must spell out, because the defaults of models.py are the ORM's.
UNTOUCHED: dict[str, Any] = {
    "claims": 0,
    "attempts": 0,
    "lease_token": 0,
    "rows": 0,
    "bytes_written": 0,
}


def definition_of(task: Task, versions: Mapping[int, SegmentVersion]) -> dict[str, Any]:
    """Return what a run made now carries out: a saved segment as its newest version, which `versions` has by id.

    One that is not there stays a bare id, and the runner refuses to run it: it must not export every row.
    """
    resolved = resolved_trigger(task.trigger, task.segment_id, versions)
    return {"target": task.target, "trigger": task.trigger if resolved is None else resolved}


def resolved_trigger(
    trigger: Mapping[str, Any], segment_id: int | None, versions: Mapping[int, SegmentVersion]
) -> dict[str, Any] | None:
    """Return a trigger with its saved segment written out; None where it stays as it is stored."""
    version = versions.get(segment_id) if segment_id is not None else None
    if version is None:
        return None
    return {**trigger, "segment": version.document, "segment_version": version.version}


def definition_copied(dialect: Dialect, trigger: ColumnElement[str]) -> ColumnElement[Any]:
    """Return `definition_of` a task row as an expression, with the JSON text `trigger` where that is not null."""
    target, stored = (cast(col(one), Text()) for one in (Task.target, Task.trigger))
    said = literal('{"target": ') + target + literal(', "trigger": ') + func.coalesce(trigger, stored) + literal("}")
    # A document is text on both databases (see models.py); SQLite would read a cast to JSON as one to a number.
    return cast(said, JSON()) if dialect.name == "postgresql" else said


def get_run(session: Session, run_id: int, *, chain: int | None, lock: bool = False) -> Run | None:
    """Return a run of `chain` (None: of any); runs of deleted tasks are found too.

    `lock` its task to change it.
    """
    query = select(Run).where(Run.id == run_id)
    if chain is not None:
        query = query.where(Run.chain == chain)
    run = session.exec(query).first()
    if run is None or not lock:
        return run
    # The task before the run, always: the order that cannot deadlock.
    lock_task(session, run.task_id)
    return session.exec(query.with_for_update().execution_options(populate_existing=True)).first()


def lock_task(session: Session, task_id: int) -> None:
    """Hold a task until the end of the transaction, as `get_task(lock=True)` does, without reading it."""
    if session.get_bind().dialect.name == "postgresql":  # SQLite has but one writer at a time
        session.exec(select(Task.id).where(Task.id == task_id).with_for_update(key_share=True))


def list_runs(
    session: Session, task_id: int, *, limit: int, after: int | None = None, direction: Direction = "next"
) -> tuple[list[Run], bool]:
    """Return a page of a task's runs, newest first, and whether there are more.

    `after` is a run's id (see `page`).
    """
    query = select(Run).where(Run.task_id == task_id)
    return page(session, query, Run, limit=limit, after=after, direction=direction)


def attempts(session: Session, run_id: int) -> Sequence[Attempt]:
    """Return the attempts of a run, first to last."""
    return session.exec(select(Attempt).where(Attempt.run_id == run_id).order_by(col(Attempt.number))).all()


def going_run(session: Session, task_id: int) -> Run | None:
    """Return a run of the task that is queued or running, running ones first; runs of backfills do not count."""
    query = (
        select(Run)
        .where(Run.task_id == task_id, col(Run.state).in_(GOING), col(Run.backfill_id).is_(None))
        .order_by(col(Run.state).desc(), col(Run.id))  # "running" sorts after "queued"
    )
    return session.exec(query).first()


def queued_count(session: Session, chain: int) -> int:
    """Return how many runs of a chain are queued."""
    query = select(func.count()).select_from(Run).where(Run.chain == chain, col(Run.state) == "queued")
    return session.exec(query).one()


def hold_queue(session: Session, chain: int) -> None:
    """Let those that look for room in a chain's queue pass one by one until the end of the transaction.

    How many wait is a fact about many rows, which no row lock guards; SQLite has one writer at a time anyway.
    """
    if session.get_bind().dialect.name == "postgresql":
        statement = text("SELECT pg_advisory_xact_lock(hashtextextended('tasks_service.queue', :chain))")
        session.connection().execute(statement, {"chain": chain})


def request_cancel(session: Session, run: Run, *, now: datetime) -> bool:
    """Cancel a run read with `lock=True`: at once where it is queued, within a heartbeat where it runs.

    False where it has ended already, or its cancellation was asked for before.
    """
    if run.state == "queued":
        return _cancel_queued(session, run, now=now)
    asked = session.exec(
        update(Run)
        .where(col(Run.id) == run.id, col(Run.state) == "running", col(Run.cancel_requested_at).is_(None))
        .values(cancel_requested_at=now)
        .execution_options(synchronize_session="fetch")
    )
    if not changed(asked):
        return False
    log_event(
        session,
        task_id=run.task_id,
        run_id=run.id,
        now=now,
        event="run.cancel_requested",
        message="Cancellation asked for.",
    )
    return True


def _cancel_queued(session: Session, run: Run, *, now: datetime) -> bool:
    done = session.exec(
        update(Run)
        .where(col(Run.id) == run.id, col(Run.state) == "queued")
        .values(state="cancelled", reason="cancelled", finished_at=now, cancel_requested_at=now)
        .execution_options(synchronize_session="fetch")
    )
    if not changed(done):
        return False
    task_after(session, run.task_id, identity(run), now=now, state="ERROR", reason="cancelled")
    log_event(
        session,
        task_id=run.task_id,
        run_id=run.id,
        now=now,
        event="run.cancelled",
        message="Cancelled while queued.",
    )
    return True


def task_after(session: Session, task_id: int, run_id: int, *, now: datetime, state: str, reason: str | None) -> None:
    """Let a task, which the caller holds, show how its latest run ended; INPROGRESS while another run of it goes.

    `DONE` names the result. Runs that fail in a row are counted, and pause the task where its trigger says after how
    many. A run of a backfill changes nothing but the log: what a task shows is its schedule's.
    """
    run_ended(session, run_id, reason)
    values: dict[str, Any] = {"revision": col(Task.revision) + 1, "modified_at": now}
    run = session.exec(select(Run.backfill_id).where(Run.id == run_id)).one()
    if run is None:
        values |= _shown_after(session, task_id, run_id, state=state, reason=reason)
        values |= _failures_after(session, task_id, now=now, state=state, reason=reason)
    session.exec(
        update(Task).where(col(Task.id) == task_id).values(values).execution_options(synchronize_session="fetch")
    )


def _shown_after(session: Session, task_id: int, run_id: int, *, state: str, reason: str | None) -> dict[str, Any]:
    others = (
        select(Run.id)
        .where(Run.task_id == task_id, col(Run.state) == "running")
        .where(col(Run.id) != run_id, col(Run.backfill_id).is_(None))
        .exists()
    )
    values: dict[str, Any] = {}
    if not session.exec(select(others)).one():
        values |= {"state": state, "state_reason": reason}
    if state == "DONE":
        values["result_run_id"] = run_id
    return values


def _failures_after(session: Session, task_id: int, *, now: datetime, state: str, reason: str | None) -> dict[str, Any]:
    """Count failures in a row: a cancelled run is none, and ends no row either."""
    if state == "DONE":
        return {"failures": 0}
    if reason == "cancelled":
        return {}
    task = session.exec(select(Task).where(Task.id == task_id).execution_options(populate_existing=True)).one()
    failures, most = task.failures + 1, task.trigger.get("pause_after_failures")
    values: dict[str, Any] = {"failures": failures}
    if most is not None and failures >= most and task.paused_at is None:
        note = f"Paused after {failures} failed runs in a row, as `pause_after_failures` says; the last: {reason}."
        log_event(session, task_id=task_id, now=now, event="task.paused", message=note, level="error")
        task_paused(session, task_id, "failures")
        values |= {"paused_at": now, "paused_note": note, "paused_reason": "failures"}
    return values
