"""Runs: a task's list of them, one with everything it went through, cancelling and repeating one.

What lives here: what callers see and ask of runs. What does not: carrying them out (runner.py); their files' links
(downloads.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import structlog
from sqlmodel import Session

from tasks_service.api import shapes
from tasks_service.api.calls import Call, Reply
from tasks_service.api.creation import queue_run
from tasks_service.api.cursors import Pages
from tasks_service.api.execution import FINAL, RETRY_AFTER_SECONDS
from tasks_service.api.problems import GoingError
from tasks_service.api.tasks import find_task
from tasks_service.database import backfills, runs, shown, tasks
from tasks_service.database.models import Run, Task
from tasks_service.errors import ConflictError, NotFoundError
from tasks_service.schemas import PageQuery

log = structlog.stdlib.get_logger(__name__)
_NO_RUN = "There is no run with this id."


class RunEndedError(ConflictError):
    """The run has ended already."""

    code = "run_ended"


def find_run(call: Call, session: Session, *, lock: bool = False) -> tuple[Run, Task]:
    """Return the run the path names and its task; raise NotFoundError for another chain's or a deleted task's too."""
    chain = call.principal.chain
    run = runs.get_run(session, call.path["run_id"], chain=chain, lock=lock)
    task = tasks.get_task(session, run.task_id, chain=chain, deleted=chain is None) if run is not None else None
    if run is None or task is None:
        raise NotFoundError(_NO_RUN)
    return run, task


def list_task_runs(call: Call) -> Reply:
    """Answer a page of a task's runs, newest first."""
    query, task_id = call.query(PageQuery), int(call.path["task_id"])
    pages = Pages(call.services.secret_key, f"/tasks/{task_id}/runs", {}, call.principal.client_id)
    position = pages.position(query.cursor)
    with call.services.database.read() as session:
        find_task(call, session, deleted=True)
        rows, more = runs.list_runs(
            session, task_id, limit=query.limit, after=position.after, direction=position.direction
        )
        results = _documents(session, rows)
    base = call.services.settings.service.public_url
    links = pages.links([run.id or 0 for run in rows], position, more=more, limit=query.limit, base=base)
    return Reply({"results": results, **links})


def get_run(call: Call) -> Reply:
    """Answer a run with its attempts and its log."""
    with call.services.database.read() as session:
        run, _ = find_run(call, session)
        [document] = _documents(session, [run])
    return Reply(document)


def cancel_run(call: Call) -> Reply:
    """Cancel a run: at once where it is queued, within a heartbeat where it is running."""
    database = call.services.database
    with database.write() as session:
        run, _ = find_run(call, session, lock=True)
        if run.state in FINAL:
            raise RunEndedError(f"The run has ended already: it is {run.state}.")
        runs.request_cancel(session, run, now=database.now(session))
        session.flush()
        session.refresh(run)
        [document] = _documents(session, [run])
    log.info("run.cancel_requested", run_id=run.id)
    if document["state"] in FINAL:
        return Reply(document)
    return Reply(document, 202, {"Location": f"/runs/{run.id}", "Retry-After": str(RETRY_AFTER_SECONDS)})


def retry_run(call: Call) -> Reply:
    """Repeat a run that has ended: its definition, its occurrence, a new file."""
    database = call.services.database
    with database.write() as session:
        run, task = find_run(call, session, lock=True)
        if task.deleted_at is not None:
            raise NotFoundError(_NO_RUN)
        if run.state not in FINAL:
            raise GoingError(f"The run is {run.state}; it can be repeated once it has ended.")
        if (going := shown.repeat_going(session, call.path["run_id"])) is not None:
            raise GoingError(f"Run {going.id} repeats this one already and is {going.state}.")
        now = database.now(session)
        if run.backfill_id is not None:
            backfills.reopen_backfill(session, run.backfill_id)
        repeat = queue_run(call.services, session, task, kind="retry", occurrence=run.occurrence, now=now, repeats=run)
        session.flush()
        [document] = _documents(session, [repeat])
    log.info("run.retry_requested", run_id=run.id, retry=repeat.id)
    return Reply(document, 202, {"Location": f"/runs/{repeat.id}", "Retry-After": str(RETRY_AFTER_SECONDS)})


def _documents(session: Session, rows: Sequence[Run]) -> list[dict[str, Any]]:
    ids = [run.id for run in rows if run.id is not None]
    attempts, events = shown.attempts_by_run(session, ids), shown.events_by_run(session, ids)
    return [shapes.full_run(run, attempts.get(run.id or 0, []), events.get(run.id or 0, [])) for run in rows]
