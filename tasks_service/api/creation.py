"""POST /tasks: a task, its first event and, where it is due already, its run, in one transaction.

With an Idempotency-Key the answer is kept in the same transaction (idempotency.py). Queueing a run, which other routes
do too, stands here beside it.
"""

from __future__ import annotations

from datetime import datetime
from typing import Literal

import structlog
from sqlmodel import Session

from tasks_service import schedule
from tasks_service.api import shapes
from tasks_service.api.calls import Call, Reply
from tasks_service.api.clocks import InvalidTriggerError, clock_of
from tasks_service.api.definitions import Definition, Findings, define
from tasks_service.api.idempotency import Keyed, answered_once, remember
from tasks_service.api.saved_segments_use import hold
from tasks_service.api.tags import etag
from tasks_service.app import Services
from tasks_service.database import due, runs, tasks
from tasks_service.database.models import Run, Task
from tasks_service.database.zone_rules import holding
from tasks_service.errors import ConflictError, TooManyRequestsError
from tasks_service.fault_points import fault_point

log = structlog.stdlib.get_logger(__name__)
SHOWN_LOGS = 10


def create_task(call: Call) -> Reply:
    """Store a task, or answer what the same request was answered before."""
    return answered_once(call, "/tasks", lambda keyed: _create(call, keyed))


def _create(call: Call, keyed: Keyed | None) -> Reply:
    document = call.body.document
    chain = document.get("chain")
    if isinstance(chain, int) and not isinstance(chain, bool):
        call.require_chain(chain)
    findings = Findings(call.body.faults)
    with call.services.database.read() as session:
        now = call.services.database.now(session)
    definition = define(call.services, document, findings, chain=chain, now=now)
    with call.services.database.write() as session:
        reply = _store(call, session, definition, keyed)
        fault_point("task.written")
    fault_point("task.committed")
    log.info("task.created", task_id=reply.document["id"], chain=chain)
    return reply


def queue_run(
    services: Services,
    session: Session,
    task: Task,
    *,
    kind: Literal["manual", "retry"],
    occurrence: datetime,
    now: datetime,
    repeats: Run | None = None,
) -> Run:
    """Make a run and wake a worker, in the caller's transaction, which has read the task with `lock=True`.

    Raises TooManyRequestsError where the chain has as many queued runs as it may.
    """
    check_room(services, session, task.chain)
    run = runs.create_run(session, task, kind=kind, occurrence=occurrence, now=now, repeats=repeats)
    if run is None or run.id is None:
        raise ConflictError("The run could not be queued; send the request again.")
    services.executor.offer(session, run.id)
    return run


def settle(services: Services, session: Session, task: Task, *, now: datetime) -> None:
    """Give what is due of a task its outcome, in the transaction that made it due or changes what it is due by."""
    due.settle(
        session,
        task,
        now=now,
        planner=schedule.Planner(schedule.Limits.of(services.settings.scheduler)),
        queued_per_chain=services.settings.limits.queued_per_chain,
        offer=services.executor.offer,
    )


def start_if_due(services: Services, session: Session, task: Task, *, now: datetime) -> None:
    """Give a task that is due by this very request its run; raise TooManyRequestsError where there is no room."""
    if task.next_run_at is None or task.next_run_at > now or task.paused_at is not None:
        return
    check_room(services, session, task.chain)
    settle(services, session, task, now=now)


def check_room(services: Services, session: Session, chain: int) -> None:
    """Raise TooManyRequestsError where the chain has as many queued runs as it may."""
    limit = services.settings.limits.queued_per_chain
    runs.hold_queue(session, chain)
    if runs.queued_count(session, chain) >= limit:
        raise TooManyRequestsError(f"{limit} runs of this chain are queued already; wait for some to end.")


def _store(call: Call, session: Session, definition: Definition, keyed: Keyed | None) -> Reply:
    now = call.services.database.now(session)
    document = call.body.document
    hold(session, definition.trigger, chain=document["chain"])
    held = holding(session, [definition.trigger], now=now)
    task = tasks.create_task(
        session,
        now=now,
        principal=call.principal,
        chain=document["chain"],
        desc=document.get("desc"),
        target=definition.target,
        trigger=definition.trigger,
        next_run_at=schedule.first_occurrence(
            definition.trigger, created_at=now, zone=held.zone_of(definition.trigger)
        ),
    )
    task.zone_rules = held.mark_of(task.trigger)
    start_if_due(call.services, session, task, now=now)
    session.flush()
    answer = shapes.full_task(task, call.principal, None, tasks.events(session, task_id=task.id, limit=SHOWN_LOGS))
    answer["next_run_dates"] = next_run_dates(session, task, now)
    headers = {"Location": f"/tasks/{task.id}", "ETag": etag(task.version, task.revision)}
    reply = Reply(answer, 201, headers)
    if keyed is not None:
        remember(call, session, keyed, reply, task_id=answer["id"], now=now)
    return reply


def next_run_dates(session: Session, task: Task, now: datetime) -> list[str]:
    """Return the next five moments a task will run; none where its trigger cannot be understood any more."""
    if task.next_run_at is None or task.paused_at is not None:
        return []
    try:
        zone = clock_of(session, task.trigger)
    except InvalidTriggerError:  # whoever looks at it when it is due pauses it, and says so
        return []
    return [shapes.moment(one) for one in schedule.next_run_dates(task.trigger, after=now, zone=zone)]
