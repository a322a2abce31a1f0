"""The declarations of everything under /segments but previews and explanations: what each route takes and answers.

Read by api/__init__.py, which makes the application answer them, and by api/openapi.py, which documents them.
"""

from __future__ import annotations

from typing import Any

from tasks_service.api.routes import READ, WRITE, Header, Route, Success
from tasks_service.api.saved_segments import (
    SegmentInUseError,
    create_segment,
    delete_segment,
    get_segment,
    get_segment_version,
    list_segment_versions,
    list_segments,
    replace_segment,
)
from tasks_service.database.segments import NameTakenError
from tasks_service.errors import PreconditionFailedError, SourceUnavailableError
from tasks_service.schemas import PageQuery
from tasks_service.segment_schemas import (
    SavedSegment,
    SavedSegmentPage,
    SegmentListQuery,
    SegmentSave,
    SegmentVersion,
    SegmentVersionPage,
)

_IF_MATCH = Header("If-Match", "The segment's ETag; the change is made only on this version of it.")
_EXAMPLE: dict[str, Any] = {
    "name": "Electronics",
    "segment": {
        "entity": "people",
        "index": "products",
        "join": "all",
        "chain_id": 1764,
        "rules": [{"field_name": "category", "field_type": "keyword", "operator": "is", "value": "Electronics"}],
    },
}

SAVED_SEGMENT_ROUTES = (
    Route(
        "POST",
        "/segments",
        create_segment,
        WRITE,
        summary="Save a segment",
        description=(
            "Stores a segment under a name that no other segment of its chain has, for tasks to name as "
            "`trigger.segment_id`. Its rules are checked now, and every fault is named at once."
        ),
        answers=[Success(201, "The segment.", SavedSegment, ("Location", "ETag"))],
        body=SegmentSave,
        collects=True,
        errors=[NameTakenError, SourceUnavailableError],
        example=_EXAMPLE,
        tag="Segments",
    ),
    Route(
        "GET",
        "/segments",
        list_segments,
        READ,
        summary="List saved segments",
        description="Newest first. Follow `next` and `previous` from page to page.",
        answers=[Success(200, "A page of saved segments.", SavedSegmentPage)],
        query=SegmentListQuery,
        tag="Segments",
    ),
    Route(
        "GET",
        "/segments/{segment_id}",
        get_segment,
        READ,
        summary="Get a saved segment",
        description="The segment as its newest version has it. Send its ETag as `If-None-Match` to be answered 304.",
        answers=[
            Success(200, "The segment.", SavedSegment, ("ETag",)),
            Success(304, "You have this version of it already.", None, ("ETag",)),
        ],
        headers=[Header("If-None-Match", "An ETag this segment had.")],
        tag="Segments",
    ),
    Route(
        "PUT",
        "/segments/{segment_id}",
        replace_segment,
        WRITE,
        summary="Replace a saved segment",
        description=(
            "Makes another version. Runs that are made from now on use it; those that exist, and retries of them, keep "
            "theirs. Its chain and its index stay. What is the same already makes no version."
        ),
        answers=[Success(200, "The segment as it is now.", SavedSegment, ("ETag",))],
        body=SegmentSave,
        collects=True,
        headers=[_IF_MATCH],
        errors=[NameTakenError, PreconditionFailedError, SourceUnavailableError],
        example=_EXAMPLE,
        tag="Segments",
    ),
    Route(
        "DELETE",
        "/segments/{segment_id}",
        delete_segment,
        WRITE,
        summary="Delete a saved segment",
        description=(
            "Deletes a segment that no task uses. Where some do, the members `tasks_count` and `tasks` of the problem "
            "tell how many and the first of them; a task that has ended counts too, because it can be executed again."
        ),
        answers=[Success(204, "It is deleted.")],
        headers=[_IF_MATCH],
        errors=[SegmentInUseError, PreconditionFailedError],
        tag="Segments",
    ),
    Route(
        "GET",
        "/segments/{segment_id}/versions",
        list_segment_versions,
        READ,
        summary="List a saved segment's versions",
        description="Newest first.",
        answers=[Success(200, "A page of versions.", SegmentVersionPage)],
        query=PageQuery,
        tag="Segments",
    ),
    Route(
        "GET",
        "/segments/{segment_id}/versions/{version}",
        get_segment_version,
        READ,
        summary="Get a version of a saved segment",
        description="A run tells which version it used: `segment` of GET /runs/{run_id}.",
        answers=[Success(200, "The version.", SegmentVersion)],
        tag="Segments",
    ),
)
