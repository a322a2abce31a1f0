"""Saved segments as other routes use them: finding the one a caller names, and keeping it while a task is written.

What lives here: the look-up, and the faults of an id that names nothing or nothing that fits. What does not: saving
and showing them (saved_segments.py), and judging rules (definitions.py). Called by definitions.py, by the routes that
write tasks, and by those that preview and explain.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sqlmodel import Session

from tasks_service.app import Services
from tasks_service.database import segments
from tasks_service.errors import Fault, InvalidRequestError
from tasks_service.schemas import MAX_ID

_FAULTS_TOLD = 5
_TRIGGER = "/trigger/segment_id"


@dataclass(frozen=True)
class Saved:
    """A saved segment as it is now."""

    segment_id: int
    chain: int
    version: int
    document: dict[str, Any]


def find_saved(services: Services, segment_id: int, pointer: str, *, chain: int | None) -> Saved | Fault:
    """Return a saved segment of a chain (None: of any) as it is now, or the fault of an id that names none there."""
    if chain is not None and not 0 <= chain <= MAX_ID:
        return _unknown(pointer)
    with services.database.read() as session:
        segment = segments.get_segment(session, segment_id, chain=chain)
        newest = segments.newest_versions(session, [segment_id]).get(segment_id)
    if segment is None or newest is None:
        return _unknown(pointer)
    return Saved(segment_id, segment.chain, newest.version, newest.document)


def unfit(saved: Saved, pointer: str, faults: Iterable[tuple[str, str]]) -> Fault:
    """Return the one fault that tells what is wrong (pointer, sentence) with a segment that was sound when saved."""
    told = [f"{place or '/'} {detail}" for place, detail in faults]
    more = f"; and {len(told) - _FAULTS_TOLD} more" if len(told) > _FAULTS_TOLD else ""
    detail = (
        f"The index does not answer version {saved.version} of this segment: {'; '.join(told[:_FAULTS_TOLD])}{more}. "
        f"Replace it with PUT /segments/{saved.segment_id}."
    )
    return Fault(pointer, "not_answerable", detail)


def hold(session: Session, trigger: Mapping[str, Any], *, chain: int) -> None:
    """Keep the saved segment a trigger names from being deleted before the task is written that uses it.

    Raises InvalidRequestError where it was deleted since it was looked up.
    """
    segment_id = trigger.get("segment_id")
    if segment_id is not None and not segments.hold_segment(session, segment_id, chain=chain):
        raise InvalidRequestError(faults=[_unknown(_TRIGGER)])


def _unknown(pointer: str) -> Fault:
    return Fault(pointer, "unknown_segment", "The chain has no saved segment of this id; GET /segments lists them.")
