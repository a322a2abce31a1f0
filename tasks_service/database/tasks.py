"""Tasks: making, finding, editing, pausing, deleting them, their log, and remembered answers.

What does not live here: when a task is due (schedule.py computes, due.py claims), and its runs (runs.py,
claims.py). Called by api/ and cli/, and by the runner and the scheduler to pause what may no longer run.
Functions that change a task expect it to have been read with `lock=True` in the same transaction: whoever
else wants to change it waits.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from sqlalchemy import delete, update
from sqlmodel import Session, col, select

from tasks_service.database.backfills import cancel_backfill, running_backfill
from tasks_service.database.clients import Principal
from tasks_service.database.counting import task_paused
from tasks_service.database.journal import SkippedRange, events, log_event, record_skips, skips, touch
from tasks_service.database.models import IdempotencyKey, Run, Task
from tasks_service.database.runs import GOING, request_cancel
from tasks_service.database.statements import Direction, identity, insert_unless_there, page

__all__ = [
    "UNCHANGED",
    "TaskFilters",
    "create_task",
    "delete_task",
    "edit_task",
    "events",
    "forget_answers",
    "get_task",
    "list_tasks",
    "log_event",
    "pause_task",
    "recall_answer",
    "remember_answer",
    "resume_task",
    "skips",
]


class _Unchanged:
    """The value of what an edit leaves alone, where None is a value."""


UNCHANGED: Final = _Unchanged()


@dataclass(frozen=True)
class TaskFilters:
    """Which tasks a list shows: `created_after` is inclusive, `created_before` exclusive.

    None filters nothing.
    """

    chain: int | None = None
    state: str | None = None
    export_index: str | None = None
    created_after: datetime | None = None
    created_before: datetime | None = None
    deleted: bool = False


def create_task(
    session: Session,
    *,
    now: datetime,
    principal: Principal,
    chain: int,
    desc: str | None,
    target: dict[str, Any],
    trigger: dict[str, Any],
    next_run_at: datetime | None,
) -> Task:
    """Store a task with its first event; its id is set.

    `target` and `trigger` are normalised and checked already; a saved segment they name is held
    (`segments.hold_segment`) by this transaction.
    """
    task = Task(
        chain=chain,
        client_id=principal.client_id,
        desc=desc,
        target=target,
        trigger=trigger,
        export_index=target["export_index"],
        segment_id=trigger.get("segment_id"),
        next_run_at=next_run_at,
        created_at=now,
        modified_at=now,
    )
    session.add(task)
    session.flush()
    log_event(
        session,
        task_id=identity(task),
        now=now,
        event="task.created",
        message=f"Created by {principal.name}.",
    )
    return task


def get_task(
    session: Session, task_id: int, *, chain: int | None, deleted: bool = False, lock: bool = False
) -> Task | None:
    """Return a task of `chain` (None: of any); deleted ones only where asked for; `lock` it to change it."""
    query = select(Task).where(Task.id == task_id)
    if chain is not None:
        query = query.where(Task.chain == chain)
    if not deleted:
        query = query.where(col(Task.deleted_at).is_(None))
    if lock:
        # NO KEY UPDATE: rows that only refer to the task (events, runs) are inserted without waiting.
        query = query.with_for_update(key_share=True).execution_options(populate_existing=True)
    return session.exec(query).first()


def list_tasks(
    session: Session,
    filters: TaskFilters,
    *,
    limit: int,
    after: int | None = None,
    direction: Direction = "next",
) -> tuple[list[Task], bool]:
    """Return a page of tasks, newest first, and whether there are more.

    `after` is a task's id (see `page`).
    """
    query = select(Task)
    for condition in _conditions(filters):
        query = query.where(condition)
    return page(session, query, Task, limit=limit, after=after, direction=direction)


def _conditions(filters: TaskFilters) -> Iterable[Any]:
    if not filters.deleted:
        yield col(Task.deleted_at).is_(None)
    if filters.chain is not None:
        yield col(Task.chain) == filters.chain
    if filters.state is not None:
        yield col(Task.state) == filters.state
    if filters.export_index is not None:
        yield col(Task.export_index) == filters.export_index
    if filters.created_after is not None:
        yield col(Task.created_at) >= filters.created_after
    if filters.created_before is not None:
        yield col(Task.created_at) < filters.created_before


def edit_task(
    session: Session,
    task: Task,
    *,
    now: datetime,
    desc: str | _Unchanged | None = UNCHANGED,
    target: dict[str, Any] | _Unchanged = UNCHANGED,
    trigger: dict[str, Any] | _Unchanged = UNCHANGED,
    next_run_at: datetime | _Unchanged | None = UNCHANGED,
    skips: Iterable[SkippedRange] = (),
) -> None:
    """Change what is given; runs that exist keep the definition they were made with.

    Give `next_run_at` with `trigger`. What the old trigger has due must have its outcome first: call
    `due.settle` before, and give as `skips` what passed while the task was paused (`schedule.resume`).
    """
    record_skips(session, task, skips, now=now)
    if not isinstance(desc, _Unchanged):
        task.desc = desc
    if not isinstance(target, _Unchanged):
        task.target = target
        task.export_index = target["export_index"]
    if not isinstance(trigger, _Unchanged):
        task.trigger = trigger
        task.segment_id = trigger.get("segment_id")
    if not isinstance(next_run_at, _Unchanged):
        task.next_run_at, task.zone_rules = next_run_at, None
    task.version += 1
    touch(session, task, now=now)
    log_event(session, task_id=identity(task), now=now, event="task.edited", message=f"Version {task.version}.")


def pause_task(session: Session, task: Task, *, now: datetime, note: str | None, reason: str | None = None) -> None:
    """Stop the schedule until it is resumed; runs that exist go on.

    `reason` is the slug of a pause nobody asked for.
    """
    task.paused_at, task.paused_note, task.paused_reason = now, note, reason
    if reason is not None:
        task.state_reason = f"paused_{reason}"
        task_paused(session, identity(task), reason)
    touch(session, task, now=now)
    said = f": {note}" if note else "."
    log_event(session, task_id=identity(task), now=now, event="task.paused", message=f"Paused{said}")


def resume_task(
    session: Session,
    task: Task,
    *,
    now: datetime,
    next_run_at: datetime | None,
    skips: Iterable[SkippedRange] = (),
    note: str | None = None,
) -> None:
    """Let the schedule go on at `next_run_at`; record what passed meanwhile (both from `schedule.resume`)."""
    task.paused_at = task.paused_note = task.paused_reason = None
    task.failures = 0
    if task.state_reason is not None and task.state_reason.startswith("paused_"):
        task.state_reason = None
    task.next_run_at = next_run_at
    record_skips(session, task, skips, now=now)
    touch(session, task, now=now)
    said = f": {note}" if note else "."
    log_event(session, task_id=identity(task), now=now, event="task.resumed", message=f"Resumed{said}")


def delete_task(session: Session, task: Task, *, now: datetime, skips: Iterable[SkippedRange] = ()) -> None:
    """Delete a task read with `lock=True`.

    Cancel its runs and its backfill, end its schedule, give its files to the sweeper. `skips` is what was due of the
    schedule and had no outcome yet (`schedule.passed`).
    """
    task_id = identity(task)
    record_skips(session, task, skips, now=now)
    task.deleted_at, task.next_run_at = now, None
    touch(session, task, now=now)
    log_event(session, task_id=task_id, now=now, event="task.deleted", message="Deleted.")
    session.flush()
    if (backfill := running_backfill(session, task_id)) is not None:
        cancel_backfill(session, task, backfill, now=now, reason="task_deleted")
    going = session.exec(select(Run).where(Run.task_id == task_id, col(Run.state).in_(GOING)).order_by(col(Run.id)))
    for run in going.all():
        request_cancel(session, run, now=now)
    session.exec(
        update(Run)
        .where(col(Run.task_id) == task_id, col(Run.expires_at).is_not(None), col(Run.file_deleted_at).is_(None))
        .where(col(Run.expires_at) > now)
        .values(expires_at=now)
    )


def recall_answer(session: Session, client_id: str, key: str) -> IdempotencyKey | None:
    """Return the first answer given under an idempotency key of a client."""
    return session.get(IdempotencyKey, (client_id, key))


def remember_answer(
    session: Session,
    *,
    now: datetime,
    client_id: str,
    key: str,
    fingerprint: str,
    task_id: int,
    answer: dict[str, Any],
) -> bool:
    """Keep an answer under an idempotency key, in the transaction that made the task.

    False where another request under the same key was first: roll everything back and answer what it
    answered.
    """
    values = {
        "client_id": client_id,
        "key": key,
        "fingerprint": fingerprint,
        "task_id": task_id,
        "answer": answer,
        "created_at": now,
    }
    statement = insert_unless_there(session.connection().dialect, IdempotencyKey).values(values)
    kept = session.exec(statement.on_conflict_do_nothing().returning(col(IdempotencyKey.key)))
    return kept.first() is not None


def forget_answers(session: Session, *, before: datetime) -> int:
    """Drop the answers remembered before then; return how many."""
    done = session.exec(delete(IdempotencyKey).where(col(IdempotencyKey.created_at) < before))
    return done.rowcount
