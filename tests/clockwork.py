"""Schedulers and workers as processes of their own, on a clock that runs fast, for tests that kill them.

Every process reads the database's clock and stretches it the same way, so that minutes pass in seconds for all of them
alike. Processes are forked from a server that has imported everything already and has no connection and no thread.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from multiprocessing.context import ForkServerProcess
from threading import Event
from typing import Any

from sqlmodel import Session

from tasks_service.config import DatabaseSettings, Settings
from tasks_service.database import claims
from tasks_service.database.engine import Database
from tasks_service.executors.table import TableExecutor
from tasks_service.scheduler import Scheduler
from tests.databases import ARTIFACT

_FORKS = multiprocessing.get_context("forkserver")
_FORKS.set_forkserver_preload(["tests.clockwork", "tests.chaos.inside"])


@dataclass(frozen=True)
class Clock:
    """A clock that shows ``shown`` when the database's shows ``started``, and runs ``speed`` times as fast."""

    started: datetime
    shown: datetime
    speed: float

    def show(self, real: datetime) -> datetime:
        return self.shown + (real - self.started) * self.speed


class FastDatabase(Database):
    """The service's database under another clock."""

    def __init__(self, url: str, clock: Clock | None) -> None:
        super().__init__(DatabaseSettings.model_validate({"url": url, "pool_size": 3}))
        self.clock = clock

    def now(self, session: Session) -> datetime:
        real = super().now(session)
        return real if self.clock is None else self.clock.show(real)


def fast(database: Database, url: str, shown: datetime, speed: float) -> FastDatabase:
    """The same database, on a clock that shows ``shown`` now."""
    with database.read() as session:
        return FastDatabase(url, Clock(database.now(session), shown, speed))


def settings(url: str) -> Settings:
    return Settings.model_validate({"database": {"url": url}, "scheduler": {"poll_interval_seconds": 0.1, "batch": 50}})


def run_scheduler(url: str, clock: Clock | None) -> None:
    """A scheduler process, until it is killed or terminated."""
    stop = until_terminated()
    database = FastDatabase(url, clock)
    scheduler = Scheduler(database, TableExecutor(), settings(url))
    scheduler.start()
    while not stop.wait(1.0):
        if not scheduler.alive():
            os._exit(3)
    scheduler.stop()
    database.dispose()


def run_worker(url: str, clock: Clock | None, lease_seconds: float, cap: int) -> None:
    """A worker process: its exports take no time, but are claimed, renewed and published as any."""
    stop = until_terminated()
    database = FastDatabase(url, clock)
    owner = f"worker-{os.getpid()}"
    while not stop.is_set():
        if not work_once(database, owner, lease_seconds=lease_seconds, cap=cap):
            stop.wait(0.05)
    database.dispose()


def work_once(database: Database, owner: str, *, lease_seconds: float = 60, cap: int = 10) -> bool:
    """Claim a run and publish it; False where there was none."""

    def claim(session: Session) -> claims.Claim | None:
        return claims.claim_run(
            session,
            clock=database.now,
            owner=owner,
            lease_seconds=lease_seconds,
            running_per_chain=cap,
            max_claims=1000,
        )

    claimed = database.retrying(claim)
    if claimed is None:
        return False
    name = f"{claimed.run_id}/{claimed.lease_token}"
    database.retrying(lambda session: claims.name_object(session, claimed, name))

    def renew(session: Session) -> claims.Beat:
        now = database.now(session)
        return claims.beat(session, claimed, now=now, lease_seconds=lease_seconds, rows=1, total=3, bytes_written=1)

    if database.retrying(renew).owned:

        def publish(session: Session) -> bool:
            now = database.now(session)
            artifact = {**ARTIFACT, "object": name}
            return claims.publish(
                session, claimed, now=now, artifact=artifact, expires_at=now + timedelta(days=30), query=None
            )

        database.retrying(publish)
    return True


def until_terminated() -> Event:
    """An event that is set once this process is asked to end."""
    stop = Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    return stop


def start(target: Callable[..., None], *arguments: Any) -> ForkServerProcess:
    """Start a process; it ends with this one at the latest."""
    process = _FORKS.Process(target=target, args=arguments, daemon=True)
    process.start()
    return process


@contextmanager
def running(*wanted: tuple[Callable[..., None], tuple[Any, ...]]) -> Iterator[list[ForkServerProcess]]:
    """These processes; whatever is left of them is killed at the end."""
    processes = [start(target, *arguments) for target, arguments in wanted]
    try:
        yield processes
    finally:
        for process in processes:
            end(process)


def send(process: ForkServerProcess, number: signal.Signals) -> None:
    """Signal the group that a process leads, or it alone where it has not made one yet; nobody where it is gone."""
    assert process.pid is not None
    for to in (os.killpg, os.kill):
        with suppress(ProcessLookupError):
            to(process.pid, number)
            return


def end(process: ForkServerProcess) -> int | None:
    """Terminate a process, and kill it where that does not help; returns its exit code."""
    process.terminate()
    process.join(30)
    if process.is_alive():
        process.kill()
        process.join()
    return process.exitcode
