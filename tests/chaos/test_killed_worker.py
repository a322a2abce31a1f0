"""`kill -9` of a worker in the middle of an export: another attempt publishes the whole file, once."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from tasks_service.sample import documents, write_files
from tests.acceptance.conftest import CHAIN, UNTIL
from tests.acceptance.service import Api, Service
from tests.waiting import eventually

ROWS = 120_000
QUICK_LEASE = {
    "TASKS_WORKER__LEASE_SECONDS": "3",
    "TASKS_WORKER__HEARTBEAT_SECONDS": "0.5",
    # A small buffer and one reader stretch the export, so that there is a middle to be killed in.
    "TASKS_WORKER__BUFFER_BYTES": str(1 << 20),
    "TASKS_FILES__THREADS": "1",
}


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    write_files(tmp_path / "documents", {"products": ROWS}, until=UNTIL)
    service = Service(tmp_path, QUICK_LEASE)
    service.command("db", "upgrade")
    service.start("web")
    service.ready()
    yield service
    service.stop()


def the_run(api: Api, task_id: int) -> dict[str, Any]:
    answer = api.request("GET", f"/tasks/{task_id}/runs")
    assert answer.status == 200, answer.body
    [run] = answer.json["results"]
    return api.request("GET", f"/runs/{run['id']}").json


def create(api: Api) -> int:
    return api.create(
        {
            "chain": CHAIN,
            "target": {"action": "export", "export_index": "products", "export_format": "jsonl"},
            "trigger": {"once": "2026-05-26T12:00:00Z"},
        }
    )["id"]


def writes(service: Service) -> bool:
    """Whether some of the file lies there already; the worker then is past the short locks of beginning it."""
    found = (service.directory / "exports").rglob("*")
    return any(path.name != "lock" and path.is_file() and path.stat().st_size for path in found)


def holds_the_database(service: Service) -> bool:
    """Whether the worker was stopped inside a transaction: SQLite has one write lock, and it would never end."""
    with closing(sqlite3.connect(service.directory / "tasks.db", timeout=1, isolation_level=None)) as database:
        try:
            database.execute("BEGIN IMMEDIATE")
            database.execute("ROLLBACK")
        except sqlite3.OperationalError:
            return True
    return False


def stop_in_mid_export(service: Service, api: Api, task_id: int) -> Any:
    """Start a worker and stop it (SIGSTOP) once it has begun to write and before it has ended."""
    worker = service.start("worker")

    def begun() -> bool:
        os.killpg(worker.pid, signal.SIGSTOP)
        run = the_run(api, task_id)
        assert run["state"] != "done", "the export ended before it could be stopped: give it more rows"
        if run["state"] == "running" and writes(service) and not holds_the_database(service):
            return True
        os.killpg(worker.pid, signal.SIGCONT)
        return False

    eventually(begun, timeout=60, every=0.02, what="the worker writes")
    return worker


def whole_file_once(service: Service, api: Api, task_id: int) -> None:
    assert api.finished(task_id)["state"]["code"] == "DONE"
    _, file = api.download(task_id)
    expected = [d["id"] for d in documents("products", ROWS, until=UNTIL) if d["chain_id"] == CHAIN]
    assert sorted(json.loads(line)["id"] for line in file.body.splitlines()) == sorted(expected)
    published = [p for p in (service.directory / "exports").rglob("*.jsonl") if p.is_file()]
    assert len(published) <= 1, published


def test_another_attempt_publishes_the_whole_file_once(service: Service) -> None:
    api = service.api(CHAIN)
    task_id = create(api)
    worker = stop_in_mid_export(service, api, task_id)
    os.killpg(worker.pid, signal.SIGKILL)
    service.start("worker")
    whole_file_once(service, api, task_id)
    outcomes = [attempt["outcome"] for attempt in the_run(api, task_id)["attempts"]]
    assert outcomes == ["abandoned", "published"]


def test_a_worker_that_comes_back_after_its_lease_changes_nothing(service: Service) -> None:
    api = service.api(CHAIN)
    task_id = create(api)
    worker = stop_in_mid_export(service, api, task_id)
    service.start("worker")
    whole_file_once(service, api, task_id)
    before = the_run(api, task_id), api.task(task_id)
    os.killpg(worker.pid, signal.SIGCONT)
    eventually(lambda: any(e["event"] == "run.lease_lost" for e in service.events()), what="the first worker notices")
    assert (the_run(api, task_id), api.task(task_id)) == before
    whole_file_once(service, api, task_id)


def test_sigterm_hands_the_run_back_and_burns_no_attempt(service: Service) -> None:
    service.environment["TASKS_WORKER__GRACE_SECONDS"] = "0"
    api = service.api(CHAIN)
    task_id = create(api)
    worker = stop_in_mid_export(service, api, task_id)
    worker.send_signal(signal.SIGTERM)
    os.killpg(worker.pid, signal.SIGCONT)
    assert worker.wait(timeout=30) == 0
    run = the_run(api, task_id)
    assert (run["state"], [a["outcome"] for a in run["attempts"]]) == ("queued", ["interrupted"])
    service.start("worker")
    whole_file_once(service, api, task_id)


def test_cancel_reaches_a_running_export_and_leaves_nothing(service: Service) -> None:
    api = service.api(CHAIN)
    task_id = create(api)
    worker = stop_in_mid_export(service, api, task_id)
    answer = api.request("POST", f"/runs/{the_run(api, task_id)['id']}/cancel")
    assert answer.status in {200, 202}, answer.body
    os.killpg(worker.pid, signal.SIGCONT)
    task = api.finished(task_id)
    assert (task["state"]["code"], task["state"]["reason"]) == ("ERROR", "cancelled")
    eventually(
        lambda: not [p for p in (service.directory / "exports").rglob("*") if p.is_file() and "jsonl" in p.name],
        what="nothing is left",
    )
    assert api.request("GET", f"/tasks/{task_id}/download_url").status == 409
