"""A worker that cannot look: held by a call, hung, cancelled, or without its beater. No run is lost, none hangs on.

A worker hangs for certain (hanging.py), in a call that keeps the interpreter lock or in one that gives it away. A lease
is three seconds, and each hangs for longer. Every case runs on both databases: on SQLite as one machine is run, on
PostgreSQL as many are, with runs that travel by messages.
"""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path
from subprocess import Popen
from typing import Any

import pytest

from tasks_service.sample import write_files
from tests.acceptance.conftest import CHAIN, UNTIL
from tests.acceptance.service import Api, Service
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(120)

LEASE_SECONDS = 3
FOR_EVER = 600
SOON_SECONDS = 60
"""Whatever is waited for comes within a lease or two; only a failing test waits so long."""


class Stage:
    """A service with one run at a time, whose workers each test starts itself."""

    def __init__(self, service: Service, api: Api) -> None:
        self.service, self.api = service, api
        self.task_id = 0

    def export(self) -> None:
        target = {"action": "export", "export_index": "products", "export_format": "jsonl"}
        trigger = {"once": "2026-05-26T12:00:00Z"}
        self.task_id = self.api.create({"chain": CHAIN, "target": target, "trigger": trigger})["id"]

    def hanging_worker(self, how: str, seconds: int = FOR_EVER, **environment: str) -> Popen[bytes]:
        """Start a worker that hangs at the beginning of the run, and return it once it does."""
        before = len(self.events("test.hangs"))
        arguments = ("attempt.started", how, str(seconds))
        worker = self.service.start(*arguments, module="tests.chaos.hanging", **environment)
        eventually(lambda: len(self.events("test.hangs")) > before, timeout=SOON_SECONDS, what="the worker hangs")
        return worker

    def events(self, name: str) -> list[dict[str, Any]]:
        return [event for event in self.service.events() if event["event"] == name]

    def beaters(self) -> list[int]:
        """The process ids of all beaters there were, the latest last."""
        return [event["pid"] for event in self.events("beater.started")]

    def run(self) -> dict[str, Any]:
        [run] = self.api.request("GET", f"/tasks/{self.task_id}/runs").json["results"]
        return self.api.request("GET", f"/runs/{run['id']}").json

    def outcomes(self) -> list[str]:
        """How the attempts of the run ended, once its task is DONE."""
        assert self.api.finished(self.task_id, timeout=SOON_SECONDS)["state"]["code"] == "DONE"
        return [attempt["outcome"] for attempt in self.run()["attempts"]]


@pytest.fixture(scope="module", params=["sqlite", "postgresql"])
def served(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Service, Api]]:
    directory: Path = tmp_path_factory.mktemp("beater")
    write_files(directory / "documents", {"products": 200}, until=UNTIL)
    environment = {"TASKS_WORKER__LEASE_SECONDS": str(LEASE_SECONDS), "TASKS_WORKER__HEARTBEAT_SECONDS": "0.5"}
    if request.param == "postgresql":
        environment |= {
            "TASKS_DATABASE__URL": request.getfixturevalue("postgresql_database")(),
            "TASKS_EXECUTOR__KIND": "procrastinate",
            "TASKS_EXECUTOR__SAFETY_POLL_SECONDS": "1",
        }
    service = Service(directory, environment)
    service.migrate()
    service.start("web")
    service.ready()
    try:
        yield service, service.api(CHAIN)
    finally:
        service.stop()


@pytest.fixture
def stage(served: tuple[Service, Api]) -> Iterator[Stage]:
    service, _ = served
    before = len(service.processes)
    stage = Stage(*served)
    stage.export()
    yield stage
    for worker in service.processes[before:]:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(timeout=30)


def ended(pid: int) -> bool:
    """Tell whether a process has ended; whoever was to reap it may be gone."""
    shown = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True, check=False).stdout
    return not shown.strip() or shown.startswith("Z")


def test_a_call_that_keeps_the_interpreter_lock_does_not_cost_the_run(stage: Stage) -> None:
    stage.hanging_worker("held", 2 * LEASE_SECONDS + 1)
    stage.service.start("worker")  # would take the run if it could
    assert stage.outcomes() == ["published"]


def test_a_worker_that_stalls_is_killed_and_its_run_taken_over(stage: Stage) -> None:
    worker = stage.hanging_worker("blocked", TASKS_WORKER__STALL_TIMEOUT_SECONDS="2")
    stage.service.start("worker")
    assert stage.outcomes() == ["abandoned", "published"]
    assert worker.wait(timeout=30) == -signal.SIGKILL
    killed = stage.events("beater.worker_killed")[-1]
    assert (killed["reason"], killed["run_id"], killed["pid"]) == ("stalled", stage.run()["id"], worker.pid)


def test_a_run_in_a_call_that_does_not_return_is_cancelled(stage: Stage) -> None:
    """And nobody else is there who could record it."""
    worker = stage.hanging_worker("held")
    assert stage.api.request("POST", f"/runs/{stage.run()['id']}/cancel").status in {200, 202}
    task = stage.api.finished(stage.task_id, timeout=SOON_SECONDS)
    assert (task["state"]["code"], task["state"]["reason"]) == ("ERROR", "cancelled")
    assert worker.wait(timeout=30) == -signal.SIGKILL
    assert [attempt["outcome"] for attempt in stage.run()["attempts"]] == ["cancelled"]


def test_a_killed_beater_is_replaced_and_the_run_kept(stage: Stage) -> None:
    stage.hanging_worker("blocked", 2 * LEASE_SECONDS + 1)
    beater = stage.beaters()[-1]
    os.kill(beater, signal.SIGKILL)
    eventually(lambda: stage.beaters()[-1] != beater, what="another beater is started")
    stage.service.start("worker")  # would take the run if it could
    assert stage.outcomes() == ["published"]


def test_a_beater_ends_with_its_worker_and_not_before(stage: Stage) -> None:
    """A terminal's Ctrl-C, as a service manager, signals the whole group: the run in hand is still finished."""
    worker = stage.hanging_worker("blocked", LEASE_SECONDS + 1)
    beater = stage.beaters()[-1]
    os.killpg(worker.pid, signal.SIGINT)
    stage.service.start("worker")
    assert stage.outcomes() == ["published"]
    assert worker.wait(timeout=30) == 0
    eventually(lambda: ended(beater), what="the beater ends")
    assert beater not in {event["pid"] for event in stage.events("beater.ended")}


def test_a_beater_does_not_outlive_a_killed_worker(stage: Stage) -> None:
    worker = stage.hanging_worker("blocked")
    beater = stage.beaters()[-1]
    os.kill(worker.pid, signal.SIGKILL)  # alone, not its group
    worker.wait(timeout=30)
    eventually(lambda: ended(beater), what="the beater ends")
    stage.service.start("worker")
    assert stage.outcomes() == ["abandoned", "published"]
