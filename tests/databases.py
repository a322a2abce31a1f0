"""The service's database for tests, on SQLite and on PostgreSQL, and a small world of clients and tasks in it.

A test that asks for ``database`` or ``stage`` runs twice, once on each; where PostgreSQL cannot be had, that half is
skipped with the reason (and fails under ``CI=true``).
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text
from sqlmodel import Session, SQLModel, select

from tasks_service.config import DatabaseSettings
from tasks_service.database import claims, clients, due, models, runs, schema, tasks
from tasks_service.database.claims import Claim
from tasks_service.database.clients import Principal
from tasks_service.database.engine import Database
from tasks_service.schedule import Limits, Planner

# A Monday morning; the functions under test are told the time, so it never moves by itself.
NOW = datetime(2026, 1, 5, 10, 0, tzinfo=UTC)
MINUTE = timedelta(minutes=1)
CRON: dict[str, Any] = {
    "cron": "* * * * *",
    "timezone": "UTC",
    "start_at": None,
    "end_at": None,
    "jitter": 0,
    "misfire": "run_once",
    "overlap": "skip",
}
ARTIFACT: dict[str, Any] = {"bucket": "b", "object": "o", "generation": 7, "rows": 3, "bytes": 40, "file_name": "f.csv"}


def connect(url: str) -> Database:
    """The database at a URL, as a process of the service sees it."""
    return Database(DatabaseSettings.model_validate({"url": url}))


def url_of(database: Database) -> str:
    """Where another process finds this database."""
    return database._url.render_as_string(hide_password=False)


class StoppedClock:
    """The clock of one process's database, which shows what a test sets it to."""

    def __init__(self, database: Database, at: datetime) -> None:
        self.at = at
        database.now = lambda _session: self.at  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def migrated_sqlite(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A SQLite file with the tables, to be copied."""
    path = tmp_path_factory.mktemp("migrated") / "tasks.db"
    database = connect(f"sqlite:///{path}")
    schema.upgrade(database)
    database.dispose()
    return path


@pytest.fixture(scope="session")
def migrated_postgresql(postgresql_database: Callable[[], str]) -> Iterator[Database]:
    """A PostgreSQL database with the tables; emptied for each test."""
    database = connect(postgresql_database())
    schema.upgrade(database)
    yield database
    database.dispose()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Database]:
    """The service's database, with its tables, empty."""
    if request.param == "sqlite":
        path = tmp_path / "tasks.db"
        shutil.copy(request.getfixturevalue("migrated_sqlite"), path)
        made = connect(f"sqlite:///{path}")
        yield made
        made.dispose()
        return
    yield emptied(request.getfixturevalue("migrated_postgresql"))


def emptied(shared: Database) -> Database:
    """The PostgreSQL database that tests share, without a row or a message, at the real time."""
    names = ", ".join(f'"{table}"' for table in SQLModel.metadata.tables)
    with shared.write() as session:
        session.connection().execute(text(f"TRUNCATE {names} RESTART IDENTITY CASCADE"))
        for table in ("procrastinate_jobs", "procrastinate_workers"):
            session.connection().execute(text(f"TRUNCATE tasks_procrastinate.{table} CASCADE"))
    shared.clock_offset = timedelta(0)
    return shared


@dataclass
class Stage:
    """Clients, tasks and workers in one database, at times the test names."""

    database: Database
    principals: dict[int, Principal] = field(default_factory=dict)
    names: Iterator[int] = field(default_factory=count)

    def principal(self, chain: int) -> Principal:
        """A client of the chain; always the same one."""
        if chain not in self.principals:
            with self.database.write() as session:
                client = clients.create_client(
                    session, now=NOW, name=f"partner {chain}-{next(self.names)}", chain=chain, scopes=["tasks:write"]
                )
            self.principals[chain] = Principal(client.id, client.name, chain, frozenset(client.scopes), "client")
        return self.principals[chain]

    def task(
        self, chain: int = 1, *, due_at: datetime | None = None, at: datetime = NOW, **trigger: Any
    ) -> models.Task:
        """A stored task; a cron one of every minute unless told otherwise (``once=...`` for another kind)."""
        principal = self.principal(chain)
        document = trigger if "once" in trigger else CRON | trigger
        with self.database.write() as session:
            return tasks.create_task(
                session,
                now=at,
                principal=principal,
                chain=chain,
                desc=None,
                target={"action": "export", "export_index": "products", "export_format": "csv"},
                trigger=document,
                next_run_at=due_at,
            )

    def run(self, task: models.Task, *, at: datetime = NOW, kind: runs.Kind = "schedule", **more: Any) -> int:
        """A queued run of the task; returns its id."""
        with self.database.write() as session:
            fresh = tasks.get_task(session, task.id or 0, chain=None, lock=True)
            assert fresh is not None
            made = runs.create_run(session, fresh, kind=kind, occurrence=more.pop("occurrence", at), now=at, **more)
            assert made is not None
            assert made.id is not None
            return made.id

    def due(self, at: datetime, *, batch: int = 100, cap: int = 1000, limits: Limits | None = None) -> list[due.DueRun]:
        """What one look of a scheduler makes at that time."""
        with self.database.write() as session:
            return due.claim_due(
                session, now=at, batch=batch, planner=Planner(limits or Limits()), queued_per_chain=cap
            )

    def claim(self, at: datetime = NOW, *, owner: str = "worker", cap: int = 10, ceiling: int = 20) -> Claim | None:
        """What a worker claims at that time, with a lease of a minute."""
        with self.database.write() as session:
            return claims.claim_run(
                session, clock=lambda _: at, owner=owner, lease_seconds=60, running_per_chain=cap, max_claims=ceiling
            )

    def claimed(self, at: datetime = NOW, **more: Any) -> Claim:
        """As ``claim``, where there must be something."""
        claim = self.claim(at, **more)
        assert claim is not None
        return claim

    def publish(self, claim: Claim, at: datetime = NOW, artifact: dict[str, Any] | None = None) -> bool:
        """What a worker writes that has finished."""
        with self.database.write() as session:
            return claims.publish(
                session,
                claim,
                now=at,
                artifact=ARTIFACT if artifact is None else artifact,
                expires_at=at + timedelta(days=30),
                query={"match_all": {}},
            )

    def fail(self, claim: Claim, at: datetime = NOW, retry_at: datetime | None = None, code: str = "empty") -> bool:
        """What a worker writes whose export failed."""
        with self.database.write() as session:
            return claims.fail(session, claim, now=at, code=code, detail="Because.", retry_at=retry_at)

    def lapse(self, claim: Claim, at: datetime) -> None:
        """What is left of a worker that dies: a lease that ends at that time."""
        with self.database.write() as session:
            claims.beat(session, claim, now=at, lease_seconds=0, rows=0, total=None, bytes_written=0)

    def write(self, do: Callable[[Session], Any]) -> Any:
        """Do something in a transaction."""
        with self.database.write() as session:
            return do(session)

    def read_task(self, task: models.Task | int) -> models.Task:
        """The task as it is now, deleted or not."""
        with self.database.read() as session:
            return session.get_one(models.Task, task if isinstance(task, int) else task.id)

    def read_run(self, run_id: int) -> models.Run:
        """The run as it is now."""
        with self.database.read() as session:
            return session.get_one(models.Run, run_id)

    def attempts(self, run_id: int) -> list[models.Attempt]:
        """The attempts of a run."""
        with self.database.read() as session:
            return list(runs.attempts(session, run_id))

    def all(self, table: type[Any]) -> list[Any]:
        """Every row of a table, by id."""
        with self.database.read() as session:
            return sorted(session.exec(select(table)).all(), key=lambda row: row.id)

    def snapshot(self) -> dict[str, list[dict[str, Any]]]:
        """Every row of every table, to compare with later."""
        with self.database.read() as session:
            return {
                name: [dict(row) for row in session.connection().execute(table.select()).mappings()]
                for name, table in SQLModel.metadata.tables.items()
            }

    def outcomes(self, task: models.Task) -> dict[datetime, str]:
        """The outcome of every occurrence: ``run``, or why it was not run; a range shows by its first and its count."""
        found = {run.occurrence: "run" for run in self.all(models.Run) if run.task_id == task.id}
        for skip in self.all(models.Skip):
            if skip.task_id == task.id:
                assert skip.first_occurrence not in found
                found[skip.first_occurrence] = f"{skip.reason}" + (f" x{skip.count}" if skip.count > 1 else "")
        return dict(sorted(found.items()))


@pytest.fixture
def stage(database: Database) -> Stage:
    """A world of clients, tasks and workers on the database."""
    return Stage(database)
