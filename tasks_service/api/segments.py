"""POST /segments/preview: how many rows a segment selects, the first ten of them, and the query it becomes.

What lives here: reading the two forms of the body and asking the source. Saved segments are not here yet.
"""

from __future__ import annotations

from datetime import datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

from segments import Segment
from tasks_service.api.bodies import read_model
from tasks_service.api.calls import Call, Reply
from tasks_service.api.definitions import Findings, Question, check_segment, find_index
from tasks_service.api.moments import read_moment, read_zone
from tasks_service.api.routes import READ, Route, Success
from tasks_service.errors import Fault, InvalidRequestError, SourceError, SourceUnavailableError
from tasks_service.schemas import Preview, PreviewAnswer

SAMPLE_ROWS = 10
_SEGMENT_MEMBERS = {"entity", "index", "join", "chain_id", "rules", "negate"}


def preview_segment(call: Call) -> Reply:
    """Answer what a segment selects now, or at the moment the body names."""
    body = call.body.document
    bare = "segment" not in body and bool(body.keys() & _SEGMENT_MEMBERS)
    document: dict[str, Any] = {"segment": body} if bare else body
    prefix = "" if bare else "/segment"
    findings = Findings(read_model(Preview, document)[1])
    zone = read_zone(document.get("timezone", "UTC"), "/timezone")
    now = _now(call) if document.get("now") is None else read_moment(document["now"], "/now")
    findings.add(one for one in (zone, now) if isinstance(one, Fault))
    segment: Any = document.get("segment")
    if not isinstance(segment, dict):
        raise InvalidRequestError(faults=findings.faults)
    members = cast("dict[str, Any]", segment)
    chain = members.get("chain_id")
    if isinstance(chain, int) and not isinstance(chain, bool):
        call.require_chain(chain)
    index = find_index(call.services, members.get("index"), f"{prefix}/index", findings)
    catalog = call.services.source.catalog(index) if index is not None else None
    question = Question(
        members,
        prefix,
        now if isinstance(now, datetime) else _now(call),
        ZoneInfo("UTC") if isinstance(zone, Fault) else zone,
    )
    tree = check_segment(question, catalog, findings)
    findings.raise_if_any()
    if index is None or tree is None or not isinstance(chain, int):
        raise InvalidRequestError("The segment names no chain and index.")
    sample = call.services.source.sample(index, tree, chain=chain, rows=SAMPLE_ROWS)
    return Reply({"count": sample.count, "sample": sample.documents, "query": sample.query})


def _now(call: Call) -> datetime:
    with call.services.database.read() as session:
        return call.services.database.now(session)


ROUTES = (
    Route(
        "POST",
        "/segments/preview",
        preview_segment,
        READ,
        summary="Preview a segment",
        description=(
            "Counts the rows a segment selects, exactly, and shows the first ten. The body is a segment, or a segment "
            "with the time zone and the moment its relative rules are measured from."
        ),
        answers=[Success(200, "What it selects.", PreviewAnswer)],
        body=Preview,
        alternatives=(Segment,),
        collects=True,
        errors=[SourceError, SourceUnavailableError],
        example={
            "segment": {
                "entity": "people",
                "index": "products",
                "join": "all",
                "chain_id": 1764,
                "rules": [
                    {"field_name": "category", "field_type": "keyword", "operator": "is", "value": "Electronics"}
                ],
            },
            "timezone": "Europe/Amsterdam",
        },
        tag="Segments",
    ),
)
