"""The HTTP contract of backfills, as pydantic models; schemas.py has that of tasks and runs.

Read by api/, which validates requests with them, and by api/openapi.py, which documents them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks_service.schemas import Answer, Author, DateTime, Request

Reprocess = Literal["none", "failed", "all"]


class BackfillCreate(Request):
    """Which past occurrences of a task to run."""

    start: DateTime = Field(
        description="The first moment whose occurrence is run, ISO 8601; without offset in the task's time zone."
    )
    end: DateTime = Field(description="The moment before which they end: its own occurrence is not run. Now at most.")
    reprocess: Reprocess = Field(
        "none",
        description="Which occurrences are run that have a run already; its newest run decides. `none`: none of them; "
        "`failed`: those that failed or were cancelled; `all`: every one that has ended. What is going is left alone.",
    )
    concurrency: int = Field(
        1, ge=1, le=10_000, description="Runs that go at a time; at most what one chain may have running."
    )
    dry_run: bool = Field(False, description="Only tell what would be run; nothing is stored.")


class BackfillProgress(Answer):
    """Where the occurrences of a backfill are; all but the first member add up to it."""

    total: int = Field(description="Occurrences in the range.")
    waiting: int = Field(description="They have no run yet.")
    queued: int
    running: int
    done: int
    failed: int
    cancelled: int = Field(description="Given up, before they had a run or after.")
    skipped: int = Field(description="Left alone, as `reprocess` says.")


class Backfill(Answer):
    """Past occurrences of a task that are run, some at a time."""

    id: int
    task: int
    state: Literal["running", "done", "failed", "cancelled"] = Field(
        description="`done`: every run ended well. `failed`: all have ended, some not well."
    )
    reason: str | None = Field(description="Why it was cancelled, as a slug.")
    start: DateTime
    end: DateTime
    reprocess: Reprocess
    concurrency: int
    created_by: Author
    created_date: DateTime
    finished_date: DateTime | None
    progress: BackfillProgress


class BackfillPreview(Answer):
    """What a backfill would run."""

    task: int
    start: DateTime
    end: DateTime
    reprocess: Reprocess
    concurrency: int
    total: int = Field(description="Occurrences in the range.")
    skipped: int = Field(description="They would be left alone, as `reprocess` says.")
    to_run: int
    first: DateTime | None = Field(description="The first that would be run.")
    last: DateTime | None = Field(description="The last that would be run.")
    occurrences: list[DateTime] = Field(description="The first hundred that would be run.")


class BackfillPage(Answer):
    """A page of backfills, newest first."""

    results: list[Backfill]
    next: str | None
    previous: str | None
