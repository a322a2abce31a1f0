"""A worker killed, stopped, drained or cancelled in mid-export: the whole file is published, once, or nothing is.

The middle is made certain: the storage holds one chunk of the upload at its door until the test has done its harm.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest
import urllib3

from tasks_service.sample import documents, write_files
from tests.acceptance.conftest import CHAIN, UNTIL
from tests.acceptance.service import Api, Service
from tests.servers.gcs import Gcs
from tests.servers.gcs_faults import Gate
from tests.waiting import eventually

ROWS = 10_000
LEASE_SECONDS, HEARTBEAT_SECONDS = 3.0, 0.5
LIVING = {"last_used_at", "swept_at"}
SLACK_SECONDS = 3.0  # of a machine that has other things to do


class Stage:
    """A service whose worker's upload is held in the middle."""

    def __init__(self, service: Service, gcs: Gcs, bucket: str) -> None:
        self.service, self.gcs, self.bucket = service, gcs, bucket
        self.api: Api = service.api(CHAIN)
        self.task_id: int = self.api.create(
            {
                "chain": CHAIN,
                "target": {"action": "export", "export_index": "products", "export_format": "jsonl"},
                "trigger": {"once": "2026-05-26T12:00:00Z"},
            }
        )["id"]

    @contextmanager
    def worker_in_mid_export(
        self, at: str = "upload.chunk", skip: int = 2, **environment: str
    ) -> Iterator[tuple[Popen[bytes], Gate]]:
        gate = self.gcs.faults.hold(at, skip=skip)
        worker = self.service.start("worker", **environment)
        try:
            assert gate.reached.wait(60), "the worker uploads"
            yield worker, gate
        finally:
            gate.release()

    def run(self) -> dict[str, Any]:
        [run] = self.api.request("GET", f"/tasks/{self.task_id}/runs").json["results"]
        return self.api.request("GET", f"/runs/{run['id']}").json

    def heard(self, event: str, times: int = 1) -> datetime:
        """Wait until a line was logged so often; return when that was."""

        def said() -> list[str]:
            found = [str(line["timestamp"]) for line in self.service.events() if line["event"] == event]
            return found if len(found) >= times else []

        return datetime.fromisoformat(eventually(said, what=event)[times - 1])

    def rows(self) -> dict[str, list[dict[str, Any]]]:
        """All that is stored, but for what living processes say of themselves, and what was swept meanwhile."""
        with closing(sqlite3.connect(self.service.directory / "tasks.db", timeout=30)) as database:
            database.row_factory = sqlite3.Row
            names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            return {
                name: [{key: row[key] for key in row.keys() if key not in LIVING} for row in found]  # noqa: SIM118
                for name in names
                if name not in {"process", "sqlite_sequence"} and (found := database.execute(f"SELECT * FROM {name}"))  # noqa: S608
            }

    def objects(self) -> list[str]:
        listed = urllib3.request(
            "GET",
            f"{self.gcs.endpoint}/storage/v1/b/{self.bucket}/o",
            headers={"Authorization": "Bearer token-of-the-tests"},
        )
        return [item["name"] for item in listed.json().get("items", [])]

    def whole_file_once(self) -> None:
        assert self.api.finished(self.task_id)["state"]["code"] == "DONE"
        _, file = self.api.download(self.task_id)
        expected = [d["id"] for d in documents("products", ROWS, until=UNTIL) if d["chain_id"] == CHAIN]
        assert sorted(json.loads(line)["id"] for line in file.body.splitlines()) == sorted(expected)
        _, manifest = self.api.download(self.task_id, "manifest_url")
        assert (manifest.json["rows"], manifest.json["files"][0]["bytes"]) == (len(expected), len(file.body))
        assert len(self.objects()) == 2


@pytest.fixture
def stage(tmp_path: Path, gcs: Gcs) -> Iterator[Stage]:
    write_files(tmp_path / "documents", {"products": ROWS}, until=UNTIL)
    bucket = gcs.bucket()
    service = Service(
        tmp_path,
        {
            "TASKS_STORAGE__KIND": "gcs",
            "TASKS_GCS__BUCKET": bucket,
            "TASKS_GCS__ENDPOINT": gcs.endpoint,
            "TASKS_GCS__CREDENTIALS_FILE": str(gcs.credentials_file),
            "TASKS_GCS__CHUNK_BYTES": str(256 * 1024),
            "TASKS_WORKER__LEASE_SECONDS": str(LEASE_SECONDS),
            "TASKS_WORKER__HEARTBEAT_SECONDS": str(HEARTBEAT_SECONDS),
        },
    )
    service.migrate()
    service.start("web")
    service.ready()
    try:
        yield Stage(service, gcs, bucket)
    finally:
        for process in service.processes:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGCONT)
        service.stop()


def freeze(worker: Popen[bytes], service: Service) -> None:
    """Stop a worker where it is, but not inside a transaction: SQLite's one write lock would never be free again."""

    def frozen() -> bool:
        os.killpg(worker.pid, signal.SIGSTOP)
        with closing(sqlite3.connect(service.directory / "tasks.db", timeout=1, isolation_level=None)) as database:
            try:
                database.execute("BEGIN IMMEDIATE")
                database.execute("ROLLBACK")
            except sqlite3.OperationalError:
                os.killpg(worker.pid, signal.SIGCONT)
                return False
        return True

    eventually(frozen, timeout=60, what="the worker stands outside a transaction")


def test_another_attempt_publishes_the_whole_file_once(stage: Stage) -> None:
    with stage.worker_in_mid_export() as (worker, _):
        stage.service.start("worker")
        stage.heard("worker.started", 2)
        killed = datetime.now(UTC)
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(timeout=30)
        taken_over = (stage.heard("run.started", 2) - killed).total_seconds()
    assert taken_over < LEASE_SECONDS + SLACK_SECONDS
    stage.whole_file_once()
    assert [attempt["outcome"] for attempt in stage.run()["attempts"]] == ["abandoned", "published"]


def test_a_worker_killed_between_the_file_and_its_manifest_leaves_nothing_after_the_sweep(stage: Stage) -> None:
    with stage.worker_in_mid_export("upload.start", 1) as (worker, _):
        os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(timeout=30)
        [orphan] = stage.objects()
        assert orphan.endswith(".jsonl")
    stage.service.start("worker")
    assert stage.api.finished(stage.task_id)["state"]["code"] == "DONE"
    stage.service.start("worker")  # one that sweeps now, rather than in a minute
    eventually(lambda: orphan not in stage.objects(), what="the killed attempt's file is swept")
    stage.whole_file_once()


def test_a_worker_that_comes_back_after_its_lease_changes_nothing(stage: Stage) -> None:
    with stage.worker_in_mid_export() as (worker, gate):
        freeze(worker, stage.service)
        gate.release()
        stage.service.start("worker")
        stage.whole_file_once()
        before = stage.run(), stage.api.task(stage.task_id), stage.rows()
        os.killpg(worker.pid, signal.SIGCONT)
        stage.heard("run.lease_lost")
    assert (stage.run(), stage.api.task(stage.task_id), stage.rows()) == before
    stage.whole_file_once()


def test_sigterm_hands_the_run_back_and_burns_no_attempt(stage: Stage) -> None:
    with stage.worker_in_mid_export(TASKS_WORKER__GRACE_SECONDS="0") as (worker, gate):
        worker.send_signal(signal.SIGTERM)
        stage.heard("worker.draining")
        gate.release()
        assert worker.wait(timeout=60) == 0
    run = stage.run()
    assert (run["state"], [a["outcome"] for a in run["attempts"]]) == ("queued", ["interrupted"])
    assert stage.objects() == []
    stage.service.start("worker")
    stage.whole_file_once()


def test_cancel_reaches_a_running_export_and_leaves_nothing(stage: Stage) -> None:
    with stage.worker_in_mid_export() as (_, gate):
        answer = stage.api.request("POST", f"/runs/{stage.run()['id']}/cancel")
        assert answer.status in {200, 202}, answer.body
        asked = datetime.now(UTC)
        heard = (stage.heard("lease.cancel_heard") - asked).total_seconds()
        gate.release()
        task = stage.api.finished(stage.task_id)
    assert (task["state"]["code"], task["state"]["reason"]) == ("ERROR", "cancelled")
    assert heard < 2 * HEARTBEAT_SECONDS + SLACK_SECONDS
    assert stage.objects() == []
    assert stage.gcs.faults.count("upload.cancel") == 1, "the half upload was given up at the storage, too"
    assert stage.api.request("GET", f"/tasks/{stage.task_id}/download_url").status == 409


def test_a_run_that_ends_its_workers_is_given_up_at_the_ceiling(stage: Stage) -> None:
    """Counted when it is claimed: what ends its worker never comes to tell of a failure."""
    stage.service.environment["TASKS_WORKER__MAX_CLAIMS"] = "2"
    for _ in range(2):
        with stage.worker_in_mid_export() as (worker, _):
            os.killpg(worker.pid, signal.SIGKILL)
            worker.wait(timeout=30)
    survivor = stage.service.start("worker")
    task = stage.api.finished(stage.task_id)
    run = stage.run()
    assert (task["state"]["code"], task["state"]["reason"], run["state"]) == ("ERROR", "poison", "failed")
    assert [attempt["outcome"] for attempt in run["attempts"]] == ["abandoned", "abandoned"]
    assert survivor.poll() is None
    eventually(lambda: stage.objects() == [], timeout=60, what="what it left is swept")
