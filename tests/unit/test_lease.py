"""A lease that cannot be renewed, or an attempt that does not move, ends by itself: clocks are injected."""

from __future__ import annotations

import threading
from datetime import UTC, datetime
from functools import partial
from typing import Any, cast

import pytest

from tasks_service import metrics
from tasks_service.beats import Beating, hold_run
from tasks_service.config import WorkerSettings
from tasks_service.database.claims import Claim
from tasks_service.database.engine import Database
from tasks_service.errors import DatabaseUnavailableError, Interrupted, LeaseLost
from tasks_service.lease import Drain, Lease, StalledError
from tasks_service.progress import Progress
from tests.measured import moving
from tests.waiting import eventually

CLAIM = Claim(1, 1, 1764, "schedule", datetime(2026, 1, 1, tzinfo=UTC), {}, 1, 0, 1, "worker", "client")
SETTINGS = WorkerSettings.model_validate(
    {"lease_seconds": 60, "heartbeat_seconds": 0.01, "stall_timeout_seconds": 600, "grace_seconds": 25}
)


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class AwayDatabase:
    """A database that does not answer, and says when it was asked."""

    def __init__(self) -> None:
        self.asked = threading.Event()

    def write(self) -> Any:
        self.asked.set()
        raise DatabaseUnavailableError


def lease(clock: Clock, drain: Drain | None = None, database: AwayDatabase | None = None) -> Lease:
    beater = partial(Beating, cast("Database", database or AwayDatabase()), SETTINGS, clock=clock)
    return Lease(hold_run(CLAIM), SETTINGS, drain or Drain(), beater, clock=clock)


def test_an_unrenewed_lease_is_given_up_before_another_worker_may_take_it() -> None:
    clock, database = Clock(), AwayDatabase()
    with moving() as moved, lease(clock, database=database) as held:
        clock.now += 59
        assert database.asked.wait(30)
        eventually(lambda: moved.of(metrics.BEATS, outcome="failed") >= 1, what="the failed heartbeat is counted")
        held.report(Progress(rows=1))
        clock.now += 2
        with pytest.raises(LeaseLost):
            held.report(Progress(rows=2))


def test_no_progress_for_the_stall_timeout_ends_the_attempt() -> None:
    clock = Clock()
    held = lease(clock)
    held._renewed_at = float("inf")
    for rows in range(5):
        clock.now += 599
        held.report(Progress(rows=rows))
    clock.now += 601
    with pytest.raises(StalledError):
        held.report(Progress(rows=4))


def test_a_draining_worker_has_its_grace() -> None:
    clock, drain = Clock(), Drain()
    held = lease(clock, drain)
    drain.since = clock.now
    clock.now += 24
    held.report(Progress(rows=1))
    clock.now += 2
    with pytest.raises(Interrupted):
        held.report(Progress(rows=2))
