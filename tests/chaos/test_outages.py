"""A server that everything needs is away for a while: no process ends, no file is doubled, and work goes on at once.

The real stack, each server behind a proxy; PostgreSQL is crashed, too, and has every connection ended again
and again. Some outages of seconds are tried here; with ``FULL=1`` all, for the minute of the promise.
"""

from __future__ import annotations

import json
import os
import uuid
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Event
from time import monotonic
from typing import Any

import pytest
from sqlalchemy import make_url, text
from sqlmodel import col, select
from urllib3.util import parse_url

from tasks_service.database.engine import Database
from tasks_service.database.models import Attempt, Run
from tasks_service.sample import load_elasticsearch
from tests.acceptance.conftest import CHAIN, UNTIL, full_environment
from tests.acceptance.service import Service
from tests.databases import connect
from tests.servers.postgresql import Crashing, crashing, create_database
from tests.servers.tcp_proxy import TcpProxy
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(400)

FULL = bool(os.environ.get("FULL"))
OUTAGE_SECONDS = 60 if FULL else 4
BACK_WITHIN_SECONDS = 10
BEFORE_SECONDS = 6 if FULL else 2
DONE_WITHIN_SECONDS = 180
HARM: dict[str, Callable[[TcpProxy], None]] = {"refuses": TcpProxy.refuse, "is silent": TcpProxy.swallow}
EVERY = [
    *((lost, how, "procrastinate") for lost in ("database", "elasticsearch", "storage") for how in HARM),
    *(("database", how, "procrastinate") for how in ("crashes", "ends every connection")),
    *(("database", how, "table") for how in HARM),
]
CASES = (
    EVERY
    if FULL
    else [
        ("database", "is silent", "table"),
        ("database", "crashes", "procrastinate"),
        ("database", "ends every connection", "procrastinate"),
        ("elasticsearch", "refuses", "procrastinate"),
        ("storage", "refuses", "table"),
    ]
)
NEVER = ("elasticsearch", "never answers", "table")
IMPATIENT = {
    "TASKS_ELASTICSEARCH__REQUEST_TIMEOUT_SECONDS": "600",
    "TASKS_WORKER__STALL_TIMEOUT_SECONDS": "2",
    "TASKS_WORKER__LEASE_SECONDS": "3",
    "TASKS_WORKER__HEARTBEAT_SECONDS": "0.5",
}
END_CONNECTIONS = text(
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity "
    "WHERE datname = current_database() AND pid <> pg_backend_pid()"
)


@dataclass
class Stack:
    service: Service
    proxies: dict[str, TcpProxy]
    database: Database
    cluster: Crashing | None

    def runs(self) -> list[Run]:
        with self.database.read() as session:
            return list(session.exec(select(Run)).all())

    def attempts(self) -> list[Attempt]:
        with self.database.read() as session:
            return list(session.exec(select(Attempt).order_by(col(Attempt.id))).all())

    def published(self) -> list[int]:
        return [attempt.run_id for attempt in self.attempts() if attempt.outcome == "published"]


@pytest.fixture
def stack(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Stack]:
    _, how, executor = request.node.callspec.params["case"]
    prefix = f"outages-{uuid.uuid4().hex[:8]}-"
    load_elasticsearch(request.getfixturevalue("elasticsearch_url"), {"products": 500}, until=UNTIL, prefix=prefix)
    environment = full_environment(request, prefix)
    with ExitStack() as cleanup:
        cluster = None
        if how == "crashes":
            cluster = cleanup.enter_context(crashing())
            environment["TASKS_DATABASE__URL"] = create_database(cluster.port, "tasks")
        url = make_url(environment["TASKS_DATABASE__URL"])
        addresses = {
            "database": (str(url.host), url.port or 5432),
            "elasticsearch": _address(json.loads(environment["TASKS_ELASTICSEARCH__URLS"])[0]),
            "storage": _address(environment["TASKS_GCS__ENDPOINT"]),
        }
        proxies = {name: cleanup.enter_context(TcpProxy(*address)) for name, address in addresses.items()}
        behind = url.set(host="127.0.0.1", port=proxies["database"].port)
        service = Service(
            tmp_path,
            environment
            | {
                "TASKS_DATABASE__URL": behind.render_as_string(hide_password=False),
                "TASKS_ELASTICSEARCH__URLS": json.dumps([f"http://127.0.0.1:{proxies['elasticsearch'].port}"]),
                "TASKS_GCS__ENDPOINT": f"http://127.0.0.1:{proxies['storage'].port}",
                "TASKS_EXECUTOR__KIND": executor,
            }
            | (IMPATIENT if how == "never answers" else {}),
        )
        cleanup.callback(service.stop)
        service.migrate()
        for kind in ("web", "scheduler", "worker", "worker"):
            service.start(kind)
        service.ready()
        database = connect(url.render_as_string(hide_password=False))
        cleanup.callback(database.dispose)
        yield Stack(service, proxies, database, cluster)


def _address(url: str) -> tuple[str, int]:
    parsed = parse_url(url)
    assert parsed.host is not None
    assert parsed.port is not None
    return parsed.host, parsed.port


def outage(stack: Stack, lost: str, how: str) -> None:
    """Let a server be away for so long; it is back when this returns."""
    proxy = stack.proxies[lost]
    stack.database.dispose()  # our own connections would be lost, too
    if how == "crashes":
        assert stack.cluster is not None
        stack.cluster.crash()
        Event().wait(OUTAGE_SECONDS)
        stack.cluster.restart()
    elif how == "ends every connection":
        until = monotonic() + OUTAGE_SECONDS
        while monotonic() < until:
            with stack.database.write() as session:
                session.connection().execute(END_CONNECTIONS)
            Event().wait(0.1)
    else:
        HARM[how](proxy)
        Event().wait(OUTAGE_SECONDS)
        proxy.heal(reset_lost=True)


@pytest.mark.parametrize("case", CASES, ids=" ".join)
def test_work_goes_on_once_a_server_is_back(stack: Stack, case: tuple[str, str, str]) -> None:
    lost, how, _ = case
    api = stack.service.api(CHAIN)
    started = datetime.now(UTC).replace(microsecond=0) + timedelta(seconds=3)
    due = [started + timedelta(seconds=second) for second in range(0, BEFORE_SECONDS + OUTAGE_SECONDS, 2)]
    for instant in due:
        api.create(_task(instant))
    eventually(stack.published, what="the first is published")
    outage(stack, lost, how)
    back = monotonic()
    published = len(stack.published())

    def all_done() -> bool:
        states = [(run.state, run.reason, run.attempts) for run in stack.runs()]
        assert len(states) == len(due), f"{len(states)} of {len(due)} runs made"
        left = [one for one in states if one[0] != "done"]
        assert left == []
        return True

    eventually(
        lambda: len(stack.published()) > published, timeout=BACK_WITHIN_SECONDS, what="work goes on after the return"
    )
    seconds = monotonic() - back
    eventually(all_done, timeout=DONE_WITHIN_SECONDS, every=0.2, what="every run is done")
    print(f"{lost} {how}, {OUTAGE_SECONDS} s: back after {seconds:.1f} s")  # noqa: T201 -- for the log of CI
    assert [process.poll() for process in stack.service.processes] == [None] * 4
    assert sorted(stack.published()) == sorted(run.id or 0 for run in stack.runs())


@pytest.mark.parametrize("case", [NEVER], ids=" ".join)
def test_a_source_that_never_answers_costs_the_attempt_and_its_worker_and_not_the_run(
    stack: Stack, case: tuple[str, str, str]
) -> None:
    """A worker that waits for an answer cannot look up: its lease is renewed no more, and its beater ends it."""
    proxy = stack.proxies[case[0]]
    stack.service.api(CHAIN).create(_task(datetime.now(UTC) + timedelta(seconds=4)))
    proxy.swallow()
    eventually(lambda: [one.outcome for one in stack.attempts()][:1] == ["abandoned"], what="another takes the run")
    proxy.heal(reset_lost=True)
    eventually(lambda: [run.state for run in stack.runs()] == ["done"], timeout=60, what="the run is done")
    assert len(stack.published()) == 1
    assert stack.attempts()[0].worker != stack.attempts()[-1].worker


def _task(due: datetime) -> dict[str, Any]:
    target = {"action": "export", "export_index": "products", "export_format": "csv"}
    return {"chain": CHAIN, "target": target, "trigger": {"once": f"{due:%Y-%m-%dT%H:%M:%SZ}"}}
