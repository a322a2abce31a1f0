"""A database that goes away comes back to the same service: connections that broke are noticed, writes are repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

import pytest
from sqlalchemy import text
from sqlmodel import Session

from tasks_service.database import schema
from tasks_service.database.models import Run
from tests.databases import Stage, connect

BREAK = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database() AND pid <> :me")


@pytest.fixture
def broken(postgresql_database: Callable[[], str]) -> Iterator[tuple[Stage, Callable[[], None]]]:
    """A world, and what breaks every connection it has to its database."""
    url = postgresql_database()
    stage, other = Stage(connect(url)), connect(url)
    schema.upgrade(stage.database)

    def break_connections() -> None:
        with other.write() as session:
            me = session.connection().execute(text("SELECT pg_backend_pid()")).scalar_one()
            session.connection().execute(BREAK, {"me": me})

    yield stage, break_connections
    stage.database.dispose()
    other.dispose()


def test_a_connection_that_broke_while_idle_is_replaced(broken: tuple[Stage, Callable[[], None]]) -> None:
    stage, break_connections = broken
    task = stage.task()
    break_connections()
    assert stage.read_task(task).id == task.id
    break_connections()
    stage.run(task)
    assert len(stage.all(Run)) == 1


def test_a_transaction_that_broke_half_way_is_undone_and_repeated(broken: tuple[Stage, Callable[[], None]]) -> None:
    stage, break_connections = broken
    stage.run(stage.task())
    tries: list[int] = []

    def twice(session: Session) -> int:
        tries.append(len(tries))
        done = session.connection().execute(text("UPDATE run SET claims = claims + 1"))
        if len(tries) == 1:
            break_connections()
        session.connection().execute(text("SELECT 1"))
        return done.rowcount

    assert stage.database.retrying(twice) == 1
    assert len(tries) == 2
    assert [run.claims for run in stage.all(Run)] == [1]


def test_deadlocked_transactions_both_succeed(broken: tuple[Stage, Callable[[], None]]) -> None:
    """Two that take the same two rows in opposite orders; the one PostgreSQL sacrifices is repeated."""
    stage, _ = broken
    task = stage.task()
    for kind in ("manual", "manual"):
        stage.run(task, kind=kind)  # type: ignore[arg-type]
    both_hold_one = Barrier(2)
    tries: list[int] = []

    def lock(order: tuple[int, int]) -> None:
        def fn(session: Session) -> None:
            tries.append(1)
            for number, run_id in enumerate(order):
                session.connection().execute(text("UPDATE run SET claims = claims + 1 WHERE id = :id"), {"id": run_id})
                if number == 0 and len(tries) <= 2:
                    both_hold_one.wait(60)

        stage.database.retrying(fn)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(lock, [(1, 2), (2, 1)]))
    assert len(tries) == 3
    assert [run.claims for run in stage.all(Run)] == [2, 2]
