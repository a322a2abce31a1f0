"""Occurrences follow the time zone data, the same on SQLite and on PostgreSQL, whichever host brought the newer."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from tasks_service.database import due, tasks, zone_rules
from tasks_service.database.models import Event, Run, Task
from tasks_service.schedule import Limits, Planner, resume
from tasks_service.zone_changes import follow_zones
from tests.acceptance.service import Service
from tests.databases import NOW, Stage, url_of
from tests.waiting import eventually
from tests.zone_files import compiled, host, write

TOWN = "Test/Town"
PLANNER = Planner(Limits())
# NOW is 10:00 UTC on a Monday. The clock is one hour ahead, and from this evening on two.
EVENING = NOW + timedelta(hours=10)
OLD, NEW = compiled(1), compiled(1, (EVENING, 2))
BY_OLD, BY_NEW = NOW + timedelta(hours=15), NOW + timedelta(hours=14)
DAY = timedelta(days=1)


@pytest.fixture
def old(tmp_path: Path) -> Path:
    return write(tmp_path / "old", "2031a", {TOWN: OLD})


@pytest.fixture
def new(tmp_path: Path) -> Path:
    return write(tmp_path / "new", "2031b", {TOWN: NEW})


def stored(stage: Stage, chain: int = 1, **trigger: str) -> Task:
    """A task of every night at two, as the API stores it."""
    task = stage.task(chain, due_at=BY_OLD, **{"cron": "0 2 * * *", "timezone": TOWN, **trigger})
    with stage.database.write() as session:
        row = session.get_one(Task, task.id)
        row.zone_rules = zone_rules.holding(session, [row.trigger], now=NOW).mark_of(row.trigger)
    return task


def followed(stage: Stage, at: datetime = NOW) -> int:
    stage.database.clock_offset = timedelta(0)
    with stage.database.read() as session:
        stage.database.clock_offset = at - stage.database.now(session)
    return follow_zones(stage.database, PLANNER)


def test_a_newer_release_moves_what_is_next_and_the_log_says_so(stage: Stage, old: Path, new: Path) -> None:
    with host(old):
        task, other = stored(stage), stored(stage, timezone="UTC")
        assert followed(stage) == 0
    with host(new):
        assert followed(stage) == 1
        assert followed(stage) == 0
        assert stage.read_task(task).next_run_at == BY_NEW
        assert stage.read_task(other).next_run_at == BY_OLD
        [event] = [one for one in stage.all(Event) if one.event == "task.zone_changed"]
        assert "release 2031b" in event.message
        assert "2026-01-06T00:00:00Z instead of 2026-01-06T01:00:00Z" in event.message
        assert [run.occurrence for run in stage.due(BY_NEW)] == [BY_NEW]
        assert stage.read_task(task).next_run_at == BY_NEW + DAY


def test_hosts_with_other_data_go_by_the_newest_and_undo_nothing(stage: Stage, old: Path, new: Path) -> None:
    with host(old):
        task = stored(stage)
    with host(new):
        followed(stage)
    with host(old):
        assert followed(stage) == 0
        assert stage.read_task(task).next_run_at == BY_NEW
        [made] = stage.due(BY_NEW)
        assert made.occurrence == BY_NEW
        assert stage.read_task(task).next_run_at == BY_NEW + DAY  # by data that this host does not have
        late = stored(stage)
        with stage.database.write() as session:
            held = zone_rules.holding(session, [late.trigger], now=NOW)
            assert held.mark_of(late.trigger) == stage.read_task(task).zone_rules
            assert zone_rules.newest_release(session) == "2031b"
    with host(new):
        assert followed(stage) == 0


def test_what_is_due_follows_before_it_gets_its_outcome(stage: Stage, old: Path, tmp_path: Path) -> None:
    with host(old):
        task = stored(stage)
    back = write(tmp_path / "back", "2031b", {TOWN: compiled(1, (EVENING, 0))})
    with host(back):
        assert stage.due(BY_OLD) == []
        assert stage.read_task(task).next_run_at == BY_OLD + timedelta(hours=1)
        assert [run.occurrence for run in stage.due(BY_OLD + timedelta(hours=1))] == [BY_OLD + timedelta(hours=1)]


def test_a_night_that_ran_does_not_run_again(stage: Stage, old: Path, tmp_path: Path) -> None:
    with host(old):
        task = stored(stage)
        assert len(stage.due(BY_OLD)) == 1
    back = write(tmp_path / "back", "2031b", {TOWN: compiled(1, (EVENING, 0))})
    with host(back):
        assert followed(stage, BY_OLD + timedelta(minutes=30)) == 1
        assert stage.read_task(task).next_run_at == BY_OLD + DAY + timedelta(hours=1)


@pytest.mark.parametrize(("misfire", "outcome"), [("run_once", "run"), ("skip", "misfire")])
def test_a_night_that_passed_unnoticed_gets_its_outcome(
    stage: Stage, old: Path, new: Path, misfire: str, outcome: str
) -> None:
    with host(old):
        task = stored(stage, misfire=misfire)
    now = BY_NEW + timedelta(minutes=30)
    with host(new):
        followed(stage, now)
        stage.due(now)
        assert stage.outcomes(task) == {BY_NEW: outcome}
        assert stage.read_task(task).next_run_at == BY_NEW + DAY


def test_an_occurrence_with_an_outcome_gets_no_second_one(stage: Stage, old: Path, new: Path) -> None:
    with host(old):
        task = stored(stage, cron="0 2,3 * * *")
        stage.due(BY_OLD)
    now = BY_OLD + timedelta(minutes=10)
    with host(new):
        followed(stage, now)
        assert stage.read_task(task).next_run_at == BY_NEW + DAY
        assert stage.due(now) == []
    assert stage.outcomes(task) == {BY_OLD: "run"}


def test_a_paused_task_follows_and_goes_on_by_the_new_rules(stage: Stage, old: Path, new: Path) -> None:
    with host(old):
        task = stored(stage)
        stage.write(lambda session: tasks.pause_task(session, session.get_one(Task, task.id), now=NOW, note=None))
    with host(new):
        assert followed(stage) == 1
        with stage.database.write() as session:
            row = session.get_one(Task, task.id)
            zone = zone_rules.holding(session, [row.trigger], now=NOW).zone_of(row.trigger)
            plan = resume(row.trigger, due=row.next_run_at, now=BY_NEW, zone=zone)
            tasks.resume_task(session, row, now=BY_NEW, next_run_at=plan.next_run_at, skips=plan.skips)
        assert stage.outcomes(task) == {BY_NEW: "paused"}
        assert stage.read_task(task).next_run_at == BY_NEW + DAY


def test_what_a_release_brings_back_holds_again(stage: Stage, old: Path, new: Path, tmp_path: Path) -> None:
    with host(old):
        task = stored(stage)
    with host(new):
        followed(stage)
    with host(write(tmp_path / "again", "2031c", {TOWN: OLD})):
        assert followed(stage) == 1
        assert stage.read_task(task).next_run_at == BY_OLD
    for stale in (old, new):
        with host(stale):
            assert followed(stage) == 0
    assert stage.write(zone_rules.newest_release) == "2031c"


def test_data_of_an_untold_release_never_replaces_what_tells_its_own(stage: Stage, old: Path, tmp_path: Path) -> None:
    with host(old):
        task = stored(stage)
    with host(write(tmp_path / "untold", "", {TOWN: NEW})):
        assert followed(stage) == 0
    assert stage.read_task(task).next_run_at == BY_OLD


def test_tasks_from_before_rules_were_noted_are_marked_and_stay(stage: Stage, old: Path) -> None:
    with host(old):
        task = stage.task(due_at=BY_OLD, cron="0 2 * * *", timezone=TOWN)
        once = stage.task(due_at=BY_OLD, once="2026-01-06T01:00:00Z", timezone=TOWN)
        gone = stage.task(due_at=BY_OLD, cron="0 2 * * *", timezone="Gone/Zone")
        assert followed(stage) == 3
        assert followed(stage) == 0
        marks = [stage.read_task(one).zone_rules for one in (task, once, gone)]
        assert len(marks[0] or "") == 32
        assert marks[1:] == ["", ""]
        assert {stage.read_task(one).next_run_at for one in (task, once, gone)} == {BY_OLD}


def test_several_follow_while_what_is_due_is_claimed(stage: Stage, old: Path, new: Path) -> None:
    with host(old):
        every = [stored(stage, chain).id for chain in range(1, 61)]
    followed_by: list[int] = []
    start = Barrier(4)
    with stage.database.read() as session:
        stage.database.clock_offset = BY_NEW - stage.database.now(session)

    def act(number: int) -> None:
        start.wait(60)
        if number % 2:
            followed_by.append(follow_zones(stage.database, PLANNER))
        for _ in range(8):
            stage.database.retrying(
                lambda session: due.claim_due(session, now=BY_NEW, batch=10, planner=PLANNER, queued_per_chain=9)
            )

    with host(new):
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(act, range(4)))
        followed(stage, BY_NEW)
        while stage.due(BY_NEW):
            pass
    assert sorted(run.task_id for run in stage.all(Run)) == every
    assert {run.occurrence for run in stage.all(Run)} == {BY_NEW}
    assert {task.next_run_at for task in stage.all(Task)} == {BY_NEW + DAY}


@pytest.mark.enable_socket
def test_a_scheduler_process_follows_the_data_it_is_started_with(
    stage: Stage, old: Path, new: Path, tmp_path: Path
) -> None:
    """Real time, a real process: tomorrow's two o'clock by the old data, by newer once a scheduler has that."""
    with stage.database.read() as session:
        today = stage.database.now(session).replace(hour=0, minute=0, second=0, microsecond=0)
    by_old, by_new = today + 3 * DAY + timedelta(hours=1), today + 3 * DAY
    write(new, "2031b", {TOWN: compiled(1, (today + 2 * DAY, 2))})
    with host(old):
        task = stored(stage)
        stage.write(lambda session: setattr(session.get_one(Task, task.id), "next_run_at", by_old))
    service = Service(tmp_path, {"TASKS_DATABASE__URL": url_of(stage.database), "PYTHONTZPATH": str(new)})
    try:
        service.start("scheduler")
        eventually(lambda: stage.read_task(task).next_run_at == by_new, timeout=60, what="the task follows")
        found = service.command("doctor", check=False).stdout
        assert f"Release 2031b of the zone data, from {new}" in found
        service.environment["PYTHONTZPATH"] = str(old)
        assert "another host has had 2031b" in service.command("doctor", check=False).stdout
    finally:
        service.stop()
