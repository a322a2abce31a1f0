"""Schedulers and workers are killed at random instants, again and again: every occurrence still has one outcome.

What should have happened comes from an oracle that knows only arithmetic; what did happen is read from the database
alone, and matched one to one, as Jepsen's test of Chronos does. ``CHAOS_SEED`` and ``CHAOS_KILLS`` choose another run.
"""

from __future__ import annotations

import os
import random
from collections import Counter
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.context import ForkServerProcess
from threading import Event
from typing import Any

import pytest
from sqlmodel import Session, col, select

from tasks_service.database import due
from tasks_service.database.models import Attempt, Run, Skip, Task
from tests import clockwork
from tests.databases import MINUTE, NOW, Stage, url_of
from tests.waiting import eventually

# The processes are forked by a server that is spoken to over a Unix socket.
pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(600)]

SEED = int(os.environ.get("CHAOS_SEED", "20260526"))
KILLS = int(os.environ.get("CHAOS_KILLS", "25"))
SPEED = 40.0
LEASE_SECONDS = 80.0  # two real ones
# Every so many minutes, and the policies under which a late occurrence may or must still run.
KINDS: list[tuple[int, dict[str, Any]]] = [
    (1, {"misfire": "run_all", "overlap": "buffer_all"}),
    (1, {"misfire": "run_all", "overlap": "allow"}),
    (1, {"misfire": "run_once", "overlap": "skip"}),
    (2, {"misfire": "run_once", "overlap": "buffer_one"}),
    (3, {"misfire": "skip", "overlap": "allow"}),
    (5, {"misfire": "run_all", "overlap": "cancel_other"}),
]


@dataclass
class Herd:
    """Processes that are killed and replaced."""

    url: str
    clock: clockwork.Clock | None
    chance: random.Random
    processes: list[tuple[str, ForkServerProcess]]

    def start(self, kind: str) -> None:
        if kind == "scheduler":
            process = clockwork.start(clockwork.run_scheduler, self.url, self.clock)
        else:
            process = clockwork.start(clockwork.run_worker, self.url, self.clock, LEASE_SECONDS, 10)
        self.processes.append((kind, process))

    def kill_one(self) -> None:
        kind, process = self.processes.pop(self.chance.randrange(len(self.processes)))
        process.kill()
        process.join(30)
        self.start(kind)

    def end(self) -> None:
        for _, process in self.processes:
            clockwork.end(process)


def expected(every: int, first: datetime, until: datetime) -> list[datetime]:
    """The whole minutes divisible by ``every`` in the hour, from the first on, before the end."""
    minutes = int((until - first) / MINUTE)
    instants = [first + MINUTE * number for number in range(minutes + 1)]
    return [instant for instant in instants if instant < until and instant.minute % every == 0]


def check(stage: Stage, tasks: list[tuple[int, Task]]) -> Counter[str]:
    """Match every task's outcomes with the oracle, one to one; return how many there were of each."""
    runs, skips = stage.all(Run), stage.all(Skip)
    found: Counter[str] = Counter()
    for every, task in tasks:
        until = stage.read_task(task).next_run_at
        assert until is not None
        due_instants = expected(every, NOW + MINUTE, until)
        outcomes = Counter(run.occurrence for run in runs if run.task_id == task.id)
        for skip in (skip for skip in skips if skip.task_id == task.id):
            covered = [one for one in due_instants if skip.first_occurrence <= one <= skip.last_occurrence]
            assert len(covered) == skip.count, (every, skip)
            outcomes.update(covered)
            found[skip.reason] += skip.count
        assert outcomes == Counter(due_instants), (every, task.trigger)
        found["run"] += sum(1 for run in runs if run.task_id == task.id)
    return found


def test_every_occurrence_has_one_outcome_and_every_run_one_end(stage: Stage) -> None:
    chance = random.Random(SEED)
    tasks = [
        (every, stage.task(chain, due_at=NOW + MINUTE * every, cron=f"*/{every} * * * *", **policies))
        for chain in (1, 2)
        for every, policies in KINDS
    ]
    url = url_of(stage.database)
    database = clockwork.fast(stage.database, url, shown=NOW, speed=SPEED)
    herd = Herd(url, database.clock, chance, [])
    try:
        for kind in ("scheduler", "worker") * 3:
            herd.start(kind)
        for _ in range(KILLS):
            Event().wait(chance.uniform(0.05, 0.9))
            herd.kill_one()
        # Schedules end here; what was due gets its outcome, what was made its end, under the last of the herd.
        eventually(lambda: all_caught_up(stage, database), timeout=120, what="the schedulers to catch up")
        stage.write(pause_everything)
        eventually(lambda: all_ended(stage), timeout=240, every=0.5, what="every run to end")
    finally:
        herd.end()
        database.dispose()
    found = check(stage, tasks)
    print(f"seed {SEED}, {KILLS} kills, {stage.database.dialect}: {dict(found)}")  # noqa: T201 -- for the log of CI
    assert found["run"] > len(tasks)
    check_ends(stage)


def all_caught_up(stage: Stage, database: clockwork.FastDatabase) -> bool:
    with stage.database.read() as session:
        earliest = due.earliest_due(session)
        return earliest is None or earliest > database.now(session)


def pause_everything(session: Session) -> None:
    rows = session.exec(select(Task).order_by(col(Task.id)).with_for_update(key_share=True))
    for task in rows.all():
        task.paused_at = NOW


def all_ended(stage: Stage) -> bool:
    left = Counter(run.state for run in stage.all(Run) if run.state in {"queued", "running"})
    assert not left, left
    return True


def check_ends(stage: Stage) -> None:
    """A run that is done was published by exactly one attempt, the one whose file it shows; every attempt has ended."""
    attempts = stage.all(Attempt)
    assert {one.outcome for one in attempts} <= {"published", "abandoned", "cancelled"}
    published = {one.run_id: one for one in attempts if one.outcome == "published"}
    assert len(published) == sum(1 for one in attempts if one.outcome == "published")
    for run in stage.all(Run):
        assert (run.state == "done") == (run.id in published), run
        if run.state == "done":
            assert run.artifact is not None
            assert run.artifact["object"] == published[run.id].object_name
            assert run.lease_token == published[run.id].lease_token
    for task in stage.all(Task):
        assert task.state in {"DONE", "ERROR"}, task


@pytest.mark.parametrize("hours", [5])
def test_after_hours_of_downtime_the_policies_decide(stage: Stage, hours: int) -> None:
    """No scheduler ran for hours; two start at once, and the outcomes are those the policies name."""
    policies = {"skip": 1, "run_once": 1, "run_all": 40}
    tasks = [stage.task(due_at=NOW + MINUTE, misfire=name, overlap="buffer_all") for name in policies]
    url = url_of(stage.database)
    later = NOW + timedelta(hours=hours, seconds=20)
    database = clockwork.fast(stage.database, url, shown=later, speed=0.0)
    wanted = clockwork.run_scheduler, (url, database.clock)
    with clockwork.running(wanted, wanted):
        eventually(lambda: all_caught_up(stage, database), what="the schedulers to catch up")
    runs = Counter(run.task_id for run in stage.all(Run))
    on_time = 1
    assert runs[tasks[0].id] == on_time
    assert runs[tasks[1].id] == on_time
    assert runs[tasks[2].id] == 100 + on_time
    assert check(stage, [(1, task) for task in tasks])["misfire"] == 2 * (hours * 60 - on_time)
    database.dispose()
