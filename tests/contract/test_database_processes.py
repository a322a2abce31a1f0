"""Who is there, on both databases: said again and again, read by operators, forgotten in the end."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from tasks_service.database import processes
from tasks_service.database.models import Process
from tasks_service.database.processes import Identity
from tasks_service.loops import Loops
from tasks_service.presence import Presence
from tests.databases import NOW, Stage
from tests.waiting import eventually

WORKER = Identity("host:7", "worker", "host", 7, "1.0")


def test_a_process_is_one_row_however_often_it_says_so(stage: Stage) -> None:
    later = NOW + timedelta(seconds=10)
    stage.write(lambda s: processes.seen(s, WORKER, now=NOW, state="idle"))
    stage.write(lambda s: processes.seen(s, WORKER, now=later, state="working", run_id=3))
    [row] = stage.all(Process)
    assert (row.name, row.kind, row.host, row.pid, row.version) == ("host:7", "worker", "host", 7, "1.0")
    assert (row.started_at, row.seen_at, row.state, row.run_id) == (NOW, later, "working", 3)
    stage.write(lambda s: processes.gone(s, WORKER))
    assert stage.all(Process) == []


def test_one_is_late_after_half_a_minute_and_forgotten_after_a_day(stage: Stage) -> None:
    stage.write(lambda s: processes.seen(s, WORKER, now=NOW, state="idle"))
    [row] = stage.all(Process)
    assert not processes.is_late(row, now=NOW + timedelta(seconds=30))
    assert processes.is_late(row, now=NOW + timedelta(seconds=31))
    stage.write(lambda s: processes.forget(s, now=NOW + timedelta(days=1)))
    assert len(stage.all(Process)) == 1
    stage.write(lambda s: processes.forget(s, now=NOW + timedelta(days=1, seconds=1)))
    assert stage.all(Process) == []


@pytest.mark.parametrize("limit", [1, 2])
def test_pages_have_the_ones_started_last_first(stage: Stage, limit: int) -> None:
    for pid in range(3):
        who = replace(WORKER, name=f"host:{pid}", pid=pid)
        stage.write(lambda s, who=who: processes.seen(s, who, now=NOW, state="idle"))
    found, more = stage.write(lambda s: processes.list_processes(s, limit=limit))
    assert ([row.pid for row in found], more) == ([2, 1][:limit], True)
    rest, more = stage.write(lambda s: processes.list_processes(s, limit=5, after=found[-1].id))
    assert ([row.pid for row in rest], more) == ([1, 0][limit - 1 :], False)


def test_a_process_says_that_it_is_there_until_it_ends(stage: Stage) -> None:
    presence, loops = Presence(stage.database, "worker", lambda: ("working", 5)), Loops()
    # What one of the same name left, as a container does that is started again.
    stage.write(lambda s: processes.seen(s, presence.identity, now=NOW - timedelta(hours=3), state="draining"))
    presence.begin(loops)
    try:
        eventually(lambda: [row.state for row in stage.all(Process)] == ["working"], what="it is seen")
        [row] = stage.all(Process)
        assert row.run_id == 5
        assert row.started_at == row.seen_at > NOW - timedelta(hours=3)
        presence.end()
        presence.say()
        assert stage.all(Process) == []
    finally:
        loops.stop()
