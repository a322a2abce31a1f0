"""Several schedulers and workers as real processes on one database: each occurrence one run, each run one claim."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from threading import Barrier

import pytest
from sqlalchemy import insert

from tasks_service.database import due
from tasks_service.database.models import Attempt, Run, Task
from tests import clockwork
from tests.databases import CRON, MINUTE, NOW, Stage, url_of
from tests.waiting import eventually

# The processes are forked by a server that is spoken to over a Unix socket.
pytestmark = pytest.mark.enable_socket

TARGET = {"action": "export", "export_index": "products", "export_format": "csv"}


def many_tasks(stage: Stage, count: int, *, chains: int, due_at: datetime, **trigger: object) -> None:
    clients = {chain: stage.principal(chain).client_id for chain in range(1, chains + 1)}
    rows = [
        {
            "chain": number % chains + 1,
            "client_id": clients[number % chains + 1],
            "target": TARGET,
            "trigger": CRON | trigger,
            "export_index": "products",
            "version": 1,
            "revision": 1,
            "state": "READY",
            "next_run_at": due_at,
            "created_at": NOW,
            "modified_at": NOW,
        }
        for number in range(count)
    ]
    stage.write(lambda session: session.connection().execute(insert(Task), rows))


def test_six_schedulers_make_one_run_for_each_of_a_thousand_due_tasks(stage: Stage) -> None:
    with stage.database.read() as session:
        now = stage.database.now(session)
    # Due an hour ago, and once a day: nothing else comes due meanwhile.
    due_at = (now - timedelta(hours=1)).replace(minute=0, second=0, microsecond=0)
    many_tasks(stage, 1000, chains=20, due_at=due_at, cron=f"0 {due_at.hour} * * *")
    url = url_of(stage.database)

    def all_claimed() -> bool:
        earliest = stage.write(due.earliest_due)
        return earliest is not None and earliest > now

    with clockwork.running(*[(clockwork.run_scheduler, (url, None))] * 6) as schedulers:
        eventually(all_claimed, timeout=120, what="every task to be claimed")
        assert [clockwork.end(scheduler) for scheduler in schedulers] == [0] * 6
    runs = stage.all(Run)
    assert Counter(run.task_id for run in runs) == Counter(dict.fromkeys(range(1, 1001), 1))
    assert {run.occurrence for run in runs} == {due_at}
    assert {task.next_run_at for task in stage.all(Task)} == {due_at + timedelta(days=1)}


def test_six_workers_claim_each_of_many_runs_once_and_no_chain_exceeds_its_cap(stage: Stage) -> None:
    with stage.database.read() as session:
        now = stage.database.now(session)
    many_tasks(stage, 120, chains=4, due_at=now - MINUTE, overlap="allow", cron="0 0 1 1 *")
    stage.due(now, batch=120)
    url = url_of(stage.database)
    most_at_once: Counter[int] = Counter()

    def all_done() -> bool:
        runs = stage.all(Run)
        for chain, running in Counter(run.chain for run in runs if run.state == "running").items():
            most_at_once[chain] = max(most_at_once[chain], running)
        return all(run.state == "done" for run in runs)

    with clockwork.running(*[(clockwork.run_worker, (url, None, 600, 2))] * 6):
        eventually(all_done, timeout=120, what="every run to be done")
    attempts = stage.all(Attempt)
    assert Counter(attempt.run_id for attempt in attempts) == Counter(dict.fromkeys(range(1, 121), 1))
    assert {attempt.outcome for attempt in attempts} == {"published"}
    assert len({attempt.worker for attempt in attempts}) > 1
    assert set(most_at_once.values()) <= {1, 2}


def test_workers_that_claim_at_the_same_moment_keep_to_the_cap(stage: Stage) -> None:
    with stage.database.read() as session:
        now = stage.database.now(session)
    many_tasks(stage, 40, chains=2, due_at=now - MINUTE, overlap="allow", cron="0 0 1 1 *")
    stage.due(now)
    start = Barrier(8)

    def claim(_: int) -> int | None:
        start.wait(60)
        claimed = stage.claim(now, cap=3)
        return None if claimed is None else claimed.run_id

    for _ in range(3):
        with ThreadPoolExecutor(8) as pool:
            claimed = [run_id for run_id in pool.map(claim, range(8)) if run_id is not None]
        running = Counter(run.chain for run in stage.all(Run) if run.state == "running")
        assert running == {1: 3, 2: 3}
        assert len(set(claimed)) == len(claimed) in {6, 0}


def test_two_schedulers_and_two_workers_run_each_minute_of_twenty_tasks_once(stage: Stage) -> None:
    """Ten minutes pass in twenty seconds. However late a busy machine makes a look, `run_all` misses nothing."""
    many_tasks(stage, 20, chains=3, due_at=NOW + MINUTE, misfire="run_all", overlap="buffer_all")
    url = url_of(stage.database)
    database = clockwork.fast(stage.database, url, shown=NOW, speed=30)
    last = NOW + 10 * MINUTE

    def settled() -> bool:
        states = Counter(run.state for run in stage.all(Run) if run.occurrence <= last)
        return states == {"done": 200}

    with clockwork.running(
        *[(clockwork.run_scheduler, (url, database.clock))] * 2,
        *[(clockwork.run_worker, (url, database.clock, 600, 10))] * 2,
    ):
        eventually(settled, timeout=120, every=0.3, what="ten minutes of every task to be done")
    expected = {(task, NOW + MINUTE * number) for task in range(1, 21) for number in range(1, 11)}
    ran = Counter((run.task_id, run.occurrence) for run in stage.all(Run) if run.occurrence <= last)
    assert ran == Counter(dict.fromkeys(expected, 1))
    published = Counter(one.run_id for one in stage.all(Attempt) if one.outcome == "published")
    assert set(published.values()) == {1}
    database.dispose()
