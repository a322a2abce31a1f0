"""Every loop of every process: it goes on after whatever it raises, and /healthz names it once it stands still.

Promise 19, on real processes. The loops are those that the processes themselves tell of: one that nobody spoilt here
fails the first test.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import urllib3

from tasks_service import metrics
from tests import measured
from tests.acceptance.service import Service, free_port
from tests.integration.faulty_loops import RAISED
from tests.waiting import eventually

BODIES = {
    ("scheduler", "scheduler"): "tasks_service.scheduler:Scheduler.tick",
    ("scheduler", "zones"): "tasks_service.zone_changes:follow_zones",
    ("scheduler", "rescuer"): "tasks_service.rescuer:rescue",
    ("scheduler", "presence"): "tasks_service.presence:Presence.say",
    ("worker", "worker"): "tasks_service.runner:Worker._turn",
    ("worker", "presence"): "tasks_service.presence:Presence.say",
    ("web", "presence"): "tasks_service.presence:Presence.say",
}
"""What each loop calls again and again."""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory, postgresql_database: Callable[[], str]) -> Service:
    directory = tmp_path_factory.mktemp("loops")
    (directory / "documents").mkdir()
    environment = {
        "TASKS_DATABASE__URL": postgresql_database(),
        "TASKS_EXECUTOR__KIND": "procrastinate",
        "TASKS_EXECUTOR__RESCUE_INTERVAL_SECONDS": "1",
        "TASKS_EXECUTOR__SAFETY_POLL_SECONDS": "1",
        "TASKS_WORKER__POLL_INTERVAL_SECONDS": "0.1",
        "TASKS_SCHEDULER__POLL_INTERVAL_SECONDS": "0.1",
        "TASKS_SERVICE__SECRET_KEY": "k" * 40,
        "TASKS_METRICS__ACCESS": "open",
        "TASKS_WEB__WORKERS": "1",
    }
    service = Service(directory, environment)
    service.migrate()
    return service


@dataclass
class Process:
    """One process of the service, spoilt or not, and what it says of itself."""

    running: subprocess.Popen[bytes]
    url: str
    log: Path

    def loops(self) -> dict[str, bool]:
        """What /healthz says of each loop; nothing where it does not answer."""
        try:
            answer = urllib3.request("GET", self.url + "/healthz", retries=False, timeout=5)
        except urllib3.exceptions.HTTPError:
            return {}  # not yet, or not any more
        said = json.loads(answer.data)
        found = {check["name"]: check["ok"] for check in said["checks"]}
        assert (answer.status == 200) == all(found.values()), said
        return {name: ok for name, ok in found.items() if name != "database"}

    def counted(self) -> measured.Counted:
        return measured.said(urllib3.request("GET", self.url + "/metrics", retries=False, timeout=30).data.decode())

    def logged(self, event: str) -> list[dict[str, Any]]:
        lines = [json.loads(line) for line in self.log.read_text().splitlines() if line.startswith("{")]
        return [line for line in lines if line["event"] == event]


@contextmanager
def running(service: Service, directory: Path, command: str, *spoilt: str) -> Generator[Process]:
    port, log = free_port(), directory / "process.log"
    module = ["tests.integration.faulty_loops", command, *spoilt] if spoilt else ["tasks_service", command]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", *module],
            cwd=service.directory,
            env=service.environment
            | {
                "TASKS_WEB__PORT" if command == "web" else "TASKS_VITALS__PORT": str(port),
                "TASKS_SERVICE__STATE_DIRECTORY": str(directory / "state"),
            },
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )
    try:
        yield Process(process, f"http://127.0.0.1:{port}", log)
    finally:
        process.kill()
        process.wait()


@pytest.mark.parametrize("command", ["scheduler", "worker", "web"])
def test_every_loop_goes_on_after_whatever_it_raises(service: Service, tmp_path: Path, command: str) -> None:
    bodies = {loop: body for (process, loop), body in BODIES.items() if process == command}
    with running(service, tmp_path, command, "raise", *bodies.values()) as process:
        eventually(
            lambda: process.loops().keys() == bodies.keys(), timeout=60, what="it says how each loop spoilt here is"
        )

        def turned_again() -> bool:
            counted = process.counted()
            return all(
                counted.of(metrics.LOOP_FAILURES, loop=loop) == RAISED
                and counted.of(metrics.LOOP_TURNS, loop=loop) > RAISED
                for loop in bodies
            )

        eventually(turned_again, timeout=60, what=f"each fails {RAISED} times and goes on")
        assert process.counted().of(metrics.PROCESSES, process=command) == 1
        failed = process.logged("loop.failed")
        assert sorted(line["loop"] for line in failed) == sorted([*bodies] * RAISED)
        assert all("a defect" in json.dumps(line) for line in failed)
        assert all(process.loops().values())
        assert process.running.poll() is None


@pytest.mark.parametrize(("command", "loop"), BODIES)
def test_a_loop_that_stands_still_is_named_and_its_process_ends(
    service: Service, tmp_path: Path, command: str, loop: str
) -> None:
    with running(service, tmp_path, command, "hang", BODIES[command, loop]) as process:

        def named() -> bool:
            return process.loops().get(loop) is False or process.running.poll() is not None

        eventually(named, timeout=60, every=0.02, what=f"{loop} is named")
        if loop == "presence":  # it is only shown: what it says of the process is late, and the process is well
            assert process.loops()["presence"] is False
            assert process.running.poll() is None
        else:
            assert process.running.wait(60) == 1
            assert process.logged("process.loop_dead")[0]["loops"] == [loop]
