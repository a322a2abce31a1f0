"""Saved segments: save, list, show, replace and delete them, and show their versions.

What lives here: what callers see and ask of them. What does not: how a task uses one (saved_segments_use.py) and
trying one out (segments.py); the declarations are saved_segments_routes.py. A segment's rules are judged before its
row is held: a catalogue may be read meanwhile.
"""

from __future__ import annotations

from typing import Any, cast
from zoneinfo import ZoneInfo

import structlog
from sqlmodel import Session

from tasks_service.api import shapes
from tasks_service.api.bodies import nearest, shown
from tasks_service.api.calls import Call, Reply
from tasks_service.api.cursors import Pages
from tasks_service.api.definitions import Findings, Question, catalog_of, check_segment, find_index
from tasks_service.api.problems import InvalidParametersError, MembersError
from tasks_service.api.tags import matches_none, matches_version
from tasks_service.database import segments
from tasks_service.database import shown as lookups
from tasks_service.database.models import SavedSegment, SegmentVersion
from tasks_service.errors import Fault, InvalidRequestError, NotFoundError, PreconditionFailedError
from tasks_service.schemas import MAX_ID, PageQuery
from tasks_service.segment_schemas import SegmentListQuery

log = structlog.stdlib.get_logger(__name__)
_NO_SEGMENT = "There is no saved segment with this id."


class SegmentInUseError(MembersError):
    """Tasks use this segment; delete them or give them another one first."""

    code = "segment_in_use"


def create_segment(call: Call) -> Reply:
    """Save a segment as version 1."""
    document = _judged(call)
    with call.services.database.write() as session:
        now = call.services.database.now(session)
        segment = segments.create_segment(
            session,
            now=now,
            principal=call.principal,
            chain=document["chain_id"],
            name=call.body.document["name"],
            document=document,
        )
        reply = _reply(session, segment, 201, {"Location": f"/segments/{segment.id}"})
    log.info("segment.created", segment_id=segment.id, chain=segment.chain)
    return reply


def list_segments(call: Call) -> Reply:
    """Answer a page of saved segments, newest first."""
    query = call.query(SegmentListQuery)
    chain = query.chain if query.chain is not None else call.principal.chain
    if chain is not None:
        call.require_chain(chain)
    known = list(call.services.settings.indices)
    if query.index is not None and query.index not in known:
        detail = f"There is no export index `{shown(query.index)}`. {nearest(query.index, known)}"
        raise InvalidParametersError(faults=[Fault("index", "unknown_index", detail)])
    filters = segments.SegmentFilters(chain=chain, export_index=query.index, name=query.name)
    given = query.model_dump(exclude={"limit", "cursor"})
    pages = Pages(call.services.secret_key, "/segments", given, call.principal.client_id)
    position = pages.position(query.cursor)
    with call.services.database.read() as session:
        rows, more = segments.list_segments(
            session, filters, limit=query.limit, after=position.after, direction=position.direction
        )
        results = _documents(session, rows)
    base = call.services.settings.service.public_url
    links = pages.links([row.id or 0 for row in rows], position, more=more, limit=query.limit, base=base)
    return Reply({"results": results, **links})


def get_segment(call: Call) -> Reply:
    """Answer a saved segment, or 304 where the caller has this version of it already."""
    with call.services.database.read() as session:
        segment = _find(call, session)
        tag = _etag(segment.version)
        if matches_none(call.headers.get("If-None-Match"), tag):
            return Reply(status=304, headers={"ETag": tag})
        return _reply(session, segment, headers={"Cache-Control": "private, no-cache"})


def replace_segment(call: Call) -> Reply:
    """Give a saved segment another version: runs that are made from now on use it."""
    database = call.services.database
    with database.read() as session:
        stored = _find(call, session)
    _check_version(call, stored)
    document = _judged(call, stored)
    with database.write() as session:
        segment = segments.get_segment(session, call.path["segment_id"], chain=call.principal.chain, lock="change")
        if segment is None:
            raise NotFoundError(_NO_SEGMENT)
        _check_version(call, segment)
        segments.replace_segment(
            session,
            segment,
            now=database.now(session),
            principal=call.principal,
            name=call.body.document["name"],
            document=document,
        )
        reply = _reply(session, segment)
    log.info("segment.replaced", segment_id=segment.id, version=segment.version)
    return reply


def delete_segment(call: Call) -> Reply:
    """Delete a saved segment that no task uses."""
    database = call.services.database
    with database.write() as session:
        segment = segments.get_segment(session, call.path["segment_id"], chain=call.principal.chain, lock="delete")
        if segment is None:
            raise NotFoundError(_NO_SEGMENT)
        _check_version(call, segment)
        users = segments.delete_segment(session, segment, now=database.now(session))
    if users.count:
        first = ", ".join(map(str, users.first)) + (" and others" if users.count > len(users.first) else "")
        raise SegmentInUseError(
            f"Tasks that use this segment: {users.count} ({first}); delete them or give them another one first.",
            tasks_count=users.count,
            tasks=list(users.first),
        )
    log.info("segment.deleted", segment_id=segment.id)
    return Reply(status=204)


def list_segment_versions(call: Call) -> Reply:
    """Answer a page of a saved segment's versions, newest first."""
    query, segment_id = call.query(PageQuery), int(call.path["segment_id"])
    pages = Pages(call.services.secret_key, f"/segments/{segment_id}/versions", {}, call.principal.client_id)
    position = pages.position(query.cursor)
    with call.services.database.read() as session:
        _find(call, session)
        rows, more = segments.list_versions(
            session, segment_id, limit=query.limit, after=position.after, direction=position.direction
        )
        results = _versions(session, rows)
    base = call.services.settings.service.public_url
    links = pages.links([row.id or 0 for row in rows], position, more=more, limit=query.limit, base=base)
    return Reply({"results": results, **links})


def get_segment_version(call: Call) -> Reply:
    """Answer one version of a saved segment."""
    with call.services.database.read() as session:
        _find(call, session)
        version = segments.get_version(session, call.path["segment_id"], call.path["version"])
        if version is None:
            raise NotFoundError("The segment has no such version; GET /segments/{segment_id}/versions lists them.")
        [document] = _versions(session, [version])
    return Reply(document)


def _find(call: Call, session: Session) -> SavedSegment:
    """Return the segment the path names; raise NotFoundError, the same for another chain's as for none at all."""
    segment = segments.get_segment(session, call.path["segment_id"], chain=call.principal.chain)
    if segment is None:
        raise NotFoundError(_NO_SEGMENT)
    return segment


def _check_version(call: Call, segment: SavedSegment) -> None:
    if not matches_version(call.headers.get("If-Match"), segment.version):
        raise PreconditionFailedError


def _judged(call: Call, stored: SavedSegment | None = None) -> dict[str, Any]:
    """Return the body's segment, sound against the catalogue; raise InvalidRequestError with every fault.

    One that replaces `stored` stays with its chain and its index.
    """
    findings = Findings(call.body.faults)
    members: Any = call.body.document.get("segment")
    if not isinstance(members, dict):
        findings.raise_if_any()
        raise InvalidRequestError("`segment` is required.")
    document = cast("dict[str, Any]", members)
    _check_chain(call, document.get("chain_id"), stored, findings)
    index = find_index(call.services, document.get("index"), "/segment/index", findings)
    if index is not None and stored is not None and document["index"] != stored.export_index:
        detail = f"A saved segment stays with its index, `{stored.export_index}`; save another one for this index."
        findings.add([Fault("/segment/index", "other_index", detail)])
    catalog = catalog_of(call.services, index, "/segment/index", findings) if index is not None else None
    with call.services.database.read() as session:
        now = call.services.database.now(session)
    question = Question(document, "/segment", now, ZoneInfo("UTC"), call.services.source.catalogs())
    check_segment(question, catalog, findings)
    findings.raise_if_any()
    return document


def _check_chain(call: Call, chain: Any, stored: SavedSegment | None, findings: Findings) -> None:  # noqa: ANN401
    if not isinstance(chain, int) or isinstance(chain, bool):
        return
    pointer = "/segment/chain_id"
    if stored is not None and chain != stored.chain:
        detail = f"A saved segment stays with its chain, {stored.chain}."
        findings.add([Fault(pointer, "foreign_chain", detail)])
        return
    call.require_chain(chain)
    if not 0 <= chain <= MAX_ID:
        findings.add([Fault(pointer, "out_of_range", f"`chain_id` must be a number from 0 to {MAX_ID}.")])


def _reply(session: Session, segment: SavedSegment, status: int = 200, headers: dict[str, str] | None = None) -> Reply:
    documents = _documents(session, [segment])
    if not documents:
        raise NotFoundError(_NO_SEGMENT)
    return Reply(documents[0], status, {"ETag": _etag(documents[0]["version"])} | (headers or {}))


def _documents(session: Session, rows: list[SavedSegment]) -> list[dict[str, Any]]:
    newest = segments.newest_versions(session, [row.id for row in rows])
    authors = lookups.clients_by_id(session, (row.client_id for row in rows))
    # What was deleted since the rows were read has no newest version any more, and what was replaced a newer one.
    return [
        shapes.saved_segment(row, newest[row.id], authors.get(row.client_id))
        for row in rows
        if row.id is not None and row.id in newest
    ]


def _versions(session: Session, rows: list[SegmentVersion]) -> list[dict[str, Any]]:
    authors = lookups.clients_by_id(session, (row.client_id for row in rows))
    return [shapes.segment_version(row, authors.get(row.client_id)) for row in rows]


def _etag(version: int) -> str:
    return f'"{version}"'
