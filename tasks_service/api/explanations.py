"""POST /segments/explain: why a segment selects one document of its chain, or leaves it out, rule by rule.

What lives here: finding the document by its id, and asking the source what only it knows, whether a group about
another index selects it. What does not: the reasons themselves (segments/explain.py).
"""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from segments import Linked, SegmentError, Tree, all_of, equals, explain
from tasks_service.api.calls import Call, Reply
from tasks_service.api.routes import READ, Route, Success
from tasks_service.api.segments import AskedSegment, read_asked
from tasks_service.errors import Fault, InvalidRequestError, LinkLimitError, SourceError, SourceUnavailableError
from tasks_service.segment_schemas import Explain, Explanation

ID_FIELD = "id"
_ID_DIGITS = 20


def explain_segment(call: Call) -> Reply:
    """Answer whether a segment selects a document, and why."""
    body = call.body.document
    asked = read_asked(call, Explain, body, prefix="/segment")
    source = call.services.source
    named = _named(asked, body["id"])
    document = _document(call, asked, named)

    def selects(link: Linked) -> bool:
        return source.sample(asked.index, all_of(named, link), chain=asked.chain, rows=1).count > 0

    found = explain(
        asked.segment,
        asked.catalog,
        source.catalogs(),
        document=document,
        now=asked.now,
        zone=asked.zone,
        selects=selects,
    )
    return Reply({"matches": found.matched, "explanation": asdict(found)})


def _named(asked: AskedSegment, document_id: int | str) -> Tree:
    """Return the tree of the documents with this id; the digits of a number name it too."""
    field = asked.catalog.get(ID_FIELD)
    if isinstance(document_id, str) and field is not None and field.type == "number" and _is_number(document_id):
        document_id = int(document_id)
    try:
        return equals(asked.catalog, ID_FIELD, document_id)
    except SegmentError as error:
        detail = f"The index cannot find a document by `{ID_FIELD}`: {error.faults[0].detail}."
        raise InvalidRequestError(faults=[Fault("/id", "not_answerable", detail)]) from error


def _document(call: Call, asked: AskedSegment, named: Tree) -> dict[str, Any]:
    sample = call.services.source.sample(asked.index, named, chain=asked.chain, rows=1)
    if sample.count == 1:
        return sample.documents[0]
    if sample.count:
        detail = f"{sample.count} documents of the chain have this `{ID_FIELD}`; an explanation is about one."
        raise InvalidRequestError(faults=[Fault("/id", "not_unique", detail)])
    detail = f"The chain has no document with this `{ID_FIELD}` in the index; POST /segments/preview shows some it has."
    raise InvalidRequestError(faults=[Fault("/id", "unknown_document", detail)])


def _is_number(text: str) -> bool:
    digits = text.removeprefix("-")
    return digits.isascii() and digits.isdigit() and len(digits) <= _ID_DIGITS


ROUTES = (
    Route(
        "POST",
        "/segments/explain",
        explain_segment,
        READ,
        summary="Explain a segment",
        description=(
            "Tells for one document of the chain whether a segment selects it, and for each of its groups and rules "
            "whether it does, which values it saw and why. Where several rules must hold of the same nested document, "
            "`together` tells whether one meets them all."
        ),
        answers=[Success(200, "Why it selects the document, or leaves it out.", Explanation)],
        body=Explain,
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
            "id": 12345,
        },
        tag="Segments",
    ),
)
