"""The offsets of one time zone as a small table: for each year, when they change and to what.

Years that the zone's data tells one by one have an entry each; those that follow its rule for all later years share one
of 14, by the weekday they begin with and whether they are leap. What lives here is the table; what is looked up in it
is local_times.py's, its caller.
"""

from __future__ import annotations

import calendar
import struct
from bisect import bisect_left
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Final

from tasks_service.zones import Rules

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_DAY = 86_400
_KINDS: Final = tuple((weekday, leap) for weekday in range(7) for leap in (False, True))
_HEADER = struct.Struct(">20x6L")
_EARLIEST = -62_135_596_800
"""The year 1, in seconds."""


@dataclass(frozen=True, slots=True)
class ZoneOffsets:
    """A zone's offsets, of entries that are years.

    Attributes:
        first: the year of the first entry, in which nothing changes; earlier years are as it is.
        last: the last year with an entry of its own; those after it have one of the 14 behind, in the order of
            `kind_of`.
        width: how many changes an entry holds; those that a year does not have never come.
        changes: `width` for each entry: seconds of its year, in UTC.
        places: one more for each entry: places in `offsets`, before the first change and from each one on.
        offsets: seconds east of UTC.
    """

    first: int
    last: int
    width: int
    changes: tuple[int, ...]
    places: tuple[int, ...]
    offsets: tuple[int, ...]


NEVER: Final = 367 * _DAY
"""A second that no year has."""


def kind_of(year: int) -> int:
    """Return which of the 14 kinds a year is: twice the weekday it begins with, Monday being 0, and 1 where leap."""
    return _KINDS.index((calendar.weekday(year, 1, 1), calendar.isleap(year)))


@lru_cache(maxsize=64)
def zone_offsets(rules: Rules) -> ZoneOffsets:
    """Return the table of a zone under these rules."""
    zone, told = rules.zone, _told_changes(rules.data)
    first = _moment(told[0]).year - 1 if told else _EPOCH.year - 1
    last = _moment(told[-1]).year if told else first
    by_kind = {kind_of(year): year for year in range(last + 40, last, -1)}
    years = [*range(first, last + 1), *(by_kind[kind] for kind in range(len(_KINDS)))]
    entries = [_entry(zone, year, told, by_rule=year >= last) for year in years]
    offsets = tuple(sorted({offset for entry in entries for _, offset in entry}))
    width = max(map(len, entries)) - 1
    filled = [[*entry, *[(NEVER, entry[-1][1])] * (width + 1 - len(entry))] for entry in entries]
    return ZoneOffsets(
        first,
        last,
        width,
        tuple(change for entry in filled for change, _ in entry[1:]),
        tuple(offsets.index(offset) for entry in filled for _, offset in entry),
        offsets,
    )


def _told_changes(data: bytes) -> list[int]:
    """Return the seconds, since 1970, at which a TZif file says that something changes (RFC 9636, 3.2)."""
    utc, standard, leap, times, kinds, letters = _HEADER.unpack_from(data)
    # The first block has times of 32 bits; the second has all of them, in 64.
    start = _HEADER.size + times * 5 + kinds * 6 + letters + leap * 8 + standard + utc
    _, _, _, times, _, _ = _HEADER.unpack_from(data, start)
    found = struct.unpack_from(f">{times}q", data, start + _HEADER.size)
    return [second for second in found if second > _EARLIEST]


def _entry(zone: tzinfo, year: int, told: list[int], *, by_rule: bool) -> list[tuple[int, int]]:
    """Return the offset a year begins with, as of second 0, and each change with the offset it is to."""
    start, end = (_seconds(datetime(one, 1, 1, tzinfo=UTC)) for one in (year, year + 1))
    points = set(told[bisect_left(told, start + 1) : bisect_left(told, end)])
    if by_rule:
        points |= _found_changes(zone, start, end)
    entry = [(0, _offset(zone, start))]
    for point in sorted(points):
        offset = _offset(zone, point)
        if offset != entry[-1][1]:
            entry.append((point - start, offset))
    return entry


def _found_changes(zone: tzinfo, start: int, end: int) -> set[int]:
    """Return the changes that a rule makes in a year: none is undone within a day."""
    found: set[int] = set()
    for day in range(start, end, _DAY):
        before, after = day, day + _DAY
        offset = _offset(zone, before)
        if _offset(zone, after) == offset:
            continue
        while after - before > 1:
            middle = (before + after) // 2
            before, after = (middle, after) if _offset(zone, middle) == offset else (before, middle)
        if after < end:
            found.add(after)
    return found


def _offset(zone: tzinfo, second: int) -> int:
    found = _moment(second).astimezone(zone).utcoffset()
    return 0 if found is None else found // timedelta(seconds=1)


def _moment(second: int) -> datetime:
    return _EPOCH + timedelta(seconds=second)


def _seconds(moment: datetime) -> int:
    return (moment - _EPOCH) // timedelta(seconds=1)
