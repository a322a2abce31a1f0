"""POST /tasks/{id}/execute: run a task now, and wait for its end as long as the caller wants and threads allow.

A request that waits holds a thread of the web server; `Context.seats` lets at most a quarter of them do so, and whoever
finds no seat is answered at once. The run itself is a worker's: waiting is looking at the run's row, now and then.
"""

from __future__ import annotations

import structlog

from tasks_service.api import shapes
from tasks_service.api.calls import Call, Reply
from tasks_service.api.creation import queue_run
from tasks_service.api.problems import GoingError
from tasks_service.api.tags import wait_wanted
from tasks_service.api.tasks import find_task
from tasks_service.database import runs, tasks
from tasks_service.database.statements import identity
from tasks_service.errors import NotFoundError, TransientError

log = structlog.stdlib.get_logger(__name__)

RETRY_AFTER_SECONDS = 5
FINAL = frozenset({"done", "failed", "cancelled"})
_FIRST_PAUSE, _LONGEST_PAUSE, _LONGER = 0.05, 1.0, 1.5


def execute_task(call: Call) -> Reply:
    """Queue a manual run and answer the task's bare state: 200 once the run has ended, 202 while it goes."""
    database = call.services.database
    with database.write() as session:
        task = find_task(call, session, lock=True)
        if (going := runs.going_run(session, call.path["task_id"])) is not None:
            raise GoingError(f"Run {going.id} of this task is {going.state}; wait for its end, or cancel it.")
        now = database.now(session)
        run_id = identity(queue_run(call.services, session, task, kind="manual", occurrence=now, now=now))
    log.info("task.executed", task_id=call.path["task_id"], run_id=run_id)
    wanted = wait_wanted(call.headers.get("Prefer"))
    ended = _ends_within(call, run_id, wanted)
    with database.read() as session:
        after = tasks.get_task(session, call.path["task_id"], chain=None, deleted=True)
    if after is None:
        raise NotFoundError
    applied = {"Preference-Applied": f"wait={wanted}"} if "Prefer" in call.headers else {}
    if ended:
        return Reply(shapes.state(after), 200, applied)
    headers = {"Location": f"/runs/{run_id}", "Retry-After": str(RETRY_AFTER_SECONDS)}
    return Reply(shapes.state(after), 202, headers | applied)


def _ends_within(call: Call, run_id: int, seconds: float) -> bool:
    """Wait for a run's end, if there is a seat to wait on; tell whether it has ended."""
    if seconds <= 0 or not call.context.seats.acquire(blocking=False):
        return _has_ended(call, run_id)
    try:
        pause, waited = _FIRST_PAUSE, 0.0
        while not _has_ended(call, run_id):
            if waited >= seconds:
                return False
            pause = min(pause * _LONGER, _LONGEST_PAUSE, max(seconds - waited, _FIRST_PAUSE))
            call.context.pause(pause)
            waited += pause
        return True
    finally:
        call.context.seats.release()


def _has_ended(call: Call, run_id: int) -> bool:
    try:
        with call.services.database.read() as session:
            run = runs.get_run(session, run_id, chain=None)
    except TransientError:
        return False  # the run is queued all the same; the next look may be answered
    return run is None or run.state in FINAL
