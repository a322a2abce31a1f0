"""Chains share the workers: one with a full queue keeps no other waiting, nor does one with a backfill.

On a service of real processes: web, scheduler, workers.

Small limits in CI; `FULL=1` takes those of the default configuration: ten at a time, a thousand queued.
"""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from tasks_service.database.engine import Database
from tasks_service.database.models import Attempt, Backfill, Run
from tasks_service.sample import write_files
from tests.acceptance.service import Answer, Api, Service
from tests.databases import Stage, connect
from tests.waiting import eventually

pytestmark = pytest.mark.enable_socket

FULL = bool(os.environ.get("FULL"))
RUNNING, QUEUED, WORKERS = (10, 1000, 12) if FULL else (2, 40, 3)
BUSY, OTHER, PAST = 1764, 2001, 2002
HOUR, SOON = timedelta(hours=1), timedelta(seconds=0.5)
PATIENCE = 900 if FULL else 60
TASK = {
    "target": {"action": "export", "export_index": "products", "export_format": "jsonl", "limit": 3},
    "trigger": {"once": "2020-01-01T00:00:00Z"},
}


@pytest.fixture(params=["sqlite", "postgresql"])
def service(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Service]:
    """A web server of two processes with these limits, and a scheduler; no worker yet."""
    write_files(tmp_path / "documents", {"products": 50}, until=datetime(2026, 11, 1, tzinfo=UTC))
    environment = {
        "TASKS_LIMITS__RUNNING_PER_CHAIN": str(RUNNING),
        "TASKS_LIMITS__QUEUED_PER_CHAIN": str(QUEUED),
        "TASKS_WEB__WORKERS": "2",
    }
    if request.param == "postgresql":
        environment["TASKS_DATABASE__URL"] = request.getfixturevalue("postgresql_database")()
    made = Service(tmp_path, environment)
    made.migrate()
    made.start("web")
    made.start("scheduler")
    try:
        made.ready()
        yield made
    finally:
        made.stop()


@pytest.fixture
def database(service: Service) -> Iterator[Database]:
    made = connect(service.environment["TASKS_DATABASE__URL"])
    yield made
    made.dispose()


def post(api: Api, chain: int) -> Answer:
    return api.request("POST", "/tasks", TASK | {"chain": chain})


def is_full(answer: Answer) -> bool:
    problem = answer.json
    assert answer.status == 429, answer.body
    assert problem["code"] == "too_many_requests"
    assert f"{QUEUED} runs of this chain are queued already" in problem["detail"]
    assert int(answer.headers["Retry-After"]) > 0
    return True


def fill(api: Api) -> None:
    """Fill the queue of the busy chain; for its last three places eight ask at the same moment."""
    first = post(api, BUSY)
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: post(api, BUSY).status, range(QUEUED - 4)))
    assert {first.status, *made} == {201}
    start = Barrier(8)

    def ask(number: int) -> Answer:
        start.wait(60)
        # A task whose run waits already is not executed twice, which may be said (409) before there is no room.
        return api.request("POST", f"/tasks/{first.json['id']}/execute") if number % 4 == 0 else post(api, BUSY)

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(ask, range(8)))
    refused = [answer for answer in answers if answer.status not in {201, 409}]
    assert all(map(is_full, refused))
    assert refused, "eight asked for three places"


def most_at_once(stage: Stage, chain: int) -> int:
    """How many attempts of a chain went at the same time, by when each began and ended."""
    runs = {run.id for run in stage.all(Run) if run.chain == chain}
    ends = [
        (at, step)
        for one in stage.all(Attempt)
        if one.run_id in runs and one.ended_at is not None
        for at, step in ((one.started_at, 1), (one.ended_at, -1))
    ]
    going = most = 0
    for _, step in sorted(ends):
        going += step
        most = max(most, going)
    return most


def begin_backfill(api: Api) -> int:
    """Ask for four past hours of a task of the third chain; return its task's id."""
    now = datetime.now(UTC).replace(minute=0, second=0, microsecond=0)
    task = api.create(TASK | {"chain": PAST, "trigger": {"cron": "30 * * * *", "timezone": "UTC"}})
    wanted = {"start": (now - 4 * HOUR).isoformat(), "end": now.isoformat(), "concurrency": 2}
    answer = api.request("POST", f"/tasks/{task['id']}/backfill", wanted)
    assert answer.status == 201, answer.body
    assert answer.json["progress"]["total"] == 4
    return int(task["id"])


def test_a_full_queue_says_so_and_keeps_no_other_chain_waiting(service: Service, database: Database) -> None:
    """One worker at first: the queues are long, the chains more than the workers, and yet all have their turns."""
    busy, other, stage = service.api(BUSY), service.api(OTHER), Stage(database)
    fill(busy)
    assert sum(run.state == "queued" for run in stage.all(Run)) == QUEUED
    assert is_full(post(busy, BUSY))
    past = begin_backfill(service.api(PAST))
    service.start("worker")
    eventually(lambda: len(stage.all(Attempt)) > 1, timeout=PATIENCE, what="the busy chain's exports go")
    due_at = (datetime.now(UTC) + SOON).isoformat()
    mine = other.create(TASK | {"chain": OTHER, "trigger": {"once": due_at}})  # the scheduler makes its run
    assert other.finished(mine["id"], timeout=PATIENCE)["state"]["code"] == "DONE"
    for _ in range(WORKERS - 1):
        service.start("worker")

    eventually(
        lambda: all(one.state == "done" for one in [*stage.all(Run), *stage.all(Backfill)]),
        timeout=PATIENCE,
        every=0.3,
        what="everything ends",
    )
    chain_of = {run.id: run.chain for run in stage.all(Run)}
    claims = [(one.started_at, chain_of[one.run_id]) for one in stage.all(Attempt)]
    [run] = [run for run in stage.all(Run) if run.task_id == mine["id"]]
    [at] = [at for at, chain in claims if chain == OTHER]
    before = [chain for began, chain in claims if run.created_at < began < at]
    assert max(Counter(before).values(), default=0) <= 1, "claims that went before the other chain's only run"
    last_past = max(at for at, chain in claims if chain == PAST)
    assert sum(run.task_id == past for run in stage.all(Run)) >= 4
    assert max(at, last_past) < max(at for at, chain in claims if chain == BUSY), "the busy chain was still waiting"
    # Whether the later workers come before the queue is empty is luck; that the cap is reached, the contract proves.
    assert 0 < most_at_once(stage, BUSY) <= RUNNING
    assert post(busy, BUSY).status == 201  # there is room again
