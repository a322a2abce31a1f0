"""The scheduler's view of tasks.

What is due gets its outcome, a run or a recorded skip, in one short transaction.

What lives here: claiming due tasks so that any number of schedulers may do it at once, and what happens to
an occurrence that comes while its task is busy (the overlap policies) or its chain's queue is full. What
does not: which occurrences there are, and which missed ones are run: a `Planner` says that (schedule.py); the
statements that write what was decided (outcomes.py).
Called by scheduler.py, and by api/ (`settle`) where a task is made or changed.

A task's `next_run_at` is its first occurrence without an outcome. It is advanced in the transaction that
writes the outcomes, while the row is locked and only where it still is what was read: a scheduler that is
killed at any instruction has done all of it or nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Literal, NamedTuple, Protocol
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import func
from sqlalchemy import select as select_columns
from sqlmodel import Session, col, select

from tasks_service.database.clients import standing_of
from tasks_service.database.counting import not_run
from tasks_service.database.journal import Skipped, SkippedRange
from tasks_service.database.models import Client, Run, SegmentVersion, Task
from tasks_service.database.outcomes import DueRun, Outcomes
from tasks_service.database.runs import GOING, Offer, request_cancel, resolved_trigger
from tasks_service.database.segments import newest_versions
from tasks_service.database.statements import among, identity, inlined
from tasks_service.database.tasks import pause_task
from tasks_service.database.zone_rules import Holding, Mover, follow, holding
from tasks_service.fault_points import fault_point

log = structlog.stdlib.get_logger(__name__)

# A transaction that plans for longer than this ends with what it has: others wait for its locks.
_LONGEST_SECONDS = 0.5


class Planned(Protocol):
    """What becomes of a task's due occurrences: each is in `run` or in one of `skips`."""

    @property
    def run(self) -> Sequence[datetime]: ...  # noqa: D102
    @property
    def skips(self) -> Sequence[SkippedRange]: ...  # noqa: D102
    @property
    def next_run_at(self) -> datetime | None: ...  # noqa: D102


class Planner(Mover, Protocol):
    """The rules of time; schedule.Planner has them."""

    def plan(self, trigger: Mapping[str, Any], *, due: datetime, now: datetime, zone: ZoneInfo | None) -> Planned:
        """Decide what becomes of every occurrence from `due` to `now`."""
        ...

    def delay(self, task_id: int, trigger: Mapping[str, Any], occurrence: datetime) -> timedelta:
        """Return how much later than its occurrence a run starts."""
        ...


class _Due(NamedTuple):
    """What is looked at of a task that may be due."""

    id: int
    chain: int
    client_id: str
    trigger: dict[str, Any]
    segment_id: int | None
    zone_rules: str | None
    next_run_at: datetime | None


_LOOKED_AT: list[Any] = [col(getattr(Task, name)) for name in _Due._fields]


@dataclass(frozen=True)
class _Situation:
    """What one transaction decides by; its counts grow with what it decides."""

    now: datetime
    planner: Planner
    cap: int
    segments: Mapping[int, SegmentVersion]
    queued: Counter[int]
    going: Counter[tuple[int, str]]


def earliest_due(session: Session) -> datetime | None:
    """Return when the next task is due, or was; None where none is scheduled."""
    query = (
        select(Task.next_run_at)
        .where(col(Task.next_run_at).is_not(None), col(Task.paused_at).is_(None))
        .order_by(col(Task.next_run_at))
        .limit(1)
    )
    return session.exec(query).first()


def claim_due(
    session: Session,
    *,
    now: datetime,
    batch: int,
    planner: Planner,
    queued_per_chain: int,
    offer: Offer | None = None,
    share: tuple[int, int] = (0, 1),
) -> list[DueRun]:
    """Give up to `batch` due tasks the outcomes of their due occurrences; return the runs that were made.

    Of `share` (number, of) only the chains are looked at whose id leaves that rest: several claim at once, and none
    fills the queue of a chain that another is filling.

    Tasks another scheduler is at are passed over, so fewer than `batch` does not mean that no more are due:
    call until `earliest_due` lies ahead. A task whose client may no longer run, or whose trigger cannot be
    understood (a zone that was removed), is paused with a reason. `offer` is called with each run inside
    the transaction.
    """
    query = (
        select_columns(*_LOOKED_AT)
        .where(col(Task.next_run_at).is_not(None), col(Task.paused_at).is_(None), col(Task.next_run_at) <= now)
        .order_by(col(Task.next_run_at), col(Task.id))
        .limit(batch)
        .with_for_update(key_share=True, skip_locked=True)
    )
    number, of = share
    if of > 1:
        query = query.where(col(Task.chain) % of == number)
    due = [_Due._make(row) for row in session.connection().execute(query).all()]
    return _give_outcomes(session, due, now=now, planner=planner, queued_per_chain=queued_per_chain, offer=offer)


def settle(
    session: Session,
    task: Task,
    *,
    now: datetime,
    planner: Planner,
    queued_per_chain: int,
    offer: Offer | None = None,
) -> list[DueRun]:
    """Give what is due of one task its outcome now: before its trigger is changed or paused, and after it was made.

    The task is one that this transaction made, or read with `lock=True`. Where it is paused or has nothing due, it only
    follows the rules of its zone.
    """
    session.flush()
    follow(session, [task], now=now, mover=planner)
    made: list[DueRun] = []
    # After long downtime a plan decides only a part.
    while task.next_run_at is not None and task.paused_at is None and task.next_run_at <= now:
        due = _Due._make(getattr(task, name) for name in _Due._fields)
        made += _give_outcomes(session, [due], now=now, planner=planner, queued_per_chain=queued_per_chain, offer=offer)
        session.flush()
        session.refresh(task)
    return made


def _give_outcomes(
    session: Session,
    due: Sequence[_Due],
    *,
    now: datetime,
    planner: Planner,
    queued_per_chain: int,
    offer: Offer | None,
) -> list[DueRun]:
    started = monotonic()
    held, due = _followed(session, due, now=now, mover=planner)
    standing = _standing(session, due)
    plans: list[tuple[_Due, Planned]] = []
    for task in due:
        plan = _plan(session, task, standing[task.client_id], now=now, planner=planner, zone=held.zone_of(task.trigger))
        if plan is not None:
            plans.append((task, plan))
        if monotonic() - started > _LONGEST_SECONDS:
            break
    if not plans:
        return []
    fault_point("due.selected")
    situation = _Situation(
        now=now,
        planner=planner,
        cap=queued_per_chain,
        segments=newest_versions(session, [task.segment_id for task, plan in plans if plan.run]),
        queued=_queued(session, {task.chain for task, _ in plans}),
        going=_going(session, [task.id for task, plan in plans if plan.run]),
    )
    outcomes = Outcomes(now)
    for task, plan in plans:
        _decide(session, task, plan, situation, outcomes)
    made = outcomes.write(session)
    if offer is not None:
        for run in made:
            offer(session, run.run_id, at=run.available_at if run.available_at > run.made_at else None)
    fault_point("due.written")
    return made


def _followed(session: Session, due: Sequence[_Due], *, now: datetime, mover: Mover) -> tuple[Holding, Sequence[_Due]]:
    """Bring tasks to the rules of their zones that hold; return those, and the tasks as they are then."""
    held = holding(session, (task.trigger for task in due), now=now)
    outdated = [task.id for task in due if held.mark_of(task.trigger) != task.zone_rules]
    if not outdated:
        return held, due
    query = select(Task).where(col(Task.id).in_(outdated)).execution_options(populate_existing=True)
    tasks = session.exec(query).all()
    follow(session, tasks, now=now, mover=mover)
    moved = {identity(task): task.next_run_at for task in tasks}
    return held, [task._replace(next_run_at=moved.get(task.id, task.next_run_at)) for task in due]


def _standing(session: Session, due: Sequence[_Due]) -> dict[str, str | None]:
    """Return why a client's tasks may not run any more, by client; None where they may."""
    wanted = {task.client_id for task in due}
    if not wanted:
        return {}
    found = session.exec(select(Client).where(col(Client.id).in_(wanted))).all()
    return {client.id: standing_of(client) for client in found}


def _plan(
    session: Session, task: _Due, reason: str | None, *, now: datetime, planner: Planner, zone: ZoneInfo | None
) -> Planned | None:
    """Return the plan of a task that is still due, or pause it where it may not or cannot run any more."""
    if reason is not None:
        note = "Its client was removed." if reason == "client_removed" else "Its client lost the scope tasks:write."
        pause_task(session, session.get_one(Task, task.id), now=now, note=note, reason=reason)
        return None
    if task.next_run_at is None or task.next_run_at > now:
        return None
    try:
        return planner.plan(task.trigger, due=task.next_run_at, now=now, zone=zone)
    except Exception as error:  # noqa: BLE001 -- whatever it was
        # One trigger that cannot be understood must not stop the others, nor be tried for ever.
        log.error("schedule.invalid_trigger", task_id=task.id, error=repr(error))  # noqa: TRY400 -- expected some day
        note = "Its trigger cannot be understood any more (was its time zone removed?); change it and resume."
        pause_task(session, session.get_one(Task, task.id), now=now, note=note, reason="invalid_trigger")
        return None


def _queued(session: Session, chains: set[int]) -> Counter[int]:
    query = (
        select(Run.chain, func.count())
        .where(col(Run.state) == inlined("queued"), col(Run.chain).in_(chains))
        .group_by(col(Run.chain))
    )
    return Counter(dict(session.exec(query).all()))


def _going(session: Session, task_ids: list[int]) -> Counter[tuple[int, str]]:
    """Count the runs of tasks that are queued or running, by (task, state); those of backfills stand apart."""
    connection = session.connection()
    asked = among(connection.dialect, col(Run.task_id), task_ids)
    query = (
        select(Run.task_id, Run.state, func.count())
        .where(asked, col(Run.state).in_([inlined(state) for state in GOING]))
        .where(col(Run.backfill_id).is_(None))
        .group_by(col(Run.task_id), col(Run.state))
    )
    return Counter({(task_id, state): count for task_id, state, count in connection.execute(query)})


def overlap(policy: str, *, running: int, queued: int) -> Literal["run", "skip", "replace"]:
    """Decide what becomes of an occurrence whose task has so many runs running and queued.

    `replace`: the others are cancelled, then it runs.
    """
    if policy in {"allow", "buffer_all"} or running + queued == 0:
        return "run"
    if policy == "cancel_other":
        return "replace"
    if policy == "buffer_one":
        return "skip" if queued else "run"
    return "skip"


def _decide(session: Session, task: _Due, plan: Planned, situation: _Situation, outcomes: Outcomes) -> None:
    """Turn a task's plan into rows: its overlap policy and its chain's queue have the last word."""
    now, going, queued = situation.now, situation.going, situation.queued
    task_id, trigger = task.id, task.trigger
    # A `once` has no policy, and no other occurrence after it: it is run, behind what goes.
    policy = trigger.get("overlap") or ("skip" if "cron" in trigger else "buffer_all")
    resolved = resolved_trigger(trigger, task.segment_id, situation.segments)
    wanted = list(plan.run)
    skipped: list[SkippedRange] = list(plan.skips)
    if policy == "cancel_other":
        # Each would cancel the one before it: only the newest is made at all.
        skipped += [Skipped(one, one, 1, "overlap") for one in wanted[:-1]]
        wanted = wanted[-1:]
    for occurrence in wanted:
        verdict = overlap(policy, running=going[task_id, "running"], queued=going[task_id, "queued"])
        if verdict == "skip":
            skipped.append(Skipped(occurrence, occurrence, 1, "overlap"))
            continue
        freed = going[task_id, "queued"] if verdict == "replace" else 0
        if queued[task.chain] - freed >= situation.cap:
            skipped.append(Skipped(occurrence, occurrence, 1, "queue_full"))
            continue
        if verdict == "replace":  # only now that there is room for what takes their place
            _cancel_others(session, task_id, now=now)
        queued[task.chain] += 1 - freed
        going[task_id, "queued"] += 1
        delay = situation.planner.delay(task_id, trigger, occurrence)
        outcomes.run(
            task_id,
            occurrence,
            available_at=max(now, occurrence + delay),
            serial=trigger.get("overlap") != "allow",
            trigger=resolved,
        )
    for one in _merged(skipped):
        outcomes.skip(task_id, trigger, one)
        not_run(session, task_id, one)
    outcomes.advance(task_id, read=task.next_run_at, following=plan.next_run_at)


def _merged(skipped: Iterable[SkippedRange]) -> list[SkippedRange]:
    """Put neighbours with the same reason together."""
    merged: list[SkippedRange] = []
    for one in skipped:
        last = merged[-1] if merged else None
        if last is not None and last.reason == one.reason and one.reason in {"overlap", "queue_full"}:
            merged[-1] = Skipped(last.first, one.last, last.count + one.count, one.reason)
        else:
            merged.append(one)
    return merged


def _cancel_others(session: Session, task_id: int, *, now: datetime) -> None:
    going = (
        select(Run)
        .where(Run.task_id == task_id, col(Run.state).in_(GOING), col(Run.backfill_id).is_(None))
        .order_by(col(Run.id))
    )
    for run in session.exec(going.execution_options(populate_existing=True)).all():
        request_cancel(session, run, now=now)
