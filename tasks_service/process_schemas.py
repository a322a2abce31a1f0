"""The HTTP contract of the service's processes, as pydantic models; schemas.py has that of tasks and runs.

Documented by api/openapi.py; the documents are built in api/processes.py.
"""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from tasks_service.schemas import Answer


class Process(Answer):
    """A process of the service."""

    name: str = Field(description="`host:pid`, as attempts name their worker.")
    kind: Literal["web", "scheduler", "worker"]
    host: str
    pid: int
    version: str
    state: Literal["idle", "working", "helping", "draining"] = Field(
        description="What a worker does; other kinds are `idle`. `helping`: it writes a part of another worker's run."
    )
    run: int | None = Field(description="The run a worker carries out, or helps with.")
    started_at: str
    seen_at: str
    late: bool = Field(description="Not seen for half a minute: it hangs, is cut off from the database, or has died.")


class ProcessPage(Answer):
    """A page of processes, the ones started last first."""

    results: list[Process]
    next: str | None
    previous: str | None
