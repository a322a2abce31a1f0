"""One task, one queued run, one worker: the runner on a real database and storage, over a scripted source."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from sqlmodel import Session

from segments import Catalog, SortKey, Tree
from tasks_service.app import Services
from tasks_service.config import IndexSettings, LocalSettings, Settings
from tasks_service.database import clients, runs, schema, tasks
from tasks_service.database.clients import Principal
from tasks_service.database.engine import Database
from tasks_service.database.models import Attempt, Run, Task
from tasks_service.executors.table import TableExecutor
from tasks_service.runner import Worker
from tasks_service.sources import Documents, Share
from tasks_service.storage import StoredObject
from tasks_service.storage.local import LocalStorage

CHAIN = 1764
CATALOG = Catalog.from_columns([("id", "BIGINT"), ("chain_id", "BIGINT"), ("name", "VARCHAR")])


@dataclass
class Script:
    """A source that does what a test tells it: `pages`, a count of its own, an error or a call in mid-read."""

    pages: list[Documents] = field(default_factory=lambda: [[b'{"id":1}', b'{"id":2}'], [b'{"id":3}']])
    total: int = 3
    meanwhile: Callable[[], None] = lambda: None
    error: BaseException | None = None
    opened: int = 0
    closed: int = 0
    taken_at: datetime = datetime(2026, 1, 1, tzinfo=UTC)
    query: dict[str, Any] = field(default_factory=lambda: {"match_all": {}})
    catalog_: Catalog = CATALOG

    def catalog(self, index: IndexSettings) -> Catalog:
        return self.catalog_

    def catalogs(self) -> dict[str, Catalog]:
        return {}

    @contextlib.contextmanager
    def open(
        self, index: IndexSettings, tree: Tree, *, chain: int, limit: int | None, sort: Sequence[SortKey] = ()
    ) -> Iterator[ScriptSnapshot]:
        self.opened += 1
        try:
            yield ScriptSnapshot(self)
        finally:
            self.closed += 1

    def close(self) -> None: ...


@dataclass
class ScriptSnapshot:
    script: Script

    def __post_init__(self) -> None:
        self.total, self.taken_at = self.script.total, self.script.taken_at
        self.query, self.catalog = self.script.query, self.script.catalog_

    def partitions(self, wanted: int, share: Share | None = None) -> Sequence[Iterator[Documents]]:
        return [self._pages()]

    def divide(self, most: int, readers: int) -> None: ...

    def _pages(self) -> Iterator[Documents]:
        for page in self.script.pages:
            yield page
            self.script.meanwhile()
        if self.script.error is not None:
            raise self.script.error


@dataclass
class House:
    services: Services
    source: Script
    worker: Worker
    task_id: int
    run_id: int

    def read(self) -> tuple[Run, Task, list[Attempt]]:
        with self.services.database.read() as session:
            return (
                session.get_one(Run, self.run_id),
                session.get_one(Task, self.task_id),
                list(runs.attempts(session, self.run_id)),
            )

    def write(self, change: Callable[[Session], object]) -> None:
        with self.services.database.write() as session:
            change(session)

    def objects(self) -> list[StoredObject]:
        return list(self.services.storage.list("exports"))


@pytest.fixture
def house(tmp_path: Path) -> Iterator[House]:
    settings = Settings.model_validate(
        {
            "database": {"url": f"sqlite:///{tmp_path}/tasks.db"},
            "service": {"state_directory": tmp_path},
            "worker": {"max_attempts": 2, "heartbeat_seconds": 0.05, "lease_seconds": 60, "retry_base_seconds": 1e-6},
        }
    )
    database = Database(settings.database)
    schema.upgrade(database)
    source = Script()
    storage = LocalStorage(
        LocalSettings(directory=tmp_path / "exports"), public_url="http://127.0.0.1", secret_key=b"x" * 32
    )
    services = Services(settings, database, source, storage, TableExecutor(), b"x" * 32)  # type: ignore[arg-type]
    with database.write() as session:
        now = database.now(session)
        client = clients.create_client(session, now=now, name="partner", chain=CHAIN, scopes=["tasks:write"])
        task = tasks.create_task(
            session,
            now=now,
            principal=Principal(client.id, "partner", CHAIN, frozenset(), "client"),
            chain=CHAIN,
            desc=None,
            target={"action": "export", "export_index": "products", "export_format": "jsonl"},
            trigger={"once": "2026-01-01T00:00:00Z"},
            next_run_at=None,
        )
        run = runs.create_run(session, task, kind="schedule", occurrence=now, now=now)
        assert run is not None
        assert run.id is not None
        assert task.id is not None
        ids = task.id, run.id
    yield House(services, source, Worker(services, name="worker"), *ids)
    services.close()
