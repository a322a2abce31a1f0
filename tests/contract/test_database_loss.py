"""A database that goes away comes back to the same service: connections that broke are noticed, writes are repeated."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from time import monotonic

import pytest
from sqlalchemy import make_url, text
from sqlmodel import Session

from tasks_service import metrics
from tasks_service.database import postgresql, schema
from tasks_service.database.models import Run
from tasks_service.errors import DatabaseUnavailableError
from tests.databases import Stage, connect
from tests.measured import moving
from tests.servers.tcp_proxy import TcpProxy

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

    with moving() as moved:
        assert stage.database.retrying(twice) == 1
    assert moved.of(metrics.DATABASE_RETRIES) == 1
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


@pytest.fixture
def distant(postgresql_database: Callable[[], str]) -> Iterator[tuple[Stage, TcpProxy]]:
    """A world whose database is behind a proxy."""
    url = make_url(postgresql_database())
    with TcpProxy(str(url.host), url.port or 5432) as proxy:
        behind = url.set(host="127.0.0.1", port=proxy.port).render_as_string(hide_password=False)
        stage = Stage(connect(behind))
        schema.upgrade(stage.database)
        yield stage, proxy
        stage.database.dispose()


@pytest.mark.parametrize("when", ["while idle", "in a transaction"])
def test_a_server_that_is_silent_is_given_up_and_found_again(
    distant: tuple[Stage, TcpProxy], when: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its kernel acknowledges all: no keepalive and no time-out of TCP ends that wait."""
    monkeypatch.setattr(postgresql.BoundedConnection, "answer_seconds", 0.5)
    monkeypatch.setitem(postgresql.CONNECT, "connect_timeout", 2)
    stage, proxy = distant
    task = stage.task()
    tries: list[int] = []

    def read(session: Session) -> None:
        tries.append(1)
        session.connection().execute(text("SELECT 1"))
        if when == "in a transaction" and len(tries) == 1:
            proxy.swallow()
        session.connection().execute(text("SELECT 2"))

    if when == "while idle":
        proxy.swallow()
    begun = monotonic()
    with moving() as moved, pytest.raises(DatabaseUnavailableError):
        stage.database.retrying(read, within_seconds=0)
    waited = monotonic() - begun
    assert waited < 10
    assert 0.5 <= moved.of(metrics.DATABASE_UNAVAILABLE) <= waited
    proxy.heal()  # what was lost stays silent: it must be left alone
    assert stage.read_task(task).id == task.id
    stage.database.retrying(read)


def test_a_migration_may_take_longer_than_an_answer(
    distant: tuple[Stage, TcpProxy], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, _ = distant
    slow = text("SELECT pg_sleep(1)")
    monkeypatch.setattr(postgresql.BoundedConnection, "answer_seconds", 0.3)
    with stage.database.write() as session:
        raw = session.connection().connection.dbapi_connection
        with postgresql.unhurried(raw):
            session.connection().execute(slow)
            for limit in ("statement_timeout", "lock_timeout"):
                assert session.connection().execute(text(f"SHOW {limit}")).scalar_one() == "0"

    def hurried(session: Session) -> None:
        assert session.connection().connection.dbapi_connection is raw
        session.connection().execute(slow)

    with pytest.raises(DatabaseUnavailableError):
        stage.database.retrying(hurried, within_seconds=0)
