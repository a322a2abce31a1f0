"""Saved segments: making, finding, replacing and deleting them, and their versions.

What does not live here: what a segment means (the package `segments`; callers have checked it) and the runs that use
one (runs.py and due.py, which ask `newest_versions` when a run is made). Called by api/. A task that names a saved
segment holds it while it is written (`hold_segment`), so that none can be deleted under a task that is being made.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import func
from sqlalchemy.exc import IntegrityError
from sqlmodel import Session, col, select

from tasks_service.database.clients import Principal
from tasks_service.database.models import SavedSegment, SegmentVersion, Task
from tasks_service.database.statements import Direction, identity, page
from tasks_service.errors import ConflictError

_USERS_NAMED = 10


class NameTakenError(ConflictError):
    """The chain has a segment of this name already; choose another name, or replace that one."""

    code = "name_taken"


@dataclass(frozen=True)
class SegmentFilters:
    """Which saved segments a list shows. None filters nothing."""

    chain: int | None = None
    export_index: str | None = None
    name: str | None = None


@dataclass(frozen=True)
class Users:
    """The tasks that use a segment: how many, and the ids of the first of them."""

    count: int
    first: tuple[int, ...]


def create_segment(
    session: Session, *, now: datetime, principal: Principal, chain: int, name: str, document: dict[str, Any]
) -> SavedSegment:
    """Store a checked segment as version 1; raise NameTakenError where the chain has one of this name."""
    segment = SavedSegment(
        chain=chain,
        client_id=principal.client_id,
        name=name,
        export_index=document["index"],
        created_at=now,
        modified_at=now,
    )
    _store(session, segment)
    _add_version(session, segment, now=now, principal=principal, document=document)
    return segment


def get_segment(
    session: Session, segment_id: int, *, chain: int | None, lock: Literal["change", "delete"] | None = None
) -> SavedSegment | None:
    """Return a segment of `chain` (None: of any) that is not deleted; `lock` it to change or to delete it."""
    query = select(SavedSegment).where(SavedSegment.id == segment_id, col(SavedSegment.deleted_at).is_(None))
    if chain is not None:
        query = query.where(SavedSegment.chain == chain)
    if lock is not None:
        # Whoever makes a task that names it waits for a deletion, not for a new version.
        query = query.with_for_update(key_share=lock == "change").execution_options(populate_existing=True)
    return session.exec(query).first()


def hold_segment(session: Session, segment_id: int, *, chain: int) -> bool:
    """Keep a segment of `chain` from being deleted until the end of the transaction; False where there is none."""
    query = select(SavedSegment.id).where(
        SavedSegment.id == segment_id, SavedSegment.chain == chain, col(SavedSegment.deleted_at).is_(None)
    )
    return session.exec(query.with_for_update(read=True, key_share=True)).first() is not None


def list_segments(
    session: Session,
    filters: SegmentFilters,
    *,
    limit: int,
    after: int | None = None,
    direction: Direction = "next",
) -> tuple[list[SavedSegment], bool]:
    """Return a page of segments, newest first, and whether there are more.

    `after` is a segment's id (see `page`).
    """
    query = select(SavedSegment).where(col(SavedSegment.deleted_at).is_(None))
    if filters.chain is not None:
        query = query.where(SavedSegment.chain == filters.chain)
    if filters.export_index is not None:
        query = query.where(SavedSegment.export_index == filters.export_index)
    if filters.name is not None:
        query = query.where(SavedSegment.name == filters.name)
    return page(session, query, SavedSegment, limit=limit, after=after, direction=direction)


def replace_segment(
    session: Session,
    segment: SavedSegment,
    *,
    now: datetime,
    principal: Principal,
    name: str,
    document: dict[str, Any],
) -> None:
    """Give a segment read with `lock="change"` another version; the runs that exist keep theirs.

    What is the same already stays the version it is: a request that is repeated changes nothing. Raises
    NameTakenError.
    """
    newest = newest_versions(session, [segment.id])[identity(segment)]
    if (newest.name, newest.document) == (name, document):
        return
    segment.name, segment.version, segment.modified_at = name, segment.version + 1, now
    _store(session, segment)
    _add_version(session, segment, now=now, principal=principal, document=document)


def delete_segment(session: Session, segment: SavedSegment, *, now: datetime) -> Users:
    """Delete a segment read with `lock="delete"`, unless tasks use it: then those are returned, and nothing is done.

    Its versions stay: runs were made with them.
    """
    users = users_of(session, identity(segment))
    if not users.count:
        segment.deleted_at = segment.modified_at = now
        session.add(segment)
    return users


def users_of(session: Session, segment_id: int) -> Users:
    """Return the tasks that use a segment, ended ones too: they can be executed again. Deleted ones do not count."""
    using = (col(Task.segment_id) == segment_id, col(Task.deleted_at).is_(None))
    first = session.exec(select(Task.id).where(*using).order_by(col(Task.id)).limit(_USERS_NAMED)).all()
    count = session.exec(select(func.count()).select_from(Task).where(*using)).one()
    return Users(count, tuple(one for one in first if one is not None))


def newest_versions(session: Session, segment_ids: Iterable[int | None]) -> dict[int, SegmentVersion]:
    """Return the newest version of each segment that is not deleted, by segment, in one query.

    None among the ids is passed over; of no ids nothing is asked.
    """
    wanted = {one for one in segment_ids if one is not None}
    if not wanted:
        return {}
    query = (
        select(SegmentVersion)
        .join(SavedSegment, col(SavedSegment.id) == col(SegmentVersion.segment_id))
        .where(
            col(SavedSegment.id).in_(wanted),
            col(SavedSegment.deleted_at).is_(None),
            col(SegmentVersion.version) == col(SavedSegment.version),
        )
    )
    return {version.segment_id: version for version in session.exec(query)}


def list_versions(
    session: Session, segment_id: int, *, limit: int, after: int | None = None, direction: Direction = "next"
) -> tuple[list[SegmentVersion], bool]:
    """Return a page of a segment's versions, newest first, and whether there are more.

    `after` is the id of a version's row (see `page`).
    """
    query = select(SegmentVersion).where(SegmentVersion.segment_id == segment_id)
    return page(session, query, SegmentVersion, limit=limit, after=after, direction=direction)


def get_version(session: Session, segment_id: int, version: int) -> SegmentVersion | None:
    """Return one version of a segment."""
    query = select(SegmentVersion).where(SegmentVersion.segment_id == segment_id, SegmentVersion.version == version)
    return session.exec(query).first()


def _store(session: Session, segment: SavedSegment) -> None:
    """Write a segment's row; the unique index judges its name, also against whoever writes at the same time."""
    try:
        with session.begin_nested():
            session.add(segment)
    except IntegrityError as exc:
        raise NameTakenError from exc


def _add_version(
    session: Session, segment: SavedSegment, *, now: datetime, principal: Principal, document: dict[str, Any]
) -> None:
    session.add(
        SegmentVersion(
            segment_id=identity(segment),
            version=segment.version,
            name=segment.name,
            document=document,
            client_id=principal.client_id,
            created_at=now,
        )
    )
    session.flush()
