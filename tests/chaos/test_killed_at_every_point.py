"""kill -9 at every named fault point: one outcome, one published file, nothing left behind.

Each test brings a real process to its point, where it kills itself; then healthy ones go on, and judge.py reads the
database and the bucket. Which scene leads to a point is the table at the end: a point without one fails. The points of
pushes to customers' buckets are test_killed_in_mid_push.py's.
"""

from __future__ import annotations

import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import timedelta
from multiprocessing.context import ForkServerProcess
from pathlib import Path
from typing import Any, Self

import pytest
import urllib3
from sqlmodel import Session

from tasks_service.database import backfills, clients, runs, tasks
from tasks_service.fault_points import FAULT_POINTS
from tests import clockwork
from tests.acceptance.service import Api, free_port
from tests.chaos.inside import IDS, RUN, Gate, Place, Strike, write_documents
from tests.chaos.judge import Once, judge
from tests.chaos.ledger import Ledger, read
from tests.databases import NOW, Stage, url_of
from tests.waiting import eventually

# The processes are forked by a server that is spoken to over a Unix socket.
pytestmark = [pytest.mark.enable_socket, pytest.mark.timeout(180)]

SPEED = 40.0  # the lease is one real second
CHAIN = 1
TARGET = {"action": "export", "export_index": "products", "export_format": "jsonl"}
ONCE = Once("the task", CHAIN, NOW)
TRIGGER = {"once": f"{NOW:%Y-%m-%dT%H:%M:%SZ}"}
LONG_AFTER = timedelta(days=40)


@dataclass
class Scene:
    """An installation with one task, due now."""

    stage: Stage
    place: Place
    directory: Path
    outcome: str = "done"
    target: dict[str, Any] = field(default_factory=lambda: dict(TARGET))

    @property
    def gate(self) -> Gate:
        return Gate(self.directory)

    def task(self) -> int:
        """Store the task; a scheduler is still to make its run."""
        with self.stage.database.write() as session:
            task = tasks.create_task(
                session,
                now=NOW,
                principal=self.stage.principal(CHAIN),
                chain=CHAIN,
                desc=ONCE.key,
                target=self.target,
                trigger=TRIGGER,
                next_run_at=NOW,
            )
        assert task.id is not None
        return task.id

    def run(self) -> int:
        """Store the task and have its run made, by a scheduler that nothing happens to."""
        self.task()
        with self.started("scheduler") as scheduler:
            [run] = eventually(lambda: self.ledger().runs, what="the run is made")
            assert clockwork.end(scheduler.process) == 0
        return int(run["id"])

    def started(self, kind: str, strike: Strike | None = None, *, later_by: timedelta = timedelta(0)) -> Started:
        assert self.place.clock is not None
        clock = replace(self.place.clock, shown=self.place.clock.shown + later_by)
        return Started(clockwork.start(RUN[kind], replace(self.place, clock=clock), strike))

    def worked(self) -> None:
        """Have a worker publish that nothing happens to."""
        with self.started("worker"):
            eventually(lambda: self.ledger().runs[0]["state"] == "done", timeout=60, what="the run is done")

    def cancel(self, run_id: int) -> None:
        """Ask for it, as the API does."""
        with self.stage.database.write() as session:
            run = runs.get_run(session, run_id, chain=None, lock=True)
            assert run is not None
            assert runs.request_cancel(session, run, now=NOW)

    def ledger(self) -> Ledger:
        return read(self.place.url, self.directory / "exports")

    def finish(self) -> None:
        """Let healthy processes go on until the run has ended; sweep, and judge."""

        def ended() -> bool:
            states = [run["state"] for run in self.ledger().runs]
            assert states
            assert not {"queued", "running"} & {*states}, states
            return True

        with self.started("scheduler"), self.started("worker"):
            eventually(ended, timeout=60, what="the run ends")
        self.place.sweep(later_by=timedelta(hours=3))
        found = self.ledger()
        assert [run["state"] for run in found.runs] == [self.outcome]
        wrong = judge(found, [ONCE], IDS).wrong
        assert [line for line in wrong if self.outcome == "done" or f"ended {self.outcome}" not in line] == []


@dataclass
class Started:
    """A process, killed at the end at the latest."""

    process: ForkServerProcess

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.send(signal.SIGKILL)
        self.process.join(30)

    def send(self, number: signal.Signals) -> None:
        clockwork.send(self.process, number)

    def dies(self) -> None:
        """See it die where it was to."""
        self.process.join(60)
        assert self.process.exitcode == -signal.SIGKILL


@pytest.fixture
def scene(stage: Stage, tmp_path: Path) -> Scene:
    write_documents(tmp_path)
    url = url_of(stage.database)
    database = clockwork.fast(stage.database, url, shown=NOW, speed=SPEED)
    database.dispose()
    return Scene(stage, Place(url, database.clock, tmp_path, port=free_port()), tmp_path)


def dies(scene: Scene, kind: str, point: str) -> None:
    with scene.started(kind, Strike(point)) as victim:
        victim.dies()


def while_a_task_is_created(scene: Scene, point: str) -> None:
    """The client hears nothing, asks again with its key, and has one task."""
    database = scene.stage.database
    with database.write() as session:
        client = clients.create_client(session, now=NOW, name="partner", chain=CHAIN, scopes=clients.SCOPES)
        _, token = clients.create_token(session, now=NOW, client=client)
    api = Api(f"http://127.0.0.1:{scene.place.port}", token, urllib3.PoolManager(retries=False, timeout=10))
    body = {"chain": CHAIN, "desc": ONCE.key, "target": TARGET, "trigger": TRIGGER}

    def create() -> int:
        try:
            return api.request("POST", "/tasks", body, Idempotency_Key='"once"').status
        except urllib3.exceptions.HTTPError:
            return 0

    with scene.started("web", Strike(point)) as victim:
        eventually(lambda: create() == 0 and not victim.process.is_alive(), what="the server dies")
        victim.dies()
    with scene.started("web"):
        eventually(lambda: create() == 201, what="a 201")


def while_a_run_is_made(scene: Scene, point: str) -> None:
    scene.task()
    dies(scene, "scheduler", point)


def while_it_exports(scene: Scene, point: str) -> None:
    scene.run()
    dies(scene, "worker", point)


def while_it_takes_over(scene: Scene, point: str) -> None:
    scene.run()
    dies(scene, "worker", "claim.committed")
    dies(scene, "worker", point)


def while_it_beats(scene: Scene, point: str) -> None:
    """The export is held until the beat has come."""
    scene.run()
    with scene.started("worker", Strike(point, hold=("upload.begun", scene.gate))) as victim:
        victim.dies()


def while_it_hears_that_it_is_too_late(scene: Scene, point: str) -> None:
    """A worker is stopped beyond its lease, another publishes, and the first goes on."""
    scene.run()
    with scene.started("worker", Strike(point, hold=("upload.verified", scene.gate))) as victim:
        scene.gate.reached()
        stopped_outside_a_transaction(scene, victim)
        scene.worked()
        scene.gate.open()
        victim.send(signal.SIGCONT)
        victim.dies()


def stopped_outside_a_transaction(scene: Scene, victim: Started) -> None:
    """Stop a worker where it holds no lock: SQLite's one write lock would never be free again."""

    def stopped() -> bool:
        victim.send(signal.SIGSTOP)
        began = time.monotonic()
        try:
            scene.stage.write(lambda session: runs.lock_task(session, 1))
        finally:
            free = time.monotonic() - began < 1
            if not free:
                victim.send(signal.SIGCONT)
        return free

    eventually(stopped, what="the worker stands outside a transaction")


def while_a_failure_is_recorded(scene: Scene, point: str) -> None:
    """The index is away, which no attempt mends; where that was not stored, it is tried again and is back."""
    scene.run()
    documents = scene.directory / "documents"
    documents.rename(scene.directory / "away")
    dies(scene, "worker", point)
    (scene.directory / "away").rename(documents)
    scene.outcome = "failed" if point == "failure.committed" else "done"


def while_it_hands_back(scene: Scene, point: str) -> None:
    """It is asked to end in mid-export, and its grace is over."""
    scene.run()
    with scene.started("worker", Strike(point, hold=("upload.begun", scene.gate))) as victim:
        scene.gate.reached()
        victim.send(signal.SIGTERM)
        log = scene.directory / "service.log"
        eventually(lambda: "worker.draining" in log.read_text(), what="it drains")
        time.sleep(scene.place.settings().worker.grace_seconds)
        scene.gate.open()
        victim.dies()


def while_it_is_cancelled(scene: Scene, point: str) -> None:
    run_id = scene.run()
    with scene.started("worker", Strike(point, hold=("upload.begun", scene.gate))) as victim:
        scene.gate.reached()
        scene.cancel(run_id)
        log = scene.directory / "service.log"
        eventually(lambda: "lease.cancel_heard" in log.read_text(), what="it hears of it")
        scene.gate.open()
        victim.dies()
    scene.outcome = "cancelled"


def while_orphans_are_swept(scene: Scene, point: str) -> None:
    """A worker died with an object that is nobody's; the next one takes over, and sweeps."""
    scene.run()
    dies(scene, "worker", "upload.verified")
    scene.worked()
    dies(scene, "worker", point)


def while_expired_files_are_swept(scene: Scene, point: str) -> None:
    scene.run()
    scene.worked()
    with scene.started("worker", Strike(point), later_by=LONG_AFTER) as victim:
        victim.dies()
    scene.place.sweep(later_by=LONG_AFTER)
    assert scene.ledger().runs[0]["file_deleted_at"] is not None


SCENES: dict[str, Callable[[Scene, str], None]] = {
    "task.": while_a_task_is_created,
    "due.": while_a_run_is_made,
    "claim.abandoned": while_it_takes_over,
    "beat.": while_it_beats,
    "publish.refused": while_it_hears_that_it_is_too_late,
    "failure.": while_a_failure_is_recorded,
    "hand_back.": while_it_hands_back,
    "cancel.": while_it_is_cancelled,
    "sweep.": while_orphans_are_swept,
    "expiry.": while_expired_files_are_swept,
    "": while_it_exports,
}


@pytest.mark.parametrize("point", [point for point in FAULT_POINTS if not point.startswith(("backfill.", "push."))])
def test_killed_there_nothing_is_lost_and_nothing_is_doubled(scene: Scene, point: str) -> None:
    next(reach for start, reach in SCENES.items() if point.startswith(start))(scene, point)
    scene.finish()


@pytest.mark.parametrize("point", [point for point in FAULT_POINTS if point.startswith("backfill.")])
def test_killed_there_a_backfill_makes_each_of_its_runs_once(scene: Scene, point: str) -> None:
    days = [NOW - timedelta(days=days) for days in (3, 2, 1)]
    task = scene.stage.task(CHAIN, due_at=NOW + LONG_AFTER, cron="0 0 * * *")
    order = backfills.BackfillOrder(days[0], NOW, "none", 2, tuple(days), 0)

    def create(session: Session) -> None:
        held = tasks.get_task(session, task.id or 0, chain=None, lock=True)
        assert held is not None
        backfills.create_backfill(session, held, now=NOW, client_id=task.client_id, order=order)

    scene.stage.write(create)
    dies(scene, "scheduler", point)

    def ended() -> bool:
        with scene.stage.database.read() as session:
            [backfill] = backfills.list_backfills(session, task.id or 0, limit=10)[0]
        return backfill.state == "done"

    with scene.started("scheduler"), scene.started("worker"):
        eventually(ended, timeout=60, what="the backfill ends")
    found = scene.ledger()
    assert sorted(run["occurrence"] for run in found.runs) == days
    assert {run["state"] for run in found.runs} == {"done"}
    assert [attempt["outcome"] for attempt in found.attempts].count("published") == len(days)
