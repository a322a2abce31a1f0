"""The service's own processes, on a clock that runs fast, each in a process group that may strike itself down.

What lives here: what a forked process runs: the scheduler, the worker, the HTTP server of the product, put together by
app.py, with nothing replaced but the clock, and a thread where a worker has a beater. What does not: who starts and
kills them (driver.py, test_killed_at_every_point.py).
"""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

# Imported before the fork, so that a process begins its work within milliseconds.
import boto3  # noqa: F401
import duckdb  # noqa: F401
import time_machine

from tasks_service import metrics, sweeper, telemetry
from tasks_service.api import register  # noqa: F401
from tasks_service.app import Services, build, create_app
from tasks_service.cli import web_server
from tasks_service.config import Settings
from tasks_service.executors import procrastinate  # noqa: F401
from tasks_service.fault_points import strike_with
from tasks_service.loops import Loops
from tasks_service.rescuer import rescue
from tasks_service.runner import Worker
from tasks_service.scheduler import Scheduler
from tasks_service.sources import files  # noqa: F401
from tasks_service.storage import local  # noqa: F401
from tests.clockwork import Clock, FastDatabase, until_terminated
from tests.waiting import eventually

LEASE_SECONDS = 40.0
"""On the fast clock; two real seconds at the speed the driver runs it."""


IDS = {1: set(range(1000, 1040)), 2: set(range(2000, 2025))}
"""The ids of the documents of each chain."""


def write_documents(directory: Path, *, padding: int = 0) -> None:
    """Lay down the installation's one small index, its documents longer by so many characters."""
    folder = directory / "documents" / "products"
    folder.mkdir(parents=True)
    rows = [
        {"id": one, "chain_id": chain, "name": f"product {one}{'x' * padding}"}
        for chain, ids in IDS.items()
        for one in ids
    ]
    (folder / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


@dataclass(frozen=True)
class Place:
    """Where a process of the installation works.

    Attributes:
        url: the database, by the way this process reaches it.
        directory: of the installation: documents, exports, state, log.
        port: what a web process listens on.
        destinations: of the configuration.
        skew: how far the host's own clock is off.
    """

    url: str
    clock: Clock | None
    directory: Path
    port: int = 0
    destinations: dict[str, Any] = field(default_factory=dict[str, Any])
    skew: timedelta = timedelta(0)

    def settings(self) -> Settings:
        """The installation's settings: the defaults, but for what must be quick."""
        document: dict[str, Any] = {
            "service": {"state_directory": self.directory / "state", "log_format": "json"},
            "database": {"url": self.url, "pool_size": 5},
            "files": {"directory": self.directory / "documents", "threads": 2, "memory_limit": "512MB"},
            "local": {"directory": self.directory / "exports"},
            "scheduler": {"poll_interval_seconds": 0.1, "batch": 50, "catch_up_runs": 100_000},
            "worker": {
                "lease_seconds": LEASE_SECONDS,
                "heartbeat_seconds": 0.3,
                "poll_interval_seconds": 0.1,
                "grace_seconds": 2,
                "max_claims": 1000,
                "max_attempts": 1000,
            },
            "limits": {"queued_per_chain": 100_000},
            "destinations": self.destinations,
            "web": {"port": self.port, "workers": 1, "threads": 4, "graceful_timeout_seconds": 2},
        }
        if self.url.startswith("postgresql"):
            document["executor"] = {
                "kind": "procrastinate",
                "safety_poll_seconds": 1,
                "rescue_interval_seconds": 0.5,
            }
        return Settings.model_validate(document)

    def services(self) -> Services:
        """The services as a process builds them, under the fast clock."""
        services = build(self.settings())
        services.database.dispose()
        return replace(services, database=FastDatabase(self.url, self.clock))

    def sweep(self, *, later_by: timedelta) -> None:
        """Sweep as a worker does, so much later, until nothing is left to sweep."""
        assert self.clock is not None
        later = replace(self.clock, shown=self.clock.shown + later_by)
        services = replace(self, clock=later).services()
        eventually(
            lambda: sweeper.sweep(services.database, services.storage, services.destinations) == 0,
            timeout=120,
            what="nothing to sweep",
        )
        services.close()


@dataclass(frozen=True)
class Gate:
    """Where a process waits for its test; two files, so that it needs no connection of its own."""

    directory: Path

    def wait_here(self) -> None:
        (self.directory / "reached").touch()
        eventually((self.directory / "open").exists, what="the gate is opened")

    def reached(self) -> None:
        eventually((self.directory / "reached").exists, what="the gate is reached")

    def open(self) -> None:
        (self.directory / "open").touch()


@dataclass(frozen=True)
class Strike:
    """Kill the process group at a fault point, once it was passed so often.

    Attributes:
        hold: a point that is reached before, at which the process says so and waits until it may go on.
    """

    name: str
    skip: int = 0
    hold: tuple[str, Gate] | None = None

    def arm(self) -> None:
        """From now on."""
        left = self.skip

        def strike(name: str) -> None:
            nonlocal left
            if self.hold is not None and name == self.hold[0]:
                self.hold[1].wait_here()
            if name == self.name:
                left -= 1
                if left < 0:
                    os.killpg(0, signal.SIGKILL)

        strike_with(strike)


def run_scheduler(place: Place, strike: Strike | None = None) -> None:
    """A scheduler, until it is killed or terminated."""
    stop, services = until_terminated(), _begin("scheduler", place, strike)
    clock, loops = Scheduler(services.database, services.executor, services.settings), Loops()
    clock.start()
    if services.settings.executor.kind != "table":
        every = services.settings.executor.rescue_interval_seconds
        loops.start("rescuer", partial(rescue, services.database, services.executor, 10), every_seconds=every)
    while not stop.wait(0.5):
        if not clock.alive():
            os._exit(3)
    loops.stop()
    clock.stop()
    services.close()


def run_worker(place: Place, strike: Strike | None = None) -> None:
    """A worker, likewise."""
    stop, services = until_terminated(), _begin("worker", place, strike)
    Worker(services).run(stop)
    services.close()


def run_web(place: Place, strike: Strike | None = None) -> None:
    """An HTTP server: gunicorn's master, and one worker that it forks."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.setsid()
    _log("web", place)
    _skew_clock(place)
    _Web(place, strike).run()


RUN: dict[str, Callable[..., None]] = {"scheduler": run_scheduler, "worker": run_worker, "web": run_web}


class _Web(web_server._Server):
    def __init__(self, place: Place, strike: Strike | None) -> None:
        self._place, self._strike = place, strike
        super().__init__(place.settings(), supervised=False)

    def load(self) -> Callable[..., Any]:
        if self._strike is not None:
            self._strike.arm()
        return create_app(self._place.services())


def _begin(kind: str, place: Place, strike: Strike | None) -> Services:
    os.setsid()
    _log(kind, place)
    _skew_clock(place)
    services = place.services()
    metrics.begin(services.settings.service.state_directory, kind)
    if strike is not None:
        strike.arm()
    return services


def _skew_clock(place: Place) -> None:
    """Put this process on a host whose clock is off; the database's is not."""
    time_machine.travel(datetime.now(UTC) + place.skew, tick=True).start()


def _log(kind: str, place: Place) -> None:
    """Write the log of all processes to one file: each line is one write."""
    log = os.open(place.directory / "service.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.dup2(log, 1)
    os.dup2(log, 2)
    sys.argv = ["tasks-service"]
    telemetry.configure(log_format="json", level="info", process=kind)
