"""Messages that wake workers: who gets one, what becomes of those of the dead, how lost ones are offered again."""

from __future__ import annotations

import asyncio
import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from datetime import timedelta
from typing import Any

import psycopg
import pytest
from sqlalchemy import text

from tasks_service import metrics
from tasks_service.database import due, schema
from tasks_service.database.engine import Database
from tasks_service.errors import SchemaVersionError
from tasks_service.executors import procrastinate_schema
from tasks_service.executors.procrastinate import ProcrastinateExecutor
from tasks_service.executors.procrastinate_listener import Listener
from tasks_service.rescuer import rescue
from tasks_service.schedule import Limits, Planner
from tests.databases import MINUTE, NOW, Stage, connect, emptied
from tests.measured import moving
from tests.waiting import eventually

LONG, SHORT = 20.0, 0.6
BY_STATE = "SELECT status::text, count(*) FROM tasks_procrastinate.procrastinate_jobs GROUP BY status"
CUT = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)
LISTENING = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


@pytest.fixture
def database(request: pytest.FixtureRequest) -> Database:
    """The shared database, empty; messages need PostgreSQL."""
    return emptied(request.getfixturevalue("migrated_postgresql"))


@pytest.fixture
def make(database: Database) -> Iterator[Callable[[], ProcrastinateExecutor]]:
    """A factory of executors, each as in a process of its own."""
    with ExitStack() as closing:

        def executor() -> ProcrastinateExecutor:
            made = ProcrastinateExecutor(database.connection_parameters())
            closing.callback(made.close)
            return made

        yield executor


def offer(database: Database, executor: ProcrastinateExecutor, *run_ids: int, **later: float) -> None:
    with database.write() as session:
        at = database.now(session) + timedelta(**later) if later else None
        for run_id in run_ids:
            executor.offer(session, run_id, at=at)


def messages(database: Database) -> dict[str, int]:
    """How many messages there are, by their state."""
    with database.read() as session:
        rows = session.connection().execute(text(BY_STATE)).all()
    return {row[0]: row[1] for row in rows}


def woken(executor: ProcrastinateExecutor, timeout: float) -> bool:
    """Whether a wait ended because of a message."""
    started = time.monotonic()
    executor.wait(timeout)
    return time.monotonic() - started < timeout / 2


def idle(executor: ProcrastinateExecutor) -> None:
    while woken(executor, SHORT):
        pass


def test_a_busy_worker_takes_no_message_that_an_idle_one_needs(
    database: Database, make: Callable[[], ProcrastinateExecutor]
) -> None:
    web, busy, other = make(), make(), make()
    idle(busy)
    idle(other)
    offer(database, web, 1)
    assert woken(busy, LONG)
    # It is at work now, for hours: it has its own message in hand and takes no second one.
    offer(database, web, 2)
    assert woken(other, LONG)
    offer(database, web, 3)
    eventually(lambda: messages(database) == {"doing": 2, "todo": 1})
    assert woken(other, LONG)
    idle(other)
    assert messages(database) == {"doing": 1}


def test_a_worker_that_woke_by_itself_takes_none_while_it_works(
    database: Database, make: Callable[[], ProcrastinateExecutor]
) -> None:
    web, busy, other = make(), make(), make()
    idle(busy)  # ended by its time: it looks, finds a run, and is at work from here on
    offer(database, web, 1)
    assert woken(other, LONG)
    assert messages(database) == {"doing": 1}
    idle(other)
    assert messages(database) == {}


def test_the_message_is_finished_when_there_is_nothing_to_claim(
    database: Database, make: Callable[[], ProcrastinateExecutor]
) -> None:
    web, worker = make(), make()
    offer(database, web, *range(1, 21))
    for _ in range(20):
        assert woken(worker, LONG)
        assert messages(database).get("doing") == 1
    idle(worker)
    assert messages(database) == {}


def test_a_worker_that_leaves_in_mid_run_passes_its_message_on(
    database: Database, make: Callable[[], ProcrastinateExecutor]
) -> None:
    web, leaving, other = make(), make(), make()
    idle(other)
    offer(database, web, 1)
    assert woken(leaving, LONG) or woken(leaving, LONG)
    other.stop()
    leaving.stop()
    assert messages(database) == {"doing": 1}
    leaving.close()
    assert messages(database) == {"todo": 1}
    assert woken(make(), LONG)


def test_a_message_for_later_comes_when_it_is_due(
    database: Database, make: Callable[[], ProcrastinateExecutor]
) -> None:
    web, worker = make(), make()
    idle(worker)
    offer(database, web, 1, seconds=1.5)
    started = time.monotonic()
    assert woken(worker, LONG)
    assert 1.4 <= time.monotonic() - started < 9


def test_the_message_of_a_run_that_starts_later_waits_as_long(
    database: Database, stage: Stage, make: Callable[[], ProcrastinateExecutor]
) -> None:
    stage.task(due_at=NOW, jitter=3000)
    with database.write() as session:
        [made] = due.claim_due(
            session, now=NOW, batch=10, planner=Planner(Limits()), queued_per_chain=10, offer=make().offer
        )
    assert made.available_at > NOW
    with database.read() as session:
        query = text("SELECT scheduled_at FROM tasks_procrastinate.procrastinate_jobs")
        assert session.connection().execute(query).scalars().all() == [made.available_at]


def test_wake_ups_take_milliseconds(database: Database, make: Callable[[], ProcrastinateExecutor]) -> None:
    web, worker = make(), make()
    idle(worker)
    took = []
    for run_id in range(1, 41):
        started = time.monotonic()
        offer(database, web, run_id)
        worker.wait(LONG)
        took.append(time.monotonic() - started)
    # Polling twice a second takes 250 ms in the median. Measured alone: 4 ms; here other tests share the processors.
    assert statistics.median(took) < 0.1, took


def test_idle_workers_ask_less_than_by_polling(
    database: Database, make: Callable[[], ProcrastinateExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[float] = []
    execute = psycopg.AsyncCursor.execute

    async def counted(cursor: Any, *arguments: Any, **more: Any) -> Any:
        asked.append(time.monotonic())
        return await execute(cursor, *arguments, **more)

    monkeypatch.setattr(psycopg.AsyncCursor, "execute", counted)
    workers = [make() for _ in range(6)]
    threads = [threading.Thread(target=worker.wait, args=(LONG,), daemon=True) for worker in workers]
    for thread in threads:
        thread.start()

    def listening() -> int:
        with database.read() as session:
            return int(session.connection().execute(text(LISTENING)).scalar_one())

    eventually(lambda: listening() == len(workers))
    before, seconds = len(asked), 6.0
    threading.Event().wait(seconds)
    # A poll twice a second is two statements a second at the least; counted, it is five round trips each.
    assert len(asked) - before < len(workers) * seconds * 2 / 2
    for worker in workers:
        worker.stop()
    for thread in threads:
        thread.join(LONG)


def test_a_worker_listens_again_after_its_connections_were_cut(
    database: Database, make: Callable[[], ProcrastinateExecutor]
) -> None:
    web, worker = make(), make()
    idle(worker)
    for run_id in (1, 2, 3):
        with database.write() as session:
            session.connection().execute(text(CUT))
        offer(database, web, run_id)
        assert woken(worker, LONG)


def test_a_worker_whose_listener_died_has_a_new_one(
    database: Database, make: Callable[[], ProcrastinateExecutor], monkeypatch: pytest.MonkeyPatch
) -> None:
    async def end(listener: Listener) -> None:
        listener._loop.set_result(asyncio.get_running_loop())

    web, worker = make(), make()
    with monkeypatch.context() as patch:
        patch.setattr(Listener, "_run", end)
        worker.wait(SHORT)
        assert worker._listener is not None
        worker._listener._thread.join(LONG)
    idle(worker)
    offer(database, web, 1)
    assert woken(worker, LONG)


def test_an_offer_never_raises(database: Database, postgresql_database: Callable[[], str]) -> None:
    bare = connect(postgresql_database())  # without the tables of messages
    executor = ProcrastinateExecutor(bare.connection_parameters())
    with bare.write() as session:
        session.connection().execute(text("CREATE TABLE kept (id INTEGER)"))
        executor.offer(session, 1)
    with bare.read() as session:
        assert session.connection().execute(text("SELECT count(*) FROM kept")).scalar_one() == 0
    bare.dispose()


# -- what was lost ------------------------------------------------------------------------------------------------


def leave_dead(database: Database, count: int) -> None:
    """What `count` workers leave that were killed a while ago, each with a message in hand."""
    workers = "WITH dead AS (INSERT INTO procrastinate_workers (last_heartbeat) "
    workers += "SELECT now() - interval '2 minutes' FROM generate_series(1, :count) RETURNING id) "
    jobs = "INSERT INTO procrastinate_jobs (queue_name, task_name, status, worker_id) "
    jobs += "SELECT 'tasks-service', 'wake_up', 'doing', id FROM dead"
    with database.write() as session:
        session.connection().execute(text(procrastinate_schema.SEARCH_PATH_FIRST))
        session.connection().execute(text(workers + jobs), {"count": count})


def test_what_no_message_woke_for_is_offered_again(
    database: Database, stage: Stage, make: Callable[[], ProcrastinateExecutor]
) -> None:
    web, worker = make(), make()
    idle(worker)
    run_id = stage.run(stage.task())  # queued long ago, and its message is gone
    with moving() as moved:
        assert rescue(database, web, 10) == 1
    assert moved.of(metrics.OFFERED_AGAIN) == 1
    assert woken(worker, LONG)
    with database.read() as session:
        args = (
            session.connection().execute(text("SELECT args FROM tasks_procrastinate.procrastinate_jobs")).scalar_one()
        )
    assert args == {"run_id": run_id}


def test_a_run_whose_message_waits_is_not_offered_again(
    database: Database, stage: Stage, make: Callable[[], ProcrastinateExecutor]
) -> None:
    web = make()
    for _ in range(3):
        offer(database, web, stage.run(stage.task()))
    assert rescue(database, web, 10) == 0
    assert messages(database) == {"todo": 3}


def test_a_run_whose_worker_died_is_offered_once_its_lease_lapsed(
    database: Database, stage: Stage, make: Callable[[], ProcrastinateExecutor]
) -> None:
    web = make()
    stage.run(stage.task())
    with database.read() as session:
        now = database.now(session)
    stage.claimed(now)
    assert rescue(database, web, 10) == 0
    database.clock_offset = MINUTE + timedelta(seconds=3)
    assert rescue(database, web, 10) == 1
    database.clock_offset = timedelta(0)


def test_what_waits_for_its_chains_turn_is_left_waiting(
    database: Database, stage: Stage, make: Callable[[], ProcrastinateExecutor]
) -> None:
    web = make()
    task = stage.task()
    stage.run(task)
    with database.read() as session:
        stage.claimed(database.now(session), cap=1)
    stage.run(stage.task())
    assert rescue(database, web, 1) == 0
    assert rescue(database, web, 2) == 1


def test_a_look_takes_a_bounded_batch(
    database: Database, stage: Stage, make: Callable[[], ProcrastinateExecutor]
) -> None:
    web, task = make(), stage.task()
    for second in range(130):
        stage.run(task, occurrence=NOW + timedelta(seconds=second))
    assert [rescue(database, web, 10) for _ in range(3)] == [100, 0, 0]
    assert messages(database) == {"todo": 100}


def test_one_process_looks_at_a_time(
    database: Database, stage: Stage, make: Callable[[], ProcrastinateExecutor]
) -> None:
    from tasks_service.database.rescue import only_rescuer

    stage.run(stage.task())
    with database.write() as session:
        assert only_rescuer(session)
        assert rescue(database, make(), 10) == 0
    assert rescue(database, make(), 10) == 1


def test_what_thousands_of_dead_workers_left_goes_in_bounded_batches(
    database: Database, make: Callable[[], ProcrastinateExecutor]
) -> None:
    living, web = make(), make()
    offer(database, web, 1)
    assert woken(living, LONG)
    leave_dead(database, 3000)
    assert messages(database) == {"doing": 3001}
    rescue(database, web, 10)
    assert messages(database) == {"doing": 2901}
    for _ in range(30):
        rescue(database, web, 10)
    assert messages(database) == {"doing": 1}, "the living worker keeps its own"
    with database.read() as session:
        query = text("SELECT count(*) FROM tasks_procrastinate.procrastinate_workers")
        assert session.connection().execute(query).scalar_one() == 1


# -- the tables of messages ---------------------------------------------------------------------------------------


def test_tables_of_another_shape_are_refused_with_what_to_do(database: Database) -> None:
    with database.write() as session:
        procrastinate_schema.require_fitting(session.connection())
        said = (
            session.connection()
            .execute(text("SELECT obj_description('tasks_procrastinate'::regnamespace::oid, 'pg_namespace')"))
            .scalar_one()
        )
        session.connection().execute(text("COMMENT ON SCHEMA tasks_procrastinate IS 'procrastinate 9.9.9, tables 00'"))
        with pytest.raises(SchemaVersionError, match=r"made by procrastinate 9\.9\.9, and procrastinate 3\..* differ"):
            procrastinate_schema.require_fitting(session.connection())
        mark = f"procrastinate 9.9.9, tables {said.rpartition(' ')[2]}"
        session.connection().execute(text(f"COMMENT ON SCHEMA tasks_procrastinate IS '{mark}'"))
        procrastinate_schema.require_fitting(session.connection())  # another version with the same tables
        session.rollback()


def test_the_tables_come_and_go_whole_beside_a_procrastinate_of_somebody_else(
    postgresql_database: Callable[[], str],
) -> None:
    database = connect(postgresql_database())
    with database.write() as session:
        session.connection().execute(text("CREATE TABLE procrastinate_jobs (theirs INTEGER)"))
    schema.upgrade(database)

    def names() -> list[str]:
        query = (
            "SELECT count(*) || ' ' || relnamespace::regnamespace FROM pg_class WHERE relname LIKE 'procrastinate%' "
        )
        with database.read() as session:
            return sorted(session.connection().execute(text(query + "GROUP BY relnamespace")).scalars().all())

    ours, theirs = names()
    assert theirs == "1 public" or ours == "1 public"
    schema.downgrade(database, "0002")
    assert names() == ["1 public"]
    with database.read() as session, pytest.raises(SchemaVersionError, match="tasks-service db upgrade"):
        procrastinate_schema.require_fitting(session.connection())
    schema.upgrade(database)
    database.dispose()
