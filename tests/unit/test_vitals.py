"""The loops of a process and what it tells of them: a pulse that stops is seen, an exception ends no loop."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable, Iterator

import pytest

from tasks_service.loops import Loops, attempted
from tasks_service.vitals import health
from tests.waiting import eventually


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def loops() -> Iterator[Loops]:
    made = Loops(Clock())
    yield made
    made.stop()


def test_a_loop_is_dead_when_it_has_not_ticked_for_three_intervals(loops: Loops) -> None:
    clock: Clock = loops._clock  # type: ignore[assignment]
    loop = loops.add("worker", 10)
    clock.now += 29
    assert loops.state() == {"worker": True}
    loop.tick()
    clock.now += 29
    assert loops.state() == {"worker": True}
    clock.now += 1
    assert loops.state() == {"worker": False}
    loop.tick(within_seconds=100)
    clock.now += 99
    assert loops.state() == {"worker": True}
    clock.now += 1
    assert loops.state() == {"worker": False}


def test_health_is_503_once_a_loop_is_dead_and_says_which(loops: Loops) -> None:
    clock: Clock = loops._clock  # type: ignore[assignment]
    loops.add("worker", 10)
    loops.ask("scheduler", lambda: True)
    assert health(loops).status == 200
    clock.now += 30
    answer = health(loops)
    assert answer.status == 503
    document = json.loads(answer.body)
    assert document["status"] == "failing"
    assert {check["name"]: check["ok"] for check in document["checks"]} == {"worker": False, "scheduler": True}


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit, MemoryError])
def test_a_loop_goes_on_after_whatever_it_raises(loops: Loops, error: type[BaseException]) -> None:
    turns, again = [], threading.Event()

    def body() -> None:
        turns.append(threading.current_thread())
        if len(turns) == 1:
            raise error
        again.set()

    loops.start("registry", body, every_seconds=0.001)
    assert again.wait(30)
    assert turns[0] is turns[1]
    loops.stop()
    eventually(lambda: not turns[0].is_alive())


def test_a_turn_that_raises_gives_nothing() -> None:
    assert attempted("worker", lambda: 1 // 0) is None
    assert attempted("worker", lambda: True) is True


def test_a_process_whose_loop_is_dead_ends_by_itself(loops: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks_service.loops._WATCH_SECONDS", 0.001)
    ended: list[int] = []
    clock: Clock = loops._clock  # type: ignore[assignment]
    loops.add("worker", 10)
    watched = watch_of(lambda: loops.end_process_when_dead(ended.append))
    assert ended == []
    clock.now += 30
    eventually(lambda: not watched.is_alive())
    assert ended == [1]


def test_a_loop_that_ends_no_process_is_shown_as_dead_alone(loops: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks_service.loops._WATCH_SECONDS", 0.001)
    ended: list[int] = []
    clock: Clock = loops._clock  # type: ignore[assignment]
    looked, hangs = threading.Event(), threading.Event()
    loops.start("presence", hangs.wait, every_seconds=1, ends_process=False)
    clock.now += 60
    loops.ask("other", lambda: looked.set() is None)
    watched = watch_of(lambda: loops.end_process_when_dead(ended.append))
    assert looked.wait(30)
    assert health(loops).status == 503
    assert loops.state() == {"presence": False, "other": True}
    loops.stop()
    hangs.set()
    eventually(lambda: not watched.is_alive())
    assert ended == []


def test_a_loop_that_is_late_once_does_not_end_its_process(loops: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    """A process that was stopped, or held by a call, finds its loops late when it goes on; they turn at once then."""
    monkeypatch.setattr("tasks_service.loops._WATCH_SECONDS", 0.001)
    ended: list[int] = []
    looks = iter([False, True, False, True])
    done = threading.Event()

    def alive() -> bool:
        try:
            return next(looks)
        except StopIteration:
            done.set()
            return True

    loops.ask("worker", alive)
    watched = watch_of(lambda: loops.end_process_when_dead(ended.append))
    eventually(lambda: done.is_set() or not watched.is_alive())
    loops.stop()
    eventually(lambda: not watched.is_alive())
    assert ended == []


def test_a_process_that_stops_is_not_ended_by_its_watch(loops: Loops, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tasks_service.loops._WATCH_SECONDS", 0.001)
    ended: list[int] = []
    loops.add("worker", 10)
    watched = watch_of(lambda: loops.end_process_when_dead(ended.append))
    loops.stop()
    loops._clock.now += 30  # type: ignore[attr-defined]
    eventually(lambda: not watched.is_alive())
    assert ended == []


def watch_of(start: Callable[[], None]) -> threading.Thread:
    before = set(threading.enumerate())
    start()
    [thread] = set(threading.enumerate()) - before
    return thread
