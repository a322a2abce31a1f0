"""The scheduler's view of tasks.

What is due gets its outcome, a run or a recorded skip, in one short transaction.

What lives here: claiming due tasks so that any number of schedulers may do it at once, and what happens to
an occurrence that comes while its task is busy (the overlap policies) or its chain's queue is full. What
does not: which occurrences there are, and which missed ones are run: a `Planner` says that (schedule.py).
Called by scheduler.py, and by api/ (`settle`) where a task is made or changed.

A task's `next_run_at` is its first occurrence without an outcome. It is advanced in the transaction that
writes the outcomes, while the row is locked and only where it still is what was read: a scheduler that is
killed at any instruction has done all of it or nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from time import monotonic
from typing import Any, Literal, Protocol
from zoneinfo import ZoneInfo

import structlog
from sqlalchemy import ColumnElement, Integer, String, bindparam, func, insert, literal_column, update
from sqlmodel import Session, col, select

from tasks_service.database.clients import standing_of
from tasks_service.database.counting import not_run, runs_fired
from tasks_service.database.journal import Skipped, SkippedRange, skip_message, skip_row
from tasks_service.database.models import Client, Event, Instant, Run, SegmentVersion, Skip, Task
from tasks_service.database.runs import GOING, UNTOUCHED, definition_of, request_cancel
from tasks_service.database.segments import newest_versions
from tasks_service.database.statements import identity, insert_unless_there
from tasks_service.database.tasks import pause_task
from tasks_service.database.zone_rules import Mover, follow
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


@dataclass(frozen=True)
class DueRun:
    """A run that was made because its occurrence was due."""

    run_id: int
    task_id: int
    chain: int
    occurrence: datetime
    made_at: datetime


@dataclass
class _Outcomes:
    """Rows to be written at the end of a transaction."""

    runs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    skips: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    advances: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def skip(self, task: Task, skipped: SkippedRange, now: datetime) -> None:
        self.skips.append(skip_row(task, skipped, now=now))
        self.log(identity(task), now, "occurrence.skipped", skip_message(skipped), level="warning")

    def log(self, task_id: int, now: datetime, event: str, message: str, *, level: str = "info") -> None:
        self.events.append(
            {"task_id": task_id, "run_id": None, "time": now, "level": level, "event": event, "message": message}
        )


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
    offer: Callable[[Session, int], None] | None = None,
) -> list[DueRun]:
    """Give up to `batch` due tasks the outcomes of their due occurrences; return the runs that were made.

    Tasks another scheduler is at are passed over, so fewer than `batch` does not mean that no more are due:
    call until `earliest_due` lies ahead. A task whose client may no longer run, or whose trigger cannot be
    understood (a zone that was removed), is paused with a reason. `offer` is called with each run inside
    the transaction.
    """
    query = (
        select(Task)
        .where(col(Task.next_run_at).is_not(None), col(Task.paused_at).is_(None), col(Task.next_run_at) <= now)
        .order_by(col(Task.next_run_at), col(Task.id))
        .limit(batch)
        .with_for_update(key_share=True, skip_locked=True)
    )
    found = session.exec(query).all()
    # Not joined: a client comes once, not with each of its tasks.
    wanted = select(Client).where(col(Client.id).in_({task.client_id for task in found}))
    clients = {client.id: client for client in session.exec(wanted).all()} if found else {}
    due = [(task, clients[task.client_id]) for task in found]
    return _give_outcomes(session, due, now=now, planner=planner, queued_per_chain=queued_per_chain, offer=offer)


def settle(
    session: Session,
    task: Task,
    *,
    now: datetime,
    planner: Planner,
    queued_per_chain: int,
    offer: Callable[[Session, int], None] | None = None,
) -> list[DueRun]:
    """Give what is due of one task its outcome now: before its trigger is changed or paused, and after it was made.

    The task is one that this transaction made, or read with `lock=True`. Where it is paused or has nothing due, it only
    follows the rules of its zone.
    """
    session.flush()
    follow(session, [task], now=now, mover=planner)
    made: list[DueRun] = []
    client = session.get_one(Client, task.client_id)
    # After long downtime a plan decides only a part.
    while task.next_run_at is not None and task.paused_at is None and task.next_run_at <= now:
        made += _give_outcomes(
            session, [(task, client)], now=now, planner=planner, queued_per_chain=queued_per_chain, offer=offer
        )
        session.flush()
        session.refresh(task)
    return made


def _give_outcomes(
    session: Session,
    due: Sequence[tuple[Task, Client]],
    *,
    now: datetime,
    planner: Planner,
    queued_per_chain: int,
    offer: Callable[[Session, int], None] | None,
) -> list[DueRun]:
    started = monotonic()
    plans: list[tuple[Task, Planned]] = []
    held = follow(session, [task for task, _ in due], now=now, mover=planner)
    for task, client in due:
        plan = _plan(session, task, client, now=now, planner=planner, zone=held.zone_of(task.trigger))
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
        going=_going(session, [identity(task) for task, plan in plans if plan.run]),
    )
    outcomes = _Outcomes()
    for task, plan in plans:
        _decide(session, task, plan, situation, outcomes)
    made = _write(session, outcomes)
    if offer is not None:
        for run in made:
            offer(session, run.run_id)
    fault_point("due.written")
    return made


def _plan(
    session: Session, task: Task, client: Client, *, now: datetime, planner: Planner, zone: ZoneInfo | None
) -> Planned | None:
    """Return the plan of a task that is still due, or pause it where it may not or cannot run any more."""
    reason = standing_of(client)
    if reason is not None:
        note = "Its client was removed." if reason == "client_removed" else "Its client lost the scope tasks:write."
        pause_task(session, task, now=now, note=note, reason=reason)
        return None
    if task.next_run_at is None or task.next_run_at > now:
        return None
    try:
        return planner.plan(task.trigger, due=task.next_run_at, now=now, zone=zone)
    except Exception as error:  # noqa: BLE001 -- whatever it was
        # One trigger that cannot be understood must not stop the others, nor be tried for ever.
        log.error("schedule.invalid_trigger", task_id=task.id, error=repr(error))  # noqa: TRY400 -- expected some day
        note = "Its trigger cannot be understood any more (was its time zone removed?); change it and resume."
        pause_task(session, task, now=now, note=note, reason="invalid_trigger")
        return None


def _queued(session: Session, chains: set[int]) -> Counter[int]:
    query = (
        select(Run.chain, func.count())
        .where(col(Run.state) == _literal("queued"), col(Run.chain).in_(chains))
        .group_by(col(Run.chain))
    )
    return Counter(dict(session.exec(query).all()))


def _going(session: Session, task_ids: list[int]) -> Counter[tuple[int, str]]:
    """Count the runs of tasks that are queued or running, by (task, state); those of backfills stand apart."""
    query = (
        select(Run.task_id, Run.state, func.count())
        .where(col(Run.task_id).in_(task_ids), col(Run.state).in_([_literal(state) for state in GOING]))
        .where(col(Run.backfill_id).is_(None))
        .group_by(col(Run.task_id), col(Run.state))
    )
    return Counter({(task_id, state): count for task_id, state, count in session.exec(query).all()})


def _literal(value: str) -> ColumnElement[str]:
    """Return a value that is written into the statement: only so may SQLite use a partial index."""
    return literal_column(f"'{value}'", String)


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


def _decide(session: Session, task: Task, plan: Planned, situation: _Situation, outcomes: _Outcomes) -> None:
    """Turn a task's plan into rows: its overlap policy and its chain's queue have the last word."""
    now, going, queued = situation.now, situation.going, situation.queued
    task_id = identity(task)
    # A `once` has no policy, and no other occurrence after it: it is run, behind what goes.
    policy = task.trigger.get("overlap") or ("skip" if "cron" in task.trigger else "buffer_all")
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
        delay = situation.planner.delay(task_id, task.trigger, occurrence)
        outcomes.runs.append(_run_row(task, occurrence, situation, available_at=max(now, occurrence + delay)))
    for one in _merged(skipped):
        outcomes.skip(task, one, now)
        not_run(session, task_id, one)
    outcomes.advances.append({"b_id": task_id, "b_read": task.next_run_at, "b_next": plan.next_run_at})


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


def _run_row(task: Task, occurrence: datetime, situation: _Situation, *, available_at: datetime) -> dict[str, Any]:
    return {
        "task_id": task.id,
        "chain": task.chain,
        "occurrence": occurrence,
        "task_version": task.version,
        "definition": definition_of(task, situation.segments),
        "serial": task.trigger.get("overlap") != "allow",
        "created_at": situation.now,
        "available_at": available_at,
    }


# Written into the statement: what is the same for every run need not be a parameter of each, 500 times over.
_SAME = {
    "kind": _literal("schedule"),
    "state": _literal("queued"),
    **{name: literal_column(str(value), Integer) for name, value in UNTOUCHED.items()},
}


def _cancel_others(session: Session, task_id: int, *, now: datetime) -> None:
    going = (
        select(Run)
        .where(Run.task_id == task_id, col(Run.state).in_(GOING), col(Run.backfill_id).is_(None))
        .order_by(col(Run.id))
    )
    for run in session.exec(going.execution_options(populate_existing=True)).all():
        request_cancel(session, run, now=now)


def _write(session: Session, outcomes: _Outcomes) -> list[DueRun]:
    """Write the rows of many tasks, one statement a table."""
    session.flush()
    connection = session.connection()
    made: list[DueRun] = []
    if outcomes.runs:
        statement = insert_unless_there(connection.dialect, Run).values(_SAME).on_conflict_do_nothing()
        found = connection.execute(
            statement.returning(
                col(Run.id), col(Run.task_id), col(Run.chain), col(Run.occurrence), col(Run.created_at)
            ),
            outcomes.runs,
        )
        made = sorted((DueRun(*row) for row in found.all()), key=lambda run: run.run_id)
        runs_fired(session, [(run.made_at - run.occurrence).total_seconds() for run in made])
    if outcomes.skips:
        connection.execute(insert_unless_there(connection.dialect, Skip).on_conflict_do_nothing(), outcomes.skips)
    if outcomes.events:
        connection.execute(insert(Event), outcomes.events)
    fault_point("due.inserted")
    connection.execute(
        update(Task)
        .where(col(Task.id) == bindparam("b_id"), col(Task.next_run_at) == bindparam("b_read", type_=Instant()))
        .values(next_run_at=bindparam("b_next", type_=Instant()), revision=col(Task.revision) + 1),
        outcomes.advances,
    )
    return made
