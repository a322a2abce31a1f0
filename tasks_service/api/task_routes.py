"""The declarations of everything under /tasks and /runs: what each route takes, answers and refuses.

Read by api/__init__.py, which makes the application answer them, and by api/openapi.py, which documents them.
"""

from __future__ import annotations

from typing import Any

from tasks_service.api.clocks import InvalidTriggerError
from tasks_service.api.creation import create_task
from tasks_service.api.downloads import (
    NoFileError,
    NoManifestError,
    NotDoneError,
    get_run_download_url,
    get_run_manifest_url,
    get_task_download_url,
    get_task_manifest_url,
)
from tasks_service.api.execution import execute_task
from tasks_service.api.idempotency import IDEMPOTENCY_KEY
from tasks_service.api.problems import GoingError, InvalidParametersError
from tasks_service.api.routes import READ, WRITE, Header, Route, Success
from tasks_service.api.runs import RunEndedError, cancel_run, get_run, list_task_runs, retry_run
from tasks_service.api.tasks import (
    AlreadyRanError,
    delete_task,
    edit_task,
    get_task,
    list_tasks,
    pause_task,
    resume_task,
)
from tasks_service.errors import (
    ConflictError,
    GoneError,
    PreconditionFailedError,
    SourceUnavailableError,
    StorageError,
    StorageUnavailableError,
    TooManyRequestsError,
)
from tasks_service.schemas import (
    Download,
    Link,
    LogQuery,
    Note,
    Nothing,
    PageQuery,
    Run,
    RunPage,
    State,
    Task,
    TaskCreate,
    TaskCreated,
    TaskEdit,
    TaskListQuery,
    TaskPage,
)

_IF_MATCH = Header("If-Match", "The task's ETag; the change is made only on this version of it.")
_LINK_ERRORS = (NotDoneError, NoFileError, GoneError, StorageError, StorageUnavailableError)
_MANIFEST = (
    "A link to the manifest beside the file: rows, size and checksums, columns, the segment and the query it was "
    "compiled to, the instant of the snapshot. `tasks-service verify FILE MANIFEST` holds a download against it."
)
_CREATE: dict[str, Any] = {
    "chain": 1764,
    "desc": "Electronics, every night",
    "target": {"action": "export", "export_index": "products", "export_format": "csv"},
    "trigger": {
        "cron": "0 2 * * *",
        "timezone": "Europe/Amsterdam",
        "segment": {
            "entity": "people",
            "index": "products",
            "join": "all",
            "chain_id": 1764,
            "rules": [{"field_name": "category", "field_type": "keyword", "operator": "is", "value": "Electronics"}],
        },
    },
}

TASK_ROUTES = (
    Route(
        "POST",
        "/tasks",
        create_task,
        WRITE,
        summary="Create a task",
        description=(
            "Stores a task. Its segment, columns and trigger are checked now, and every fault is named at once. A task "
            "whose moment is past or now runs at once. `target.format` is another name of `target.export_format`."
        ),
        answers=[Success(201, "The task, with the next five moments it will run.", TaskCreated, ("Location", "ETag"))],
        body=TaskCreate,
        collects=True,
        headers=[IDEMPOTENCY_KEY],
        errors=[InvalidParametersError, SourceUnavailableError, TooManyRequestsError],
        example=_CREATE,
    ),
    Route(
        "GET",
        "/tasks",
        list_tasks,
        READ,
        summary="List tasks",
        description="Newest first. Follow `next` and `previous` from page to page.",
        answers=[Success(200, "A page of tasks.", TaskPage)],
        query=TaskListQuery,
    ),
    Route(
        "GET",
        "/tasks/{task_id}",
        get_task,
        READ,
        summary="Get a task",
        description=(
            "The task with its newest log entries. The ETag changes when anything shown does: send it as "
            "`If-None-Match` to be answered 304 until then."
        ),
        answers=[
            Success(200, "The task.", Task, ("ETag",)),
            Success(304, "You have this state of it already.", None, ("ETag",)),
        ],
        query=LogQuery,
        headers=[Header("If-None-Match", "An ETag this task had.")],
    ),
    Route(
        "PATCH",
        "/tasks/{task_id}",
        edit_task,
        WRITE,
        summary="Edit a task",
        description=(
            "Replaces `desc`, `target` or `trigger`, each as a whole. Only future occurrences change. A task whose one "
            "moment has passed cannot be edited."
        ),
        answers=[Success(200, "The task as it is now.", TaskCreated, ("ETag",))],
        body=TaskEdit,
        collects=True,
        headers=[_IF_MATCH],
        errors=[
            AlreadyRanError,
            InvalidTriggerError,
            PreconditionFailedError,
            SourceUnavailableError,
            TooManyRequestsError,
        ],
        example={"desc": "Electronics, every morning", "trigger": {"cron": "0 6 * * *"}},
    ),
    Route(
        "DELETE",
        "/tasks/{task_id}",
        delete_task,
        WRITE,
        summary="Delete a task",
        description="Cancels what runs, removes the schedule and deletes the task's files.",
        answers=[Success(204, "It is deleted.")],
        headers=[_IF_MATCH],
        errors=[PreconditionFailedError],
    ),
    Route(
        "POST",
        "/tasks/{task_id}/execute",
        execute_task,
        WRITE,
        summary="Run a task now",
        description=(
            "Waits for the end of the run: 60 seconds, or as `Prefer: wait=N` says, 300 at most. Where it is still "
            "going then, or too many others wait, the answer is 202: poll the run at `Location`. Executing a task "
            "before its `once` takes the place of that run; a cron's schedule is unchanged. Paused tasks may be "
            "executed."
        ),
        answers=[
            Success(200, "The run has ended; this is the task's state.", State),
            Success(202, "The run is going.", State, ("Location", "Retry-After")),
        ],
        body=Nothing,
        body_optional=True,
        headers=[Header("Prefer", "`wait=N`: how many seconds to wait; `respond-async`: do not wait.")],
        errors=[GoingError, ConflictError, TooManyRequestsError],
    ),
    Route(
        "POST",
        "/tasks/{task_id}/pause",
        pause_task,
        WRITE,
        summary="Pause a task",
        description="Stops its schedule until it is resumed; runs that are going go on.",
        answers=[Success(200, "The task as it is now.", TaskCreated, ("ETag",))],
        body=Note,
        body_optional=True,
        example={"note": "The season is over."},
    ),
    Route(
        "POST",
        "/tasks/{task_id}/resume",
        resume_task,
        WRITE,
        summary="Resume a task",
        description="Lets its schedule go on. Occurrences that passed meanwhile are recorded as skipped.",
        answers=[Success(200, "The task as it is now.", TaskCreated, ("ETag",))],
        body=Note,
        body_optional=True,
        errors=[InvalidTriggerError, TooManyRequestsError],
        example={"note": "The season begins."},
    ),
    Route(
        "GET",
        "/tasks/{task_id}/download_url",
        get_task_download_url,
        READ,
        summary="Get the download link of a task",
        description=(
            "A link to the file of the run that made the task DONE; it lives for about an hour. Where the task is not "
            "DONE, the members `state` and `run` of the problem tell its state and the latest run that has a file."
        ),
        answers=[Success(200, "The link.", Download)],
        errors=_LINK_ERRORS,
    ),
    Route(
        "GET",
        "/tasks/{task_id}/manifest_url",
        get_task_manifest_url,
        READ,
        summary="Get the manifest of a task's file",
        description=_MANIFEST,
        answers=[Success(200, "The link.", Link)],
        errors=[*_LINK_ERRORS, NoManifestError],
    ),
    Route(
        "GET",
        "/tasks/{task_id}/runs",
        list_task_runs,
        READ,
        summary="List a task's runs",
        description="Newest first.",
        answers=[Success(200, "A page of runs.", RunPage)],
        query=PageQuery,
        tag="Runs",
    ),
    Route(
        "GET",
        "/runs/{run_id}",
        get_run,
        READ,
        summary="Get a run",
        description="A run with its progress, its attempts and its log.",
        answers=[Success(200, "The run.", Run)],
        tag="Runs",
    ),
    Route(
        "GET",
        "/runs/{run_id}/download_url",
        get_run_download_url,
        READ,
        summary="Get the download link of a run",
        description="A link to the file of this run; it lives for about an hour.",
        answers=[Success(200, "The link.", Download)],
        errors=_LINK_ERRORS,
        tag="Runs",
    ),
    Route(
        "GET",
        "/runs/{run_id}/manifest_url",
        get_run_manifest_url,
        READ,
        summary="Get the manifest of a run's file",
        description=_MANIFEST,
        answers=[Success(200, "The link.", Link)],
        errors=[*_LINK_ERRORS, NoManifestError],
        tag="Runs",
    ),
    Route(
        "POST",
        "/runs/{run_id}/cancel",
        cancel_run,
        WRITE,
        summary="Cancel a run",
        description="A queued run is cancelled at once, a running one within its next heartbeat.",
        answers=[
            Success(200, "It is cancelled.", Run),
            Success(202, "It will be.", Run, ("Location", "Retry-After")),
        ],
        body=Nothing,
        body_optional=True,
        errors=[RunEndedError],
        tag="Runs",
    ),
    Route(
        "POST",
        "/runs/{run_id}/retry",
        retry_run,
        WRITE,
        summary="Repeat a run",
        description="Queues a run with the same definition and the same occurrence, once this one has ended.",
        answers=[Success(202, "The run that repeats it.", Run, ("Location", "Retry-After"))],
        body=Nothing,
        body_optional=True,
        errors=[GoingError, ConflictError, TooManyRequestsError],
        tag="Runs",
    ),
)
