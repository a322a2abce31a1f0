"""Two schedulers and two workers on PostgreSQL, woken by messages: each occurrence of twenty tasks runs once."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from tests.acceptance.conftest import CHAIN
from tests.acceptance.service import Api, Service
from tests.waiting import eventually

TASKS = 20
MINUTES = 1


@pytest.fixture
def service(tmp_path: Path, postgresql_database: Callable[[], str]) -> Iterator[Service]:
    folder = tmp_path / "documents" / "products"
    folder.mkdir(parents=True)
    rows = [{"id": n, "chain_id": CHAIN, "name": f"product {n}"} for n in range(50)]
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    environment = {"TASKS_DATABASE__URL": postgresql_database(), "TASKS_EXECUTOR__KIND": "procrastinate"}
    service = Service(tmp_path, environment)
    service.migrate()
    for kind in ("web", "scheduler", "scheduler", "worker", "worker"):
        service.start(kind)
    service.ready()
    yield service
    service.stop()


def runs(api: Api, task_id: int) -> list[dict[str, Any]]:
    return api.request("GET", f"/tasks/{task_id}/runs?limit=100").json["results"]


def test_each_occurrence_runs_once(service: Service) -> None:
    api = service.api(CHAIN)
    body = {
        "chain": CHAIN,
        "target": {"action": "export", "export_index": "products", "export_format": "csv"},
        # buffer_all: an occurrence that is due while the last one still waits for a worker must run all the same.
        "trigger": {"cron": "* * * * *", "overlap": "buffer_all"},
    }
    created = [api.create(body) for _ in range(TASKS)]
    # The oracle: the minutes after creation, by arithmetic.
    expected = {}
    for task in created:
        at = datetime.fromisoformat(task["state"]["created_date"])
        first = at.replace(second=0, microsecond=0) + timedelta(minutes=1)
        expected[task["id"]] = {first + timedelta(minutes=n) for n in range(MINUTES)}
    last = max(max(moments) for moments in expected.values())

    def all_done() -> bool:
        if datetime.now(UTC) < last:
            return False
        for task_id, moments in expected.items():
            done = {datetime.fromisoformat(run["occurrence"]) for run in runs(api, task_id) if run["state"] == "done"}
            assert moments <= done, f"task {task_id} misses {moments - done}"
        return True

    eventually(all_done, timeout=60 * MINUTES + 120, every=1, what="every occurrence has run")
    for task_id, moments in expected.items():
        counted = Counter(datetime.fromisoformat(run["occurrence"]) for run in runs(api, task_id))
        assert {moment: counted[moment] for moment in moments} == dict.fromkeys(moments, 1)
        assert all(
            run["kind"] == "schedule" and len(run["attempts"]) == 1
            for run in runs(api, task_id)
            if run["state"] == "done"
        )
