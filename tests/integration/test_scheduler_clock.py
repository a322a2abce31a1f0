"""The scheduler process part: APScheduler over the task table, which nothing stops but `stop`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from threading import Event
from threading import enumerate as threads
from typing import Any

import pytest
import time_machine
from sqlmodel import Session

from tasks_service.config import Settings
from tasks_service.database.models import Run, Skip
from tasks_service.errors import DatabaseUnavailableError
from tasks_service.executors.table import TableExecutor
from tasks_service.scheduler import Scheduler, TaskJobStore
from tests.databases import MINUTE, NOW, Stage
from tests.waiting import eventually

SETTINGS = Settings.model_validate({"scheduler": {"poll_interval_seconds": 0.05, "batch": 10}})


class Recorder(TableExecutor):
    """Notes what it is offered."""

    def __init__(self) -> None:
        super().__init__()
        self.offered: list[int] = []

    def offer(self, session: Session, run_id: int, *, at: datetime | None = None) -> None:
        super().offer(session, run_id, at=at)
        self.offered.append(run_id)


@pytest.fixture
def executor() -> Recorder:
    return Recorder()


@pytest.fixture
def scheduler(stage: Stage, executor: Recorder) -> Iterator[Scheduler]:
    made = Scheduler(stage.database, executor, SETTINGS)
    yield made
    made.stop()


def now(stage: Stage) -> datetime:
    with stage.database.read() as session:
        return stage.database.now(session)


def test_what_is_due_is_run_on_time_and_offered(stage: Stage, scheduler: Scheduler, executor: Recorder) -> None:
    start = now(stage)
    soon = start.replace(microsecond=0) + timedelta(seconds=2)
    for chain in range(1, 31):
        stage.task(chain, due_at=soon, cron="0 0 1 1 *")
    scheduler.start()
    eventually(lambda: len(stage.all(Run)) == 30)
    found = stage.all(Run)
    assert {run.occurrence for run in found} == {soon}
    assert all(run.created_at >= soon for run in found)
    eventually(lambda: sorted(executor.offered) == sorted(run.id for run in found))
    assert scheduler.alive()


def test_a_task_another_process_stored_is_seen_within_a_poll(stage: Stage, scheduler: Scheduler) -> None:
    scheduler.start()
    eventually(scheduler.alive)
    stage.task(due_at=now(stage) - timedelta(seconds=1), cron="0 0 1 1 *")
    eventually(lambda: len(stage.all(Run)) == 1)


def test_nothing_depends_on_this_hosts_clock(stage: Stage, executor: Recorder) -> None:
    past, future = now(stage) - timedelta(minutes=1), now(stage) + timedelta(minutes=5)
    stage.task(due_at=past, cron="0 0 1 1 *")
    stage.task(due_at=future, cron="0 0 1 1 *")
    for skew in (-10, 10):
        scheduler = Scheduler(stage.database, executor, SETTINGS)
        with time_machine.travel(datetime.now(UTC) + timedelta(minutes=skew)):
            scheduler.start()
            eventually(lambda: [run.occurrence for run in stage.all(Run)] == [past])
            ticked = scheduler._clock.store.last_tick  # type: ignore[union-attr]
            eventually(lambda seen=ticked, one=scheduler: one._clock.store.last_tick > seen)
            scheduler.stop()
    assert [run.occurrence for run in stage.all(Run)] == [past]


def test_a_database_that_does_not_answer_kills_no_thread(
    stage: Stage, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = Event()

    def away(*_: Any) -> Any:
        failed.set()
        raise DatabaseUnavailableError

    scheduler.start()
    stage.task(due_at=now(stage) + timedelta(milliseconds=200), cron="0 0 1 1 *")
    with monkeypatch.context() as patch:
        patch.setattr(stage.database, "write", away)
        patch.setattr(stage.database, "read", away)
        assert failed.wait(30)
        clock = scheduler._clock
        assert clock is not None
        ticks = clock.store.last_tick
        eventually(lambda: clock.store.last_tick > ticks)
        assert scheduler.alive()
    eventually(lambda: len(stage.all(Run)) == 1)
    assert scheduler._clock is clock


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_dead_thread_is_started_again(stage: Stage, scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler.start()
    first = scheduler._clock
    assert first is not None

    def broken(_: TaskJobStore) -> datetime:
        raise RuntimeError("out of the loop")

    with monkeypatch.context() as patch:
        patch.setattr(TaskJobStore, "get_next_run_time", broken)
        eventually(lambda: not first.is_alive())
    eventually(lambda: scheduler._clock is not first and scheduler._clock.is_alive())  # type: ignore[union-attr]
    stage.task(due_at=now(stage), cron="0 0 1 1 *")
    eventually(lambda: len(stage.all(Run)) == 1)
    assert scheduler.alive()


def test_a_clock_that_hangs_is_reported(scheduler: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    scheduler.start()
    assert scheduler.alive()
    moment = scheduler._clock.store.last_tick  # type: ignore[union-attr]
    monkeypatch.setattr(scheduler, "_look_after_the_clock", lambda: None)
    scheduler.last_tick = moment - 61
    assert not scheduler.alive()


def test_stopping_leaves_no_thread_and_makes_nothing_more(stage: Stage, executor: Recorder) -> None:
    before = set(threads())
    scheduler = Scheduler(stage.database, executor, SETTINGS)
    assert not scheduler.alive()
    scheduler.start()
    eventually(scheduler.alive)
    scheduler.stop()
    assert not scheduler.alive()
    eventually(lambda: set(threads()) <= before)
    stage.task(due_at=now(stage), cron="0 0 1 1 *")
    scheduler.stop()
    assert stage.all(Run) == []


class TestStore:
    """The job store by itself, as APScheduler's loop calls it."""

    def store(self, **more: Any) -> TaskJobStore:
        calls: dict[str, Any] = {"tick": list, "fire": lambda _: None, "delay": lambda: 0.3} | more
        return TaskJobStore(calls["tick"], calls["fire"], calls["delay"])

    def test_it_never_raises(self) -> None:
        def broken() -> Any:
            raise RuntimeError

        store = self.store(tick=broken, delay=broken)
        assert store.get_due_jobs(NOW) == []
        assert datetime.now(UTC) < store.get_next_run_time() < datetime.now(UTC) + timedelta(seconds=2)
        for nothing in (
            store.update_job(None),
            store.remove_job("7"),
            store.remove_all_jobs(),
            store.lookup_job("7"),
            store.add_job(type("Job", (), {"id": "7"})()),
        ):
            assert nothing is None
        assert store.get_all_jobs() == []

    def test_the_next_look_is_as_far_away_as_it_is_told(self) -> None:
        assert self.store(delay=lambda: 5.0).get_next_run_time() - datetime.now(UTC) > timedelta(seconds=4)

    def test_a_retired_store_makes_nothing(self) -> None:
        store = self.store(tick=lambda: pytest.fail("it looked"))
        store.retired = True
        assert store.get_due_jobs(NOW) == []


def test_a_herd_fills_the_queue_of_each_chain_and_no_further(stage: Stage) -> None:
    for chain in (1, 2, 3):
        for _ in range(25):
            stage.task(chain, due_at=now(stage), cron="0 0 1 1 *")
    settings = SETTINGS.model_copy(update={"limits": SETTINGS.limits.model_copy(update={"queued_per_chain": 13})})
    scheduler = Scheduler(stage.database, TableExecutor(), settings)
    # A look ends with a batch that made nothing; the next one comes soon.
    made = [run for _ in range(10) for run in scheduler.tick()]
    assert Counter(run.chain for run in made) == {1: 13, 2: 13, 3: 13}
    assert len(stage.all(Run)) == 39
    assert Counter(skip.reason for skip in stage.all(Skip)) == {"queue_full": 36}


def test_the_next_look_is_when_the_next_task_is_due_and_never_later_than_a_poll(stage: Stage) -> None:
    settings = Settings.model_validate({"scheduler": {"poll_interval_seconds": 60}})
    scheduler = Scheduler(stage.database, TableExecutor(), settings)
    assert scheduler._delay() == 60
    stage.task(due_at=now(stage) + timedelta(hours=1))
    assert scheduler._delay() == 60
    stage.task(due_at=now(stage) + timedelta(seconds=30))
    assert 20 < scheduler._delay() <= 30
    stage.task(due_at=now(stage) - timedelta(hours=1))
    assert scheduler._delay() == 0.05


def test_a_look_takes_everything_that_is_due_however_small_its_batches(stage: Stage, executor: Recorder) -> None:
    for number in range(35):
        stage.task(number % 5, due_at=NOW, cron="0 0 1 1 *")
    stage.database.clock_offset = NOW + MINUTE - now(stage)
    assert len(Scheduler(stage.database, executor, SETTINGS).tick()) == 35
    assert Scheduler(stage.database, executor, SETTINGS).tick() == []
