"""A run in parts whose workers are killed, stopped, hang, are drained or cancelled: one whole file, or nothing is left.

The full stack with two workers, each brought into the middle of a part: the storage holds their uploads at its door
until the test has done its harm, or goes on to where a worker hangs by itself (hanging.py).
"""

from __future__ import annotations

import json
import os
import signal
import socket
import uuid
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from subprocess import Popen
from typing import Any

import pytest
import urllib3
from sqlmodel import select

from tasks_service.database.engine import Database
from tasks_service.database.part_models import Part, Plan
from tasks_service.sample import documents, load_elasticsearch
from tests.acceptance.conftest import CHAIN, UNTIL, full_environment
from tests.acceptance.service import Api, Service
from tests.databases import connect
from tests.servers.gcs import Gcs
from tests.servers.gcs_faults import Gate
from tests.waiting import eventually

pytestmark = pytest.mark.timeout(180)

ROWS = 4000
LEASE_SECONDS = 3
STALL_SECONDS = 2
FOR_EVER = 600
MARGIN_SECONDS = 10
"""For whoever takes over to look, on a machine that has other work; a lease is never waited for twice."""
SETTINGS = {
    "TASKS_EXECUTOR__KIND": "procrastinate",
    "TASKS_EXECUTOR__SAFETY_POLL_SECONDS": "1",
    "TASKS_WORKER__PART_ROWS": "150",
    "TASKS_WORKER__LEASE_SECONDS": str(LEASE_SECONDS),
    "TASKS_WORKER__HEARTBEAT_SECONDS": "0.5",
}


@dataclass
class Crew:
    """An installation whose workers the test starts one by one."""

    service: Service
    api: Api
    database: Database
    gcs: Gcs
    bucket: str
    expected: list[int]
    workers: list[Popen[bytes]] = field(default_factory=list)
    task_id: int = 0

    def export(self) -> None:
        target = {"action": "export", "export_index": "products", "export_format": "jsonl"}
        trigger = {"once": "2026-05-26T12:00:00Z"}
        self.task_id = self.api.create({"chain": CHAIN, "target": target, "trigger": trigger})["id"]

    def worker(self, **environment: str) -> Popen[bytes]:
        self.workers.append(self.service.start("worker", **environment))
        return self.workers[-1]

    def said(self, event: str) -> int:
        """How often that was logged."""
        return sum(line["event"] == event for line in self.service.events())

    def held_by(self, worker: Popen[bytes]) -> Part:
        """The part that a worker is at."""
        owner = f"{socket.gethostname()}:{worker.pid}"
        [part] = [part for part in self.plan()[1] if (part.state, part.lease_owner) == ("running", owner)]
        return part

    def taken_over(self, part: Part, *, within: float) -> None:
        """Wait for somebody else to take a part, and have it written once from then on."""

        def taken() -> bool:
            [found] = [one for one in self.plan()[1] if one.id == part.id]
            return found.lease_token == part.lease_token + 1 and found.lease_owner != part.lease_owner

        eventually(taken, timeout=within, what=f"part {part.number} is taken over")

    @contextmanager
    def two_in_mid_part(
        self, hang: tuple[str, int] | None = None, **environment: str
    ) -> Iterator[tuple[Popen[bytes], Popen[bytes], Gate]]:
        """Yield the worker whose run it is, at its third part, and one that helps, at its first; both held.

        `hang` is how the one that helps hangs, and for how many seconds, once it is let go on (hanging.py).
        """
        gate = self.gcs.faults.hold("upload.start", skip=2)
        try:
            owner = self.worker(**({} if hang else environment))
            self.export()
            assert gate.reached.wait(60), "the worker uploads its third part"
            helper = self.worker(**environment) if hang is None else self.hanging_worker(*hang, **environment)
            eventually(lambda: self.gcs.faults.count("upload.start") == 4, what="the helper uploads")
            yield owner, helper, gate
        finally:
            gate.release()

    def hanging_worker(self, how: str, seconds: int, **environment: str) -> Popen[bytes]:
        """Start a worker that hangs once, as soon as it has begun an upload."""
        arguments = ("upload.begun", how, str(seconds))
        self.workers.append(self.service.start(*arguments, module="tests.chaos.hanging", **environment))
        return self.workers[-1]

    def run(self) -> dict[str, Any]:
        [run] = self.api.request("GET", f"/tasks/{self.task_id}/runs").json["results"]
        return self.api.request("GET", f"/runs/{run['id']}").json

    def heard(self, *events: str) -> None:
        """Wait for one of these events of this task's run."""
        run_id = self.run()["id"]

        def said() -> bool:
            return any(line["event"] in events and line.get("run_id") == run_id for line in self.service.events())

        eventually(said, what=" or ".join(events))

    def plan(self) -> tuple[Plan, list[Part]]:
        with self.database.read() as session:
            [plan] = session.exec(select(Plan).where(Plan.run_id == self.run()["id"])).all()
            return plan, list(session.exec(select(Part).where(Part.plan_id == plan.id)).all())

    def objects(self) -> list[str]:
        listed = urllib3.request(
            "GET",
            f"{self.gcs.endpoint}/storage/v1/b/{self.bucket}/o",
            headers={"Authorization": "Bearer token-of-the-tests"},
        )
        return [item["name"] for item in listed.json().get("items", [])]

    def left(self) -> list[str]:
        """What lies in the bucket of this task; a worker that starts sweeps at once."""
        return [name for name in self.objects() if f"/{self.task_id}/" in name]

    def whole_file_once(self, *, outcomes: list[str]) -> None:
        assert self.api.finished(self.task_id)["state"]["code"] == "DONE"
        run = self.run()
        assert [attempt["outcome"] for attempt in run["attempts"]] == outcomes
        assert run["progress"]["started_over"] == 0
        _, file = self.api.download(self.task_id)
        assert sorted(json.loads(line)["id"] for line in file.body.splitlines()) == self.expected
        _, manifest = self.api.download(self.task_id, "manifest_url")
        [told] = manifest.json["files"]
        assert (len(told["parts"]), told["bytes"]) == (len(self.plan()[1]), len(file.body))
        assert self.view_is_closed()
        self.worker()
        eventually(lambda: len(self.left()) == 2, what="the parts are swept, and the file and its manifest are left")

    def view_is_closed(self) -> bool:
        url = json.loads(self.service.environment["TASKS_ELASTICSEARCH__URLS"])[0]
        body = {"pit": {"id": self.plan()[0].handle["pit_id"]}, "size": 0}
        return urllib3.request("POST", f"{url}/_search", json=body).status == 404


@pytest.fixture(scope="module")
def installation(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Crew]:
    """What the tests share: the web process, the database, the bucket."""
    gcs = request.getfixturevalue("gcs_front")
    prefix = f"divided-{uuid.uuid4().hex[:8]}-"
    load_elasticsearch(request.getfixturevalue("elasticsearch_url"), {"products": ROWS}, until=UNTIL, prefix=prefix)
    environment = full_environment(request, prefix) | SETTINGS
    with ExitStack() as cleanup:
        service = Service(tmp_path_factory.mktemp("divided"), environment)
        cleanup.callback(service.stop)
        service.migrate()
        service.start("web")
        service.ready()
        database = connect(environment["TASKS_DATABASE__URL"])
        cleanup.callback(database.dispose)
        expected = sorted(d["id"] for d in documents("products", ROWS, until=UNTIL) if d["chain_id"] == CHAIN)
        yield Crew(service, service.api(CHAIN), database, gcs, environment["TASKS_GCS__BUCKET"], expected)


@pytest.fixture
def crew(installation: Crew, gcs: Gcs) -> Iterator[Crew]:
    assert gcs is installation.gcs
    yield installation
    for worker in installation.workers:
        if worker.poll() is None:
            os.killpg(worker.pid, signal.SIGKILL)
        worker.wait(30)
    installation.workers.clear()


@pytest.mark.parametrize("victim", ["owner", "helper"])
def test_a_killed_worker_costs_the_part_it_was_at(crew: Crew, victim: str) -> None:
    with crew.two_in_mid_part() as (owner, helper, gate):
        killed = owner if victim == "owner" else helper
        part = crew.held_by(killed)
        os.killpg(killed.pid, signal.SIGKILL)
        gate.release()
        crew.taken_over(part, within=LEASE_SECONDS + MARGIN_SECONDS)
    crew.whole_file_once(outcomes=["abandoned", "published"] if victim == "owner" else ["published"])
    again, manifest = 1, 1
    assert crew.gcs.faults.count("upload.start") == len(crew.plan()[1]) + again + manifest


@pytest.mark.parametrize("victim", ["owner", "helper"])
def test_a_worker_that_comes_back_after_its_lease_changes_nothing(crew: Crew, victim: str) -> None:
    with crew.two_in_mid_part() as (owner, helper, gate):
        stopped = owner if victim == "owner" else helper
        part = crew.held_by(stopped)
        os.killpg(stopped.pid, signal.SIGSTOP)
        gate.release()
        crew.taken_over(part, within=LEASE_SECONDS + MARGIN_SECONDS)
        crew.whole_file_once(outcomes=["abandoned", "published"] if victim == "owner" else ["published"])
        before = crew.run(), crew.api.task(crew.task_id), crew.left()
        os.killpg(stopped.pid, signal.SIGCONT)
        crew.heard("run.lease_lost" if victim == "owner" else "part.lease_lost")
    assert (crew.run(), crew.api.task(crew.task_id)) == before[:2]
    eventually(lambda: crew.left() == before[2], what="what it wrote late is taken back")


@pytest.mark.parametrize("how", ["held", "blocked"])
def test_a_worker_that_hangs_in_a_part_loses_it_and_is_ended(crew: Crew, how: str) -> None:
    """Its beater lives on, and renews no more once there was no progress for the stall timeout."""
    stall = {"TASKS_WORKER__STALL_TIMEOUT_SECONDS": str(STALL_SECONDS)}
    with crew.two_in_mid_part((how, FOR_EVER), **stall) as (_, helper, gate):
        part, before = crew.held_by(helper), crew.said("test.hangs")
        gate.release()
        crew.taken_over(part, within=STALL_SECONDS + LEASE_SECONDS + MARGIN_SECONDS)
        assert crew.said("test.hangs") == before + 1
    assert helper.wait(LEASE_SECONDS + MARGIN_SECONDS) == -signal.SIGKILL
    killed = [line for line in crew.service.events() if line["event"] == "beater.worker_killed"][-1]
    assert (killed["reason"], killed["run_id"], killed["pid"]) == ("stalled", crew.run()["id"], helper.pid)
    crew.whole_file_once(outcomes=["published"])


def test_a_worker_whose_part_takes_longer_than_a_lease_keeps_it(crew: Crew) -> None:
    """Also where a call keeps the interpreter lock all the while."""
    with crew.two_in_mid_part(("held", 2 * LEASE_SECONDS + 1)) as (_, helper, gate):
        part, before = crew.held_by(helper), crew.said("test.hangs")
        gate.release()
        crew.whole_file_once(outcomes=["published"])
    assert crew.said("test.hangs") == before + 1
    [kept] = [one for one in crew.plan()[1] if one.id == part.id]
    assert (kept.lease_owner, kept.claims) == (part.lease_owner, 1)
    assert helper.poll() is None


def test_who_helps_is_listed_as_helping_with_that_run(crew: Crew) -> None:
    operator = crew.service.api(None)
    with crew.two_in_mid_part() as (owner, helper, _):
        run_id = crew.run()["id"]

        def listed() -> bool:
            rows = operator.request("GET", "/processes?limit=100").json["results"]
            doing = {row["pid"]: (row["state"], row["run"]) for row in rows}
            return (doing.get(owner.pid), doing.get(helper.pid)) == (("working", run_id), ("helping", run_id))

        eventually(listed, timeout=60, every=0.5, what="both say what they do")
    crew.whole_file_once(outcomes=["published"])


def test_a_drained_worker_leaves_the_parts_that_are_done(crew: Crew) -> None:
    with crew.two_in_mid_part(TASKS_WORKER__GRACE_SECONDS="0") as (owner, _, gate):
        before = crew.said("worker.draining")
        owner.send_signal(signal.SIGTERM)
        eventually(lambda: crew.said("worker.draining") > before, what="it drains")
        gate.release()
        assert owner.wait(60) == 0
    crew.whole_file_once(outcomes=["interrupted", "published"])
    again, manifest = 1, 1
    assert crew.gcs.faults.count("upload.start") == len(crew.plan()[1]) + again + manifest


def test_a_cancelled_run_leaves_nothing_on_any_machine(crew: Crew) -> None:
    with crew.two_in_mid_part() as (owner, helper, gate):
        answer = crew.api.request("POST", f"/runs/{crew.run()['id']}/cancel")
        assert answer.status in {200, 202}, answer.body
        crew.heard("lease.cancel_heard")
        gate.release()
        task = crew.api.finished(crew.task_id)
    assert (task["state"]["code"], task["state"]["reason"]) == ("ERROR", "cancelled")
    # The helper hears that its part is nobody's now, or that the view is closed, whichever comes first.
    crew.heard("part.lease_lost", "part.failed")
    assert [owner.poll(), helper.poll()] == [None, None]
    assert crew.view_is_closed()
    crew.worker()
    eventually(lambda: crew.left() == [], what="nothing is left")
