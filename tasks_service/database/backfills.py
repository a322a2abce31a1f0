"""Backfills: past occurrences of a task that somebody wants run, and the runs that are made of them little by little.

What lives here: storing a backfill with the occurrences it has to run, making their runs as room appears, its progress
and its end. What does not: which occurrences lie in a range (schedule.py), and the runs once they are made (claims.py).
Called by api/ and by the scheduler (`wanting`, `advance`).

A backfill makes no more runs than may go at once, its own and its chain's, so that it floods no queue; a run takes the
place of its occurrence in one transaction, so that a process killed at any instruction has made it or not. Whoever
changes a backfill holds its task.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import and_, delete, exists, func, insert, or_, update
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select

from tasks_service.database.clients import standing_of
from tasks_service.database.journal import log_event, touch
from tasks_service.database.models import Backfill, BackfillOccurrence, Client, Run, Task
from tasks_service.database.runs import GOING, Offer, create_run, definition_of, queued_count, request_cancel
from tasks_service.database.segments import newest_versions
from tasks_service.database.statements import Direction, identity, page
from tasks_service.fault_points import fault_point

Reprocess = Literal["none", "failed", "all"]
_DONE_WITHOUT_A_FILE = ("failed", "cancelled")


@dataclass(frozen=True)
class BackfillOrder:
    """What a backfill is to do: run `wanted` (ascending), `concurrency` at a time; `skipped` others are left alone."""

    start: datetime
    end: datetime
    reprocess: Reprocess
    concurrency: int
    wanted: Sequence[datetime]
    skipped: int


@dataclass(frozen=True)
class Progress:
    """Where the occurrences of a backfill are; together they are its total.

    `waiting` have no run yet, `skipped` were left alone, `cancelled` were given up, before they had a run or after.
    """

    total: int
    waiting: int
    queued: int
    running: int
    done: int
    failed: int
    cancelled: int
    skipped: int


def left_alone(
    session: Session, task_id: int, occurrences: Sequence[datetime], *, reprocess: Reprocess
) -> set[datetime]:
    """Return which of a task's occurrences (ascending) a backfill does not run.

    The newest run of an occurrence decides. One that is going is always left alone. With `none` every occurrence that
    has a run is, with `failed` those whose newest run is done; with `all` nothing else is.
    """
    if not occurrences:
        return set()
    query = (
        select(Run.occurrence, Run.state)
        .where(Run.task_id == task_id, col(Run.kind) != "manual")
        .where(col(Run.occurrence) >= occurrences[0], col(Run.occurrence) <= occurrences[-1])
        .order_by(col(Run.occurrence), col(Run.id))
    )
    newest = dict(session.exec(query).all())
    kept = {"none": (*GOING, "done", *_DONE_WITHOUT_A_FILE), "failed": (*GOING, "done"), "all": GOING}[reprocess]
    return {one for one in occurrences if newest.get(one) in kept}


def create_backfill(
    session: Session,
    task: Task,
    *,
    now: datetime,
    client_id: str,
    order: BackfillOrder,
) -> Backfill:
    """Store a backfill of a task read with `lock=True`.

    Its runs carry out the task as it is now, a saved segment in its newest version. The task has no other backfill
    that is running.
    """
    backfill = Backfill(
        task_id=identity(task),
        chain=task.chain,
        client_id=client_id,
        start_at=order.start,
        end_at=order.end,
        reprocess=order.reprocess,
        concurrency=order.concurrency,
        task_version=task.version,
        definition=definition_of(task, newest_versions(session, [task.segment_id])),
        total=len(order.wanted) + order.skipped,
        skipped=order.skipped,
        created_at=now,
    )
    session.add(backfill)
    session.flush()
    backfill_id = identity(backfill)
    if order.wanted:
        rows = [{"backfill_id": backfill_id, "occurrence": one} for one in order.wanted]
        session.connection().execute(insert(BackfillOccurrence), rows)
    _log(
        session, backfill, now, "backfill.created", f"created: {len(order.wanted)} to run, {order.skipped} left alone."
    )
    touch(session, task, now=now)
    if not order.wanted:
        _finish(session, backfill, now=now)
    return backfill


def get_backfill(session: Session, backfill_id: int, *, chain: int | None) -> Backfill | None:
    """Return a backfill of `chain` (None: of any)."""
    query = select(Backfill).where(Backfill.id == backfill_id).execution_options(populate_existing=True)
    if chain is not None:
        query = query.where(Backfill.chain == chain)
    return session.exec(query).first()


def list_backfills(
    session: Session, task_id: int, *, limit: int, after: int | None = None, direction: Direction = "next"
) -> tuple[list[Backfill], bool]:
    """Return a page of a task's backfills, newest first, and whether there are more (see `page`)."""
    query = select(Backfill).where(Backfill.task_id == task_id)
    return page(session, query, Backfill, limit=limit, after=after, direction=direction)


def running_backfill(session: Session, task_id: int) -> Backfill | None:
    """Return the backfill of a task that has not ended."""
    return session.exec(select(Backfill).where(Backfill.task_id == task_id, col(Backfill.state) == "running")).first()


def progress(session: Session, backfills: Iterable[Backfill]) -> dict[int, Progress]:
    """Return where the occurrences of each backfill are; of several runs of one occurrence the newest counts."""
    found = {identity(one): one for one in backfills}
    newest = (
        select(func.max(Run.id))
        .where(col(Run.backfill_id).in_(found))
        .group_by(col(Run.backfill_id), col(Run.occurrence))
    )
    by_state = (
        select(Run.backfill_id, Run.state, func.count())
        .where(col(Run.id).in_(newest))
        .group_by(col(Run.backfill_id), col(Run.state))
    )
    states = Counter({(backfill_id, state): count for backfill_id, state, count in session.exec(by_state).all()})
    waiting = dict(
        session.exec(
            select(BackfillOccurrence.backfill_id, func.count())
            .where(col(BackfillOccurrence.backfill_id).in_(found))
            .group_by(col(BackfillOccurrence.backfill_id))
        ).all()
    )
    return {
        one_id: Progress(
            total=one.total,
            waiting=waiting.get(one_id, 0),
            queued=states[one_id, "queued"],
            running=states[one_id, "running"],
            done=states[one_id, "done"],
            failed=states[one_id, "failed"],
            cancelled=states[one_id, "cancelled"] + one.dropped,
            skipped=one.skipped,
        )
        for one_id, one in found.items()
    }


def wanting(session: Session) -> list[tuple[int, int]]:
    """Return the running backfills that have something to do, a run to make or to end, oldest first: (id, chain).

    Those of a task that the service itself paused wait until it is resumed.
    """
    going = (
        select(func.count())
        .select_from(Run)
        .where(col(Run.backfill_id) == Backfill.id, col(Run.state).in_(GOING))
        .scalar_subquery()
    )
    waits = exists().where(col(BackfillOccurrence.backfill_id) == col(Backfill.id))
    query = (
        select(Backfill.id, Backfill.chain)
        .join(Task, col(Task.id) == col(Backfill.task_id))
        .where(col(Backfill.state) == "running", or_(going == 0, and_(waits, going < col(Backfill.concurrency))))
        .where(or_(col(Task.paused_at).is_(None), col(Task.paused_reason).is_(None)))
        .order_by(col(Backfill.id))
    )
    return [(one, chain) for one, chain in session.exec(query).all() if one is not None]


def advance(
    session: Session,
    backfill_id: int,
    *,
    now: datetime,
    running_per_chain: int,
    queued_per_chain: int,
    offer: Offer | None = None,
) -> int:
    """Make the runs of a backfill that there is room for, or end it; return how many were made.

    The backfills of a chain have `running_per_chain` runs queued or running together at most, and make none while the
    chain's queue is full. Nothing is done where somebody else is at the task, or the backfill has ended.
    """
    task = _lock_task_of(session, backfill_id)
    backfill = get_backfill(session, backfill_id, chain=None)
    if task is None or backfill is None or backfill.state != "running":
        return 0
    reason = standing_of(session.get_one(Client, task.client_id))
    if reason is not None or task.deleted_at is not None:
        cancel_backfill(session, task, backfill, now=now, reason=reason or "task_deleted")
        return 0
    room = min(
        backfill.concurrency - _going(session, Run.backfill_id == backfill_id),
        running_per_chain - _going(session, Run.chain == task.chain, col(Run.backfill_id).is_not(None)),
        queued_per_chain - queued_count(session, task.chain),
    )
    made = _make_runs(session, task, backfill, max(room, 0), now=now, offer=offer)
    fault_point("backfill.written")
    if not made and not _anything_left(session, backfill_id):
        _finish(session, backfill, now=now)
        touch(session, task, now=now)
    return made


def cancel_backfill(
    session: Session, task: Task, backfill: Backfill, *, now: datetime, reason: str = "cancelled"
) -> None:
    """Give up what a running backfill has still to run, and cancel its runs; its task was read with `lock=True`."""
    backfill_id = identity(backfill)
    dropped = session.exec(delete(BackfillOccurrence).where(col(BackfillOccurrence.backfill_id) == backfill_id))
    backfill.state, backfill.reason, backfill.finished_at = "cancelled", reason, now
    backfill.dropped += dropped.rowcount
    session.add(backfill)
    going = select(Run).where(Run.backfill_id == backfill_id, col(Run.state).in_(GOING)).order_by(col(Run.id))
    for run in session.exec(going.execution_options(populate_existing=True)).all():
        request_cancel(session, run, now=now)
    said = f"cancelled ({reason}); {dropped.rowcount} occurrences were not run."
    _log(session, backfill, now, "backfill.cancelled", said, level="warning")
    touch(session, task, now=now)


def _lock_task_of(session: Session, backfill_id: int) -> Task | None:
    """Hold the task of a backfill; None where somebody else does."""
    query = (
        select(Task)
        .join(Backfill, col(Backfill.task_id) == col(Task.id))
        .where(Backfill.id == backfill_id)
        .with_for_update(key_share=True, skip_locked=True, of=Task)
        .execution_options(populate_existing=True)
    )
    return session.exec(query).first()


def _going(session: Session, *conditions: Any) -> int:  # noqa: ANN401 -- SQL conditions
    query = select(func.count()).select_from(Run).where(col(Run.state).in_(GOING), *conditions)
    return session.exec(query).one()


def _make_runs(
    session: Session,
    task: Task,
    backfill: Backfill,
    count: int,
    *,
    now: datetime,
    offer: Offer | None,
) -> int:
    backfill_id, made = identity(backfill), 0
    query = (
        select(BackfillOccurrence.occurrence)
        .where(BackfillOccurrence.backfill_id == backfill_id)
        .order_by(col(BackfillOccurrence.occurrence))
        .limit(count)
    )
    for occurrence in session.exec(query).all():
        session.exec(
            delete(BackfillOccurrence).where(
                col(BackfillOccurrence.backfill_id) == backfill_id, col(BackfillOccurrence.occurrence) == occurrence
            )
        )
        fault_point("backfill.taken")
        run = create_run(session, task, kind="backfill", occurrence=occurrence, now=now, backfill=backfill)
        if run is not None and run.id is not None:
            made += 1
            if offer is not None:
                offer(session, run.id)
    return made


def _anything_left(session: Session, backfill_id: int) -> bool:
    waits = select(BackfillOccurrence.backfill_id).where(BackfillOccurrence.backfill_id == backfill_id).limit(1)
    return session.exec(waits).first() is not None or _going(session, Run.backfill_id == backfill_id) > 0


def reopen_backfill(session: Session, backfill_id: int) -> None:
    """Let a backfill that has ended go on, because one of its runs is repeated.

    One that was cancelled stays so, and one whose task has another that is running: its progress tells all the same.
    """
    other = aliased(Backfill)
    busy = exists().where(col(other.task_id) == col(Backfill.task_id), col(other.state) == "running")
    session.exec(
        update(Backfill)
        .where(col(Backfill.id) == backfill_id, col(Backfill.state).in_(("done", "failed")), ~busy)
        .values(state="running", finished_at=None)
        .execution_options(synchronize_session=False)
    )


def _finish(session: Session, backfill: Backfill, *, now: datetime) -> None:
    """End a backfill of which nothing is left to run: well, where every run did."""
    session.flush()
    found = progress(session, [backfill])[identity(backfill)]
    failed = found.failed + found.cancelled > 0
    backfill.state, backfill.finished_at = "failed" if failed else "done", now
    session.add(backfill)
    said = f"ended: {found.done} done, {found.failed} failed, {found.cancelled} cancelled, {found.skipped} left alone."
    level = "error" if failed else "info"
    _log(session, backfill, now, f"backfill.{backfill.state}", said, level=level)


def _log(session: Session, backfill: Backfill, now: datetime, event: str, said: str, *, level: str = "info") -> None:
    where = f"{backfill.start_at:%Y-%m-%dT%H:%M:%SZ} to {backfill.end_at:%Y-%m-%dT%H:%M:%SZ}"
    message = f"Backfill {backfill.id} of {where} {said}"
    log_event(session, task_id=backfill.task_id, now=now, event=event, message=message, level=level)
