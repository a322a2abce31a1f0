"""Every occurrence has exactly one outcome, whatever happens to its task, and the outcome that is promised.

The API in-process over either database, on a clock that stands until it is moved, against ``schedule_oracle.py``:
tasks in many zones around changes of their clocks are made, edited, paused, resumed, run now, backfilled and deleted,
while their runs go on, end or fail, and while the scheduler looks or is away.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any, ClassVar

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    Bundle,
    MultipleResults,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    rule,
    run_state_machine_as_test,
)
from sqlmodel import Session
from werkzeug.test import TestResponse

from tasks_service.database import claims, due
from tasks_service.database.claims import Claim
from tasks_service.database.engine import Database
from tests.databases import StoppedClock, url_of
from tests.property.schedule_oracle import (
    CATCH_UP,
    CATCH_UP_RUNS,
    GOING,
    MINUTE,
    Line,
    OfBackfill,
    OfRun,
    OfTask,
    Trigger,
    text,
)
from tests.unit.api.conftest import Api, Contract, World, migrated, standing, task_body
from tests.unit.api.test_backfills import tick

__all__ = ["migrated"]

FULL = bool(os.environ.get("FULL"))
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
# A lease that outlasts every leap of the clock.
LEASE_SECONDS = 1e9
ZONES = (
    "UTC", "Europe/Amsterdam", "America/New_York", "America/St_Johns", "Australia/Lord_Howe", "Pacific/Chatham",
    "Africa/Casablanca", "Asia/Kolkata", "Asia/Kathmandu", "Europe/Dublin", "America/Sao_Paulo",
)  # fmt: skip
# Shortly before clocks change: Casablanca (a month of another time), New York, Amsterdam, Lord Howe (by half an hour).
STARTS = tuple(
    datetime(2026, *day, 20, 17, 23, 456000, tzinfo=UTC)
    for day in ((2, 14), (3, 7), (3, 20), (3, 28), (4, 4), (6, 9), (9, 26), (10, 3), (10, 24), (10, 31))
)
ALL_WEEK, ALL_DAY, ALL_HOUR = (frozenset(range(number)) for number in (7, 24, 60))

# Times at which clocks change, or not; never two within 20 minutes.
_times = st.sampled_from(("0", "30", "59", "5,25,45", "15,45"))
_hours = st.sampled_from(("0", "1", "2", "3", "1-3", "0,2,23", "0-23"))
_every = st.sampled_from(("*/20 * * * *", "*/30 * * * *", "7 * * * *", "10 */2 * * *", "*/30 1-3 * * *"))
_days = st.sampled_from(("*", "*", "*", "1-5", "0,6"))


def numbers(part: str, every: frozenset[int]) -> frozenset[int]:
    """The numbers of a field, which the strategies write in these few ways."""
    if part.startswith("*"):
        return frozenset(number for number in every if number % int(part[2:] or 1) == 0)
    found: set[int] = set()
    for item in part.split(","):
        first, _, last = item.partition("-")
        found |= set(range(int(first), int(last or first) + 1))
    return frozenset(found)


def line_of(cron: str) -> Line:
    minute, hour, _, _, weekday = cron.split()
    days = ALL_WEEK if weekday == "*" else frozenset((day - 1) % 7 for day in numbers(weekday, ALL_WEEK))
    named = not minute.startswith("*") and not hour.startswith("*")
    return Line(cron, numbers(minute, ALL_HOUR), numbers(hour, ALL_DAY), days, named)


_lines = (st.builds("{} {} * * {}".format, _times, _hours, _days) | _every).map(line_of)
_schedules = st.builds(
    Trigger,
    zone=st.sampled_from(ZONES),
    line=_lines,
    misfire=st.sampled_from(("skip", "run_once", "run_all")),
    overlap=st.sampled_from(("skip", "buffer_one", "buffer_all", "allow", "cancel_other")),
)
_leaps = st.one_of(
    st.integers(1, 90).map(lambda number: MINUTE * number),
    st.integers(2, 30).map(lambda number: HOUR * number),
    st.integers(2, 10).map(lambda number: DAY * number),
)
_mostly = st.sampled_from((True, True, True, False))
_labour = st.lists(st.sampled_from(("start", "start", "done", "failed")), max_size=4)


class Unheld(Contract):
    """Answers are held against the contract by other tests, at the price of a third of the time here."""

    def check(self, answer: TestResponse) -> None:
        assert answer.status_code < 500, answer.text


class Schedules(RuleBasedStateMachine):
    """One chain's tasks in an installation that others use too."""

    world: ClassVar[World]
    operator: ClassVar[Api]
    clock: ClassVar[StoppedClock]
    chains: ClassVar[Iterator[int]] = count(5000)

    tasks = Bundle("tasks")

    def __init__(self) -> None:
        super().__init__()
        self.live: list[OfTask] = []
        self.changed: set[OfTask] = set()
        self.claims: list[tuple[Claim, OfTask, OfRun]] = []

    @initialize(target=tasks, start=st.sampled_from(STARTS), triggers=st.lists(_schedules, min_size=3, max_size=3))
    def arrive(self, start: datetime, triggers: list[Trigger]) -> MultipleResults[OfTask]:
        self.clock.at = start
        self.chain = next(self.chains)
        self.partner = self.world.caller(self.chain)
        return multiple(*(self._create(trigger, self._now()) for trigger in triggers))

    def teardown(self) -> None:
        for task in list(self.live):
            self.delete(task)

    # -- what happens ---------------------------------------------------------------------------------------------

    @rule(target=tasks, trigger=_schedules, start=st.none() | _leaps, length=st.none() | _leaps)
    def create(self, trigger: Trigger, start: timedelta | None, length: timedelta | None) -> OfTask:
        now = self._now()
        begin = None if start is None else (now + start).replace(microsecond=0)
        end = None if length is None else (max(now, begin or now) + length).replace(microsecond=0)
        return self._create(replace(trigger, start=begin, end=end), now)

    @rule(target=tasks, ahead=_leaps, past=st.booleans())
    def create_once(self, ahead: timedelta, past: bool) -> OfTask:  # noqa: FBT001 -- drawn
        now = self._now()
        return self._create(Trigger(once=(now + (-ahead if past else ahead)).replace(microsecond=0)), now)

    @rule(task=tasks, trigger=_schedules)
    def edit(self, task: OfTask, trigger: Trigger) -> None:
        self._edit(task, trigger)

    @rule(task=tasks, ahead=_leaps, past=st.booleans())
    def edit_to_once(self, task: OfTask, ahead: timedelta, past: bool) -> None:  # noqa: FBT001 -- drawn
        self._edit(task, Trigger(once=(self.clock.at + (-ahead if past else ahead)).replace(microsecond=0)))

    @rule(task=tasks, note=st.sampled_from((None, "Holidays.")))
    def pause(self, task: OfTask, note: str | None) -> None:
        now = self._now()
        body = None if note is None else {"note": note}
        answer = self._post(task, "pause", 200, body)
        if not task.paused:
            task.settle(now)
            assert answer["paused"] == {"since": text(now), "note": note, "reason": None}
        task.paused = True

    @rule(task=tasks, note=st.sampled_from((None, "Back.")))
    def resume(self, task: OfTask, note: str | None) -> None:
        now = self._now()
        answer = self._post(task, "resume", 200, None if note is None else {"note": note})
        if task.paused:
            if task.trigger.line is not None:
                task.leave("paused", now)
            task.paused = False
            task.settle(now)
        assert answer["paused"] is None
        self._check_next(task, answer, now)

    @rule(task=tasks)
    def run_now(self, task: OfTask) -> None:
        now = self._now()
        if task.going():
            self._post(task, "execute", 409)
            return
        self._post(task, "execute", 202, Prefer="wait=0")
        if task.due is not None:
            task.outcomes[task.due], task.due = "executed", None
        task.runs.append(OfRun("manual", now, serial=task.trigger.overlap != "allow"))

    @rule(leap=_leaps, looks=_mostly, sharp=st.booleans(), labour=_labour)
    def time_passes(self, leap: timedelta, looks: bool, sharp: bool, labour: list[str]) -> None:  # noqa: FBT001 -- drawn
        """To the full minute or not; a scheduler looks then, or is away, and workers do something."""
        self.clock.at += leap
        if looks and sharp:
            self.clock.at = self.clock.at.replace(second=0, microsecond=0)
        if looks:
            self._look()
        for done in labour:
            if done == "start":
                self._start()
            elif self.claims:
                self._end(*self.claims.pop(0), done)
        self.changed |= set(self.live)

    @rule(
        task=tasks,
        back=_leaps,
        length=st.integers(1, 36),
        reprocess=st.sampled_from(("none", "failed", "all")),
        concurrency=st.integers(1, 3),
    )
    def go_back(self, task: OfTask, back: timedelta, length: int, reprocess: str, concurrency: int) -> None:
        now = self._now()
        start = (now - back).replace(microsecond=0)
        end = min(start + HOUR * length, now.replace(microsecond=0))
        body = {"start": text(start), "end": text(end), "reprocess": reprocess, "concurrency": concurrency}
        if task.trigger.line is None or task.backfill is not None:
            found = [start] if task.trigger.line is None else task.trigger.between(start - MINUTE / 60, end)
            self._post(task, "backfill", 409 if [one for one in found if one < end] else 422, body)
            return
        found = [one for one in task.trigger.between(start - MINUTE / 60, end) if one < end]
        answer = self._post(task, "backfill", 201 if found else 422, body)
        if not found:
            return
        task.settle(now)
        wanted = [one for one in found if not task.left_alone(one, reprocess)]
        progress = answer["progress"]
        assert (progress["total"], progress["skipped"]) == (len(found), len(found) - len(wanted))
        if wanted:
            task.backfill = OfBackfill(answer["id"], wanted, concurrency)
        else:
            assert answer["state"] == "done"

    @rule(task=tasks)
    def stop_going_back(self, task: OfTask) -> None:
        if task.backfill is None:
            return
        self._now()
        self._follow_backfill(task)
        if task.backfill is None:
            return
        answer = self.partner.post(f"/backfills/{task.backfill.id}/cancel")
        assert answer.status_code in {200, 202}, answer.text
        for run in task.runs:
            if run.backfill == task.backfill.id and run.state == "queued":
                run.state = "cancelled"
        task.backfill = None
        self.changed.add(task)

    @rule(task=consumes(tasks))
    def delete(self, task: OfTask) -> None:
        now = self._now()
        self._follow_backfill(task)
        assert self.partner.request("DELETE", f"/tasks/{task.id}").status_code == 204
        task.leave("paused" if task.paused else "deleted", now)
        task.due = None
        self.live.remove(task)
        for run in task.runs:
            if run.state == "queued":
                run.state = "cancelled"
        self.changed.discard(task)
        self._compare(task, self.operator, deleted=True)

    # -- what must hold -------------------------------------------------------------------------------------------

    @invariant()
    def every_occurrence_has_its_one_outcome(self) -> None:
        for task in self.changed & set(self.live):
            self._follow_backfill(task)
            self._compare(task, self.partner)
        self.changed.clear()

    def _compare(self, task: OfTask, caller: Api, *, deleted: bool = False) -> None:
        expected = {one: ("run" if why == "run" else "skipped", why) for one, why in task.outcomes.items()}
        if not deleted:
            expected |= dict.fromkeys(task.undecided(self.clock.at), ("pending", "pending"))
        for run in task.runs:
            if run.kind == "backfill":
                expected.setdefault(run.occurrence, ("run", "backfill"))
        lines = list(self._lines(task, caller))
        ordered = sorted(expected, reverse=True)
        # A list, for moments of their own may lie within one second, which is all that is shown of them.
        assert [line["occurrence"] for line in lines] == [text(one) for one in ordered]
        for one, line in zip(ordered, lines, strict=True):
            outcome, why = expected[one]
            assert (line["outcome"], line["reason"]) == (outcome, why if outcome == "skipped" else None), one
            own = [run for run in task.runs if run.occurrence == one and run.kind != "manual"]
            assert [(run["kind"], run["state"]) for run in line["runs"]] == [(run.kind, run.state) for run in own]

    def _lines(self, task: OfTask, caller: Api) -> Iterator[dict[str, Any]]:
        following: str | None = f"/tasks/{task.id}/occurrences?limit=100"
        while following is not None:
            page = caller.get(following.removeprefix("http://exports.test")).get_json()
            yield from page["results"]
            following = page["next"]

    def _follow_backfill(self, task: OfTask) -> None:
        """Take over what the scheduler made of a backfill: the oldest first, each once, and so many at a time."""
        if (backfill := task.backfill) is None:
            return
        runs = self.partner.get(f"/tasks/{task.id}/runs?limit=100").get_json()["results"]
        known = len(backfill.made)
        made = [run["occurrence"] for run in reversed(runs) if run["backfill"] == backfill.id]
        assert made == [text(one) for one in backfill.wanted[: len(made)]]
        for occurrence in backfill.wanted[known : len(made)]:
            backfill.made.append(occurrence)
            task.runs.append(OfRun("backfill", occurrence, serial=False, backfill=backfill.id))
        own = [run for run in task.runs if run.backfill == backfill.id]
        assert sum(run.state in GOING for run in own) <= backfill.concurrency
        shown = self.partner.get(f"/backfills/{backfill.id}").get_json()
        progress = shown["progress"]
        assert progress["total"] == sum(count for name, count in progress.items() if name != "total")
        for state in ("queued", "running", "done", "failed"):
            assert progress[state] == sum(run.state == state for run in own)
        assert progress["waiting"] == len(backfill.wanted) - len(backfill.made)
        if shown["state"] != "running":
            assert backfill.made == backfill.wanted
            assert shown["state"] == ("done" if all(run.state == "done" for run in own) else "failed")
            task.backfill = None

    # -- how the service works ------------------------------------------------------------------------------------

    def _look(self) -> None:
        now = self.clock.at
        for _ in range(20):  # a look that takes long ends early
            tick(self.world)
            with self.world.services.database.read() as session:
                earliest = due.earliest_due(session)
            if earliest is None or earliest > now:
                break
        for task in self.live:
            task.settle(now)
            self._follow_backfill(task)

    def _start(self) -> None:
        """A worker takes a run: one that may go."""
        claim = self.world.services.database.retrying(self._claim)
        waiting = [(task, run) for task in self.live for run in task.runs if run.state == "queued"]
        if claim is None:
            assert all(run.serial and task.going("running") for task, run in waiting)
            return
        [(task, run), *_] = [
            (task, run)
            for task, run in waiting
            if (task.id, run.kind, run.occurrence) == (claim.task_id, claim.kind, claim.occurrence)
        ]
        assert not (run.serial and task.going("running"))
        run.state = "running"
        self.claims.append((claim, task, run))

    def _claim(self, session: Session) -> Claim | None:
        return claims.claim_run(
            session,
            clock=lambda _: self.clock.at,
            owner="worker",
            lease_seconds=LEASE_SECONDS,
            running_per_chain=100,
            max_claims=1000,
        )

    def _end(self, claim: Claim, task: OfTask, run: OfRun, how: str) -> None:
        self._now()
        if how == "done":
            self.partner.publish(claim, None)
        else:
            self.partner.fail(claim)
        run.state = how

    # -- how it is asked ---------------------------------------------------------------------------------------------

    def _now(self) -> datetime:
        """A moment later: no two requests come at the same."""
        self.clock.at += timedelta(milliseconds=1)
        return self.clock.at

    def _post(self, task: OfTask, action: str, status: int, body: Any = None, **headers: str) -> dict[str, Any]:
        answer = self.partner.post(f"/tasks/{task.id}/{action}", body, **headers)
        assert answer.status_code == status, answer.text
        self.changed.add(task)
        return answer.get_json()

    def _create(self, trigger: Trigger, now: datetime) -> OfTask:
        body = task_body(chain=self.chain, trigger=trigger.document)
        answer = self.partner.post("/tasks", body)
        if answer.status_code == 422:  # a line that does not fire before its end
            assert trigger.end is not None
            assert trigger.between(now, trigger.end) == []
            body["trigger"] = replace(trigger, start=None, end=None).document
            trigger = replace(trigger, start=None, end=None)
            answer = self.partner.post("/tasks", body)
        assert answer.status_code == 201, answer.text
        task = OfTask(answer.get_json()["id"], trigger, now)
        task.start(trigger, now)
        task.settle(now)
        self.live.append(task)
        self.changed.add(task)
        self._check_next(task, answer.get_json(), now)
        return task

    def _edit(self, task: OfTask, trigger: Trigger) -> None:
        now = self._now()
        answer = self.partner.request("PATCH", f"/tasks/{task.id}", {"trigger": trigger.document})
        self.changed.add(task)
        if task.trigger.line is None and task.due is None:
            assert answer.status_code == 409
            return
        assert answer.status_code == 200, answer.text
        task.settle(now)
        task.leave("paused", now)
        task.start(trigger, now)
        task.settle(now)
        self._check_next(task, answer.get_json(), now)

    def _check_next(self, task: OfTask, answer: dict[str, Any], now: datetime) -> None:
        """The next five occurrences, as far as they lie within two days: walking is slow."""
        if task.paused:
            assert answer["next_run_dates"] == []
        elif task.trigger.line is None:
            assert answer["next_run_dates"] == ([] if task.due is None else [text(task.due)])
        else:
            found = [text(one) for one in task.trigger.between(now, now + DAY * 2)]
            assert answer["next_run_dates"][: len(found)] == found[:5]


@pytest.mark.timeout(7200 if FULL else 300)
def test_whatever_happens_every_occurrence_gets_the_one_outcome_it_should(
    database: Database, tmp_path: Path, migrated: Path
) -> None:
    sections: dict[str, dict[str, Any]] = {
        "database": {"url": url_of(database)},
        "scheduler": {"catch_up_days": CATCH_UP.days, "catch_up_runs": CATCH_UP_RUNS},
        "limits": {"queued_per_chain": 10_000},
    }
    with standing(tmp_path / "installation", migrated, Unheld(), **sections) as world:
        Schedules.world, Schedules.clock = world, StoppedClock(world.services.database, STARTS[0])
        Schedules.operator = world.caller(None, ("tasks:read", "tasks:write", "admin"))
        run_state_machine_as_test(
            Schedules,
            settings=settings(
                max_examples=300 if FULL else 8,
                stateful_step_count=50 if FULL else 25,
                deadline=None,
                derandomize=not FULL,
                database=None,
                # Each step of shrinking is half a second, and a failure lists its few steps as they were.
                phases=list(Phase) if FULL else [Phase.generate],
                suppress_health_check=list(HealthCheck),
            ),
        )
