"""Reading and changing tasks: list, get, edit, delete, pause, resume.

Creating one is creation.py, running one now is execution.py, its file is downloads.py; the declarations of all of them
are task_routes.py. Every change is one short transaction that holds the task's row from its first look.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

import structlog
from sqlmodel import Session

from tasks_service import schedule
from tasks_service.api import shapes
from tasks_service.api.bodies import nearest, shown
from tasks_service.api.calls import Call, Reply
from tasks_service.api.clocks import clock_of
from tasks_service.api.creation import SHOWN_LOGS, next_run_dates, settle, start_if_due
from tasks_service.api.cursors import Pages
from tasks_service.api.definitions import Definition, Findings, define, redefine
from tasks_service.api.moments import read_bound
from tasks_service.api.problems import InvalidParametersError
from tasks_service.api.saved_segments_use import hold
from tasks_service.api.tags import etag, matches_none, matches_version
from tasks_service.artifacts.leavings import delete_result
from tasks_service.database import leftovers, tasks
from tasks_service.database import shown as lookups
from tasks_service.database.clients import Principal
from tasks_service.database.models import Client, Run, Task
from tasks_service.database.zone_rules import holding
from tasks_service.errors import (
    ConflictError,
    Fault,
    InvalidRequestError,
    NotFoundError,
    PreconditionFailedError,
    ServiceError,
)
from tasks_service.schemas import LogQuery, Note, TaskListQuery

log = structlog.stdlib.get_logger(__name__)

_EDITS = 5
_FILES_AT_ONCE = 100
_NO_TASK = "There is no task with this id."


class AlreadyRanError(ConflictError):
    """The task's one moment has passed; create a new task, or execute this one again."""

    code = "already_ran"


def find_task(call: Call, session: Session, *, lock: bool = False, deleted: bool = False) -> Task:
    """Return the task the path names, or raise NotFoundError, the same for another chain's as for none at all."""
    chain = call.principal.chain
    # The history of what was deleted is for operators.
    shown_too = deleted and chain is None
    task = tasks.get_task(session, call.path["task_id"], chain=chain, deleted=shown_too, lock=lock)
    if task is None:
        raise NotFoundError(_NO_TASK)
    return task


def list_tasks(call: Call) -> Reply:
    """Answer a page of tasks, newest first."""
    query = call.query(TaskListQuery)
    chain = query.chain if query.chain is not None else call.principal.chain
    if chain is not None:
        call.require_chain(chain)
    given = query.model_dump(exclude={"limit", "cursor"})
    filters = _filters(call, query, chain)
    services = call.services
    pages = Pages(services.secret_key, "/tasks", given, call.principal.client_id)
    position = pages.position(query.cursor)
    with services.database.read() as session:
        rows, more = tasks.list_tasks(
            session, filters, limit=query.limit, after=position.after, direction=position.direction
        )
        authors = lookups.clients_by_id(session, (task.client_id for task in rows))
        results = lookups.runs_by_id(session, (task.result_run_id for task in rows if task.state == "DONE"))
    document = {
        "results": [
            shapes.listed_task(task, authors.get(task.client_id), results.get(task.result_run_id or 0)) for task in rows
        ],
        **pages.links(
            [task.id or 0 for task in rows],
            position,
            more=more,
            limit=query.limit,
            base=services.settings.service.public_url,
        ),
    }
    return Reply(document)


def get_task(call: Call) -> Reply:
    """Answer a task with its newest log entries, or 304 where the caller has this state of it already."""
    query = call.query(LogQuery)
    with call.services.database.read() as session:
        task = find_task(call, session, deleted=True)
        tag = etag(task.version, task.revision)
        if matches_none(call.headers.get("If-None-Match"), tag):
            return Reply(status=304, headers={"ETag": tag})
        document = task_document(call, session, task, limit=query.log_limit, offset=query.offset)
    return Reply(document, headers={"ETag": tag, "Cache-Control": "private, no-cache"})


def task_document(
    call: Call, session: Session, task: Task, *, limit: int = SHOWN_LOGS, offset: int = 0
) -> dict[str, Any]:
    """Return a task as the contract shows it."""
    author: Client | Principal | None = call.principal
    if task.client_id != call.principal.client_id:  # most tasks are read by the client that made them
        author = lookups.clients_by_id(session, [task.client_id]).get(task.client_id)
    result: Run | None = None
    if task.state == "DONE" and task.result_run_id is not None:
        result = lookups.runs_by_id(session, [task.result_run_id]).get(task.result_run_id)
    events = tasks.events(session, task_id=task.id, limit=limit, offset=offset)
    return shapes.full_task(task, author, result, events)


def edit_task(call: Call) -> Reply:
    """Change desc, target or trigger of a task; runs that exist keep what they were made with."""
    if not call.body.document:
        detail = "Give at least one of `desc`, `target` and `trigger`."
        raise InvalidRequestError(faults=[Fault("", "empty", detail)])
    for _ in range(_EDITS):
        plan = _plan_edit(call)
        with call.services.database.write() as session:
            if (reply := _apply_edit(call, session, plan)) is not None:
                return reply
    raise PreconditionFailedError


@dataclass(frozen=True)
class _Edit:
    """A checked edit, and the version it was checked against."""

    version: int
    definition: Definition


def _plan_edit(call: Call) -> _Edit:
    """Check an edit against the task as it stands, outside of any writing transaction: a catalogue may be read."""
    with call.services.database.read() as session:
        task = find_task(call, session)
        now = call.services.database.now(session)
        _check_editable(call, task)
        # A segment that stays is judged in the zone that stays.
        stays = "target" in call.body.document and "trigger" not in call.body.document
        zone = clock_of(session, task.trigger) if stays else None
    return _Edit(task.version, _defined(call, task, now, zone))


def _defined(call: Call, task: Task, now: datetime, zone: ZoneInfo | None) -> Definition:
    """Return what the task would be defined as, the parts that are given checked together with those that stay."""
    body, findings = call.body.document, Findings(call.body.faults)
    stored = Definition(task.target, task.trigger)
    if not body.keys() & {"target", "trigger"}:
        findings.raise_if_any()
        return stored
    try:
        if zone is not None and isinstance(body["target"], dict):
            target = cast("dict[str, Any]", body["target"])
            return redefine(call.services, target, task.trigger, findings, chain=task.chain, now=now, zone=zone)
        merged = {"target": task.target} | {name: body[name] for name in ("target", "trigger") if name in body}
        return define(call.services, merged, findings, chain=task.chain, now=now)
    except InvalidRequestError as error:
        raise InvalidRequestError(faults=[_in_body(fault, body) for fault in error.faults]) from error


def _in_body(fault: Fault, body: Mapping[str, Any]) -> Fault:
    """Name the member of the body that brought a fault about: a stored part cannot be pointed at in it."""
    part = fault.pointer.split("/")[1] if fault.pointer else ""
    other = {"target": "trigger", "trigger": "target"}.get(part)
    if part in body or other is None or other not in body:
        return fault
    detail = f"It does not go with the task's {part}, {fault.pointer}: {fault.detail} Send `{part}` too."
    pointer = "/target/export_index" if other == "target" else "/trigger"
    return Fault(pointer, "clash", detail)


def _check_editable(call: Call, task: Task) -> None:
    if not matches_version(call.headers.get("If-Match"), task.version):
        raise PreconditionFailedError
    if "once" in task.trigger and task.next_run_at is None:
        raise AlreadyRanError


def _apply_edit(call: Call, session: Session, edit: _Edit) -> Reply | None:
    """Write a checked edit, or return None where the task was edited since it was checked."""
    task = find_task(call, session, lock=True)
    _check_editable(call, task)
    if task.version != edit.version:
        return None
    now = call.services.database.now(session)
    body = call.body.document
    changes: dict[str, Any] = {}
    mark: str | None = None
    if "desc" in body:
        changes["desc"] = body["desc"]
    if "target" in body:
        changes["target"] = edit.definition.target
    if "trigger" in body:
        hold(session, edit.definition.trigger, chain=task.chain)
        settle(call.services, session, task, now=now)
        trigger = edit.definition.trigger
        held = holding(session, [task.trigger, trigger], now=now)
        if task.paused_at is not None:
            old = held.zone_of(task.trigger)
            changes["skips"] = schedule.passed(task.trigger, due=task.next_run_at, now=now, zone=old)
        changes["trigger"], mark = trigger, held.mark_of(trigger)
        changes["next_run_at"] = schedule.first_occurrence(trigger, created_at=now, zone=held.zone_of(trigger))
    tasks.edit_task(session, task, now=now, **changes)
    if mark is not None:
        task.zone_rules = mark
    start_if_due(call.services, session, task, now=now)
    return _changed(call, session, task, now)


def delete_task(call: Call) -> Reply:
    """Delete a task: what runs is cancelled, its schedule and its files go."""
    database = call.services.database
    with database.write() as session:
        task = find_task(call, session, lock=True)
        if not matches_version(call.headers.get("If-Match"), task.version):
            raise PreconditionFailedError
        now = database.now(session)
        reason = "deleted" if task.paused_at is None else "paused"
        zone = holding(session, [task.trigger], now=now).zone_of(task.trigger)
        undecided = schedule.passed(task.trigger, due=task.next_run_at, now=now, reason=reason, zone=zone)
        tasks.delete_task(session, task, now=now, skips=undecided)
    _delete_files(call)
    log.info("task.deleted", task_id=call.path["task_id"])
    return Reply(status=204)


def pause_task(call: Call) -> Reply:
    """Stop a task's schedule until it is resumed."""
    database = call.services.database
    with database.write() as session:
        task, now = find_task(call, session, lock=True), database.now(session)
        if task.paused_at is None:
            settle(call.services, session, task, now=now)
        if task.paused_at is None:  # settling it may have found that it may not or cannot run
            tasks.pause_task(session, task, now=now, note=call.content(Note).note)
        return _changed(call, session, task, now)


def resume_task(call: Call) -> Reply:
    """Let a task's schedule go on; what passed meanwhile is recorded as skipped."""
    database = call.services.database
    with database.write() as session:
        task, now = find_task(call, session, lock=True), database.now(session)
        if task.paused_at is not None:
            zone = clock_of(session, task.trigger)
            settle(call.services, session, task, now=now)  # nothing is due: it follows the rules of its zone
            resumed = schedule.resume(task.trigger, due=task.next_run_at, now=now, zone=zone)
            tasks.resume_task(
                session,
                task,
                now=now,
                next_run_at=resumed.next_run_at,
                skips=resumed.skips,
                note=call.content(Note).note,
            )
            start_if_due(call.services, session, task, now=now)
        return _changed(call, session, task, now)


def _changed(call: Call, session: Session, task: Task, now: datetime) -> Reply:
    """Answer a task as it is after a change that is being made."""
    session.flush()
    session.refresh(task)
    document = task_document(call, session, task) | {"next_run_dates": next_run_dates(session, task, now)}
    return Reply(document, headers={"ETag": etag(task.version, task.revision)})


def _delete_files(call: Call) -> None:
    """Delete a deleted task's files at once, as far as the storage answers; the sweeper has the rest."""
    services = call.services
    try:
        with services.database.read() as session:
            files = lookups.files_of(session, call.path["task_id"], limit=_FILES_AT_ONCE)
        for run in files:
            if run.artifact is None or run.id is None:
                continue
            delete_result(services.storage, run.artifact)
            with services.database.write() as session:
                leftovers.mark_file_deleted(session, run.id, now=services.database.now(session))
    except ServiceError as error:
        log.warning("task.files_left", task_id=call.path["task_id"], code=error.code)


def _filters(call: Call, query: TaskListQuery, chain: int | None) -> tasks.TaskFilters:
    """Return the filters of a list as the database takes them; raise InvalidParametersError with every fault."""
    faults: list[Fault] = []

    known = list(call.services.settings.indices)
    if query.export_index is not None and query.export_index not in known:
        detail = f"There is no export index `{shown(query.export_index)}`. {nearest(query.export_index, known)}"
        faults.append(Fault("export_index", "unknown_index", detail))
    filters = tasks.TaskFilters(
        chain=chain,
        state=query.state,
        export_index=query.export_index,
        created_after=read_bound(query.created_after, "created_after", faults),
        created_before=read_bound(query.created_before, "created_before", faults),
    )
    if faults:
        raise InvalidParametersError(faults=faults)
    return filters
