"""When a beater kills its worker, when it leaves it alone, and when it ends itself."""

from __future__ import annotations

import threading
from dataclasses import asdict
from typing import Any, cast

import pytest

from tasks_service.beater import BesideWorker, Watch
from tasks_service.beats import Hold, Standing
from tasks_service.config import WorkerSettings
from tasks_service.database.engine import Database
from tasks_service.errors import DatabaseUnavailableError

SETTINGS = WorkerSettings.model_validate({"lease_seconds": 60, "heartbeat_seconds": 10, "stall_timeout_seconds": 600})
HOLD = Hold("run", 1, {"run_id": 1, "task_id": 1, "lease_token": 1})


@pytest.mark.parametrize(("word", "reason"), [("cancel", "cancelled"), ("lost", "lost")])
def test_who_must_stop_and_does_not_look_for_a_lease_is_killed(word: Any, reason: str) -> None:
    watch = Watch(SETTINGS)
    hung = Standing(moved_at=0, looked_at=0)
    watch.hear("renewed")
    assert watch.verdict(hung, 90) is None
    watch.hear(word)
    assert watch.verdict(hung, 100) is None
    assert watch.verdict(hung, 160) is None
    assert watch.verdict(hung, 161) == reason


@pytest.mark.parametrize("word", ["cancel", "lost"])
def test_who_looks_again_knows_and_is_left_to_end_by_itself(word: Any) -> None:
    watch = Watch(SETTINGS)
    watch.hear(word)
    assert watch.verdict(Standing(moved_at=0, looked_at=0), 100) is None
    assert watch.verdict(Standing(moved_at=0, looked_at=101), 500) is None


def test_who_stalls_is_killed_a_lease_later_and_not_if_it_moves() -> None:
    watch = Watch(SETTINGS)
    assert watch.verdict(Standing(moved_at=0, looked_at=0), 600) is None
    assert watch.verdict(Standing(moved_at=0, looked_at=0), 601) is None
    assert watch.verdict(Standing(moved_at=650, looked_at=650), 670) is None
    assert watch.verdict(Standing(moved_at=650, looked_at=650), 1251) is None
    assert watch.verdict(Standing(moved_at=650, looked_at=650), 1312) == "stalled"


def test_who_is_stopped_with_its_beater_has_time_to_look_when_both_go_on() -> None:
    watch = Watch(SETTINGS)
    assert watch.verdict(Standing(moved_at=0, looked_at=0), 90_000) is None
    assert watch.verdict(Standing(moved_at=0, looked_at=0), 90_060) is None
    assert watch.verdict(Standing(moved_at=0, looked_at=0), 90_061) == "stalled"


def test_a_worker_whose_database_is_away_is_left_alone() -> None:
    """Its writes are fenced, and what it holds may be its own when the database is back."""
    assert Watch(SETTINGS).verdict(Standing(moved_at=400, looked_at=0), 500) is None


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class HangingDatabase:
    """A database over a connection that is open and dead."""

    def __init__(self) -> None:
        self.asked = threading.Event()
        self.released = threading.Event()

    def write(self) -> Any:
        self.asked.set()
        self.released.wait(30)
        raise DatabaseUnavailableError


def test_a_beater_whose_heartbeat_hangs_ends_to_be_replaced(monkeypatch: pytest.MonkeyPatch) -> None:
    database, clock = HangingDatabase(), Clock()
    settings = SETTINGS.model_copy(update={"heartbeat_seconds": 0.01})
    beside = BesideWorker(cast("Database", database), settings, lambda _: None, worker=0, clock=clock)
    codes: list[int] = []
    monkeypatch.setattr("tasks_service.beater.os._exit", codes.append)
    standing = Standing(moved_at=clock.now, looked_at=clock.now)
    beside.obey({"number": 1, "hold": asdict(HOLD), "standing": asdict(standing)})
    assert database.asked.wait(30)
    clock.now += 29
    beside.look()
    assert codes == []
    clock.now += 2
    beside.look()
    assert codes == [1]
    database.released.set()
    beside.obey({"number": 1, "hold": None, "standing": None})
