"""`make bench`: how fast what is due is fired, and what it costs to wait, beside APScheduler's own stores in one run.

    python -m bench.scheduling [--herd 10000] [--late 1000] [--stored 100000] [--databases sqlite,postgresql]

A herd of cron tasks is due at once: the seconds until the last has its run and its next time, beside APScheduler's
SQLAlchemyJobStore with as many jobs on the same database. Then many moments come at once while both wait for them: how
late each fires, beside APScheduler's in-memory store; ours is the commit that workers see, theirs the call of the
function. At last a scheduler process waits with very many cron tasks stored: the share of a core it uses.
"""

from __future__ import annotations

import argparse
import os
import pickle
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeAlias

from apscheduler.jobstores.memory import MemoryJobStore
from apscheduler.jobstores.sqlalchemy import SQLAlchemyJobStore
from apscheduler.schedulers.background import BackgroundScheduler
from apscheduler.triggers.cron import CronTrigger
from apscheduler.triggers.date import DateTrigger
from sqlalchemy import event, insert, select
from sqlmodel import Session, SQLModel

from bench.fired import FIRED
from tasks_service import telemetry, zones
from tasks_service.config import Settings
from tasks_service.database import schema, zone_rules
from tasks_service.database.engine import Database
from tasks_service.executors.table import TableExecutor
from tasks_service.scheduler import Scheduler
from tests.acceptance.service import Service, free_port
from tests.databases import Stage, connect, url_of
from tests.servers import keeper
from tests.servers.parts import UnavailableError
from tests.servers.postgresql import create_database

CHAINS = 100  # a chain queues a thousand runs at most
ROUNDS = 5
HERDS = 3
LEAD = timedelta(seconds=4)
IDLE_SECONDS = 30.0
PATIENCE_SECONDS = 900.0
JOB = "bench.fired:note"
Untyped: TypeAlias = Any  # APScheduler has no types


class Committed(TableExecutor):
    """Notes when each run was there for workers to see."""

    def __init__(self) -> None:
        super().__init__()
        self.times: list[float] = []

    def offer(self, session: Session, run_id: int, *, at: datetime | None = None) -> None:
        offered = session.info.setdefault("bench.offered", [])
        if not offered:
            event.listen(session, "after_commit", lambda _: self.times.extend([time.time()] * len(offered)))
        offered.append(run_id)
        super().offer(session, run_id, at=at)


def store(stage: Stage, count: int, *, due: datetime, **trigger: str) -> None:
    """Store so many tasks of many chains, all due at one moment."""
    model = stage.task(due_at=due, at=datetime.now(UTC), **trigger)
    table = SQLModel.metadata.tables["task"]
    with stage.database.write() as session:
        row = dict(session.connection().execute(select(table).where(table.c.id == model.id)).mappings().one())
        del row["id"]
        row["zone_rules"] = zone_rules.holding(session, [model.trigger], now=due).mark_of(model.trigger)  # as the API
        rows = [{**row, "chain": 1 + number % CHAINS} for number in range(count - 1)]
        session.connection().execute(insert(table), rows)


@contextmanager
def ours(database: Database) -> Iterator[list[float]]:
    executor = Committed()
    scheduler = Scheduler(database, executor, Settings())
    scheduler.start()
    try:
        yield executor.times
    finally:
        scheduler.stop()


@contextmanager
def theirs(jobstore: Untyped) -> Iterator[BackgroundScheduler]:
    """APScheduler, paused: what it has is stored, and nothing fires before it is resumed."""
    FIRED.clear()
    scheduler = BackgroundScheduler(
        jobstores={"default": jobstore}, timezone=UTC, job_defaults={"misfire_grace_time": None}
    )
    scheduler.start(paused=True)
    try:
        yield scheduler
    finally:
        scheduler.shutdown()


def wait_for(count: int, times: list[float]) -> None:
    until = time.monotonic() + PATIENCE_SECONDS
    while len(times) < count:
        if time.monotonic() > until:
            raise SystemExit(f"{len(times)} of {count} fired within {PATIENCE_SECONDS:.0f} s")
        time.sleep(0.01)


def herd(kind: str, database: Database, count: int) -> float:
    """Return how many times faster ours fires a herd than APScheduler's own store: medians of rounds in turns."""
    found: tuple[list[float], list[float]] = ([], [])
    for _ in range(HERDS):
        found[0].append(_our_herd(database, count))
        found[1].append(_their_herd(database, count))
        _empty(database)
    ours_took, theirs_took = (statistics.median(seconds) for seconds in found)
    ratio = theirs_took / ours_took
    print(
        f"{count:,} due at once, {kind}: {ours_took:.2f} s ({count / ours_took:,.0f}/s); "
        f"APScheduler's SQLAlchemyJobStore {theirs_took:.1f} s ({count / theirs_took:,.0f}/s); {ratio:.0f} times",
        flush=True,
    )
    return ratio


def _our_herd(database: Database, count: int) -> float:
    if datetime.now(UTC).second > 50:  # before the next minute comes, which would be due, too
        time.sleep(11)
    store(Stage(database), count, due=datetime.now(UTC) - timedelta(seconds=1))
    began = time.time()
    with ours(database) as times:
        wait_for(count, times)
    return times[count - 1] - began


def _their_herd(database: Database, count: int) -> float:
    jobstore = SQLAlchemyJobStore(url=url_of(database), tablename="bench_jobs")
    with theirs(jobstore) as scheduler:
        _store_jobs(scheduler, jobstore, count)
        began = time.time()
        scheduler.resume()
        wait_for(count, FIRED)
        return FIRED[count - 1] - began


def _store_jobs(scheduler: BackgroundScheduler, jobstore: SQLAlchemyJobStore, count: int) -> None:
    """Put many due jobs into its table in one statement; add_job would take a transaction for each."""
    scheduler.remove_all_jobs()
    model = scheduler.add_job(JOB, CronTrigger(minute="*", timezone=UTC), id="0")
    due = datetime.now(UTC) - timedelta(seconds=1)
    rows: list[dict[str, Any]] = []
    for number in range(count):
        state = {**model.__getstate__(), "id": str(number), "next_run_time": due}
        blob = pickle.dumps(state, pickle.HIGHEST_PROTOCOL)
        rows.append({"id": str(number), "next_run_time": due.timestamp(), "job_state": blob})
    with jobstore.engine.begin() as connection:
        connection.execute(jobstore.jobs_t.delete())
        connection.execute(jobstore.jobs_t.insert(), rows)


def lateness(kind: str, database: Database, count: int) -> float:
    """Return APScheduler's median lateness over ours."""
    late: tuple[list[float], list[float]] = ([], [])
    for _ in range(ROUNDS):  # in turns: neighbours in time bear the same load of the machine
        moment = datetime.now(UTC).replace(microsecond=0) + LEAD
        store(Stage(database), count, due=moment, once=moment.isoformat(), timezone="UTC")
        with ours(database) as times:
            wait_for(count, times)
        late[0].extend(one - moment.timestamp() for one in times)
        with theirs(MemoryJobStore()) as scheduler:
            moment = datetime.now(UTC).replace(microsecond=0) + LEAD
            for _ in range(count):
                scheduler.add_job(JOB, DateTrigger(moment))
            scheduler.resume()
            wait_for(count, FIRED)
            late[1].extend(one - moment.timestamp() for one in FIRED)
        _empty(database)
    medians = [statistics.median(found) for found in late]
    shown = [f"median {statistics.median(found) * 1000:.0f} ms, p99 {_p99(found) * 1000:.0f} ms" for found in late]
    print(f"{count:,} moments at once, {kind}: {shown[0]}; APScheduler's in-memory store: {shown[1]}", flush=True)
    return medians[1] / medians[0]


def _p99(found: list[float]) -> float:
    return sorted(found)[int(len(found) * 0.99) - 1]


def _empty(database: Database) -> None:
    with database.write() as session:
        for table in reversed(SQLModel.metadata.sorted_tables):
            session.connection().execute(table.delete())


def idle(kind: str, database: Database, count: int) -> float:
    """Return 1 % of a core over what an idle scheduler uses: the whole process, as it is run."""
    store(Stage(database), count, due=datetime.now(UTC) + timedelta(days=1))
    executor = "procrastinate" if kind == "postgresql" else "table"
    with tempfile.TemporaryDirectory() as directory:
        environment = {"TASKS_DATABASE__URL": url_of(database), "TASKS_EXECUTOR__KIND": executor}
        service = Service(Path(directory), environment | {"TASKS_VITALS__PORT": str(free_port())})
        process = service.start("scheduler")
        try:
            time.sleep(5)  # until it has started, and looked once at everything
            cpu, began = cpu_seconds(process.pid), time.monotonic()
            time.sleep(IDLE_SECONDS)
            share = (cpu_seconds(process.pid) - cpu) / (time.monotonic() - began)
            assert process.poll() is None
        finally:
            service.stop()
    print(f"{count:,} cron tasks stored, {kind}: an idle scheduler process uses {share:.2%} of a core", flush=True)
    return 0.01 / share


def cpu_seconds(pid: int) -> float:
    """Return the processor's time that a process has used, of its own and of the kernel for it (proc(5), stat)."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def sqlite() -> Iterator[Callable[[], Database]]:
    with tempfile.TemporaryDirectory() as directory:
        yield lambda: connect(f"sqlite:///{Path(directory) / str(time.time_ns())}.db")


@contextmanager
def postgresql() -> Iterator[Callable[[], Database]]:
    with keeper.leading():
        port = int(keeper.attach("tests.servers.postgresql:SERVER")["port"])
        yield lambda: connect(create_database(port, f"bench_{time.time_ns()}"))


DATABASES = {"sqlite": sqlite, "postgresql": postgresql}


def main(given: list[str] | None = None) -> dict[str, float]:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--herd", type=int, default=10_000)
    parser.add_argument("--late", type=int, default=1_000)
    parser.add_argument("--stored", type=int, default=100_000)
    parser.add_argument("--databases", default=",".join(DATABASES))
    chosen = parser.parse_args(given)
    # A line for each run would be measured too, and on one side alone: APScheduler has no handler here.
    telemetry.configure(log_format="json", level="WARNING", process="bench")
    zones.pin()  # as the processes of the service do: tasks are marked with the rules they go by
    found: dict[str, float] = {}
    for kind in chosen.databases.split(","):
        try:
            with DATABASES[kind]() as make:
                for name, measure, count in (
                    ("claim", herd, chosen.herd),
                    ("lateness", lateness, chosen.late),
                    ("idle", idle, chosen.stored),
                ):
                    if count:
                        database = make()
                        schema.upgrade(database)
                        found[f"scheduling.{name}.{kind}"] = measure(kind, database, count)
                        database.dispose()
        except UnavailableError as error:
            print(f"{kind}: {error}")
    return found


if __name__ == "__main__":
    main()
