"""GET .../download_url: a link to a published file, made on the spot, pinned to the object's generation.

A link is never stored and never logged: what is logged is who asked for which run's. Whether there is a file to link to
is decided here; the signature is the storage's.
"""

from __future__ import annotations

from datetime import datetime, timedelta

import structlog

from tasks_service.api import shapes
from tasks_service.api.calls import Call, Reply
from tasks_service.api.problems import MembersError
from tasks_service.api.runs import find_run
from tasks_service.api.tasks import find_task
from tasks_service.database import shown
from tasks_service.database.models import Run, Task
from tasks_service.errors import GoneError
from tasks_service.storage import StoredObject

log = structlog.stdlib.get_logger(__name__)


class NotDoneError(MembersError):
    """Only what is DONE has a file to link to; `state` tells where it stands."""

    code = "not_done"


class NoFileError(MembersError):
    """The run found no rows, and the task wants no file then (`on_empty: skip`)."""

    code = "no_file"


def get_task_download_url(call: Call) -> Reply:
    """Answer a link to the file of the run that made the task DONE."""
    with call.services.database.read() as session:
        task = find_task(call, session, deleted=True)
        now = call.services.database.now(session)
        if task.deleted_at is not None:
            raise GoneError
        if task.state != "DONE" or task.result_run_id is None:
            latest = shown.latest_published(session, call.path["task_id"])
            raise NotDoneError(
                f"The task is {task.state}, not DONE; poll it until it is. The file of an earlier run, where there is "
                "one, is at /runs/{run}/download_url.",
                state=shapes.state(task),
                run=latest.id if latest is not None else None,
            )
        run = shown.runs_by_id(session, [task.result_run_id])[task.result_run_id]
    return _link(call, run, task, now)


def get_run_download_url(call: Call) -> Reply:
    """Answer a link to the file of one run."""
    with call.services.database.read() as session:
        run, task = find_run(call, session)
        now = call.services.database.now(session)
    if task.deleted_at is not None:
        raise GoneError
    if run.state != "done":
        detail = f"The run is {run.state}; only a run that is done has a file."
        raise NotDoneError(detail, state=shapes.state(task), run=run.id)
    return _link(call, run, task, now)


def _link(call: Call, run: Run, task: Task, now: datetime) -> Reply:
    if run.artifact is None:
        raise NoFileError(NoFileError.__doc__ or "", state=shapes.state(task), run=run.id)
    if run.file_deleted_at is not None or run.expires_at is None or run.expires_at <= now:
        raise GoneError
    artifact = run.artifact
    stored = StoredObject(
        bucket=artifact["bucket"],
        name=artifact["object"],
        generation=artifact["generation"],
        size=artifact["bytes"],
        crc32c=artifact["crc32c"],
        created_at=datetime.fromisoformat(artifact["stored_at"]) if "stored_at" in artifact else run.created_at,
    )
    # A link that outlives its file would only promise what it cannot keep.
    lifetime = min(timedelta(seconds=call.services.settings.storage.link_seconds), run.expires_at - now)
    signed = call.services.storage.sign(
        stored,
        file_name=artifact["file_name"],
        content_type=artifact["content_type"],
        lifetime=max(timedelta(seconds=int(lifetime.total_seconds())), timedelta(seconds=1)),
    )
    log.info("link.made", run_id=run.id, task_id=run.task_id, client=call.principal.client_id)
    return Reply(
        {
            "url": signed.url,
            "expires_at": shapes.moment(signed.expires_at),
            "file_name": artifact["file_name"],
            "bytes": artifact["bytes"],
            "records_count": artifact["rows"],
            "sha256": artifact["sha256"],
        }
    )
