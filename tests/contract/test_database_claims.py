"""What a worker may rely on, the same on SQLite and on PostgreSQL: fairness, leases, fencing, ends."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlmodel import Session

from tasks_service.artifacts import objects_of
from tasks_service.database import claims, runs, tasks
from tasks_service.database.claims import Claim
from tasks_service.database.models import Event, Run
from tests.databases import ARTIFACT, MINUTE, NOW, Stage

LATER = NOW + timedelta(seconds=61)


def beat(stage: Stage, claim: Claim, at: datetime, rows: int = 0) -> claims.Beat:
    return stage.write(
        lambda session: claims.beat(
            session, claim, now=at, lease_seconds=60, rows=rows, total=9, bytes_written=rows * 10
        )
    )


def test_a_claim_takes_the_run_and_shows_it(stage: Stage) -> None:
    task = stage.task(7)
    run_id = stage.run(task)
    claim = stage.claimed(owner="a")
    assert (claim.run_id, claim.task_id, claim.chain, claim.kind) == (run_id, task.id, 7, "schedule")
    assert (claim.attempt_number, claim.attempts, claim.occurrence) == (1, 0, NOW)
    assert claim.definition == {"target": task.target, "trigger": task.trigger}
    assert claim.client_id == task.client_id
    run, shown = stage.read_run(run_id), stage.read_task(task)
    assert (run.state, run.lease_owner, run.lease_until, run.lease_token) == ("running", "a", NOW + MINUTE, 1)
    assert (shown.state, shown.last_run_id, shown.last_run_at) == ("INPROGRESS", run_id, NOW)
    assert shown.revision > task.revision
    [attempt] = stage.attempts(run_id)
    assert (attempt.number, attempt.worker, attempt.outcome, attempt.ended_at) == (1, "a", None, None)
    assert stage.claim() is None


def test_a_run_is_not_claimed_before_its_time(stage: Stage) -> None:
    stage.run(stage.task(), available_at=NOW + MINUTE)
    assert stage.claim(NOW + MINUTE - timedelta(milliseconds=1)) is None
    assert stage.claim(NOW + MINUTE) is not None


def test_a_lapsed_run_is_taken_over_and_its_attempt_abandoned(stage: Stage) -> None:
    run_id = stage.run(stage.task())
    first = stage.claimed(owner="dead")
    assert stage.claim(NOW + timedelta(seconds=59)) is None
    second = stage.claimed(LATER, owner="alive")
    assert (second.run_id, second.attempt_number, second.attempts) == (run_id, 2, 0)
    assert second.lease_token > first.lease_token
    outcomes = [(one.worker, one.outcome) for one in stage.attempts(run_id)]
    assert outcomes == [("dead", "abandoned"), ("alive", None)]


def test_a_beat_keeps_the_lease_and_notes_progress_only_where_there_was_some(stage: Stage) -> None:
    run_id = stage.run(stage.task())
    claim = stage.claimed()
    assert beat(stage, claim, NOW + timedelta(seconds=50), rows=4) == claims.Beat(owned=True, cancel_requested=False)
    assert stage.claim(NOW + timedelta(seconds=109)) is None
    beat(stage, claim, NOW + timedelta(seconds=100), rows=4)
    run = stage.read_run(run_id)
    assert (run.rows, run.total, run.bytes_written) == (4, 9, 40)
    assert run.progress_at == NOW + timedelta(seconds=50)
    assert run.lease_until == NOW + timedelta(seconds=160)


WRITES: dict[str, Callable[[Session, Claim], Any]] = {
    "beat": lambda s, c: claims.beat(s, c, now=LATER, lease_seconds=60, rows=9, total=9, bytes_written=9).owned,
    "name_object": lambda s, c: claims.name_object(s, c, "stale/object"),
    "record_query": lambda s, c: claims.record_query(s, c, {"stale": True}),
    "publish": lambda s, c: claims.publish(s, c, now=LATER, artifact=ARTIFACT, expires_at=LATER, query={"stale": 1}),
    "publish nothing": lambda s, c: claims.publish(s, c, now=LATER, artifact=None, expires_at=None, query=None),
    "fail": lambda s, c: claims.fail(s, c, now=LATER, code="x", detail="y", retry_at=None),
    "retry": lambda s, c: claims.fail(s, c, now=LATER, code="x", detail="y", retry_at=LATER),
    "hand_back": lambda s, c: claims.hand_back(s, c, now=LATER),
    "cancelled": lambda s, c: claims.cancelled(s, c, now=LATER),
}


def _another_goes(stage: Stage, _: Claim) -> None:
    stage.claimed(LATER, owner="another")


def _another_finished(stage: Stage, _: Claim) -> None:
    stage.publish(stage.claimed(LATER, owner="another"), LATER)


def _queued_again(stage: Stage, _: Claim) -> None:
    claim = stage.claimed(LATER, owner="another")
    stage.write(lambda session: claims.hand_back(session, claim, now=LATER))


def _cancelled_after_it_lapsed(stage: Stage, claim: Claim) -> None:
    with stage.database.write() as session:
        run = runs.get_run(session, claim.run_id, chain=None, lock=True)
        assert run is not None
        runs.request_cancel(session, run, now=LATER)
    assert stage.claim(LATER) is None


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize(
    "happened", [_another_goes, _another_finished, _queued_again, _cancelled_after_it_lapsed], ids=lambda f: f.__name__
)
def test_a_worker_that_lost_its_lease_changes_nothing(
    stage: Stage, write: str, happened: Callable[[Stage, Claim], None]
) -> None:
    stage.run(stage.task())
    stale = stage.claimed(owner="stopped")
    happened(stage, stale)
    before = stage.snapshot()
    assert stage.write(lambda session: WRITES[write](session, stale)) is False
    assert stage.snapshot() == before


def test_publishing_makes_the_file_the_runs_and_the_task_done(stage: Stage) -> None:
    task = stage.task()
    run_id = stage.run(task)
    assert stage.publish(stage.claimed(), LATER)
    run, shown = stage.read_run(run_id), stage.read_task(task)
    assert (run.state, run.artifact, run.expires_at) == ("done", ARTIFACT, LATER + timedelta(days=30))
    assert (run.rows, run.total, run.bytes_written, run.query) == (3, 3, 40, {"match_all": {}})
    assert (run.finished_at, run.lease_until, run.lease_owner) == (LATER, None, None)
    assert (shown.state, shown.state_reason, shown.result_run_id) == ("DONE", None, run_id)
    assert (shown.last_run_at, shown.modified_at) == (NOW, LATER)
    assert [one.outcome for one in stage.attempts(run_id)] == ["published"]
    assert stage.claim(LATER + timedelta(days=1)) is None


@pytest.mark.parametrize("write", ["publish", "fail", "retry", "hand_back", "cancelled"])
def test_an_end_whose_answer_was_lost_may_be_written_again(stage: Stage, write: str) -> None:
    stage.run(stage.task())
    claim = stage.claimed()
    assert stage.write(lambda session: WRITES[write](session, claim)) is True
    before = stage.snapshot()
    assert stage.write(lambda session: WRITES[write](session, claim)) is True
    assert stage.snapshot() == before


def test_a_failure_is_tried_again_at_its_time_and_counted(stage: Stage) -> None:
    task = stage.task()
    run_id = stage.run(task)
    assert stage.fail(stage.claimed(), retry_at=NOW + MINUTE, code="source_unavailable")
    run = stage.read_run(run_id)
    assert (run.state, run.reason, run.attempts, run.finished_at) == ("queued", "source_unavailable", 1, None)
    assert stage.read_task(task).state == "INPROGRESS"
    assert stage.claim(NOW + timedelta(seconds=59)) is None
    again = stage.claimed(NOW + MINUTE)
    assert (again.attempt_number, again.attempts) == (2, 1)
    assert stage.fail(again, NOW + MINUTE)
    run, shown = stage.read_run(run_id), stage.read_task(task)
    assert (run.state, run.reason, run.detail, run.attempts) == ("failed", "empty", "Because.", 2)
    assert (shown.state, shown.state_reason, shown.result_run_id) == ("ERROR", "empty", None)
    assert [one.outcome for one in stage.attempts(run_id)] == ["retried", "failed"]


def test_an_interruption_burns_no_attempt(stage: Stage) -> None:
    run_id = stage.run(stage.task())
    claim = stage.claimed()
    assert stage.write(lambda session: claims.hand_back(session, claim, now=NOW))
    again = stage.claimed()
    assert (again.run_id, again.attempt_number, again.attempts) == (run_id, 2, 0)
    assert [one.outcome for one in stage.attempts(run_id)] == ["interrupted", None]


def test_a_run_that_ends_its_workers_is_given_up_at_the_ceiling(stage: Stage) -> None:
    task = stage.task()
    run_id, healthy = stage.run(task), stage.run(stage.task(2))
    at, claimed = NOW, []
    while (claim := stage.claim(at, ceiling=3)) is not None:
        claimed.append(claim.run_id)
        if claim.run_id == healthy:
            stage.publish(claim, at)
        at += timedelta(seconds=61)
    assert claimed.count(run_id) == 3
    run, shown = stage.read_run(run_id), stage.read_task(task)
    assert (run.state, run.reason, run.claims) == ("failed", "poison", 3)
    assert (shown.state, shown.state_reason) == ("ERROR", "poison")
    assert [one.outcome for one in stage.attempts(run_id)] == ["abandoned"] * 3


def test_a_run_handed_back_again_and_again_is_no_poison(stage: Stage) -> None:
    run_id = stage.run(stage.task())
    for _ in range(5):
        claim = stage.claim(NOW, ceiling=3)
        assert claim is not None
        stage.write(lambda session, claim=claim: claims.hand_back(session, claim, now=NOW))
    at = NOW
    for _ in range(3):  # the ceiling counts the workers it lost
        assert stage.claim(at, ceiling=3) is not None
        at += timedelta(seconds=61)
    assert stage.claim(at, ceiling=3) is None
    run = stage.read_run(run_id)
    assert (run.state, run.reason, run.claims) == ("failed", "poison", 8)
    assert run.detail == "Given up after 3 attempts whose workers did not live to their end."


def test_a_cancelled_run_ends_when_its_worker_says_so_or_is_dead(stage: Stage) -> None:
    task = stage.task()
    run_id = stage.run(task)
    claim = stage.claimed()

    def cancel(session: Session) -> bool:
        run = runs.get_run(session, run_id, chain=1, lock=True)
        assert run is not None
        return runs.request_cancel(session, run, now=NOW)

    assert stage.write(cancel) is True
    assert stage.write(cancel) is False
    assert beat(stage, claim, NOW) == claims.Beat(owned=True, cancel_requested=True)
    assert stage.read_task(task).state == "INPROGRESS"
    assert stage.write(lambda session: claims.cancelled(session, claim, now=NOW))
    run, shown = stage.read_run(run_id), stage.read_task(task)
    assert (run.state, run.reason) == ("cancelled", "cancelled")
    assert (shown.state, shown.state_reason) == ("ERROR", "cancelled")
    assert stage.write(cancel) is False


@pytest.mark.parametrize("write", ["retry", "hand_back"])
def test_a_cancelled_run_does_not_go_back_to_the_queue(stage: Stage, write: str) -> None:
    run_id = stage.run(stage.task())
    claim = stage.claimed()
    with stage.database.write() as session:
        run = runs.get_run(session, run_id, chain=1, lock=True)
        assert run is not None
        runs.request_cancel(session, run, now=NOW)
    assert stage.write(lambda session: WRITES[write](session, claim)) is True
    assert stage.read_run(run_id).state == "cancelled"
    assert stage.write(lambda session: WRITES[write](session, claim)) is True


def test_the_chain_with_the_fewest_running_comes_first_then_the_oldest(stage: Stage) -> None:
    for number in range(5):
        stage.run(stage.task(1), at=NOW + timedelta(seconds=number))
    stage.run(stage.task(2), at=NOW + timedelta(seconds=10))
    stage.run(stage.task(3), at=NOW + timedelta(seconds=9))
    at = NOW + MINUTE
    order = [stage.claimed(at).chain for _ in range(7)]
    assert order == [1, 3, 2, 1, 1, 1, 1]


def test_a_chain_has_no_more_running_than_its_cap_but_takes_over_its_own(stage: Stage) -> None:
    for _ in range(4):
        stage.run(stage.task(1))
    stage.run(stage.task(2), at=NOW + timedelta(seconds=1))
    at = NOW + timedelta(seconds=2)
    assert [stage.claimed(at, cap=2).chain for _ in range(3)] == [1, 2, 1]
    assert stage.claim(at, cap=2) is None
    # The leases lapse: the same two runs of chain 1 go on under another worker, and still no third.
    late = at + timedelta(seconds=61)
    again = [stage.claimed(late, cap=2) for _ in range(3)]
    assert sorted(claim.attempt_number for claim in again) == [2, 2, 2]
    assert stage.claim(late, cap=2) is None
    [first] = [claim for claim in again if claim.chain == 2]
    assert stage.publish(first, late)
    [mine, _] = [claim for claim in again if claim.chain == 1]
    assert stage.publish(mine, late)
    assert stage.claimed(late, cap=2).attempt_number == 1


def test_serial_runs_of_a_task_wait_for_each_other_and_others_pass_them(stage: Stage) -> None:
    serial, parallel = stage.task(1), stage.task(1, overlap="allow")
    first, second = stage.run(serial), stage.run(serial, occurrence=NOW + MINUTE)
    free = [stage.run(parallel, occurrence=NOW + MINUTE * number) for number in range(2)]
    claimed = [stage.claimed() for _ in range(3)]
    assert [claim.run_id for claim in claimed] == [first, *free]
    assert stage.claim() is None
    assert stage.publish(claimed[0])
    assert stage.claimed().run_id == second


def test_a_task_shows_in_progress_until_the_last_of_its_runs_has_ended(stage: Stage) -> None:
    task = stage.task(overlap="allow")
    for number in range(2):
        stage.run(task, occurrence=NOW + MINUTE * number)
    first, second = stage.claimed(), stage.claimed()
    assert stage.publish(first)
    shown = stage.read_task(task)
    assert (shown.state, shown.result_run_id) == ("INPROGRESS", first.run_id)
    assert stage.fail(second)
    shown = stage.read_task(task)
    assert (shown.state, shown.state_reason, shown.result_run_id) == ("ERROR", "empty", first.run_id)


def test_what_unpublished_attempts_left_is_found_until_it_is_swept(stage: Stage) -> None:
    stage.run(stage.task())
    dead = stage.claimed()
    stage.write(lambda session: claims.name_object(session, dead, "one"))
    alive = stage.claimed(LATER)
    stage.write(lambda session: claims.name_object(session, alive, "two"))

    def found(session: Session) -> list[str]:
        return [one.object_name for one in claims.sweepable(session, now=LATER, limit=10)]

    assert stage.write(found) == ["one"]
    assert stage.write(lambda session: claims.sweepable(session, now=LATER, limit=10, settled_seconds=1)) == []
    stage.publish(alive, LATER)
    [orphan] = stage.write(lambda session: claims.sweepable(session, now=LATER, limit=10))
    stage.write(lambda session: claims.mark_swept(session, orphan.attempt_id, now=LATER))
    assert stage.write(found) == []


def test_what_was_left_last_is_swept_first(stage: Stage) -> None:
    """What is looked at for an hour, or refused by the storage, must keep nothing new waiting."""
    for seconds, name in enumerate(("first", "second", "third")):
        stage.run(stage.task())
        claim = stage.claimed()
        stage.write(lambda session, claim=claim, name=name: claims.name_object(session, claim, name))
        stage.fail(claim, NOW + timedelta(seconds=seconds))
    found = stage.write(lambda session: claims.sweepable(session, now=LATER, limit=2))
    assert [one.object_name for one in found] == ["third", "second"]


def test_files_are_deleted_when_they_expire_or_their_task_goes(stage: Stage) -> None:
    kept, deleted = stage.task(), stage.task()
    for task in (kept, deleted):
        stage.run(task)
        stage.publish(stage.claimed())

    def expired(at: datetime) -> list[int]:
        return stage.write(lambda s: [file.run_id for file in claims.expired_files(s, now=at, limit=10)])

    assert expired(NOW) == []
    with stage.database.write() as session:
        task = tasks.get_task(session, deleted.id or 0, chain=1, lock=True)
        assert task is not None
        tasks.delete_task(session, task, now=NOW)
    [gone] = expired(NOW)
    assert stage.read_run(gone).task_id == deleted.id
    before = stage.read_task(kept).revision
    both = expired(NOW + timedelta(days=30))
    assert len(both) == 2
    for run_id in both:
        stage.write(lambda session, run_id=run_id: claims.mark_file_deleted(session, run_id, now=LATER))
    assert expired(NOW + timedelta(days=60)) == []
    assert stage.read_task(kept).revision == before + 1


def test_a_task_deleted_under_a_worker_publishes_nothing_that_stays(stage: Stage) -> None:
    task = stage.task()
    run_id = stage.run(task)
    claim = stage.claimed()
    queued = stage.run(task, occurrence=NOW + MINUTE)
    with stage.database.write() as session:
        row = tasks.get_task(session, task.id or 0, chain=1, lock=True)
        assert row is not None
        tasks.delete_task(session, row, now=NOW)
    assert stage.read_run(queued).state == "cancelled"
    assert beat(stage, claim, NOW).cancel_requested
    assert stage.publish(claim, LATER)
    files = stage.write(lambda session: claims.expired_files(session, now=LATER, limit=5))
    assert [(file.run_id, objects_of(file.artifact)) for file in files] == [(run_id, [("o", 7)])]


def test_every_step_is_in_the_log(stage: Stage) -> None:
    stage.run(stage.task())
    stage.claimed()
    stage.fail(stage.claimed(LATER), LATER, retry_at=LATER)
    stage.publish(stage.claimed(LATER), LATER)
    assert [event.event for event in stage.all(Event)] == [
        "task.created",
        "run.queued",
        "run.started",
        "attempt.abandoned",
        "run.started",
        "attempt.failed",
        "run.started",
        "run.published",
    ]
    assert [run.state for run in stage.all(Run)] == ["done"]
