"""The executor that only shortens waits."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from threading import Thread
from time import monotonic

import pytest

from tasks_service.database.engine import Database
from tasks_service.executors.table import TableExecutor
from tests.databases import connect
from tests.waiting import eventually

LONG = 60.0


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = connect(f"sqlite:///{tmp_path}/x.db")
    yield made
    made.dispose()


def waiting(executor: TableExecutor) -> Thread:
    thread = Thread(target=executor.wait, args=(LONG,), daemon=True)
    thread.start()
    return thread


def test_an_offer_ends_a_wait_once_its_transaction_is_committed(database: Database) -> None:
    executor = TableExecutor()
    waiter = waiting(executor)
    with database.write() as session:
        for run_id in (1, 2, 3):
            executor.offer(session, run_id)
        waiter.join(0.1)
        assert waiter.is_alive()
    eventually(lambda: not waiter.is_alive())


def test_what_is_rolled_back_wakes_nobody(database: Database) -> None:
    executor = TableExecutor()
    with suppress(RuntimeError), database.write() as session:
        executor.offer(session, 1)
        raise RuntimeError
    waiter = waiting(executor)
    waiter.join(0.1)
    assert waiter.is_alive()
    executor.stop()


def test_an_offer_before_the_wait_is_not_lost_and_counts_once(database: Database) -> None:
    executor = TableExecutor()
    with database.write() as session:
        executor.offer(session, 1)
    started = monotonic()
    executor.wait(LONG)
    assert monotonic() - started < LONG / 2
    waiter = waiting(executor)
    waiter.join(0.1)
    assert waiter.is_alive()
    executor.stop()


def test_stopping_ends_every_wait_for_good() -> None:
    executor = TableExecutor()
    waiters = [waiting(executor) for _ in range(3)]
    executor.stop()
    eventually(lambda: not any(waiter.is_alive() for waiter in waiters))
    started = monotonic()
    for _ in range(3):
        executor.wait(LONG)
    assert monotonic() - started < LONG / 2
