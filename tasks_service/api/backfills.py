"""Backfills over HTTP: making one (or telling what it would run), looking at them, cancelling one.

What lives here: what callers see and ask of backfills. What does not: making their runs little by little
(database/backfills.py, for the scheduler). Which occurrences a range has is worked out before the writing transaction,
against the task as it stands, and again where the task was edited meanwhile.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import structlog
from sqlmodel import Session

from tasks_service import schedule
from tasks_service.api import shapes
from tasks_service.api.calls import Call, Reply
from tasks_service.api.clocks import clock_of
from tasks_service.api.creation import check_room, settle
from tasks_service.api.cursors import Pages
from tasks_service.api.execution import RETRY_AFTER_SECONDS
from tasks_service.api.idempotency import Keyed, answered_once, remember
from tasks_service.api.moments import read_moment
from tasks_service.api.tasks import find_task
from tasks_service.backfill_schemas import BackfillCreate
from tasks_service.database import backfills, shown, tasks
from tasks_service.database.models import Backfill, Task
from tasks_service.database.statements import identity
from tasks_service.errors import ConflictError, Fault, InvalidRequestError, NotFoundError
from tasks_service.schemas import PageQuery

log = structlog.stdlib.get_logger(__name__)
_NO_BACKFILL = "There is no backfill with this id."
_EARLIEST = datetime(1970, 1, 1, tzinfo=UTC)
_EDITS = 5
_SHOWN = 100


class NoScheduleError(ConflictError):
    """The task runs once and has no schedule to go back over; execute it, or repeat its run."""

    code = "no_schedule"


class BackfillGoingError(ConflictError):
    """A backfill of this task is running; wait for its end, or cancel it."""

    code = "backfill_running"


class BackfillEndedError(ConflictError):
    """The backfill has ended already."""

    code = "backfill_ended"


class EditedError(ConflictError):
    """The task is being edited; send the request again."""


@dataclass(frozen=True)
class _Range:
    """The occurrences a request asks for, by the task's trigger as `version` had it."""

    version: int
    start: datetime
    end: datetime
    occurrences: list[datetime]


def create_backfill(call: Call) -> Reply:
    """Store a backfill, whose runs are made as there is room, or tell what it would run."""
    if call.content(BackfillCreate).dry_run:
        return _preview(call)
    return answered_once(call, f"/tasks/{call.path['task_id']}/backfill", lambda keyed: _create(call, keyed))


def list_backfills(call: Call) -> Reply:
    """Answer a page of a task's backfills, newest first."""
    query, task_id = call.query(PageQuery), int(call.path["task_id"])
    pages = Pages(call.services.secret_key, f"/tasks/{task_id}/backfills", {}, call.principal.client_id)
    position = pages.position(query.cursor)
    with call.services.database.read() as session:
        find_task(call, session, deleted=True)
        rows, more = backfills.list_backfills(
            session, task_id, limit=query.limit, after=position.after, direction=position.direction
        )
        results = _documents(session, rows)
    base = call.services.settings.service.public_url
    links = pages.links([one.id or 0 for one in rows], position, more=more, limit=query.limit, base=base)
    return Reply({"results": results, **links})


def get_backfill(call: Call) -> Reply:
    """Answer a backfill with where its occurrences are."""
    with call.services.database.read() as session:
        backfill, _ = _find(call, session)
        [document] = _documents(session, [backfill])
    return Reply(document)


def cancel_backfill(call: Call) -> Reply:
    """Cancel a backfill: what has no run is given up, what is queued is cancelled, what runs is within a heartbeat."""
    database = call.services.database
    with database.write() as session:
        backfill, task = _find(call, session, lock=True)
        if backfill.state != "running":
            raise BackfillEndedError(f"The backfill has ended already: it is {backfill.state}.")
        backfills.cancel_backfill(session, task, backfill, now=database.now(session))
        session.flush()
        [document] = _documents(session, [backfill])
    log.info("backfill.cancelled", backfill_id=backfill.id)
    if document["progress"]["running"] == 0:
        return Reply(document)
    return Reply(document, 202, {"Location": f"/backfills/{backfill.id}", "Retry-After": str(RETRY_AFTER_SECONDS)})


def _find(call: Call, session: Session, *, lock: bool = False) -> tuple[Backfill, Task]:
    """Return the backfill the path names and its task; raise NotFoundError for another chain's or a deleted task's."""
    chain = call.principal.chain
    backfill = backfills.get_backfill(session, call.path["backfill_id"], chain=chain)
    if backfill is None:
        raise NotFoundError(_NO_BACKFILL)
    task = tasks.get_task(session, backfill.task_id, chain=chain, deleted=chain is None, lock=lock)
    if lock:  # it may have ended while its task was waited for
        backfill = backfills.get_backfill(session, call.path["backfill_id"], chain=chain)
    if task is None or backfill is None:
        raise NotFoundError(_NO_BACKFILL)
    return backfill, task


def _preview(call: Call) -> Reply:
    asked = _asked(call)
    body = call.content(BackfillCreate)
    with call.services.database.read() as session:
        wanted = _wanted(session, call.path["task_id"], asked, body)
    document: dict[str, Any] = {
        "task": call.path["task_id"],
        "start": shapes.moment(asked.start),
        "end": shapes.moment(asked.end),
        "reprocess": body.reprocess,
        "concurrency": body.concurrency,
        "total": len(asked.occurrences),
        "skipped": len(asked.occurrences) - len(wanted),
        "to_run": len(wanted),
        "first": shapes.moment(wanted[0]) if wanted else None,
        "last": shapes.moment(wanted[-1]) if wanted else None,
        "occurrences": [shapes.moment(one) for one in wanted[:_SHOWN]],
    }
    return Reply(document)


def _create(call: Call, keyed: Keyed | None) -> Reply:
    for _ in range(_EDITS):
        asked = _asked(call)
        with call.services.database.write() as session:
            task = find_task(call, session, lock=True)
            if task.version == asked.version:
                return _store(call, session, task, asked, keyed)
    raise EditedError


def _store(call: Call, session: Session, task: Task, asked: _Range, keyed: Keyed | None) -> Reply:
    body, services = call.content(BackfillCreate), call.services
    task_id, now = identity(task), services.database.now(session)
    if (running := backfills.running_backfill(session, task_id)) is not None:
        raise BackfillGoingError(f"Backfill {running.id} of this task is running; wait for its end, or cancel it.")
    check_room(services, session, task.chain)
    # What is due gets its own outcome first: a backfill is not to take it for one that nobody ran.
    settle(services, session, task, now=now)
    wanted = _wanted(session, task_id, asked, body)
    backfill = backfills.create_backfill(
        session,
        task,
        now=now,
        client_id=call.principal.client_id,
        order=backfills.BackfillOrder(
            start=asked.start,
            end=asked.end,
            reprocess=body.reprocess,
            concurrency=body.concurrency,
            wanted=wanted,
            skipped=len(asked.occurrences) - len(wanted),
        ),
    )
    limits = services.settings.limits
    backfills.advance(
        session,
        identity(backfill),
        now=now,
        running_per_chain=limits.running_per_chain,
        queued_per_chain=limits.queued_per_chain,
        offer=services.executor.offer,
    )
    session.flush()
    [document] = _documents(session, [backfill])
    reply = Reply(document, 201, {"Location": f"/backfills/{backfill.id}"})
    if keyed is not None:
        remember(call, session, keyed, reply, task_id=task_id, now=now)
    log.info("backfill.created", backfill_id=backfill.id, task_id=task_id, occurrences=len(wanted))
    return reply


def _wanted(session: Session, task_id: int, asked: _Range, body: BackfillCreate) -> list[datetime]:
    kept = backfills.left_alone(session, task_id, asked.occurrences, reprocess=body.reprocess)
    return [one for one in asked.occurrences if one not in kept]


def _asked(call: Call) -> _Range:
    """Return the occurrences a request asks for; raise InvalidRequestError with every fault of it."""
    body, limits = call.content(BackfillCreate), call.services.settings.limits
    with call.services.database.read() as session:
        task = find_task(call, session)
        now = call.services.database.now(session)
        if "cron" not in task.trigger:
            raise NoScheduleError
        zone = clock_of(session, task.trigger)
    faults: list[Fault] = []
    if body.concurrency > limits.running_per_chain:
        detail = (
            f"At most {limits.running_per_chain} runs of a chain go at a time; give {limits.running_per_chain} or less."
        )
        faults.append(Fault("/concurrency", "out_of_range", detail))
    start, end = _ends(body, zone, now, faults)
    if faults or start is None or end is None:
        raise InvalidRequestError(faults=faults)
    most = limits.backfill_occurrences
    found, following = schedule.occurrences_between(task.trigger, start=start, end=end, most=most, zone=zone)
    if following is not None:
        until = shapes.moment(following)
        detail = (
            f"The range has more than {most} occurrences; end it at {until}, and go on from there once that has ended."
        )
        raise InvalidRequestError(faults=[Fault("/end", "too_many", detail)])
    if not found:
        detail = "The schedule has no occurrence from `start` to before `end`; choose another range."
        raise InvalidRequestError(faults=[Fault("", "no_occurrence", detail)])
    return _Range(task.version, start, end, found)


def _ends(
    body: BackfillCreate, zone: ZoneInfo, now: datetime, faults: list[Fault]
) -> tuple[datetime | None, datetime | None]:
    ends: list[datetime | None] = []
    for pointer, text in (("/start", body.start), ("/end", body.end)):
        moment = read_moment(text, pointer, zone)
        if isinstance(moment, Fault):
            faults.append(moment)
        elif moment < _EARLIEST:
            faults.append(Fault(pointer, "out_of_range", "Name a moment of 1970 or later."))
        ends.append(moment if isinstance(moment, datetime) else None)
    start, end = ends
    if end is not None and end > now:
        detail = (
            f"A backfill is about the past: end it at {shapes.moment(now)} or before; what comes, the schedule runs."
        )
        faults.append(Fault("/end", "out_of_range", detail))
    if start is not None and end is not None and start >= end:
        faults.append(Fault("", "clash", "`start` must lie before `end`."))
    return start, end


def _documents(session: Session, rows: Sequence[Backfill]) -> list[dict[str, Any]]:
    progress = backfills.progress(session, rows)
    authors = shown.clients_by_id(session, (one.client_id for one in rows))
    return [shapes.backfill(one, progress[identity(one)], authors.get(one.client_id)) for one in rows]
