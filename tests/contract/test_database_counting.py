"""What is counted of what the database decides, the same on SQLite and on PostgreSQL: each fact once, when it holds."""

from __future__ import annotations

import queue
from datetime import timedelta
from time import monotonic

import pytest
from sqlmodel import Session

from tasks_service import metrics, schedule
from tasks_service.beats import Beating, Standing, hold_run
from tasks_service.config import WorkerSettings
from tasks_service.database import claims, runs, tasks
from tasks_service.database.models import Skip
from tasks_service.schedule import Limits
from tests import measured
from tests.databases import MINUTE, NOW, Stage

LATER = NOW + timedelta(seconds=61)


def test_a_due_occurrence_counts_with_how_late_it_was_and_a_missed_one_with_its_reason(stage: Stage) -> None:
    stage.task(due_at=NOW)
    with measured.moving() as moved:
        stage.due(NOW + timedelta(seconds=2))
        assert moved.of(metrics.RUNS_MADE, kind="schedule") == 1
        assert moved.of(metrics.FIRING_LATENESS, "_count") == 1
        assert moved.of(metrics.FIRING_LATENESS, "_sum") == 2
    stage.task(due_at=NOW, misfire="run_once")
    with measured.moving() as moved:
        stage.due(NOW + 10 * MINUTE + timedelta(seconds=30))
        assert moved.of(metrics.OCCURRENCES_NOT_RUN, reason="misfire") == 9 + 10


def occurrences_not_run(stage: Stage, reason: str) -> int:
    """Have occurrences of a task not be run for a reason; return how many."""
    due = NOW + 10 * MINUTE + timedelta(seconds=30)
    few = Limits(catch_up=timedelta(minutes=4), catch_up_runs=2)
    if reason == "misfire":
        stage.task(due_at=NOW, misfire="skip")
        stage.due(due)
        return 10
    if reason in {"catch_up_window", "catch_up_limit"}:
        stage.task(due_at=NOW, misfire="run_all", overlap="allow")
        stage.due(due, limits=few)
        return 7 if reason == "catch_up_window" else 1
    if reason == "overlap":
        stage.run(stage.task(due_at=NOW, overlap="skip"), occurrence=NOW - MINUTE)
        stage.due(NOW)
        return 1
    if reason == "queue_full":
        stage.task(due_at=NOW)
        stage.due(NOW, cap=0)
        return 1
    if reason == "executed":
        stage.run(stage.task(due_at=NOW + MINUTE, once="2026-05-26T12:01:00Z"), kind="manual")
        return 1
    task = stage.task(due_at=NOW)
    passed = schedule.passed(task.trigger, due=NOW, now=NOW + 2 * MINUTE, reason=reason)

    def end(session: Session) -> None:
        row = tasks.get_task(session, task.id or 0, chain=None, lock=True)
        assert row is not None
        if reason == "deleted":
            tasks.delete_task(session, row, now=NOW + 2 * MINUTE, skips=passed)
        else:
            tasks.resume_task(session, row, now=NOW + 2 * MINUTE, next_run_at=NOW + 3 * MINUTE, skips=passed)

    stage.write(end)
    return 3


@pytest.mark.parametrize("reason", metrics.OCCURRENCES_NOT_RUN.starts)
def test_what_is_not_run_counts_under_its_reason(stage: Stage, reason: str) -> None:
    with measured.moving() as moved:
        count = occurrences_not_run(stage, reason)
        assert moved.of(metrics.OCCURRENCES_NOT_RUN, reason=reason) == count
    assert sum(one.count for one in stage.all(Skip) if one.reason == reason) == count


def test_a_claim_and_its_end_count_once_however_often_they_are_written(stage: Stage) -> None:
    stage.run(stage.task())
    with measured.moving() as moved:
        claim = stage.claimed(NOW + timedelta(seconds=3))
        assert stage.publish(claim, LATER)
        assert stage.publish(claim, LATER)  # a commit whose answer was lost
        assert moved.of(metrics.CLAIMS) == 1
        assert moved.of(metrics.START_DELAY, "_sum") == 3
        assert moved.of(metrics.ATTEMPTS, outcome="published", code="") == 1
        assert moved.of(metrics.RUNS_ENDED, state="done", code="") == 1
        assert moved.of(metrics.FENCED_WRITES, write="published") == 0


def test_heartbeats_count_by_what_they_met(stage: Stage) -> None:
    """Real ones, by the thread that a beater has for each hold."""
    stage.run(stage.task())
    with stage.database.read() as session:
        now = stage.database.now(session)
    mine = stage.claimed(now)
    heard: queue.SimpleQueue[str] = queue.SimpleQueue()

    def beating() -> Beating:
        settings = WorkerSettings.model_validate({"heartbeat_seconds": 0.01})
        standing = Standing(monotonic(), monotonic())
        return Beating(stage.database, settings, hold_run(mine), standing, lambda word, _: heard.put(word))

    with measured.moving() as moved:
        beats = beating()
        assert [heard.get(timeout=30) for _ in range(2)] == ["renewed"] * 2
        beats.end()
        counted = moved.of(metrics.BEATS, outcome="ok")
        assert counted == 2 + heard.qsize()
        stage.claimed(now + timedelta(hours=1))  # somebody else's, because its lease had lapsed
        heard = queue.SimpleQueue()
        beats = beating()
        assert heard.get(timeout=30) == "lost"
        beats.end()
        assert moved.of(metrics.BEATS, outcome="ok") == counted
        assert moved.of(metrics.BEATS, outcome="lost") == 1


def test_a_rescue_counts_and_so_does_each_write_of_the_worker_that_lost(stage: Stage) -> None:
    run_id = stage.run(stage.task())
    lost = stage.claimed()
    with measured.moving() as moved:
        stage.claimed(LATER)
        assert moved.of(metrics.RESCUES) == 1
        assert moved.of(metrics.CLAIMS) == 1
        assert moved.of(metrics.START_DELAY, "_count") == 0
        assert moved.of(metrics.ATTEMPTS, outcome="abandoned", code="") == 1
        assert not stage.publish(lost, LATER)
        for rows in (1, 2):
            stage.write(
                lambda s, rows=rows: claims.beat(
                    s, lost, now=LATER, lease_seconds=60, rows=rows, total=9, bytes_written=0
                )
            )
        stage.write(lambda s: claims.name_object(s, lost, "late"))
        assert moved.of(metrics.FENCED_WRITES, write="published") == 1
        assert moved.of(metrics.FENCED_WRITES, write="beat") == 2
        assert moved.of(metrics.FENCED_WRITES, write="object_name") == 1
        assert moved.of(metrics.RUNS_ENDED, state="done", code="") == 0
    assert stage.read_run(run_id).state == "running"


def test_a_retry_is_an_attempt_and_no_end_and_a_failure_is_both(stage: Stage) -> None:
    stage.run(stage.task())
    with measured.moving() as moved:
        first = stage.claimed()
        stage.fail(first, retry_at=NOW, code="timeout")
        assert moved.of(metrics.ATTEMPTS, outcome="retried", code="timeout") == 1
        assert moved.of(metrics.RUNS_ENDED, state="failed", code="timeout") == 0
        second = stage.claimed()
        stage.fail(second, code="timeout")
        assert moved.of(metrics.ATTEMPTS, outcome="failed", code="timeout") == 1
        assert moved.of(metrics.RUNS_ENDED, state="failed", code="timeout") == 1


def test_a_run_that_ends_its_workers_counts_as_poisoned(stage: Stage) -> None:
    stage.run(stage.task())
    with measured.moving() as moved:
        claimed = [stage.claim(NOW + number * 2 * MINUTE, ceiling=2) for number in range(3)]
        assert claimed[2] is None
        assert moved.of(metrics.POISONED) == 1
        assert moved.of(metrics.RUNS_ENDED, state="failed", code="poison") == 1


def test_cancellations_count_and_how_long_they_took(stage: Stage) -> None:
    made = [stage.run(stage.task()), stage.run(stage.task())]
    with measured.moving() as moved:
        claim = stage.claimed()
        for run in map(stage.read_run, made):
            stage.write(lambda s, run=run: runs.request_cancel(s, run, now=NOW))
        stage.write(lambda s: claims.cancelled(s, claim, now=NOW + timedelta(seconds=7)))
        assert moved.of(metrics.RUNS_ENDED, state="cancelled", code="cancelled") == 2
        assert moved.of(metrics.CANCEL_DELAY, "_sum") == 7


def test_a_pause_of_the_services_own_counts_and_one_that_was_asked_for_does_not(stage: Stage) -> None:
    asked = stage.read_task(stage.task(due_at=NOW))
    with measured.moving() as moved:
        stage.write(lambda s: tasks.pause_task(s, asked, now=NOW, note="asked"))
        assert moved.total(metrics.TASKS_PAUSED) == 0
        stage.task(due_at=NOW, pause_after_failures=1)
        [made] = stage.due(NOW)
        claim = stage.claimed()
        assert claim.run_id == made.run_id
        stage.fail(claim, code="timeout")
        assert moved.of(metrics.TASKS_PAUSED, reason="failures") == 1
