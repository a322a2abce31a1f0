"""What a scheduler may rely on, the same on SQLite and on PostgreSQL: every occurrence gets exactly one outcome."""

from __future__ import annotations

import itertools
from datetime import datetime, timedelta
from typing import Any

import pytest

from tasks_service.database import claims, clients, due, runs, tasks
from tasks_service.database.models import Event, Run, Skip
from tasks_service.schedule import Limits, Planner, resume
from tests.databases import MINUTE, NOW, Stage

PLANNER = Planner(Limits())


def minutes(*numbers: int) -> list[datetime]:
    return [NOW + MINUTE * number for number in numbers]


def test_a_due_task_gets_its_run_and_the_next_time(stage: Stage) -> None:
    task = stage.task(7, due_at=NOW)
    assert stage.due(NOW - timedelta(milliseconds=1)) == []
    [made] = stage.due(NOW + timedelta(seconds=2))
    assert (made.task_id, made.chain, made.occurrence) == (task.id, 7, NOW)
    run = stage.read_run(made.run_id)
    assert (run.kind, run.state, run.occurrence, run.available_at) == ("schedule", "queued", NOW, made.made_at)
    assert run.definition == {"target": task.target, "trigger": task.trigger}
    assert stage.due(NOW + timedelta(seconds=2)) == []
    shown = stage.read_task(task)
    assert shown.next_run_at == NOW + MINUTE
    assert shown.revision > task.revision
    assert shown.state == "READY"


def test_tasks_come_in_the_order_of_their_times_and_no_more_than_a_batch(stage: Stage) -> None:
    expected = [stage.task(due_at=at, overlap="allow").id for at in minutes(-1, -1, 0)]
    late = stage.task(due_at=NOW - 2 * MINUTE).id
    first = list(dict.fromkeys(made.task_id for made in stage.due(NOW, batch=2)))
    assert first == [late, expected[0]]
    assert stage.write(due.earliest_due) == NOW - MINUTE
    rest = list(dict.fromkeys(made.task_id for made in stage.due(NOW, batch=2)))
    assert rest == expected[1:]


def test_a_once_runs_once_and_has_no_next_time(stage: Stage) -> None:
    task = stage.task(due_at=NOW, once="2026-01-05T10:00:00Z", timezone="UTC")
    [made] = stage.due(NOW + timedelta(days=9))
    assert made.occurrence == NOW
    assert stage.read_task(task).next_run_at is None
    assert stage.write(due.earliest_due) is None


def test_jitter_delays_the_start_and_not_the_occurrence(stage: Stage) -> None:
    task = stage.task(due_at=NOW, jitter=3000)
    [made] = stage.due(NOW)
    run = stage.read_run(made.run_id)
    assert run.occurrence == NOW
    assert run.available_at == NOW + PLANNER.delay(task.id or 0, task.trigger, NOW) > NOW


def test_an_occurrence_that_has_its_run_gets_no_second_one(stage: Stage) -> None:
    task = stage.task(due_at=NOW, overlap="allow")
    stage.run(task, occurrence=NOW)
    assert stage.due(NOW) == []
    assert stage.read_task(task).next_run_at == NOW + MINUTE
    assert len(stage.all(Run)) == 1


def test_missed_occurrences_are_recorded_with_the_reason(stage: Stage) -> None:
    task = stage.task(due_at=NOW, misfire="run_once")
    stage.due(NOW + 10 * MINUTE + timedelta(seconds=30))
    assert stage.outcomes(task) == {NOW: "misfire x10", NOW + 10 * MINUTE: "run"}
    [event] = [event for event in stage.all(Event) if event.event == "occurrence.skipped"]
    assert (event.level, event.task_id) == ("warning", task.id)
    assert event.message == ("Not run: 2026-01-05T10:00:00Z to 2026-01-05T10:09:00Z (10 occurrences), reason misfire.")


def test_after_long_downtime_each_look_decides_a_part(stage: Stage) -> None:
    task = stage.task(due_at=NOW - timedelta(days=3))
    now, looks = NOW + timedelta(seconds=30), 0
    while (earliest := stage.write(due.earliest_due)) is not None and earliest <= now:
        stage.due(now)
        looks += 1
    assert looks == 5
    skipped = sum(skip.count for skip in stage.all(Skip))
    [run] = stage.all(Run)
    assert run.occurrence == NOW
    assert skipped == 3 * 24 * 60
    assert stage.read_task(task).next_run_at == NOW + MINUTE


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
def test_overlap_policies(stage: Stage, policy: str, while_queued: str, while_running: str) -> None:
    running, queued = stage.task(1, due_at=NOW, overlap=policy), stage.task(2, due_at=NOW, overlap=policy)
    stage.due(NOW)
    claim = stage.claimed(NOW)
    assert claim.task_id == running.id
    stage.due(NOW + MINUTE)
    assert stage.outcomes(queued)[NOW + MINUTE] == while_queued
    assert stage.outcomes(running)[NOW + MINUTE] == while_running
    states = {run.occurrence: run.state for run in stage.all(Run) if run.task_id == queued.id}
    assert states[NOW] == ("cancelled" if policy == "cancel_other" else "queued")
    assert stage.read_run(claim.run_id).cancel_requested_at == (NOW + MINUTE if policy == "cancel_other" else None)


def test_buffer_one_keeps_one_behind_the_running(stage: Stage) -> None:
    task = stage.task(due_at=NOW, overlap="buffer_one")
    stage.due(NOW)
    stage.claimed(NOW)
    for at in minutes(1, 2):
        stage.due(at)
    assert list(stage.outcomes(task).values()) == ["run", "run", "overlap"]


def test_buffered_runs_go_one_after_another_and_allowed_ones_together(stage: Stage) -> None:
    for chain, policy in ((1, "buffer_all"), (2, "allow")):
        stage.task(chain, due_at=NOW, overlap=policy)
    for at in minutes(0, 1, 2):
        stage.due(at)
    at = NOW + 2 * MINUTE
    claimed = [stage.claimed(at).chain for _ in range(4)]
    assert sorted(claimed) == [1, 2, 2, 2]
    assert stage.claim(at) is None


def test_with_overlap_skip_only_the_first_of_a_catch_up_runs(stage: Stage) -> None:
    task = stage.task(due_at=NOW, misfire="run_all", overlap="skip")
    stage.due(NOW + 3 * MINUTE)
    assert stage.outcomes(task) == {NOW: "run", NOW + MINUTE: "overlap x3"}


def test_with_cancel_other_only_the_last_of_a_catch_up_runs(stage: Stage) -> None:
    task = stage.task(due_at=NOW, misfire="run_all", overlap="cancel_other")
    stage.due(NOW + 3 * MINUTE)
    assert stage.outcomes(task) == {NOW: "overlap x3", NOW + 3 * MINUTE: "run"}


def test_a_full_queue_of_a_chain_is_a_reason_and_no_other_chains(stage: Stage) -> None:
    full = stage.task(1, due_at=NOW, misfire="run_all", overlap="buffer_all")
    other = stage.task(2, due_at=NOW)
    stage.due(NOW + 4.5 * MINUTE, cap=3)
    assert stage.outcomes(full) == {**dict.fromkeys(minutes(0, 1, 2), "run"), NOW + 3 * MINUTE: "queue_full x2"}
    assert list(stage.outcomes(other).values()) == ["misfire x4", "run"]
    another = stage.task(1, due_at=NOW + 4 * MINUTE)
    stage.due(NOW + 4.5 * MINUTE, cap=3)
    assert stage.outcomes(another) == {NOW + 4 * MINUTE: "queue_full"}


def test_cancel_other_cancels_nothing_for_a_run_there_is_no_room_for(stage: Stage) -> None:
    task = stage.task(1, due_at=NOW, overlap="cancel_other")
    stage.due(NOW)
    claim = stage.claimed(NOW)
    for _ in range(2):
        stage.run(stage.task(1), kind="manual")
    stage.due(NOW + MINUTE, cap=2)
    assert stage.outcomes(task) == {NOW: "run", NOW + MINUTE: "queue_full"}
    assert stage.read_run(claim.run_id).cancel_requested_at is None
    stage.due(NOW + 2 * MINUTE, cap=3)
    assert stage.read_run(claim.run_id).cancel_requested_at == NOW + 2 * MINUTE
    stage.due(NOW + 3 * MINUTE, cap=3)  # its own place in the queue is free for its successor
    assert stage.outcomes(task)[NOW + 3 * MINUTE] == "run"


def test_a_once_is_run_behind_whatever_goes_of_its_task(stage: Stage) -> None:
    """A task of every night that became one of a moment, while the last night's run goes on."""
    task = stage.task(due_at=NOW)
    stage.due(NOW)
    claim = stage.claimed(NOW)
    once = NOW + MINUTE / 2
    change(stage, task.id, NOW, trigger={"once": f"{once:%Y-%m-%dT%H:%M:%SZ}", "timezone": "UTC"}, next_run_at=once)
    [made] = stage.due(once)
    assert stage.outcomes(task) == {NOW: "run", once: "run"}
    assert stage.claim(once) is None
    stage.publish(claim, once)
    assert stage.claimed(once).run_id == made.run_id


@pytest.mark.parametrize(("harm", "reason"), [("remove", "client_removed"), ("scope", "scope_lost")])
def test_a_client_without_standing_pauses_its_schedules_with_a_reason(stage: Stage, harm: str, reason: str) -> None:
    task, other = stage.task(1, due_at=NOW), stage.task(2, due_at=NOW, overlap="allow")
    with stage.database.write() as session:
        if harm == "remove":
            clients.remove_client(session, task.client_id, now=NOW)
        else:
            clients.set_scopes(session, task.client_id, ["tasks:read"])
        assert clients.standing(session, task.client_id) == reason
        assert clients.standing(session, other.client_id) is None
    assert [made.task_id for made in stage.due(NOW)] == [other.id]
    shown = stage.read_task(task)
    assert (shown.paused_at, shown.state_reason) == (NOW, f"paused_{reason}")
    assert shown.paused_note
    assert [made.task_id for made in stage.due(NOW + MINUTE, batch=1)] == [other.id]


def test_a_trigger_that_is_not_understood_any_more_stops_no_other(stage: Stage) -> None:
    broken, sound = stage.task(due_at=NOW - MINUTE, timezone="Gone/Zone"), stage.task(due_at=NOW)
    assert [made.task_id for made in stage.due(NOW)] == [sound.id]
    shown = stage.read_task(broken)
    assert (shown.state_reason, shown.next_run_at) == ("paused_invalid_trigger", NOW - MINUTE)
    assert stage.write(due.earliest_due) == NOW + MINUTE


def change(stage: Stage, task_id: int | None, at: datetime, **edit: Any) -> None:
    with stage.database.write() as session:
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


def test_a_paused_task_runs_nothing_and_what_passed_is_recorded(stage: Stage) -> None:
    task = stage.task(due_at=NOW)
    change(stage, task.id, NOW, pause=True)
    assert stage.due(NOW + 5 * MINUTE) == []
    assert stage.write(due.earliest_due) is None
    change(stage, task.id, NOW + 5 * MINUTE, resume=True)
    stage.write(lambda s: runs.request_cancel(s, runs.get_run(s, 1, chain=1, lock=True), now=NOW))  # type: ignore[arg-type]
    stage.due(NOW + 6 * MINUTE)
    assert stage.outcomes(task) == {NOW: "run", NOW + MINUTE: "paused x5", NOW + 6 * MINUTE: "run"}


def test_an_edit_changes_only_what_comes_after_it(stage: Stage) -> None:
    task = stage.task(due_at=NOW)
    nightly = task.trigger | {"cron": "0 2 * * *"}
    tonight = NOW + timedelta(hours=16)
    change(stage, task.id, NOW + timedelta(seconds=3), trigger=nightly, next_run_at=tonight)
    [run] = stage.all(Run)
    assert (run.occurrence, run.definition["trigger"], run.task_version) == (NOW, task.trigger, 1)
    shown = stage.read_task(task)
    assert (shown.version, shown.next_run_at, shown.trigger) == (2, tonight, nightly)


def test_settling_after_long_downtime_leaves_nothing_due(stage: Stage) -> None:
    task = stage.task(due_at=NOW - timedelta(days=2))
    change(stage, task.id, NOW + timedelta(seconds=30), desc="x")
    assert stage.read_task(task).next_run_at == NOW + MINUTE
    assert sum(skip.count for skip in stage.all(Skip)) + len(stage.all(Run)) == 2 * 24 * 60 + 1


def test_settling_touches_nothing_that_is_not_due(stage: Stage) -> None:
    task = stage.task(due_at=NOW + MINUTE)
    with stage.database.write() as session:
        row = tasks.get_task(session, task.id or 0, chain=None, lock=True)
        assert row is not None
        assert due.settle(session, row, now=NOW, planner=PLANNER, queued_per_chain=1) == []
        assert row.revision == task.revision


def test_a_run_now_consumes_a_future_once(stage: Stage) -> None:
    task = stage.task(due_at=NOW + MINUTE, once="2026-01-05T10:01:00Z", timezone="UTC")
    run_id = stage.run(task, kind="manual")
    assert stage.read_task(task).next_run_at is None
    assert stage.due(NOW + MINUTE) == []
    assert stage.read_run(run_id).occurrence == NOW


def test_a_run_now_leaves_a_cron_alone(stage: Stage) -> None:
    task = stage.task(due_at=NOW + MINUTE)
    stage.run(task, kind="manual")
    assert stage.read_task(task).next_run_at == NOW + MINUTE


def test_failures_in_a_row_pause_the_schedule(stage: Stage) -> None:
    """A file ends the row; a cancelled run neither counts nor ends it; a schedule that goes on starts at nought."""
    task = stage.task(overlap="allow", pause_after_failures=3)
    minutes = itertools.count()

    def ends(how: str) -> tuple[int, str | None]:
        run_id = stage.run(task, occurrence=NOW + next(minutes) * MINUTE)
        claim = stage.claimed()
        if how == "cancelled":
            run = stage.read_run(run_id)
            stage.write(lambda session: runs.request_cancel(session, run, now=NOW))
            stage.write(lambda session: claims.cancelled(session, claim, now=NOW))
        elif how == "done":
            assert stage.publish(claim)
        else:
            assert stage.fail(claim)
        shown = stage.read_task(task)
        return shown.failures, shown.paused_reason

    assert [ends(how) for how in ("failed", "failed", "done")] == [(1, None), (2, None), (0, None)]
    assert [ends(how) for how in ("failed", "cancelled", "failed")] == [(1, None), (1, None), (2, None)]
    assert ends("failed") == (3, "failures")
    paused = stage.read_task(task)
    assert paused.paused_at is not None
    assert "3 failed runs in a row" in (paused.paused_note or "")
    stage.write(lambda session: tasks.resume_task(session, paused, now=NOW, next_run_at=NOW + MINUTE))
    assert ends("failed") == (1, None)
    assert stage.read_task(task).paused_at is None
