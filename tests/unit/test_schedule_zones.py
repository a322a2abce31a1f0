"""Cron lines in zones whose clocks change, against an oracle that walks every minute.

The oracle shares nothing with the code but the zone data. For a line that names times, each matching
wall-clock time `w` fires at the first instant at which the clock shows `w` or later: itself, the first of
two, or the end of its gap. For a line whose minute or hour starts with `*`, every instant fires at which
the clock shows a matching time.
"""

from __future__ import annotations

import itertools
import os
from bisect import bisect_left
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from functools import lru_cache
from zoneinfo import ZoneInfo, available_timezones

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tasks_service.schedule import occurrences

MINUTE = timedelta(minutes=1)
FULL = bool(os.environ.get("FULL"))
# The last clock with seconds in its offset was Liberia's, until 1972; the walker goes by whole minutes.
YEARS = range(1973, 2038) if FULL else range(2026, 2027)
NAMES = {"jan": 1, "feb": 2, "mar": 3, "oct": 10, "dec": 12, "mon": 1, "fri": 5, "sat": 6}


def numbers(text: str, lowest: int, highest: int) -> set[int]:
    """The numbers a field names, by the book."""
    found: set[int] = set()
    for item in text.split(","):
        body, _, step = item.partition("/")
        if body == "*":
            first, last = lowest, highest
        else:
            low, _, high = body.partition("-")
            first = int(NAMES.get(low, low))
            last = int(NAMES.get(high, high)) if high else (highest if step else first)
        found |= {value for value in range(first, last + 1) if (value - first) % int(step or 1) == 0}
    return found


def day_matches(line: str, day: date) -> bool:
    _, _, days, months, weekdays = line.split()
    if day.month not in numbers(months, 1, 12):
        return False
    by_day = day.day in numbers(days, 1, 31)
    by_weekday = day.isoweekday() % 7 in {value % 7 for value in numbers(weekdays, 0, 7)}
    both = days.startswith("*") or weekdays.startswith("*")
    return (by_day and by_weekday) if both else (by_day or by_weekday)


@lru_cache(maxsize=64)
def walk(zone: str, start: datetime, days: int) -> list[tuple[datetime, datetime]]:
    """Every minute, and what the clock shows then."""
    shown_in = ZoneInfo(zone)
    instants = [start + MINUTE * number for number in range(days * 1440)]
    return [(instant, instant.astimezone(shown_in).replace(tzinfo=None)) for instant in instants]


def oracle(line: str, zone: str, start: datetime, minutes: int) -> list[datetime]:
    """The instants in (start, start + minutes) at which the line fires."""
    midnight = datetime(start.year, start.month, start.day, tzinfo=UTC)
    shown = walk(zone, midnight - timedelta(days=2), minutes // 1440 + 4)
    minute, hour, *_ = line.split()
    wanted_minutes, wanted_hours = numbers(minute, 0, 59), numbers(hour, 0, 23)
    first, last = min(wall for _, wall in shown), max(wall for _, wall in shown)
    days = [first.date() + timedelta(days=number) for number in range((last - first).days + 2)]
    wanted_days = {day for day in days if day_matches(line, day)}
    if minute.startswith("*") or hour.startswith("*"):
        fires = {
            instant
            for instant, wall in shown
            if wall.minute in wanted_minutes and wall.hour in wanted_hours and wall.date() in wanted_days
        }
    else:
        fires = set()
        walls = [
            datetime(day.year, day.month, day.day, at_hour, at_minute)  # noqa: DTZ001 -- a wall clock
            for day in sorted(wanted_days)
            for at_hour in sorted(wanted_hours)
            for at_minute in sorted(wanted_minutes)
        ]
        position = 0
        for wall in walls:
            if first <= wall <= last:
                while shown[position][1] < wall:
                    position += 1
                fires.add(shown[position][0])
    return sorted(instant for instant in fires if start < instant < start + MINUTE * minutes)


def computed(line: str, zone: str, start: datetime, minutes: int) -> list[datetime]:
    found: list[datetime] = []
    for instant in occurrences(line, zone, after=start):
        if instant >= start + MINUTE * minutes:
            break
        found.append(instant)
    return found


# A zone, and a day before its clock does something.
EDGES = {
    "New York, spring": ("America/New_York", datetime(2026, 3, 7, tzinfo=UTC)),
    "New York, autumn": ("America/New_York", datetime(2026, 10, 31, tzinfo=UTC)),
    "London, spring": ("Europe/London", datetime(2026, 3, 28, tzinfo=UTC)),
    "London, autumn": ("Europe/London", datetime(2026, 10, 24, tzinfo=UTC)),
    "Amsterdam, spring": ("Europe/Amsterdam", datetime(2026, 3, 28, tzinfo=UTC)),
    "Helsinki, autumn": ("Europe/Helsinki", datetime(2026, 10, 24, tzinfo=UTC)),
    "Sydney, autumn": ("Australia/Sydney", datetime(2026, 4, 3, tzinfo=UTC)),
    "Sydney, spring": ("Australia/Sydney", datetime(2026, 10, 2, tzinfo=UTC)),
    "Lord Howe, half an hour back": ("Australia/Lord_Howe", datetime(2026, 4, 3, tzinfo=UTC)),
    "Lord Howe, half an hour on": ("Australia/Lord_Howe", datetime(2026, 10, 2, tzinfo=UTC)),
    "Apia, a day that never was": ("Pacific/Apia", datetime(2011, 12, 28, tzinfo=UTC)),
    "Sao Paulo, no midnight": ("America/Sao_Paulo", datetime(2018, 11, 3, tzinfo=UTC)),
    "Cairo, no midnight": ("Africa/Cairo", datetime(2026, 4, 23, tzinfo=UTC)),
    "Cairo, midnight twice": ("Africa/Cairo", datetime(2026, 10, 28, tzinfo=UTC)),
    "Azores, back over midnight": ("Atlantic/Azores", datetime(2026, 10, 24, tzinfo=UTC)),
    "Kathmandu, a quarter": ("Asia/Kathmandu", datetime(1985, 12, 30, tzinfo=UTC)),
    "Casablanca, Ramadan": ("Africa/Casablanca", datetime(2026, 2, 13, tzinfo=UTC)),
    "UTC": ("UTC", datetime(2026, 2, 27, tzinfo=UTC)),
}
LINES = [
    "* * * * *",
    "*/5 3 * * *",
    "*/20 1-3 * * *",
    "15 * * * *",
    "30 */2 * * *",
    "0 0 * * *",
    "30 0 * * *",
    "30 1 * * *",
    "30 2 * * *",
    "0,30 2,3 * * *",
    "59 23 * * *",
    "45 1,2 * * 0",
    "0 12 30 * *",
]


@pytest.mark.parametrize("edge", EDGES)
def test_where_a_clock_changes_a_line_fires_as_the_walker_says(edge: str) -> None:
    zone, start = EDGES[edge]
    minutes = 3 * 1440
    for line in LINES:
        assert computed(line, zone, start, minutes) == oracle(line, zone, start, minutes), line


def _items(lowest: int, highest: int) -> st.SearchStrategy[str]:
    value = st.integers(lowest, highest)
    step = st.integers(1, highest - lowest + 1)
    spans = st.tuples(value, value).map(lambda ends: f"{min(ends)}-{max(ends)}")
    return st.one_of(
        value.map(str), spans, st.tuples(spans, step).map(lambda p: f"{p[0]}/{p[1]}"), step.map(lambda n: f"*/{n}")
    )


def _fields(lowest: int, highest: int, often: str) -> st.SearchStrategy[str]:
    return st.one_of(st.just(often), st.lists(_items(lowest, highest), min_size=1, max_size=2).map(",".join))


@given(
    edge=st.sampled_from(sorted(EDGES)),
    shift=st.integers(0, 1439),
    line=st.tuples(
        _fields(0, 59, "30"), _fields(0, 23, "2"), _fields(1, 28, "*"), _fields(1, 12, "*"), _fields(0, 7, "*")
    ).map(" ".join),
)
@example(edge="Lord Howe, half an hour back", shift=0, line="*/5 3 * * *")
@example(edge="London, autumn", shift=1439, line="30 1 * * *")
@settings(max_examples=100, deadline=None)
def test_any_line_fires_as_the_walker_says(edge: str, shift: int, line: str) -> None:
    zone, day = EDGES[edge]
    start = day + MINUTE * shift
    assert computed(line, zone, start, 2880) == oracle(line, zone, start, 2880)


Change = tuple[datetime, timedelta | None, timedelta | None]
"""The minute from which a clock goes by another offset, and the offsets before and after."""


def changes(zone: str, years: range) -> Iterator[Change]:
    """All changes of a zone's clock that lie at least six hours apart."""
    shown_in = ZoneInfo(zone)

    def offset(at: datetime) -> timedelta | None:
        return at.astimezone(shown_in).utcoffset()

    begun = at = datetime(years.start, 1, 1, tzinfo=UTC)
    before, later = offset(at), timedelta(hours=6)
    while (at := at + later) < begun.replace(year=years.stop):
        if (after := offset(at)) != before:
            minutes = [at - later + MINUTE * number for number in range(1, 361)]
            yield minutes[bisect_left(minutes, True, key=lambda minute: offset(minute) != before)], before, after
            before = after


def test_where_any_clock_changes_a_line_fires_as_the_walker_says() -> None:
    """Each change that any zone has, once: zones share most of theirs."""
    found: dict[Change, str] = {}
    for zone in sorted(available_timezones()):
        for change in changes(zone, YEARS):
            found.setdefault(change, zone)
    assert len(found) > (1000 if FULL else 15)
    for (edge, _, _), zone in found.items():
        start = edge.replace(hour=0, minute=0) - timedelta(days=1)
        # What the clock shows around the change: some go on late in the evening (Nuuk, Easter, Beirut).
        around = (edge + timedelta(minutes=minutes) for minutes in (-61, -1, 0, 60, 120))
        for hour in {at.astimezone(ZoneInfo(zone)).hour for at in around}:
            for line in (f"30 {hour} * * *", f"*/15 {hour} * * *"):
                assert computed(line, zone, start, 2880) == oracle(line, zone, start, 2880), (zone, line, edge)


def test_a_daily_line_fires_on_every_day_of_fifteen_years() -> None:
    for zone in ("America/New_York", "Africa/Cairo", "Atlantic/Azores"):
        days = [
            instant.astimezone(ZoneInfo(zone)).date()
            for instant in computed("30 0 * * *", zone, datetime(2016, 1, 1, tzinfo=UTC), 15 * 365 * 1440)
        ]
        assert [later - day for day, later in itertools.pairwise(days)] == [timedelta(days=1)] * (len(days) - 1)
