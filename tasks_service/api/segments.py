"""POST /segments/preview: how many rows a segment selects, the first ten of them, and the query it becomes.

What lives here: reading the forms of a body that asks about a segment, its own or a saved one, and asking the source.
What does not: saving segments (saved_segments.py), and why one selects a document (explanations.py).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, cast
from zoneinfo import ZoneInfo

from pydantic import BaseModel

from segments import Catalog, Segment, Tree
from tasks_service import schedule
from tasks_service.api.bodies import read_model
from tasks_service.api.calls import Call, Reply
from tasks_service.api.definitions import (
    Findings,
    Question,
    check_saved,
    check_segment,
    find_index,
)
from tasks_service.api.moments import read_moment, read_zone
from tasks_service.api.routes import READ, Route, Success
from tasks_service.api.saved_segments_use import Saved, find_saved
from tasks_service.config import IndexSettings
from tasks_service.errors import Fault, InvalidRequestError, LinkLimitError, SourceError, SourceUnavailableError
from tasks_service.segment_schemas import Preview, PreviewAnswer

SAMPLE_ROWS = 10
_SEGMENT_MEMBERS = {"entity", "index", "join", "chain_id", "rules", "negate"}


@dataclass(frozen=True)
class AskedSegment:
    """A segment that is sound, of whose rows, and what its relative rules were measured from."""

    index: IndexSettings
    catalog: Catalog
    chain: int
    segment: dict[str, Any]
    tree: Tree
    now: datetime
    zone: ZoneInfo


def preview_segment(call: Call) -> Reply:
    """Answer what a segment selects now, or at the moment the body names."""
    body = call.body.document
    bare = not body.keys() & {"segment", "segment_id"} and bool(body.keys() & _SEGMENT_MEMBERS)
    asked = read_asked(call, Preview, {"segment": body} if bare else body, prefix="" if bare else "/segment")
    sample = call.services.source.sample(asked.index, asked.tree, chain=asked.chain, rows=SAMPLE_ROWS)
    return Reply({"count": sample.count, "sample": sample.documents, "query": sample.query})


def read_asked(call: Call, model: type[BaseModel], document: dict[str, Any], *, prefix: str) -> AskedSegment:
    """Read a body: its segment compiled, or InvalidRequestError with every fault."""
    findings = Findings(read_model(model, document)[1])
    zone = read_zone(document.get("timezone", "UTC"), "/timezone")
    now = _now(call) if document.get("now") is None else read_moment(document["now"], "/now")
    findings.add(one for one in (zone, now) if isinstance(one, Fault))
    moment = now if isinstance(now, datetime) else _now(call)
    place = ZoneInfo("UTC") if isinstance(zone, Fault) else zone
    found = _segment(call, document, findings)
    if found is None:
        findings.raise_if_any()
        raise InvalidRequestError("The body names no segment.")
    segment, saved = (found.document, found) if isinstance(found, Saved) else (found, None)
    pointer = "/segment_id" if saved is not None else f"{prefix}/index"
    index = find_index(call.services, segment.get("index"), pointer, findings)
    catalog = call.services.source.catalog(index) if index is not None else None
    others = call.services.source.catalogs()
    if saved is not None:
        tree = check_saved(saved, "/segment_id", catalog, findings, now=moment, zone=place, others=others)
    else:
        tree = check_segment(Question(segment, prefix, moment, place, others), catalog, findings)
    findings.raise_if_any()
    if index is None or catalog is None or tree is None:
        raise InvalidRequestError("The segment names no index.")
    return AskedSegment(index, catalog, segment["chain_id"], segment, tree, moment, place)


def _segment(call: Call, document: dict[str, Any], findings: Findings) -> dict[str, Any] | Saved | None:
    """Return the body's own segment or the saved one it names; None where it has neither, with the fault."""
    given = [name for name in ("segment", "segment_id") if document.get(name) is not None]
    if len(given) != 1:
        detail = "Give `segment`, the rules themselves, or `segment_id`, a saved one, and not both."
        findings.add([Fault("", "clash", detail) if given else Fault("/segment", "missing", detail)])
        return None
    if given == ["segment_id"]:
        segment_id = schedule.read_segment_id(document["segment_id"])
        if segment_id is None:
            detail = "`segment_id` must be the id of a saved segment, e.g. 42."
            findings.add([Fault("/segment_id", "wrong_type", detail)])
            return None
        saved = find_saved(call.services, segment_id, "/segment_id", chain=call.principal.chain)
        if isinstance(saved, Fault):
            findings.add([saved])
            return None
        return saved
    if not isinstance(document["segment"], dict):
        return None
    segment = cast("dict[str, Any]", document["segment"])
    chain = segment.get("chain_id")
    if isinstance(chain, int) and not isinstance(chain, bool):
        call.require_chain(chain)
    return segment


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
            "or the id of a saved one with the time zone and the moment its relative rules are measured from."
        ),
        answers=[Success(200, "What it selects.", PreviewAnswer)],
        body=Preview,
        alternatives=(Segment,),
        collects=True,
        errors=[SourceError, SourceUnavailableError, LinkLimitError],
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
