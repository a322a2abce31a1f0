"""What a scheduler may rely on, the same on SQLite and on PostgreSQL: every occurrence gets exactly one outcome."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from tasks_service.database import clients, due, runs, tasks
from tasks_service.database.models import Event, Run, Skip
from tasks_service.schedule import Limits, Planner, resume
from tests.databases import MINUTE, NOW, World

PLANNER = Planner(Limits())


def minutes(*numbers: int) -> list[datetime]:
    return [NOW + MINUTE * number for number in numbers]


def test_a_due_task_gets_its_run_and_the_next_time(world: World) -> None:
    task = world.task(7, due_at=NOW)
    assert world.due(NOW - timedelta(milliseconds=1)) == []
    [made] = world.due(NOW + timedelta(seconds=2))
    assert (made.task_id, made.chain, made.occurrence) == (task.id, 7, NOW)
    run = world.read_run(made.run_id)
    assert (run.kind, run.state, run.occurrence, run.available_at) == ("schedule", "queued", NOW, made.made_at)
    assert run.definition == {"target": task.target, "trigger": task.trigger}
    assert world.due(NOW + timedelta(seconds=2)) == []
    shown = world.read_task(task)
    assert shown.next_run_at == NOW + MINUTE
    assert shown.revision > task.revision
    assert shown.state == "READY"


def test_tasks_come_in_the_order_of_their_times_and_no_more_than_a_batch(world: World) -> None:
    expected = [world.task(due_at=at, overlap="allow").id for at in minutes(-1, -1, 0)]
    late = world.task(due_at=NOW - 2 * MINUTE).id
    first = list(dict.fromkeys(made.task_id for made in world.due(NOW, batch=2)))
    assert first == [late, expected[0]]
    assert world.write(due.earliest_due) == NOW - MINUTE
    rest = list(dict.fromkeys(made.task_id for made in world.due(NOW, batch=2)))
    assert rest == expected[1:]


def test_a_once_runs_once_and_has_no_next_time(world: World) -> None:
    task = world.task(due_at=NOW, once="2026-01-05T10:00:00Z", timezone="UTC")
    [made] = world.due(NOW + timedelta(days=9))
    assert made.occurrence == NOW
    assert world.read_task(task).next_run_at is None
    assert world.write(due.earliest_due) is None


def test_jitter_delays_the_start_and_not_the_occurrence(world: World) -> None:
    task = world.task(due_at=NOW, jitter=3000)
    [made] = world.due(NOW)
    run = world.read_run(made.run_id)
    assert run.occurrence == NOW
    assert run.available_at == NOW + PLANNER.delay(task.id or 0, task.trigger, NOW) > NOW


def test_an_occurrence_that_has_its_run_gets_no_second_one(world: World) -> None:
    task = world.task(due_at=NOW, overlap="allow")
    world.run(task, occurrence=NOW)
    assert world.due(NOW) == []
    assert world.read_task(task).next_run_at == NOW + MINUTE
    assert len(world.all(Run)) == 1


def test_missed_occurrences_are_recorded_with_the_reason(world: World) -> None:
    task = world.task(due_at=NOW, misfire="run_once")
    world.due(NOW + 10 * MINUTE + timedelta(seconds=30))
    assert world.outcomes(task) == {NOW: "misfire x10", NOW + 10 * MINUTE: "run"}
    [event] = [event for event in world.all(Event) if event.event == "occurrence.skipped"]
    assert (event.level, event.task_id) == ("warning", task.id)
    assert event.message == ("Not run: 2026-01-05T10:00:00Z to 2026-01-05T10:09:00Z (10 occurrences), reason misfire.")


def test_after_long_downtime_each_look_decides_a_part(world: World) -> None:
    task = world.task(due_at=NOW - timedelta(days=3))
    now, looks = NOW + timedelta(seconds=30), 0
    while (earliest := world.write(due.earliest_due)) is not None and earliest <= now:
        world.due(now)
        looks += 1
    assert looks == 5
    skipped = sum(skip.count for skip in world.all(Skip))
    [run] = world.all(Run)
    assert run.occurrence == NOW
    assert skipped == 3 * 24 * 60
    assert world.read_task(task).next_run_at == NOW + MINUTE


@pytest.mark.parametrize(
    ("policy", "while_queued", "while_running"),
    [
        ("skip", "overlap", "overlap"),
        ("buffer_one", "overlap", "run"),
        ("buffer_all", "run", "run"),
        ("allow", "run", "run"),
        ("cancel_other", "run", "run"),
    ],
)
def test_overlap_policies(world: World, policy: str, while_queued: str, while_running: str) -> None:
    running, queued = world.task(1, due_at=NOW, overlap=policy), world.task(2, due_at=NOW, overlap=policy)
    world.due(NOW)
    claim = world.claimed(NOW)
    assert claim.task_id == running.id
    world.due(NOW + MINUTE)
    assert world.outcomes(queued)[NOW + MINUTE] == while_queued
    assert world.outcomes(running)[NOW + MINUTE] == while_running
    states = {run.occurrence: run.state for run in world.all(Run) if run.task_id == queued.id}
    assert states[NOW] == ("cancelled" if policy == "cancel_other" else "queued")
    assert world.read_run(claim.run_id).cancel_requested_at == (NOW + MINUTE if policy == "cancel_other" else None)


def test_buffer_one_keeps_one_behind_the_running(world: World) -> None:
    task = world.task(due_at=NOW, overlap="buffer_one")
    world.due(NOW)
    world.claimed(NOW)
    for at in minutes(1, 2):
        world.due(at)
    assert list(world.outcomes(task).values()) == ["run", "run", "overlap"]


def test_buffered_runs_go_one_after_another_and_allowed_ones_together(world: World) -> None:
    for chain, policy in ((1, "buffer_all"), (2, "allow")):
        world.task(chain, due_at=NOW, overlap=policy)
    for at in minutes(0, 1, 2):
        world.due(at)
    at = NOW + 2 * MINUTE
    claimed = [world.claimed(at).chain for _ in range(4)]
    assert sorted(claimed) == [1, 2, 2, 2]
    assert world.claim(at) is None


def test_with_overlap_skip_only_the_first_of_a_catch_up_runs(world: World) -> None:
    task = world.task(due_at=NOW, misfire="run_all", overlap="skip")
    world.due(NOW + 3 * MINUTE)
    assert world.outcomes(task) == {NOW: "run", NOW + MINUTE: "overlap x3"}


def test_with_cancel_other_only_the_last_of_a_catch_up_runs(world: World) -> None:
    task = world.task(due_at=NOW, misfire="run_all", overlap="cancel_other")
    world.due(NOW + 3 * MINUTE)
    assert world.outcomes(task) == {NOW: "overlap x3", NOW + 3 * MINUTE: "run"}


def test_a_full_queue_of_a_chain_is_a_reason_and_no_other_chains(world: World) -> None:
    full = world.task(1, due_at=NOW, misfire="run_all", overlap="buffer_all")
    other = world.task(2, due_at=NOW)
    world.due(NOW + 4.5 * MINUTE, cap=3)
    assert world.outcomes(full) == {**dict.fromkeys(minutes(0, 1, 2), "run"), NOW + 3 * MINUTE: "queue_full x2"}
    assert list(world.outcomes(other).values()) == ["misfire x4", "run"]
    another = world.task(1, due_at=NOW + 4 * MINUTE)
    world.due(NOW + 4.5 * MINUTE, cap=3)
    assert world.outcomes(another) == {NOW + 4 * MINUTE: "queue_full"}


@pytest.mark.parametrize(("harm", "reason"), [("remove", "client_removed"), ("scope", "scope_lost")])
def test_a_client_without_standing_pauses_its_schedules_with_a_reason(world: World, harm: str, reason: str) -> None:
    task, other = world.task(1, due_at=NOW), world.task(2, due_at=NOW, overlap="allow")
    with world.database.write() as session:
        if harm == "remove":
            clients.remove_client(session, task.client_id, now=NOW)
        else:
            clients.set_scopes(session, task.client_id, ["tasks:read"])
        assert clients.standing(session, task.client_id) == reason
        assert clients.standing(session, other.client_id) is None
    assert [made.task_id for made in world.due(NOW)] == [other.id]
    shown = world.read_task(task)
    assert (shown.paused_at, shown.state_reason) == (NOW, f"paused_{reason}")
    assert shown.paused_note
    assert [made.task_id for made in world.due(NOW + MINUTE, batch=1)] == [other.id]


def test_a_trigger_that_is_not_understood_any_more_stops_no_other(world: World) -> None:
    broken, sound = world.task(due_at=NOW - MINUTE, timezone="Gone/Zone"), world.task(due_at=NOW)
    assert [made.task_id for made in world.due(NOW)] == [sound.id]
    shown = world.read_task(broken)
    assert (shown.state_reason, shown.next_run_at) == ("paused_invalid_trigger", NOW - MINUTE)
    assert world.write(due.earliest_due) == NOW + MINUTE


def change(world: World, task_id: int | None, at: datetime, **edit: Any) -> None:
    with world.database.write() as session:
        row = tasks.get_task(session, task_id or 0, chain=None, lock=True)
        assert row is not None
        due.settle(session, row, now=at, planner=PLANNER, queued_per_chain=1000)
        if edit.pop("pause", False):
            tasks.pause_task(session, row, now=at, note="Holidays.")
        elif edit.pop("resume", False):
            plan = resume(row.trigger, due=row.next_run_at, now=at)
            tasks.resume_task(session, row, now=at, next_run_at=plan.next_run_at, skips=plan.skips)
        else:
            tasks.edit_task(session, row, now=at, **edit)


def test_a_paused_task_runs_nothing_and_what_passed_is_recorded(world: World) -> None:
    task = world.task(due_at=NOW)
    change(world, task.id, NOW, pause=True)
    assert world.due(NOW + 5 * MINUTE) == []
    assert world.write(due.earliest_due) is None
    change(world, task.id, NOW + 5 * MINUTE, resume=True)
    world.write(lambda s: runs.request_cancel(s, runs.get_run(s, 1, chain=1, lock=True), now=NOW))  # type: ignore[arg-type]
    world.due(NOW + 6 * MINUTE)
    assert world.outcomes(task) == {NOW: "run", NOW + MINUTE: "paused x5", NOW + 6 * MINUTE: "run"}


def test_an_edit_changes_only_what_comes_after_it(world: World) -> None:
    task = world.task(due_at=NOW)
    nightly = task.trigger | {"cron": "0 2 * * *"}
    tonight = NOW + timedelta(hours=16)
    change(world, task.id, NOW + timedelta(seconds=3), trigger=nightly, next_run_at=tonight)
    [run] = world.all(Run)
    assert (run.occurrence, run.definition["trigger"], run.task_version) == (NOW, task.trigger, 1)
    shown = world.read_task(task)
    assert (shown.version, shown.next_run_at, shown.trigger) == (2, tonight, nightly)


def test_settling_after_long_downtime_leaves_nothing_due(world: World) -> None:
    task = world.task(due_at=NOW - timedelta(days=2))
    change(world, task.id, NOW + timedelta(seconds=30), desc="x")
    assert world.read_task(task).next_run_at == NOW + MINUTE
    assert sum(skip.count for skip in world.all(Skip)) + len(world.all(Run)) == 2 * 24 * 60 + 1


def test_settling_touches_nothing_that_is_not_due(world: World) -> None:
    task = world.task(due_at=NOW + MINUTE)
    with world.database.write() as session:
        row = tasks.get_task(session, task.id or 0, chain=None, lock=True)
        assert row is not None
        assert due.settle(session, row, now=NOW, planner=PLANNER, queued_per_chain=1) == []
        assert row.revision == task.revision


def test_a_run_now_consumes_a_future_once(world: World) -> None:
    task = world.task(due_at=NOW + MINUTE, once="2026-01-05T10:01:00Z", timezone="UTC")
    run_id = world.run(task, kind="manual")
    assert world.read_task(task).next_run_at is None
    assert world.due(NOW + MINUTE) == []
    assert world.read_run(run_id).occurrence == NOW


def test_a_run_now_leaves_a_cron_alone(world: World) -> None:
    task = world.task(due_at=NOW + MINUTE)
    world.run(task, kind="manual")
    assert world.read_task(task).next_run_at == NOW + MINUTE
