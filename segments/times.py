"""Calendar arithmetic: dates as rules and documents write them, windows relative to a moment, whole units.

Pure functions over integers of milliseconds since 1970 in UTC and local dates of a zone. A local time that
does not exist takes the offset before the gap; one that exists twice is the first. What lies beyond the years
1 to 9999 is None. Called by ``operands`` (is this a date), ``parse`` (which instants) and ``evaluate``.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import TypeAlias
from zoneinfo import ZoneInfo

from segments.operators import FACTORS

SECOND = 1000
MINUTE = 60 * SECOND
HOUR = 60 * MINUTE
DAY = 24 * HOUR

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_LOCAL_EPOCH = datetime(1970, 1, 1)  # noqa: DTZ001 - wall-clock times of a zone are naive on purpose
_MILLISECOND = timedelta(milliseconds=1)
FIRST = (datetime.min.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND
AFTER_LAST = (datetime.max.replace(tzinfo=UTC) - _EPOCH) // _MILLISECOND + 1

_CLOCK = r"(?:[01][0-9]|2[0-3]):[0-5][0-9](?::[0-5][0-9](?:[.,][0-9]{1,9})?)?"
_OFFSET = r"(?:[Zz]|[+-](?:[01][0-9]|2[0-3])(?::?[0-5][0-9])?)"
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}", re.ASCII)
_DATE_TIME = re.compile(rf"[0-9]{{4}}-[0-9]{{2}}-[0-9]{{2}}[Tt ]{_CLOCK}{_OFFSET}?", re.ASCII)
_MONTHS = {"month": 1, "quarter": 3, "year": 12}
_DAYS = {"day": 1, "week": 7}
_ELAPSED = {"minute": MINUTE, "hour": HOUR}

Day: TypeAlias = date
Moment: TypeAlias = datetime


@dataclass(frozen=True, slots=True)
class Clock:
    """The moment a segment is resolved at, once, and the zone its calendar is read in.

    Attributes:
        now: milliseconds since 1970 in UTC.
        zone: where days begin.
    """

    now: int
    zone: ZoneInfo

    @classmethod
    def at(cls, now: datetime, zone: ZoneInfo) -> Clock:
        """The clock standing at ``now``, an aware datetime, cut to the millisecond."""
        if now.tzinfo is None:
            raise ValueError("now must be an aware datetime")
        return cls((now - _EPOCH) // _MILLISECOND, zone)

    def local(self, instant: int) -> datetime:
        """The wall-clock time of an instant in the zone."""
        there = _EPOCH + instant * _MILLISECOND
        # Within hours of the years 1 and 9999 UTC has a calendar where the zone has none.
        with suppress(OverflowError):
            there = there.astimezone(self.zone)
        return there.replace(tzinfo=None, fold=0)

    def instant(self, local: datetime) -> int:
        """The instant of a wall-clock time in the zone."""
        offset = local.replace(tzinfo=self.zone, fold=0).utcoffset() or timedelta(0)
        return (local - _LOCAL_EPOCH - offset) // _MILLISECOND


def read_date(text: object) -> Day | Moment | None:
    """A date operand: a date, a naive or aware datetime, or None for what is no date."""
    if not isinstance(text, str):
        return None
    try:
        if len(text) == len("2026-03-29"):
            return date.fromisoformat(text) if _DATE.fullmatch(text) else None
        return datetime.fromisoformat(text.upper()) if _DATE_TIME.fullmatch(text) else None
    except ValueError:
        return None


def read_factor(word: object) -> str | None:
    """The unit of time a rule names, in the singular."""
    if not isinstance(word, str):
        return None
    singular = word.removesuffix("s")
    return singular if singular in FACTORS else None


def bounds(read: Day | Moment, clock: Clock) -> tuple[int, int]:
    """The half-open span an operand means: a bare date its whole day, an instant its millisecond."""
    if isinstance(read, datetime):
        start = (read - _EPOCH) // _MILLISECOND if read.tzinfo else clock.instant(read)
        return start, start + 1
    return day_of(read, clock)


def day_of(day: Day, clock: Clock) -> tuple[int, int]:
    """The half-open span of a calendar day in the zone."""
    start = datetime(day.year, day.month, day.day)  # noqa: DTZ001
    after = _plus_days(start, 1)
    return clock.instant(start), AFTER_LAST if after is None else clock.instant(after)


def day_around(read: Day | Moment, clock: Clock) -> tuple[int, int]:
    """The calendar day an operand names, or lies on, in the zone."""
    if not isinstance(read, datetime):
        return day_of(read, clock)
    local = clock.local(bounds(read, clock)[0]) if read.tzinfo else read
    return day_of(local.date(), clock)


def shifted(clock: Clock, factor: str, amount: int) -> int | None:
    """Now moved by ``amount`` units, negative into the past; None beyond the years 1 to 9999.

    Minutes and hours are elapsed time; a day is the same wall-clock time on another date, months clamp to
    their last day.
    """
    if amount == 0:
        return clock.now
    if factor in _ELAPSED:
        moved = clock.now + amount * _ELAPSED[factor]
        return moved if FIRST <= moved < AFTER_LAST else None
    local = clock.local(clock.now)
    if factor in _DAYS:
        there = _plus_days(local, amount * _DAYS[factor])
    else:
        there = _plus_months(local, amount * _MONTHS[factor])
    return None if there is None else clock.instant(there)


def unit(clock: Clock, factor: str, amount: int) -> tuple[int, int] | None:
    """The calendar unit ``amount`` units from the current one, half-open; None beyond the years 1 to 9999."""
    if factor in _ELAPSED:
        moved = clock.now + amount * _ELAPSED[factor]
        if not FIRST <= moved < AFTER_LAST:
            return None
        local = clock.local(moved)
        start: datetime | None = local.replace(second=0, microsecond=0)
        if factor == "hour":
            start = local.replace(minute=0, second=0, microsecond=0)
    else:
        start = _unit_start(clock.local(clock.now), factor, amount)
    if start is None:
        return None
    after = _next(start, factor)
    return clock.instant(start), AFTER_LAST if after is None else clock.instant(after)


def _unit_start(local: datetime, factor: str, amount: int) -> datetime | None:
    midnight = local.replace(hour=0, minute=0, second=0, microsecond=0)
    if factor in _DAYS:
        first = _plus_days(midnight, -midnight.weekday() if factor == "week" else 0)
        return first and _plus_days(first, amount * _DAYS[factor])
    months = _MONTHS[factor]
    first = midnight.replace(day=1, month=(midnight.month - 1) // months * months + 1)
    return _plus_months(first, amount * months)


def _next(start: datetime, factor: str) -> datetime | None:
    if factor in _ELAPSED:
        try:
            return start + _ELAPSED[factor] * _MILLISECOND
        except OverflowError:
            return None
    if factor in _DAYS:
        return _plus_days(start, _DAYS[factor])
    return _plus_months(start, _MONTHS[factor])


def _plus_days(local: datetime, days: int) -> datetime | None:
    try:
        return local + timedelta(days=days)
    except OverflowError:
        return None


def _plus_months(local: datetime, months: int) -> datetime | None:
    year, month = divmod(local.year * 12 + local.month - 1 + months, 12)
    if not 1 <= year <= 9999:  # noqa: PLR2004 - the years datetime has
        return None
    month += 1
    leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
    longest = 29 if month == 2 and leap else (31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)[month - 1]  # noqa: PLR2004
    return local.replace(year=year, month=month, day=min(local.day, longest))
