"""What a schedule means, said a second time: the oracle of ``test_schedule_model.py``. Shares no code with the service.

A line is the sets of minutes, hours and weekdays that it names. It is walked minute by minute, as somebody would who
sits in front of the zone's clock; what becomes of what is due is decided from the promises: one outcome each.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

MINUTE = timedelta(minutes=1)
# What the installation under test is configured with.
GRACE = timedelta(seconds=60)
CATCH_UP = timedelta(days=7)
CATCH_UP_RUNS = 3
GOING = ("queued", "running")


@dataclass(frozen=True)
class Line:
    """A cron line; ``named`` is one of which neither the minute nor the hour starts with ``*``."""

    cron: str
    minutes: frozenset[int]
    hours: frozenset[int]
    weekdays: frozenset[int]  # as datetime counts them: Monday is 0
    named: bool

    def shown_on(self, clock: datetime) -> bool:
        return clock.minute in self.minutes and clock.hour in self.hours and clock.weekday() in self.weekdays


@dataclass(frozen=True)
class Trigger:
    """A trigger that is a line, or one moment."""

    zone: str = "UTC"
    line: Line | None = None
    once: datetime | None = None
    misfire: str = "run_once"
    overlap: str = "skip"
    start: datetime | None = None
    end: datetime | None = None

    @property
    def document(self) -> dict[str, object]:
        if self.line is None:
            assert self.once is not None
            return {"once": text(self.once)}
        found: dict[str, object] = {"cron": self.line.cron, "timezone": self.zone}
        found |= {"misfire": self.misfire, "overlap": self.overlap}
        found |= {} if self.start is None else {"start_at": text(self.start)}
        return found | ({} if self.end is None else {"end_at": text(self.end)})

    def between(self, after: datetime, until: datetime) -> list[datetime]:
        """The occurrences of the line later than a moment, up to another and with it."""
        assert self.line is not None
        if self.start is not None:
            after = max(after, self.start - MINUTE / 60)
        if self.end is not None:
            until = min(until, self.end)
        return walk(self.line, ZoneInfo(self.zone), after, until)


def walk(line: Line, zone: ZoneInfo, after: datetime, until: datetime) -> list[datetime]:
    """Sit in front of the clock from one moment to another, and write down when the line fires."""
    found: list[datetime] = []
    instant = after.replace(second=0, microsecond=0)
    before = instant.astimezone(zone).replace(tzinfo=None)
    while (instant := instant + MINUTE) <= until:
        shown = instant.astimezone(zone)
        clock = shown.replace(tzinfo=None)
        fires = line.shown_on(clock)
        if line.named:
            # The second time the clock shows an hour is not counted; what it leaves out happens where it goes on.
            fires = (fires and shown.fold == 0) or any(map(line.shown_on, _left_out(before, clock)))
        if fires:
            found.append(instant)
        before = clock
    return found


def _left_out(before: datetime, after: datetime) -> Iterable[datetime]:
    while (before := before + MINUTE) < after:
        yield before


def text(moment: datetime) -> str:
    return f"{moment.astimezone(UTC):%Y-%m-%dT%H:%M:%SZ}"


@dataclass(eq=False)
class OfRun:
    """A run; ``backfill`` is the id of the one that it belongs to."""

    kind: str
    occurrence: datetime
    state: str = "queued"
    serial: bool = True
    backfill: int | None = None


@dataclass
class OfBackfill:
    """A backfill that is running, with the occurrences it has to run."""

    id: int
    wanted: list[datetime]
    concurrency: int
    made: list[datetime] = field(default_factory=list[datetime])


@dataclass(eq=False)
class OfTask:
    """A task as it should be: what it has to do, and what became of its occurrences until ``since``.

    ``outcomes`` has ``run``, or the reason for which an occurrence was not run. ``due`` is the moment of a ``once``
    that has no outcome yet.
    """

    id: int
    trigger: Trigger
    since: datetime
    due: datetime | None = None
    paused: bool = False
    outcomes: dict[datetime, str] = field(default_factory=dict[datetime, str])
    runs: list[OfRun] = field(default_factory=list[OfRun])
    backfill: OfBackfill | None = None

    def start(self, trigger: Trigger, now: datetime) -> None:
        """Go by this trigger from now on."""
        self.trigger, self.since = trigger, now
        self.due = None if trigger.once is None else max(trigger.once, now)

    def undecided(self, now: datetime) -> list[datetime]:
        """What has come and has no outcome yet."""
        if self.trigger.line is not None:
            return self.trigger.between(self.since, now)
        return [self.due] if self.due is not None and self.due <= now else []

    def going(self, *states: str) -> list[OfRun]:
        """Its runs that are queued or running, without those of backfills."""
        return [run for run in self.runs if run.backfill is None and run.state in (states or GOING)]

    def settle(self, now: datetime) -> None:
        """Give what is due its outcome, as a scheduler does; a paused task has nothing due."""
        if self.paused:
            return
        wanted = self._wanted(self.undecided(now), now)
        if self.trigger.overlap == "cancel_other":
            self.outcomes |= dict.fromkeys(wanted[:-1], "overlap")
            wanted = wanted[-1:]
        for one in wanted:
            if self._overlaps():
                self.outcomes[one] = "overlap"
                continue
            if self.trigger.overlap == "cancel_other":
                self.cancel_queued()
            self.outcomes[one] = "run"
            self.runs.append(OfRun("schedule", one, serial=self.trigger.overlap != "allow"))
        self.decided(now)

    def leave(self, reason: str, now: datetime) -> None:
        """Run nothing of what is due, for that reason."""
        self.outcomes |= dict.fromkeys(self.undecided(now), reason)
        self.decided(now)

    def decided(self, now: datetime) -> None:
        self.since = now
        if self.due is not None and self.due <= now:
            self.due = None

    def cancel_queued(self) -> None:
        for run in self.going("queued"):
            run.state = "cancelled"

    def left_alone(self, occurrence: datetime, reprocess: str) -> bool:
        """Whether a backfill does not run an occurrence: its newest run decides."""
        states = [run.state for run in self.runs if run.occurrence == occurrence and run.kind != "manual"]
        if not states or reprocess == "none":
            return bool(states)
        return states[-1] in GOING or (reprocess == "failed" and states[-1] == "done")

    def _wanted(self, found: list[datetime], now: datetime) -> list[datetime]:
        """What is run of what is due, however late; what is not gets its reason."""
        if self.trigger.line is None:
            return found
        missed = [one for one in found if now - one > GRACE]
        on_time = found[len(missed) :]
        if self.trigger.misfire == "run_all":
            recent = [one for one in missed if now - one <= CATCH_UP]
            self.outcomes |= dict.fromkeys(missed, "catch_up_window")
            self.outcomes |= dict.fromkeys(recent, "catch_up_limit")
            kept = recent[-CATCH_UP_RUNS:]
        else:
            self.outcomes |= dict.fromkeys(missed, "misfire")
            kept = missed[-1:] if self.trigger.misfire == "run_once" and not on_time else []
        return kept + on_time

    def _overlaps(self) -> bool:
        # A moment of its own is always run, behind what goes.
        if self.trigger.line is None or self.trigger.overlap in {"allow", "buffer_all", "cancel_other"}:
            return False
        return bool(self.going("queued") if self.trigger.overlap == "buffer_one" else self.going())
