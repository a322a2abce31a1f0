"""What every executor keeps, whichever it is: the table's own, and messages by Procrastinate."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from threading import Thread

import pytest

from tasks_service.database.engine import Database
from tasks_service.executors import Executor
from tasks_service.executors.table import TableExecutor

LONG, SHORT = 20.0, 0.6


@pytest.fixture
def executor(database: Database) -> Iterator[Executor]:
    """On SQLite the table's, on PostgreSQL the one of messages: the pairs that go furthest apart."""
    if database.dialect == "sqlite":
        yield TableExecutor()
        return
    from tasks_service.executors.procrastinate import ProcrastinateExecutor

    made = ProcrastinateExecutor(database.connection_parameters())
    yield made
    made.close()


def seconds(wait: Callable[[], None]) -> float:
    started = time.monotonic()
    wait()
    return time.monotonic() - started


def idle(executor: Executor) -> None:
    """Wait until nothing wakes: what was offered before has been heard."""
    while seconds(lambda: executor.wait(SHORT)) < SHORT / 2:
        pass


def offer(database: Database, executor: Executor, *run_ids: int, in_seconds: float = 0) -> None:
    with database.write() as session:
        at = database.now(session) + timedelta(seconds=in_seconds) if in_seconds else None
        for run_id in run_ids:
            executor.offer(session, run_id, at=at)


def waiting(executor: Executor, timeout: float = LONG) -> tuple[Thread, list[float]]:
    took: list[float] = []
    begun = threading.Event()

    def wait() -> None:
        begun.set()
        took.append(seconds(lambda: executor.wait(timeout)))

    thread = Thread(target=wait, daemon=True)
    thread.start()
    assert begun.wait(10)
    return thread, took


def test_a_wait_ends_by_itself(executor: Executor) -> None:
    idle(executor)
    assert SHORT / 2 <= seconds(lambda: executor.wait(SHORT)) < SHORT + 2


def test_an_offer_that_is_committed_wakes_a_worker(database: Database, executor: Executor) -> None:
    idle(executor)
    thread, took = waiting(executor)
    offer(database, executor, 1)
    thread.join(LONG)
    assert took[0] < LONG / 2


def test_an_offer_before_the_wait_is_not_lost(database: Database, executor: Executor) -> None:
    idle(executor)
    offer(database, executor, 1)
    assert seconds(lambda: executor.wait(LONG)) < LONG / 2


def test_an_offer_that_is_rolled_back_wakes_nobody(database: Database, executor: Executor) -> None:
    idle(executor)

    def undone() -> None:
        with database.write() as session:
            executor.offer(session, 1)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        undone()
    assert seconds(lambda: executor.wait(SHORT)) >= SHORT / 2


def test_offers_may_be_many_and_doubled(database: Database, executor: Executor) -> None:
    idle(executor)
    for _ in range(3):
        offer(database, executor, *range(1, 30), *range(1, 30))
    assert seconds(lambda: executor.wait(LONG)) < LONG / 2
    idle(executor)


def test_a_doubled_offer_undoes_nothing_else_of_its_transaction(database: Database, executor: Executor) -> None:
    from sqlalchemy import text

    offer(database, executor, 1)
    with database.write() as session:
        session.connection().execute(text("CREATE TABLE kept (id INTEGER)"))
        executor.offer(session, 1)
        executor.offer(session, 2)
    with database.write() as session:
        session.connection().execute(text("DROP TABLE kept"))


@pytest.mark.parametrize("outcome", ["released", "undone"])
def test_an_offer_waits_for_the_transaction_not_for_a_savepoint(
    database: Database, executor: Executor, outcome: str
) -> None:
    idle(executor)
    with database.write() as session:
        executor.offer(session, 1)
        with suppress(RuntimeError), session.begin_nested():
            if outcome == "undone":
                raise RuntimeError
    assert seconds(lambda: executor.wait(LONG)) < LONG / 2


def test_an_offer_for_later_does_not_wake_now(database: Database, executor: Executor) -> None:
    idle(executor)
    if isinstance(executor, TableExecutor):
        pytest.skip("wakes at once: in one process a look too many costs nothing")
    offer(database, executor, 1, in_seconds=3600)
    assert seconds(lambda: executor.wait(SHORT)) >= SHORT / 2


def test_stopping_ends_every_wait_for_good(executor: Executor) -> None:
    idle(executor)
    thread, took = waiting(executor)
    executor.stop()
    thread.join(LONG)
    assert took[0] < LONG / 2
    assert seconds(lambda: executor.wait(LONG)) < 1


def test_closing_may_be_repeated(executor: Executor) -> None:
    idle(executor)
    executor.stop()
    executor.close()
    executor.close()
    assert seconds(lambda: executor.wait(LONG)) < 1
