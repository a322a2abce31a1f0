"""Cron lines: one dialect, read strictly, and the instants they name in a time zone.

The dialect is Vixie's. Five fields (minute, hour, day of month, month, weekday), each a list of `*`,
numbers and ranges, with steps; names of months and weekdays in any case; 0 and 7 are Sunday; where both day
fields are restricted (neither starts with `*`) either may match, otherwise both must. `@hourly`, `@daily`
(`@midnight`), `@weekly`, `@monthly`, `@yearly` (`@annually`) stand for their lines. Nothing else is
accepted, and no part of a line is ignored.

In a zone whose clock changes, a line whose minute and hour fields both name times fires once on each
matching local day: at the first instant after a gap that swallows its time, at the first of two that bear
it. A line whose minute or hour field starts with `*` fires at every real instant that matches.

cronsim matches the wall clock; the zones are dealt with here, because cronsim loses occurrences where a
clock moves by half an hour. Called by schedule.py and trigger.py. Pure: knows no clock of its own.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from cronsim import CronSim, CronSimError

MACROS = {
    "@hourly": "0 * * * *",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@weekly": "0 0 * * 0",
    "@monthly": "0 0 1 * *",
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
}
LONGEST = 256
_SECOND = timedelta(seconds=1)
# No zone has ever changed its clock and changed it back within a day.
_STRIDE = timedelta(hours=12)
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_WEEKDAYS = ("sun", "mon", "tue", "wed", "thu", "fri", "sat")
_ITEM = re.compile(
    r"(?:(?P<all>\*)|(?P<first>[0-9]+|[a-z]+)(?:-(?P<last>[0-9]+|[a-z]+))?)(?:/(?P<step>[0-9]+))?", re.ASCII
)


class CronError(ValueError):
    """A text is no cron line; the message says which part, and what would be right."""


@dataclass(frozen=True)
class _Field:
    name: str
    lowest: int
    highest: int
    names: tuple[str, ...] = ()

    @property
    def range(self) -> str:
        example = f", or a name ({self.names[0]} to {self.names[-1]})" if self.names else ""
        return f"{self.lowest} to {self.highest}{example}"


_FIELDS = (
    _Field("minute", 0, 59),
    _Field("hour", 0, 23),
    _Field("day of month", 1, 31),
    _Field("month", 1, 12, _MONTHS),
    _Field("weekday", 0, 7, _WEEKDAYS),
)


@dataclass(frozen=True)
class Cron:
    """A cron line that was read: `text` as it was given, `line` its five fields in plain numbers."""

    text: str
    line: str

    @property
    def names_times(self) -> bool:
        """Whether the line names times of the day, rather than every so many minutes or hours."""
        minute, hour = self.line.split()[:2]
        return not minute.startswith("*") and not hour.startswith("*")

    def after(self, moment: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        """Return the instants (aware, UTC) at which the line fires in a zone, strictly after an aware moment.

        Ends only where the calendar does (in the year 9999).
        """
        moment = moment.astimezone(UTC)
        if self.names_times:
            shown = moment.astimezone(zone).replace(tzinfo=None)
            yield from (instant for instant in self.after_shown(shown, zone) if instant > moment)
            return
        try:
            yield from _at_every_match(self.line, moment, zone)
        except OverflowError:
            return

    def after_shown(self, shown: datetime, zone: ZoneInfo) -> Iterator[datetime]:
        """Return the instants (aware, UTC) at which a line that names times fires for what comes after a clock's time.

        Once for each matching wall-clock time later than `shown`; two that a gap moves to one instant are one.
        """
        latest: datetime | None = None
        try:
            for wall in CronSim(self.line, shown):
                instant = first_instant(wall, zone)
                if latest is None or instant > latest:
                    latest = instant
                    yield instant
        except OverflowError:
            return


def parse_cron(text: str) -> Cron:
    """Read a cron line.

    Raises:
        CronError: it is none of the dialect, or names no date that exists.
    """
    given = " ".join(text.split())
    if len(given) > LONGEST:
        raise CronError(f"is longer than {LONGEST} characters")
    line = given.lower()
    if line.startswith("@"):
        if line not in MACROS:
            raise CronError(f"{given} is unknown; known are {', '.join(MACROS)}, or write five fields")
        line = MACROS[line]
    parts = line.split(" ") if line else []
    if len(parts) != len(_FIELDS):
        raise CronError(f"has {len(parts)} fields; write five: minute hour day-of-month month weekday, e.g. 0 2 * * *")
    line = " ".join(_read(field, part) for field, part in zip(_FIELDS, parts, strict=True))
    try:
        CronSim(line, datetime(2000, 1, 1))  # noqa: DTZ001 -- a wall clock
    except CronSimError as exc:
        raise CronError(f"names a day that no month of its months has ({parts[2]} in month {parts[3]})") from exc
    return Cron(given, line)


def _read(field: _Field, text: str) -> str:
    """Return a field as a list of plain numbers, after its `*` where it starts with one: that has a meaning of its own.

    cronsim is handed nothing that can be read in two ways: it takes `5-5/10` for `5/10`, for one.
    """
    items = text.split(",")
    values = [_values(field, item) for item in items]
    if items[0] == "*":
        return "*"
    starred = items[0].startswith("*")
    rest = sorted({value for one in (values[1:] if starred else values) for value in one})
    return ",".join([*(items[:1] if starred else []), *map(str, rest)])


def _values(field: _Field, item: str) -> range:
    """Return the numbers of one item of a field."""
    match = _ITEM.fullmatch(item)
    if match is None:
        raise CronError(
            f"{item!r} is no {field.name}: write *, a number, a range a-b, or one of them with a step /n, "
            f"of {field.range}; several with commas"
        )
    first, last = field.lowest, field.highest
    if not match["all"]:
        first = _number(field, match["first"])
        if match["last"]:
            last = _number(field, match["last"])
        elif not match["step"]:
            last = first
    if match["last"] == "sun":
        last = 7  # the week's end as well as its start: mon-sun is what it looks like
    if last < first:
        raise CronError(
            f"{item!r} runs backwards in {field.name}: write what it means as a list, "
            "e.g. 22-23,0-2 for the hours from 22 to 2"
        )
    step, longest = int(match["step"] or 1), field.highest - field.lowest + 1
    if not 1 <= step <= longest:
        raise CronError(f"the step of {item!r} must be 1 to {longest} in {field.name}: steps start anew in each")
    return range(first, last + 1, step)


def _number(field: _Field, text: str) -> int:
    if text in field.names:
        return field.names.index(text) + (1 if field.names is _MONTHS else 0)
    if not text.isdigit() or not field.lowest <= int(text) <= field.highest:
        raise CronError(f"{text!r} is no {field.name}: write {field.range}")
    return int(text)


def first_instant(wall: datetime, zone: ZoneInfo) -> datetime:
    """Return the first instant (UTC) at which a zone's clock shows `wall`.

    Or the first after the gap it lies in.
    """
    early = wall.replace(tzinfo=zone, fold=0).astimezone(UTC)
    if early.astimezone(zone).replace(tzinfo=None) == wall:
        return early
    # In a gap: by the offset before it the instant lies behind the change, by the one after it before the
    # change.
    late = wall.replace(tzinfo=zone, fold=1).astimezone(UTC)
    return _bisect(min(early, late), max(early, late), zone)


def _at_every_match(line: str, moment: datetime, zone: ZoneInfo) -> Iterator[datetime]:
    """Fire at every instant whose wall-clock time matches: match within each stretch of one offset."""
    start = clear = moment.replace(microsecond=0)
    offset = _offset(start, zone)
    while True:
        change = None
        for wall in CronSim(line, start.replace(tzinfo=None) + offset):
            instant = wall.replace(tzinfo=UTC) - offset
            change = _change(clear, instant, zone)
            if change is not None:
                break
            clear = instant
            yield instant
        if change is None:
            return
        # The change itself is a candidate, by the clock that it brings.
        start, clear, offset = change - _SECOND, change, _offset(change, zone)


def _offset(instant: datetime, zone: ZoneInfo) -> timedelta:
    return instant.astimezone(zone).utcoffset() or timedelta(0)


def _change(start: datetime, end: datetime, zone: ZoneInfo) -> datetime | None:
    """Return the first instant in (start, end] at which the zone's offset is another than at `start`."""
    offset = _offset(start, zone)
    while start < end:
        stop = min(start + _STRIDE, end)
        if _offset(stop, zone) != offset:
            return _bisect(start, stop, zone)
        start = stop
    return None


def _bisect(start: datetime, end: datetime, zone: ZoneInfo) -> datetime:
    """Return the second at which the one change of offset in (start, end] happens."""
    before = _offset(start, zone)
    while end - start > _SECOND:
        middle = start + _SECOND * ((end - start) // (2 * _SECOND))
        start, end = (middle, end) if _offset(middle, zone) == before else (start, middle)
    return end
