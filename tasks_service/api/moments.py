"""Instants and time zones as callers write them, outside a trigger: list filters and previews.

What lives here: reading, with a fault that says what would be right. What a trigger's moments mean is schedule.py's.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from tasks_service import zones
from tasks_service.errors import Fault

_EARLIEST, _LATEST = datetime(1, 1, 2, tzinfo=UTC), datetime(9999, 12, 30, tzinfo=UTC)


def read_zone(name: Any, pointer: str) -> ZoneInfo | Fault:  # noqa: ANN401 -- whatever was sent
    """Return the IANA zone of that name, or the fault of a name that is none."""
    if isinstance(name, str) and name in zones.names():
        return ZoneInfo(name)
    return Fault(pointer, "unknown_zone", f"{name!r:.100} {zones.unknown_name(str(name))}")


def read_moment(text: Any, pointer: str, zone: ZoneInfo | None = None) -> datetime | Fault:  # noqa: ANN401
    """Return the instant an ISO 8601 text names, in UTC; without offset it is read in the zone, if there is one."""
    try:
        moment = datetime.fromisoformat(text) if isinstance(text, str) and "T" in text.upper() else None
    except ValueError:
        moment = None
    if moment is not None and moment.tzinfo is None and zone is not None:
        moment = moment.replace(tzinfo=zone)
    if moment is None or moment.tzinfo is None:
        detail = 'Write an instant with its offset, e.g. "2026-05-26T12:00:00Z" (in a URL, + is %2B).'
        return Fault(pointer, "invalid_date", detail)
    # The ends of the calendar have no place left for another zone's offset.
    naive = moment.replace(tzinfo=UTC)
    if not _EARLIEST <= naive <= _LATEST:
        return Fault(pointer, "out_of_range", "Name a moment between the years 1 and 9999.")
    return moment.astimezone(UTC)


def read_bound(text: str | None, name: str, faults: list[Fault]) -> datetime | None:
    """Return the instant that bounds a list, None where none is given or what is given is none: a fault says so."""
    read = read_moment(text, name) if text is not None else None
    if isinstance(read, Fault):
        faults.append(read)
        return None
    return read
