"""How soon a worker is woken and what it costs to be idle: messages beside polling, on one PostgreSQL, in one run.

By hand: ``python -m bench.wake_ups``; it starts a PostgreSQL of its own where none is shared.
"""

from __future__ import annotations

import statistics
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from sqlalchemy import text

from tasks_service.config import Settings
from tasks_service.database import claims, schema
from tasks_service.database.engine import Database
from tasks_service.executors import Executor
from tasks_service.executors.procrastinate import ProcrastinateExecutor
from tasks_service.executors.table import TableExecutor
from tests.databases import connect
from tests.servers import keeper
from tests.servers.postgresql import create_database

WORKERS = 50
OFFERS = 100
IDLE_SECONDS = 20.0
HERD = 1000


def _claim(database: Database) -> None:
    limits = Settings().limits.running_per_chain
    with database.write() as session:
        claims.claim_run(
            session, clock=database.now, owner="b", lease_seconds=60, running_per_chain=limits, max_claims=20
        )


@contextmanager
def _idle(
    database: Database, make: Callable[[], Executor], poll_seconds: float, workers: int = WORKERS
) -> Iterator[list[float]]:
    """Workers that find nothing; yields when each was woken, by the monotonic clock."""
    woken: list[float] = []
    stop = threading.Event()
    executors = [make() for _ in range(workers)]

    def work(executor: Executor) -> None:
        while not stop.is_set():
            _claim(database)
            began = time.monotonic()
            executor.wait(poll_seconds)
            if time.monotonic() - began < poll_seconds / 2:
                woken.append(time.monotonic())

    threads = [threading.Thread(target=work, args=(executor,), daemon=True) for executor in executors]
    for thread in threads:
        thread.start()
    time.sleep(12)  # all listen, and the server has counted what it took to begin
    yield woken
    stop.set()
    for executor in executors:
        executor.stop()
    for thread in threads:
        thread.join(10)
    for executor in executors:
        executor.close()


def _transactions(database: Database) -> int:
    with database.read() as session:
        query = text("SELECT xact_commit FROM pg_stat_database WHERE datname = current_database()")
        return int(session.connection().execute(query).scalar_one())


def main() -> None:
    """Print the figures."""
    with keeper.leading():
        port = int(keeper.attach("tests.servers.postgresql:SERVER")["port"])
        database = connect(create_database(port, f"bench_{time.time_ns()}"))
        schema.upgrade(database)
        sender = ProcrastinateExecutor(database.connection_parameters())
        kinds: dict[str, tuple[Callable[[], Executor], float]] = {
            "messages": (lambda: ProcrastinateExecutor(database.connection_parameters()), 30.0),
            "polling": (TableExecutor, 0.5),
        }
        for name, (make, poll) in kinds.items():
            with _idle(database, make, poll):
                before, cpu = _transactions(database), time.process_time()
                time.sleep(IDLE_SECONDS)
                spent = (time.process_time() - cpu) / IDLE_SECONDS
                rate = (_transactions(database) - before) / IDLE_SECONDS
                print(f"{name}: {WORKERS} idle workers: {rate:.0f} transactions/s, {spent:.2f} of a core")
        for workers in (2, WORKERS):
            with _idle(database, kinds["messages"][0], 600.0, workers) as woken:
                print(f"messages, {workers} idle workers (threads of one process):", end=" ")
                _latency(database, sender, woken)
        _herd(database, sender)
        database.dispose()


def _latency(database: Database, sender: Executor, woken: list[float]) -> None:
    took: list[float] = []
    for run_id in range(1, OFFERS + 1):
        seen = len(woken)
        began = time.monotonic()
        with database.write() as session:
            sender.offer(session, run_id)
        while len(woken) == seen and time.monotonic() - began < 30:
            time.sleep(0.0005)
        took.append((time.monotonic() - began) * 1000)
        time.sleep(0.05)
    took.sort()
    median, late = statistics.median(took), took[int(len(took) * 0.99) - 1]
    print(f"offered to woken, {OFFERS} times: median {median:.1f} ms, p99 {late:.1f} ms")


def _herd(database: Database, sender: Executor) -> None:
    began = time.monotonic()
    with database.write() as session:
        for run_id in range(10_000, 10_000 + HERD):
            sender.offer(session, run_id)
    print(f"messages: {HERD} offers in one transaction: {(time.monotonic() - began) * 1000:.0f} ms")


if __name__ == "__main__":
    main()
