"""Stretches of a schedule that have no run of its own: what was skipped, and what is pending, written out when asked.

What lives here: which occurrences a stretch has, by the cron line it was skipped or will be decided under. What does
not: the rows (database/occurrences.py) and the list they are shown in (occurrences.py).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import islice
from typing import Literal
from zoneinfo import ZoneInfo

from tasks_service import schedule
from tasks_service.api.clocks import Clocks
from tasks_service.database.models import Skip, Task

_MICROSECOND = timedelta(microseconds=1)


@dataclass(frozen=True)
class Stretch:
    """Consecutive occurrences from `first` to at most `last`, both instants in UTC.

    `count` is how many there are, where it was counted. Without `cron` no more is known than these three, unless the
    first is all there is.
    """

    outcome: Literal["skipped", "pending"]
    first: datetime
    last: datetime
    count: int | None
    reason: str | None = None
    cron: str | None = None
    zone: ZoneInfo | None = None

    def has(self, occurrence: datetime) -> bool:
        """Tell whether an instant is one of them; where it is not known, every instant in between is."""
        if not self.first <= occurrence <= self.last:
            return False
        found = self.within(occurrence, occurrence + _MICROSECOND, most=1, ascending=True)
        return found is None or occurrence in found

    def within(
        self, start: datetime | None, end: datetime | None, *, most: int, ascending: bool
    ) -> list[datetime] | None:
        """Return those from `start` to before `end` (None: no bound): the first `most` ascending, or the last ones.

        The last ones come newest first. None where it is not known which they are.
        """
        first = self.first if start is None else max(self.first, start)
        last = self.last if end is None else min(self.last, end - _MICROSECOND)
        if self.count == 1:
            return [self.first] if first <= self.first <= last else []
        if self.cron is None or self.zone is None:
            return None
        try:
            if not ascending:
                return schedule.newest_occurrences(self.cron, self.zone, first=first, last=last, most=most)[::-1]
            following = schedule.occurrences(self.cron, self.zone, after=first - _MICROSECOND, end_at=last)
            return list(islice(following, most))
        except schedule.CronError:  # understood no more
            return None


def skipped(skip: Skip, clocks: Clocks) -> Stretch:
    """Return the stretch of a recorded skip, by the rules that its zone had then."""
    first, last = skip.first_occurrence, skip.last_occurrence
    zone = None
    if skip.count > 1 and skip.cron is not None and skip.timezone is not None:
        zone = _as_recorded(skip.cron, clocks.of(skip.timezone), (first, last))
    return Stretch("skipped", first, last, skip.count, skip.reason, skip.cron, zone)


def _as_recorded(cron: str, zones: Sequence[ZoneInfo], ends: tuple[datetime, datetime]) -> ZoneInfo | None:
    """Return the newest rules by which both ends are occurrences, and where there are none, those that hold.

    A range does not say by which rules it was recorded: zone data may have changed the clock of its time since.
    """

    def fires(zone: ZoneInfo, instant: datetime) -> bool:
        return next(schedule.occurrences(cron, zone, after=instant - _MICROSECOND), None) == instant

    if len(zones) > 1:
        with suppress(schedule.CronError):
            fitting = (zone for zone in zones if all(fires(zone, end) for end in ends))
            return next(fitting, zones[0])
    return next(iter(zones), None)


def pending(task: Task, clocks: Clocks, *, before: datetime) -> Stretch | None:
    """Return the occurrences of a task before a moment that have no outcome yet; None where there are none."""
    due = task.next_run_at
    if due is None or due >= before:
        return None
    zone = next(iter(clocks.of(task.trigger["timezone"])), None)
    following: list[datetime] = []
    if zone is not None:  # else nothing is known of what follows, until the trigger is changed
        with suppress(schedule.CronError):
            following = schedule.next_run_dates(task.trigger, after=due, count=1, zone=zone)
    if not following:
        return Stretch("pending", due, due, 1)
    last = before - _MICROSECOND
    if (end_at := schedule.ends_at(task.trigger)) is not None:
        last = min(last, end_at)
    return Stretch("pending", due, last, None, cron=task.trigger["cron"], zone=zone)
