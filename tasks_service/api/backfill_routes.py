"""The declarations of every route about backfills: what each takes, answers and refuses.

Read by api/__init__.py, which makes the application answer them, and by api/openapi.py, which documents them.
"""

from __future__ import annotations

from tasks_service.api.backfills import (
    BackfillEndedError,
    BackfillGoingError,
    EditedError,
    NoScheduleError,
    cancel_backfill,
    create_backfill,
    get_backfill,
    list_backfills,
)
from tasks_service.api.clocks import InvalidTriggerError
from tasks_service.api.idempotency import IDEMPOTENCY_KEY
from tasks_service.api.problems import InvalidParametersError
from tasks_service.api.routes import READ, WRITE, Route, Success
from tasks_service.backfill_schemas import Backfill, BackfillCreate, BackfillPage, BackfillPreview
from tasks_service.errors import TooManyRequestsError
from tasks_service.schemas import Nothing, PageQuery

_TAG = "Backfills"
BACKFILL_ROUTES = (
    Route(
        "POST",
        "/tasks/{task_id}/backfill",
        create_backfill,
        WRITE,
        summary="Run past occurrences of a task",
        description=(
            "Runs the occurrences of the task's schedule from `start` to before `end`, `concurrency` at a time, the "
            "oldest first. Each run selects with `now` being its occurrence, as it would have then, and carries out "
            "the task as it is at this request. Their runs are made as there is room, and come after every other run "
            "of the chain; the schedule, and what the task shows, take no notice of them. Paused tasks may be "
            "backfilled. With `dry_run` the answer is what would be run, and nothing is stored."
        ),
        answers=[
            Success(200, "What would be run (`dry_run`).", BackfillPreview),
            Success(201, "The backfill.", Backfill, ("Location",)),
        ],
        body=BackfillCreate,
        headers=[IDEMPOTENCY_KEY],
        errors=[
            InvalidParametersError,
            NoScheduleError,
            InvalidTriggerError,
            BackfillGoingError,
            EditedError,
            TooManyRequestsError,
        ],
        example={"start": "2026-05-01T00:00:00Z", "end": "2026-05-15T00:00:00Z", "reprocess": "failed"},
        tag=_TAG,
    ),
    Route(
        "GET",
        "/tasks/{task_id}/backfills",
        list_backfills,
        READ,
        summary="List a task's backfills",
        description="Newest first.",
        answers=[Success(200, "A page of backfills.", BackfillPage)],
        query=PageQuery,
        tag=_TAG,
    ),
    Route(
        "GET",
        "/backfills/{backfill_id}",
        get_backfill,
        READ,
        summary="Get a backfill",
        description="A backfill with where its occurrences are.",
        answers=[Success(200, "The backfill.", Backfill)],
        tag=_TAG,
    ),
    Route(
        "POST",
        "/backfills/{backfill_id}/cancel",
        cancel_backfill,
        WRITE,
        summary="Cancel a backfill",
        description=(
            "What has no run yet is given up, its queued runs are cancelled at once, running ones within their next "
            "heartbeat. Files that were made stay."
        ),
        answers=[
            Success(200, "It is cancelled.", Backfill),
            Success(202, "It is cancelled; a run of it is still going.", Backfill, ("Location", "Retry-After")),
        ],
        body=Nothing,
        body_optional=True,
        errors=[BackfillEndedError],
        tag=_TAG,
    ),
)
