"""The HTTP contract of what any path may answer and of the service's own health; schemas.py has that of tasks and runs.

Documented by api/openapi.py; the documents are built in api/problems.py and api/health.py.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

from tasks_service.schemas import Answer


class Check(Answer):
    """One part the service depends on."""

    name: str
    ok: bool
    detail: str


class Health(Answer):
    """Whether this process can do its work."""

    status: Literal["ok", "failing"]
    checks: list[Check]


class ProblemFault(BaseModel):
    """One fault of a request."""

    pointer: str | None = Field(None, description="JSON pointer into the body.")
    parameter: str | None = Field(None, description="Name of the query parameter or header.")
    code: str
    detail: str = Field(description="What would be right.")


class Problem(BaseModel):
    """An error, as RFC 9457 has it."""

    type: str
    title: str
    status: int
    detail: str
    code: str = Field(description="Stable slug for programs.")
    instance: str = Field(description="The request's id, also in X-Request-Id.")
    errors: list[ProblemFault] | None = Field(None, description="Every fault of the request.")
