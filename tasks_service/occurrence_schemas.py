"""The HTTP contract of a task's occurrences, as pydantic models; schemas.py has that of tasks and runs.

Read by api/occurrences.py, which answers with them, and by api/openapi.py, which documents them.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks_service.schemas import Answer, DateTime, PageQuery

Outcome = Literal["run", "skipped", "pending"]
SkipReason = Literal[
    "misfire", "catch_up_window", "catch_up_limit", "overlap", "queue_full", "paused", "executed", "deleted"
]


class OccurrenceQuery(PageQuery):
    """Which occurrences to list."""

    outcome: Outcome | None = Field(None, description="Those with this outcome.")
    reason: SkipReason | None = Field(None, description="Those that were skipped for this reason.")
    occurrence_after: DateTime | None = Field(None, description="Occurrences at this moment or later.")
    occurrence_before: DateTime | None = Field(None, description="Occurrences before this moment.")


class OccurrenceRun(Answer):
    """A run of an occurrence."""

    id: int
    kind: Literal["schedule", "backfill", "retry"]
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    reason: str | None = Field(description="Why it did not end well, as a slug.")
    backfill: int | None = Field(description="The backfill it belongs to.")


class Occurrence(Answer):
    """A moment of a task's schedule, and what became of it."""

    occurrence: DateTime
    outcome: Outcome = Field(
        description="`run`: it has a run; `runs` tells how it stands. `skipped`: the schedule did not run it and will "
        "not, for `reason`; a backfill may have, later. `pending`: it has neither yet."
    )
    reason: SkipReason | None = Field(
        description="`misfire`, `catch_up_window`, `catch_up_limit`: missed, as `trigger.misfire` says; `overlap`: the "
        "task was busy, as `trigger.overlap` says; `queue_full`: its chain had as many queued runs as it may; "
        "`paused`: the task was; `executed`: a `once` was run before its time by `execute`; `deleted`: the task was, "
        "before it was decided."
    )
    until: DateTime | None = Field(
        description="The last of `count` occurrences, where no more than the range is known."
    )
    count: int
    runs: list[OccurrenceRun] = Field(description="Oldest first; the newest tells how the occurrence stands.")


class OccurrencePage(Answer):
    """A page of occurrences, newest first."""

    results: list[Occurrence]
    next: str | None
    previous: str | None
