"""Whoever queues a run wakes a worker for it, in the same transaction: every way into the queue, on PostgreSQL.

After each way exactly the queued runs have a message that waits, for the time at which they are available; so the
rescuer, which would offer what nobody did, finds nothing to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from tasks_service.app import Services
from tasks_service.database.engine import Database
from tasks_service.errors import SourceError, SourceUnavailableError
from tasks_service.executors.procrastinate_schema import SEARCH_PATH_FIRST
from tasks_service.rescuer import rescue
from tasks_service.runner import Worker
from tasks_service.scheduler import Scheduler
from tests.databases import emptied, url_of
from tests.unit.api.conftest import Api, Contract, standing

QUEUED = "SELECT id, available_at FROM run WHERE state = 'queued' ORDER BY id"
WAITING = """
SELECT (args ->> 'run_id')::bigint, scheduled_at FROM tasks_procrastinate.procrastinate_jobs WHERE status = 'todo'
ORDER BY 1
"""


@dataclass
class Installation:
    """The service over PostgreSQL and Procrastinate, whose messages nobody hears, and a client of it."""

    services: Services
    partner: Api

    def post(self, path: str, body: Any = None) -> None:
        answer = self.partner.post(path, body, Prefer="respond-async")
        assert answer.status_code in {200, 201, 202}, answer.text

    def create(self, **trigger: Any) -> int:
        return self.partner.create(trigger=trigger)["id"]

    def work(self, worker: Worker | None = None) -> None:
        assert (worker or Worker(self.services)).work_once()

    def tick(self) -> None:
        Scheduler(self.services.database, self.services.executor, self.services.settings).tick()

    def forward(self, **amount: float) -> None:
        self.services.database.clock_offset += timedelta(**amount)

    def offered(self, count: int) -> None:
        """Hold the messages that wait against the runs that do, so many; then all messages are gone."""
        with self.services.database.write() as session:
            queued = session.connection().execute(text(QUEUED)).all()
            waiting = session.connection().execute(text(WAITING)).all()
            now = self.services.database.now(session)
        assert [run_id for run_id, _ in waiting] == [run_id for run_id, _ in queued]
        assert len(queued) == count

        def later(at: datetime | None) -> datetime | None:
            return at if at is not None and at > now else None

        assert [later(at) for _, at in waiting] == [later(at) for _, at in queued]
        assert rescue(self.services.database, self.services.executor, 10) == 0
        with self.services.database.write() as session:
            session.connection().execute(text(SEARCH_PATH_FIRST))
            session.connection().execute(text("DELETE FROM procrastinate_jobs"))


@pytest.fixture
def installed(
    migrated_postgresql: Database, tmp_path: Path, migrated: Path, contract: Contract
) -> Iterator[Installation]:
    database = {"url": url_of(emptied(migrated_postgresql))}
    executor = {"kind": "procrastinate"}
    with standing(tmp_path, migrated, contract, database=database, executor=executor) as world:
        yield Installation(world.services, world.caller())


def test_a_task_that_is_due_when_it_is_made_and_run_again(installed: Installation) -> None:
    task_id = installed.create(once="2026-05-26T12:00:00Z")
    installed.offered(1)
    installed.work()
    installed.offered(0)
    installed.post(f"/tasks/{task_id}/execute")
    installed.offered(1)


@pytest.mark.parametrize("jitter", [0, 3600])
def test_an_occurrence_that_comes(installed: Installation, jitter: int) -> None:
    for _ in range(3):
        installed.create(cron="* * * * *", jitter=jitter)
    installed.offered(0)
    installed.forward(minutes=1)
    installed.tick()
    installed.offered(3)


def test_a_failure_that_may_pass_and_one_that_is_repeated(
    installed: Installation, monkeypatch: pytest.MonkeyPatch
) -> None:
    errors = [SourceError("No."), SourceUnavailableError("Away.")]

    def fail(*_: Any, **__: Any) -> Any:
        raise errors.pop()

    monkeypatch.setattr(installed.services.source, "open", fail)
    installed.create(once="2026-05-26T12:00:00Z")
    installed.offered(1)
    installed.work()  # it may pass: the same run waits for its time
    installed.offered(1)
    installed.forward(minutes=10)
    installed.work()  # it may not
    installed.offered(0)
    with installed.services.database.read() as session:
        [run_id] = session.connection().execute(text("SELECT id FROM run")).scalars()
    installed.post(f"/runs/{run_id}/retry")
    installed.offered(1)


def test_a_run_that_is_handed_back(installed: Installation, monkeypatch: pytest.MonkeyPatch) -> None:
    worker = Worker(installed.services)
    monkeypatch.setattr(worker, "_settings", worker._settings.model_copy(update={"grace_seconds": 0.0}))
    worker._drain.since = 0.0
    installed.create(once="2026-05-26T12:00:00Z")
    installed.offered(1)
    installed.work(worker)
    installed.offered(1)


def test_a_backfill_that_is_made_and_goes_on(installed: Installation) -> None:
    task_id = installed.create(cron="0 0 * * *")
    body = {"start": "2026-05-01T00:00:00Z", "end": "2026-05-04T00:00:00Z", "concurrency": 2}
    installed.post(f"/tasks/{task_id}/backfill", body)
    installed.offered(2)
    installed.work()
    installed.work()
    installed.tick()
    installed.offered(1)
