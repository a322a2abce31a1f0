"""When a task runs: from its trigger to its occurrences, and what becomes of those that were missed.

What lives here: everything that is decided about time alone. Given a trigger and instants it returns
instants; it reads no clock and no table. What does not: what else is going on when an occurrence is due
(overlap: database/due.py), and the two halves it is made of, cron.py (lines and zones) and trigger.py (the
document). Called by api/ (checks, previews) and by scheduler.py (`plan`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import chain, dropwhile, groupby, islice, takewhile
from typing import Any, TypeAlias
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from tasks_service import zones
from tasks_service.config import SchedulerSettings
from tasks_service.cron import Cron, CronError, parse_cron
from tasks_service.trigger import check_trigger, defaults, read_segment_id, write_instant

__all__ = [
    "Cron",
    "CronError",
    "Limits",
    "Plan",
    "Planner",
    "SkipRange",
    "check_trigger",
    "defaults",
    "delay",
    "ends_at",
    "first_occurrence",
    "moved",
    "newest_occurrences",
    "next_run_dates",
    "occurrences",
    "occurrences_between",
    "parse_cron",
    "passed",
    "plan",
    "read_segment_id",
    "resume",
    "write_instant",
]

Decided: TypeAlias = Callable[[datetime], Sequence[tuple[datetime, datetime]]]

_SECOND = timedelta(seconds=1)
_MICROSECOND = timedelta(microseconds=1)
# An occurrence claimed so late is a missed one. Two polls, and never less than what a busy moment may cost.
_LEAST_GRACE = timedelta(seconds=60)
# Occurrences decided in one plan: after long downtime the rest follows in the next, so that no transaction
# is long.
_AT_ONCE = 1000


@dataclass(frozen=True)
class Limits:
    """How far `misfire: run_all` goes back, how many occurrences it runs at most.

    And from when on one was missed.
    """

    catch_up: timedelta = timedelta(days=7)
    catch_up_runs: int = 100
    grace: timedelta = _LEAST_GRACE

    @classmethod
    def of(cls, settings: SchedulerSettings) -> Limits:
        """Take the limits from the settings."""
        return cls(
            catch_up=timedelta(days=settings.catch_up_days),
            catch_up_runs=settings.catch_up_runs,
            grace=max(_LEAST_GRACE, 2 * timedelta(seconds=settings.poll_interval_seconds)),
        )


@dataclass(frozen=True)
class SkipRange:
    """Consecutive occurrences that are not run, from `first` to `last`, `count` in all, and why (a slug)."""

    first: datetime
    last: datetime
    count: int
    reason: str


@dataclass(frozen=True)
class Planner:
    """The rules of this module under given limits, as database/due.py asks for them."""

    limits: Limits

    def plan(self, trigger: Mapping[str, Any], *, due: datetime, now: datetime, zone: ZoneInfo | None = None) -> Plan:
        """Decide what becomes of every occurrence from `due` to `now`; see `plan`."""
        return plan(trigger, due=due, now=now, limits=self.limits, zone=zone)

    def moved(
        self,
        trigger: Mapping[str, Any],
        *,
        due: datetime,
        now: datetime,
        old: ZoneInfo,
        new: ZoneInfo,
        decided: Decided,
    ) -> datetime | None:
        """Return the first occurrence without an outcome by the new rules of a zone; see `moved`."""
        return moved(trigger, due=due, now=now, old=old, new=new, decided=decided)

    def delay(self, task_id: int, trigger: Mapping[str, Any], occurrence: datetime) -> timedelta:
        """Return how much later than its occurrence a run of the task starts; see `delay`."""
        return delay(task_id, occurrence, trigger.get("jitter") or 0)


@dataclass(frozen=True)
class Plan:
    """What becomes of the occurrences that are due: each is in `run` or in one of `skips`.

    Then comes `next_run_at`.
    """

    run: tuple[datetime, ...]
    skips: tuple[SkipRange, ...]
    next_run_at: datetime | None


@lru_cache(maxsize=4096)
def _parsed(text: str) -> Cron:
    return parse_cron(text)


def occurrences(
    cron: str,
    zone: str | ZoneInfo,
    *,
    after: datetime,
    start_at: datetime | None = None,
    end_at: datetime | None = None,
) -> Iterator[datetime]:
    """Return the instants (aware, UTC) of a cron line in a zone, strictly after `after`, from `start_at` to `end_at`.

    Both ends belong to the range. Without `end_at` they end only with the calendar. A zone that is given by name goes
    by the rules of this host.

    Raises:
        CronError: `cron` is no cron line.
        zoneinfo.ZoneInfoNotFoundError: there is no such zone.
    """
    since = after if start_at is None else max(after, start_at - _SECOND)
    found = _parsed(cron).after(since, ZoneInfo(zone) if isinstance(zone, str) else zone)
    return found if end_at is None else takewhile(lambda instant: instant <= end_at, found)


def _of(trigger: Mapping[str, Any], *, after: datetime, zone: ZoneInfo | None = None) -> Iterator[datetime]:
    """Return the occurrences of a stored trigger strictly after a moment; `zone`: its zone by the rules that hold."""
    if "once" in trigger:
        once = _instant(trigger["once"])
        return iter([once] if once is not None and once > after else [])
    return occurrences(
        trigger["cron"],
        zone or zones.name_in(trigger),
        after=after,
        start_at=_instant(trigger.get("start_at")),
        end_at=_instant(trigger.get("end_at")),
    )


def _instant(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text).astimezone(UTC)


def first_occurrence(
    trigger: Mapping[str, Any], *, created_at: datetime, zone: ZoneInfo | None = None
) -> datetime | None:
    """Return the first occurrence of a trigger stored at `created_at`.

    None where a cron line has none any more.

    A `once` that is past or now is due at once, and its occurrence is the moment of creation.
    """
    if "once" in trigger:
        return max(_instant(trigger["once"]) or created_at, created_at)
    return next(_of(trigger, after=created_at, zone=zone), None)


def ends_at(trigger: Mapping[str, Any]) -> datetime | None:
    """Return the moment behind which a trigger has no occurrence; None where it has no such end."""
    return _instant(trigger.get("once") or trigger.get("end_at"))


def next_run_dates(
    trigger: Mapping[str, Any], *, after: datetime, count: int = 5, zone: ZoneInfo | None = None
) -> list[datetime]:
    """Return the next occurrences strictly after a moment, `count` at most."""
    return list(islice(_of(trigger, after=after, zone=zone), count))


def occurrences_between(
    trigger: Mapping[str, Any], *, start: datetime, end: datetime, most: int, zone: ZoneInfo | None = None
) -> tuple[list[datetime], datetime | None]:
    """Return the occurrences of a trigger from `start` to before `end`, `most` of them, and the one that follows those.

    None follows where they were all.
    """
    found: list[datetime] = []
    for instant in _of(trigger, after=start - _MICROSECOND, zone=zone):
        if instant >= end:
            break
        if len(found) == most:
            return found, instant
        found.append(instant)
    return found, None


def newest_occurrences(
    cron: str, zone: str | ZoneInfo, *, first: datetime, last: datetime, most: int
) -> list[datetime]:
    """Return the newest occurrences of a cron line from `first` to `last`, both included: `most` of them, ascending.

    Raises what `occurrences` raises.
    """
    back = timedelta(hours=1)
    while True:
        # A line is read forwards only: from ever further back, until there are enough.
        start = max(first, last - back)
        found = list(occurrences(cron, zone, after=start - _MICROSECOND, end_at=last))
        if len(found) >= most or start == first:
            return found[-most:]
        back *= 4


def plan(
    trigger: Mapping[str, Any], *, due: datetime, now: datetime, limits: Limits, zone: ZoneInfo | None = None
) -> Plan:
    """Decide what becomes of every occurrence from `due` (the first without an outcome) to `now`.

    On time is what is at most `limits.grace` old: it is run. Missed is what is older: with `misfire: skip`
    none of it is run, with `run_all` the newest `catch_up_runs` of the catch-up window are, with `run_once`
    the newest is, unless one that is on time follows it already. A `once` is run however late it is.

    After long downtime the plan ends early, and `next_run_at` is still due: plan again.
    """
    if "once" in trigger:
        return Plan((due,), (), None)
    zone = zone or ZoneInfo(zones.name_in(trigger))
    misfire, start_at, end_at = (trigger.get(name) for name in ("misfire", "start_at", "end_at"))
    return _plan(trigger["cron"], zone, misfire, start_at, end_at, due, now, limits)


@lru_cache(maxsize=128)  # a herd is due by few lines, at one moment
def _plan(
    cron: str,
    zone: ZoneInfo,
    misfire: str | None,
    start_at: str | None,
    end_at: str | None,
    due: datetime,
    now: datetime,
    limits: Limits,
) -> Plan:
    policy = misfire or "run_once"
    most = _AT_ONCE + (limits.catch_up_runs if policy == "run_all" else 1)
    later = occurrences(cron, zone, after=due, start_at=_instant(start_at), end_at=_instant(end_at))
    found, following = _until(now, due, later, most=most)
    if len(found) > most:
        # So many follow the first ones that those cannot be among the newest: they are decided, the rest is
        # not.
        return Plan((), _skips(found[:_AT_ONCE], policy, now, limits), found[_AT_ONCE])
    missed = [instant for instant in found if now - instant > limits.grace]
    on_time = found[len(missed) :]
    run = _caught_up(missed, policy, now, limits)
    if policy == "run_once" and on_time:
        run = []
    skipped = missed[: len(missed) - len(run)]
    return Plan((*run, *on_time), _skips(skipped, policy, now, limits), following)


def resume(trigger: Mapping[str, Any], *, due: datetime | None, now: datetime, zone: ZoneInfo | None = None) -> Plan:
    """Decide what becomes of what a pause let pass.

    It is not run, but a `once` is, as soon as it is resumed.
    """
    if due is None or due > now or "once" in trigger:
        return Plan((), (), due)
    first, last, count, following = due, due, 1, None
    for instant in _of(trigger, after=due, zone=zone):
        if instant > now:
            following = instant
            break
        last, count = instant, count + 1
    return Plan((), (SkipRange(first, last, count, "paused"),), following)


def passed(
    trigger: Mapping[str, Any],
    *,
    due: datetime | None,
    now: datetime,
    reason: str = "paused",
    zone: ZoneInfo | None = None,
) -> tuple[SkipRange, ...]:
    """Return what has passed without an outcome of a trigger that goes: none of it is run, a `once` neither."""
    if due is None or due > now:
        return ()
    if "once" not in trigger:
        try:
            return tuple(replace(one, reason=reason) for one in resume(trigger, due=due, now=now, zone=zone).skips)
        except (CronError, ZoneInfoNotFoundError):
            pass  # It cannot be understood any more: what is known is that `due` was not run.
    return (SkipRange(due, due, 1, reason),)


def moved(
    trigger: Mapping[str, Any], *, due: datetime, now: datetime, old: ZoneInfo, new: ZoneInfo, decided: Decided
) -> datetime | None:
    """Return a cron trigger's first occurrence without an outcome by new rules of its zone, `due` by the old ones.

    A line that names times goes on with the first wall-clock time it has not run at: what ran by the old rules does not
    run again because the new ones call the moment otherwise, and a time that has passed unnoticed is late, not lost. A
    line whose minute or hour starts with `*` goes on with the next instant that matches. `decided` tells the ranges of
    occurrences from a moment on that have their outcome: none gets a second one.
    """
    line = _parsed(trigger["cron"])
    if line.names_times:
        found = line.after_shown((due - _SECOND).astimezone(old).replace(tzinfo=None), new)
    else:
        found = line.after(min(due, now) - _MICROSECOND, new)
    pending = _between(found, _instant(trigger.get("start_at")), _instant(trigger.get("end_at")))
    first = next(pending, None)
    if first is None or first > now:
        return first
    ranges = decided(first)
    latest = max((last for _, last in ranges), default=first)
    chosen: datetime | None = None
    for instant in chain([first], pending):
        if any(start <= instant <= end for start, end in ranges):
            chosen = None
        elif chosen is None:
            chosen = instant
        if instant > latest:
            break
    return chosen


def _between(instants: Iterator[datetime], start: datetime | None, end: datetime | None) -> Iterator[datetime]:
    """Leave out what lies before `start`, and end after `end`."""
    if start is not None:
        instants = dropwhile(lambda instant: instant < start, instants)
    return instants if end is None else takewhile(lambda instant: instant <= end, instants)


def _until(
    now: datetime, due: datetime, later: Iterator[datetime], *, most: int
) -> tuple[list[datetime], datetime | None]:
    """Return `due` and up to `most` further occurrences until `now`, and the one that follows those."""
    found = [due]
    for instant in islice(later, most):
        if instant > now:
            return found, instant
        found.append(instant)
    return found, None


def _caught_up(missed: list[datetime], policy: str, now: datetime, limits: Limits) -> list[datetime]:
    """Return which of the missed occurrences are run: always some of the newest."""
    if policy == "run_all":
        return [instant for instant in missed if now - instant <= limits.catch_up][-limits.catch_up_runs :]
    return missed[-1:] if policy == "run_once" else []


def _skips(skipped: list[datetime], policy: str, now: datetime, limits: Limits) -> tuple[SkipRange, ...]:
    """Put consecutive occurrences that are not run for the same reason together."""

    def reason(instant: datetime) -> str:
        if policy != "run_all":
            return "misfire"
        return "catch_up_window" if now - instant > limits.catch_up else "catch_up_limit"

    return tuple(
        SkipRange(group[0], group[-1], len(group), why)
        for why, group in ((why, list(members)) for why, members in groupby(skipped, key=reason))
    )


def delay(task_id: int, occurrence: datetime, jitter: int) -> timedelta:
    """Return how much later than its occurrence a run starts.

    0 to `jitter` seconds, always the same for the same run.
    """
    if jitter <= 0:
        return timedelta(0)
    digest = hashlib.sha256(f"{task_id}@{write_instant(occurrence)}".encode()).digest()
    return timedelta(milliseconds=int.from_bytes(digest[:8], "big") % (jitter * 1000 + 1))
