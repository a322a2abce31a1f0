"""POST /tasks: a task, its first event and, where it is due already, its run, in one transaction.

With an Idempotency-Key the answer is kept in the same transaction, so that whoever asks again, however often and from
however many threads, gets the first answer and makes no second task.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

import structlog
from sqlmodel import Session

from tasks_service import schedule
from tasks_service.api import shapes
from tasks_service.api.calls import Call, Reply
from tasks_service.api.definitions import Definition, Findings, define
from tasks_service.api.problems import InvalidParametersError
from tasks_service.api.saved_segments_use import hold
from tasks_service.api.tags import etag, idempotency_key
from tasks_service.app import Services
from tasks_service.database import due, runs, tasks
from tasks_service.database.models import IdempotencyKey, Run, Task
from tasks_service.errors import ConflictError, Fault, TooManyRequestsError

log = structlog.stdlib.get_logger(__name__)
SHOWN_LOGS = 10


@dataclass(frozen=True)
class _Keyed:
    """A request that names itself."""

    key: str
    fingerprint: str


class _SecondError(Exception):
    """Another request under the same key was first."""


def create_task(call: Call) -> Reply:
    """Store a task, or answer what the same request was answered before."""
    keyed = _keyed(call)
    if keyed is not None and (reply := _recalled(call, keyed)) is not None:
        return reply
    document = call.body.document
    chain = document.get("chain")
    if isinstance(chain, int) and not isinstance(chain, bool):
        call.require_chain(chain)
    findings = Findings(call.body.faults)
    with call.services.database.read() as session:
        now = call.services.database.now(session)
    definition = define(call.services, document, findings, chain=chain, now=now)
    try:
        with call.services.database.write() as session:
            reply = _store(call, session, definition, keyed)
    except _SecondError:
        if keyed is None or (recalled := _recalled(call, keyed)) is None:
            raise
        return recalled
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
    _check_room(services, session, task.chain)
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
    _check_room(services, session, task.chain)
    settle(services, session, task, now=now)


def _check_room(services: Services, session: Session, chain: int) -> None:
    limit = services.settings.limits.queued_per_chain
    if runs.queued_count(session, chain) >= limit:
        raise TooManyRequestsError(f"{limit} runs of this chain are queued already; wait for some to end.")


def _store(call: Call, session: Session, definition: Definition, keyed: _Keyed | None) -> Reply:
    now = call.services.database.now(session)
    document = call.body.document
    hold(session, definition.trigger, chain=document["chain"])
    task = tasks.create_task(
        session,
        now=now,
        principal=call.principal,
        chain=document["chain"],
        desc=document.get("desc"),
        target=definition.target,
        trigger=definition.trigger,
        next_run_at=schedule.first_occurrence(definition.trigger, created_at=now),
    )
    start_if_due(call.services, session, task, now=now)
    session.flush()
    answer = shapes.full_task(task, call.principal, None, tasks.events(session, task_id=task.id, limit=SHOWN_LOGS))
    answer["next_run_dates"] = next_run_dates(task, now)
    tag = etag(task.version, task.revision)
    if keyed is not None and not tasks.remember_answer(
        session,
        now=now,
        client_id=call.principal.client_id,
        key=keyed.key,
        fingerprint=keyed.fingerprint,
        task_id=answer["id"],
        answer={"task": answer, "etag": tag},
    ):
        raise _SecondError
    return Reply(answer, 201, {"Location": f"/tasks/{task.id}", "ETag": tag})


def next_run_dates(task: Task, now: datetime) -> list[str]:
    """Return the next five moments a task will run."""
    if task.next_run_at is None or task.paused_at is not None:
        return []
    return [shapes.moment(one) for one in schedule.next_run_dates(task.trigger, after=now)]


def _keyed(call: Call) -> _Keyed | None:
    key = idempotency_key(call.headers.get("Idempotency-Key"))
    if key is None:
        return None
    canonical = json.dumps(call.body.document, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return _Keyed(key, hashlib.sha256(canonical.encode()).hexdigest())


def _recalled(call: Call, keyed: _Keyed) -> Reply | None:
    with call.services.database.read() as session:
        first: IdempotencyKey | None = tasks.recall_answer(session, call.principal.client_id, keyed.key)
    if first is None:
        return None
    if first.fingerprint != keyed.fingerprint:
        detail = "This key came with another body before; use a new key for a new task."
        raise InvalidParametersError(faults=[Fault("Idempotency-Key", "key_reused", detail)])
    answer: dict[str, Any] = first.answer
    headers = {"Location": f"/tasks/{first.task_id}", "ETag": answer["etag"], "Idempotent-Replayed": "true"}
    return Reply(answer["task"], 201, headers)
