"""What backfills may rely on, the same on SQLite and on PostgreSQL: each occurrence is run once, a few at a time."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier
from typing import Any

import pytest

from tasks_service.database import backfills, clients, runs, tasks
from tasks_service.database.backfills import BackfillOrder, Progress, Reprocess
from tasks_service.database.models import Backfill, BackfillOccurrence, Run, Task
from tests.databases import MINUTE, NOW, Stage

DAY = timedelta(days=1)
LATER = NOW + DAY


def nights(*numbers: int) -> list[datetime]:
    return [NOW - DAY * 30 + DAY * number for number in numbers]


def wanted(stage: Stage, task: Task, *occurrences: datetime, reprocess: Reprocess = "none") -> list[datetime]:
    """Those that a backfill of these would run."""
    kept = stage.write(
        lambda session: backfills.left_alone(session, task.id or 0, sorted(occurrences), reprocess=reprocess)
    )
    return [one for one in sorted(occurrences) if one not in kept]


def backfilled(stage: Stage, task: Task, *occurrences: datetime, concurrency: int = 1, at: datetime = NOW) -> int:
    """A stored backfill of these occurrences."""
    order = BackfillOrder(occurrences[0], occurrences[-1] + MINUTE, "none", concurrency, occurrences, 0)
    with stage.database.write() as session:
        held = tasks.get_task(session, task.id or 0, chain=None, lock=True)
        assert held is not None
        made = backfills.create_backfill(session, held, now=at, client_id=task.client_id, order=order)
        return made.id or 0


def advanced(stage: Stage, backfill_id: int, *, at: datetime = NOW, running: int = 10, queued: int = 1000) -> int:
    """How many runs a look of a scheduler makes."""
    with stage.database.write() as session:
        return backfills.advance(session, backfill_id, now=at, running_per_chain=running, queued_per_chain=queued)


def read(stage: Stage, backfill_id: int) -> tuple[Backfill, Progress]:
    with stage.database.read() as session:
        found = backfills.get_backfill(session, backfill_id, chain=None)
        assert found is not None
        return found, backfills.progress(session, [found])[backfill_id]


def occurrences_of(stage: Stage, backfill_id: int) -> list[datetime]:
    """The occurrences that have a run, in the order in which their runs were made."""
    return [run.occurrence for run in stage.all(Run) if run.backfill_id == backfill_id]


def wanting(stage: Stage) -> list[int]:
    return [one for one, _ in stage.write(backfills.wanting)]


def cancel(stage: Stage, task: Task, backfill_id: int) -> None:
    def write(session: Any) -> None:
        held = tasks.get_task(session, task.id or 0, chain=None, lock=True)
        found = backfills.get_backfill(session, backfill_id, chain=None)
        assert held is not None
        assert found is not None
        backfills.cancel_backfill(session, held, found, now=NOW)

    stage.write(write)


def test_it_runs_the_oldest_first_so_many_at_a_time_to_its_end(stage: Stage) -> None:
    task = stage.task()
    one = backfilled(stage, task, *nights(1, 2, 3, 4, 5), concurrency=2)
    for made, going in ((2, [1, 2]), (0, [1, 2])):
        assert advanced(stage, one) == made
        assert occurrences_of(stage, one) == nights(*going)
    stage.publish(stage.claimed())
    assert wanting(stage) == [one]
    assert advanced(stage, one) == 1
    assert wanting(stage) == []  # two go, and more may not
    for _ in range(4):
        stage.publish(stage.claimed())
        advanced(stage, one)
    assert occurrences_of(stage, one) == nights(1, 2, 3, 4, 5)
    found, progress = read(stage, one)
    assert (found.state, found.finished_at) == ("done", NOW)
    assert progress == Progress(total=5, waiting=0, queued=0, running=0, done=5, failed=0, cancelled=0, skipped=0)
    assert wanting(stage) == []
    assert advanced(stage, one) == 0


def test_the_newest_run_of_an_occurrence_decides_whether_it_is_run_again(stage: Stage) -> None:
    """Done; failed; failed, then repeated well; cancelled; queued; running; never run."""
    task = stage.task()
    done, failed, repeated, cancelled, queued, running, never = nights(1, 2, 3, 4, 5, 6, 7)
    stage.run(task, occurrence=done)
    stage.publish(stage.claimed())
    for occurrence in (failed, repeated):
        stage.run(task, occurrence=occurrence)
        stage.fail(stage.claimed())
    stage.run(task, kind="retry", occurrence=repeated)
    stage.publish(stage.claimed())
    with stage.database.read() as session:
        of_nobody = session.get_one(Run, stage.run(task, occurrence=cancelled))
    stage.write(lambda session: runs.request_cancel(session, session.get_one(Run, of_nobody.id), now=NOW))
    stage.run(task, occurrence=running)
    assert stage.claimed().occurrence == running
    stage.run(task, occurrence=queued)
    stage.run(task, kind="manual", occurrence=never)  # is of no occurrence
    every = (done, failed, repeated, cancelled, queued, running, never)
    assert wanted(stage, task, *every) == [never]
    assert wanted(stage, task, *every, reprocess="failed") == [failed, cancelled, never]
    assert wanted(stage, task, *every, reprocess="all") == [done, failed, repeated, cancelled, never]
    assert wanted(stage, task) == []
    assert wanted(stage, stage.task(), *every) == list(every)  # another task's runs are none of it


def test_of_schedulers_that_look_at_once_each_occurrence_gets_one_run(stage: Stage) -> None:
    one = backfilled(stage, stage.task(), *nights(*range(1, 13)), concurrency=5)
    together = Barrier(4)

    def look() -> int:
        together.wait(20)
        return sum(advanced(stage, one) for _ in range(3))

    with ThreadPoolExecutor(4) as pool:
        made = [future.result(30) for future in [pool.submit(look) for _ in range(4)]]
    assert sum(made) == 5
    assert occurrences_of(stage, one) == nights(1, 2, 3, 4, 5)
    assert read(stage, one)[1].waiting == 7


def test_the_backfills_of_a_chain_share_its_places_and_no_other_chains(stage: Stage) -> None:
    first = backfilled(stage, stage.task(1), *nights(1, 2, 3), concurrency=3)
    second = backfilled(stage, stage.task(1), *nights(1, 2, 3), concurrency=3)
    other = backfilled(stage, stage.task(2), *nights(1, 2, 3), concurrency=3)
    assert [advanced(stage, one, running=4) for one in (first, second, other)] == [3, 1, 3]
    assert advanced(stage, second, running=4) == 0


def test_a_full_queue_is_not_filled_further(stage: Stage) -> None:
    task = stage.task()
    one = backfilled(stage, task, *nights(1, 2, 3), concurrency=3)
    stage.run(task, kind="manual")
    assert advanced(stage, one, queued=2) == 1
    assert advanced(stage, one, queued=2) == 0
    assert advanced(stage, one, queued=1) == 0
    assert read(stage, one)[0].state == "running"


def test_it_ends_failed_where_a_run_failed_and_goes_on_where_that_is_repeated(stage: Stage) -> None:
    task = stage.task()
    one = backfilled(stage, task, *nights(1, 2), concurrency=2)
    advanced(stage, one)
    stage.fail(stage.claimed())
    stage.publish(stage.claimed())
    assert wanting(stage) == [one]
    advanced(stage, one)
    found, progress = read(stage, one)
    assert (found.state, progress.done, progress.failed) == ("failed", 1, 1)
    [failed] = [run for run in stage.all(Run) if run.state == "failed"]
    stage.write(lambda session: backfills.reopen_backfill(session, one))
    assert read(stage, one)[0].state == "running"
    stage.run(task, kind="retry", occurrence=failed.occurrence, repeats=failed)
    assert advanced(stage, one) == 0
    stage.publish(stage.claimed())
    advanced(stage, one)
    found, progress = read(stage, one)
    assert (found.state, progress.done, progress.failed) == ("done", 2, 0)


def test_what_was_cancelled_or_has_a_successor_is_not_opened_again(stage: Stage) -> None:
    task = stage.task()
    one = backfilled(stage, task, *nights(1))
    cancel(stage, task, one)
    stage.write(lambda session: backfills.reopen_backfill(session, one))
    assert read(stage, one)[0].state == "cancelled"
    second = backfilled(stage, task, *nights(2))
    advanced(stage, second)
    stage.fail(stage.claimed())
    advanced(stage, second)
    backfilled(stage, task, *nights(3))
    stage.write(lambda session: backfills.reopen_backfill(session, second))
    assert read(stage, second)[0].state == "failed"


def test_cancelling_gives_up_what_waits_ends_what_is_queued_and_asks_what_runs(stage: Stage) -> None:
    task = stage.task()
    one = backfilled(stage, task, *nights(1, 2, 3, 4, 5), concurrency=3)
    advanced(stage, one)
    claim = stage.claimed()
    manual = stage.run(task, kind="manual")
    cancel(stage, task, one)
    found, progress = read(stage, one)
    assert (found.state, found.reason, found.dropped) == ("cancelled", "cancelled", 2)
    assert progress == Progress(total=5, waiting=0, queued=0, running=1, done=0, failed=0, cancelled=4, skipped=0)
    assert stage.read_run(claim.run_id).cancel_requested_at == NOW
    assert stage.read_run(manual).state == "queued"
    assert [stage.all(BackfillOccurrence), wanting(stage), advanced(stage, one)] == [[], [], 0]


def test_a_pause_of_somebody_does_not_hold_it_and_one_of_the_service_does(stage: Stage) -> None:
    task = stage.task()
    one = backfilled(stage, task, *nights(1, 2))

    def pause(reason: str | None) -> None:
        with stage.database.write() as session:
            held = tasks.get_task(session, task.id or 0, chain=None, lock=True)
            assert held is not None
            tasks.pause_task(session, held, now=NOW, note=None, reason=reason)

    pause(None)
    assert wanting(stage) == [one]
    pause("failures")
    assert wanting(stage) == []


@pytest.mark.parametrize("harm", ["removed", "scope", "deleted"])
def test_a_task_that_may_not_run_is_backfilled_no_further(stage: Stage, harm: str) -> None:
    task = stage.task()
    one = backfilled(stage, task, *nights(1, 2, 3))
    with stage.database.write() as session:
        if harm == "removed":
            clients.remove_client(session, task.client_id, now=NOW)
        elif harm == "scope":
            clients.set_scopes(session, task.client_id, ["tasks:read"])
        else:
            held = tasks.get_task(session, task.id or 0, chain=None, lock=True)
            assert held is not None
            tasks.delete_task(session, held, now=NOW)
    assert advanced(stage, one) == 0
    found, progress = read(stage, one)
    expected = {"removed": "client_removed", "scope": "scope_lost", "deleted": "task_deleted"}[harm]
    assert (found.state, found.reason, progress.cancelled) == ("cancelled", expected, 3)
    assert stage.all(Run) == []


def test_the_schedule_and_the_backfill_take_no_notice_of_one_another(stage: Stage) -> None:
    """Not by overlap, not by what the task shows, not by failures in a row; and the schedule's run comes first."""
    task = stage.task(due_at=NOW, overlap="cancel_other", pause_after_failures=1)
    one = backfilled(stage, task, *nights(1, 2), concurrency=2)
    advanced(stage, one)
    assert len(stage.due(NOW)) == 1
    first = stage.claimed()
    assert (first.kind, first.occurrence) == ("schedule", NOW)
    stage.fail(stage.claimed())
    shown = stage.read_task(task)
    assert (shown.state, shown.failures, shown.paused_at) == ("INPROGRESS", 0, None)
    assert len(stage.due(NOW + MINUTE)) == 1
    assert stage.read_run(first.run_id).cancel_requested_at is not None
    assert [run.state for run in stage.all(Run) if run.backfill_id == one] == ["failed", "queued"]


def test_pages_are_newest_first(stage: Stage) -> None:
    task = stage.task()
    made = []
    for number in (1, 2, 3):
        made.append(backfilled(stage, task, *nights(number)))
        cancel(stage, task, made[-1])
    backfilled(stage, stage.task(), *nights(1))
    with stage.database.read() as session:
        page, more = backfills.list_backfills(session, task.id or 0, limit=2)
        assert ([one.id for one in page], more) == ([made[2], made[1]], True)
        page, more = backfills.list_backfills(session, task.id or 0, limit=2, after=made[1])
        assert ([one.id for one in page], more) == ([made[0]], False)
        assert backfills.get_backfill(session, made[0], chain=task.chain + 1) is None
