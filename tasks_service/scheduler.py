"""The clock: APScheduler over the task table. Due occurrences become runs, and workers are woken.

What lives here: an APScheduler job store that reads the task table, and the supervised process part around
it. What does not: what is due (schedule.py) and the transaction that makes the runs (database/due.py),
which may be tested without APScheduler. Called by cli/ (the scheduler process). Any number may run, on any
hosts.

APScheduler's loop holds one thread, and an exception out of a store's methods ends that thread silently,
except out of `get_due_jobs`; so none of them raises. It sleeps until the store's next run time and sees no
other process's inserts before; so that time is never further away than the poll interval. It removes a job
from its store once it has no next time; so each job here has one, in the year 9999, and `update_job` and
`remove_job` do nothing. Its locks and its clock are this process's alone; so nothing is decided by them.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from datetime import UTC, datetime, timedelta
from time import monotonic
from typing import Any, TypeAlias, cast

import structlog
from apscheduler import job as jobs  # pyright: ignore[reportMissingTypeStubs]
from apscheduler.executors import base as executors  # pyright: ignore[reportMissingTypeStubs]
from apscheduler.jobstores import base as jobstores  # pyright: ignore[reportMissingTypeStubs]
from apscheduler.schedulers.background import BackgroundScheduler  # pyright: ignore[reportMissingTypeStubs]
from apscheduler.triggers import base as triggers  # pyright: ignore[reportMissingTypeStubs]
from sqlmodel import Session

from tasks_service import metrics
from tasks_service.config import Settings
from tasks_service.database import backfills, due
from tasks_service.database.due import DueRun
from tasks_service.database.engine import Database
from tasks_service.errors import TransientError
from tasks_service.executors import Executor
from tasks_service.fault_points import fault_point
from tasks_service.loops import LONGEST_LOOK_SECONDS, MISSED_INTERVALS
from tasks_service.schedule import Limits, Planner

log = structlog.stdlib.get_logger(__name__)

# APScheduler has no types: at this edge its classes are Any.
Untyped: TypeAlias = Any
_JobStore: Untyped = cast("Any", jobstores.BaseJobStore)
_Trigger: Untyped = cast("Any", triggers.BaseTrigger)
_Executor: Untyped = cast("Any", executors.BaseExecutor)
_Job: Untyped = cast("Any", jobs.Job)
_run_job: Untyped = cast("Any", executors).run_job

_NEVER = datetime(9999, 1, 1, tzinfo=UTC)
# One pass claims for so long, then lets APScheduler go round: a very large herd of due tasks comes in several passes.
_LONGEST_PASS_SECONDS = 5.0
# What is due but was not to be had (another scheduler is at it) is looked at again after so long.
_SHORTEST_WAIT_SECONDS = 0.05


class Scheduler:
    """Turns due occurrences into runs until it is stopped.

    Attributes:
        last_tick: `time.monotonic()` of the last look at the task table, whether or not the database
        answered.
    """

    def __init__(self, database: Database, executor: Executor, settings: Settings) -> None:
        """Take what it works on; nothing starts before `start`."""
        self._database = database
        self._executor = executor
        self._batch = settings.scheduler.batch
        self._poll_seconds = settings.scheduler.poll_interval_seconds
        self._limits = settings.limits
        self._planner = Planner(Limits.of(settings.scheduler))
        self._stopping = threading.Event()
        self._clock: _Clock | None = None
        self._supervisor: threading.Thread | None = None
        self.last_tick = monotonic()

    def start(self) -> None:
        """Start the clock and its supervisor; return at once."""
        logging.getLogger("apscheduler").setLevel(logging.WARNING)  # it would log each pass three times
        self._stopping.clear()
        self.last_tick = monotonic()
        self._clock = _Clock(self.tick, self._fire, self._delay)
        self._supervisor = threading.Thread(target=self._supervise, name="scheduler-supervisor", daemon=True)
        self._supervisor.start()
        log.info("scheduler.started", poll_interval_seconds=self._poll_seconds)

    def stop(self, timeout_seconds: float = 30.0) -> None:
        """Stop for good; a pass that goes is finished.

        Or abandoned after the timeout (its transaction is undone).
        """
        self._stopping.set()
        if self._supervisor is None or self._clock is None:
            return
        self._supervisor.join(timeout_seconds)
        self._clock.stop(timeout_seconds)
        self._supervisor = self._clock = None
        log.info("scheduler.stopped")

    def alive(self) -> bool:
        """Tell whether occurrences are being looked for; False for good means that the process should end."""
        interval = max(self._poll_seconds, LONGEST_LOOK_SECONDS)
        supervised = self._supervisor is not None and self._supervisor.is_alive()
        return supervised and monotonic() - self.last_tick < MISSED_INTERVALS * interval

    def tick(self) -> list[DueRun]:
        """Look once: give what is due its outcomes; return the runs that were made.

        Raises:
            DatabaseUnavailableError: the database did not answer; what was made before is committed and
            offered.
        """
        until = monotonic() + _LONGEST_PASS_SECONDS
        with self._database.read() as session:
            seconds = self._seconds_until_due(session)
            wanting = backfills.wanting(session)
        made: list[DueRun] = []
        if seconds is not None and seconds <= 0:
            # One plans while the server carries out what another has planned; SQLite has one writer.
            both = self._database.dialect == "postgresql"
            made = self._claim_with_another(until) if both else self._claim(until, (0, 1))
        self._advance_backfills(wanting, until)
        return made

    def _claim_with_another(self, until: float) -> list[DueRun]:
        """Claim over two connections at once; what the other claimer meets is raised here."""
        other: Future[list[DueRun]] = Future()

        def claim() -> None:
            try:
                other.set_result(self._claim(until, (1, 2)))
            except BaseException as error:  # noqa: BLE001 -- raised where the result is asked for
                other.set_exception(error)

        # A daemon: a process that ends does not wait for a database that hangs.
        threading.Thread(target=claim, name="scheduler-claim", daemon=True).start()
        return self._claim(until, (0, 2)) + other.result()

    def _claim(self, until: float, share: tuple[int, int]) -> list[DueRun]:
        """Claim a share of what is due, batch after batch."""
        made: list[DueRun] = []
        while True:
            with self._database.write() as session:
                batch = due.claim_due(
                    session,
                    now=self._database.now(session),
                    batch=self._batch,
                    planner=self._planner,
                    queued_per_chain=self._limits.queued_per_chain,
                    offer=self._executor.offer,
                    share=share,
                )
            if batch:
                fault_point("due.committed")
            made += batch
            if not batch or monotonic() > until or self._stopping.is_set():
                return made

    def _advance_backfills(self, wanting: Sequence[tuple[int, int]], until: float) -> None:
        """Make the runs of backfills that there is room for now, each backfill in a transaction of its own.

        Where one found no room, the younger ones of its chain are not tried in this pass.
        """
        full: set[int] = set()
        for backfill_id, chain in wanting:
            if chain in full:
                continue
            with self._database.write() as session:
                made = backfills.advance(
                    session,
                    backfill_id,
                    now=self._database.now(session),
                    running_per_chain=self._limits.running_per_chain,
                    queued_per_chain=self._limits.queued_per_chain,
                    offer=self._executor.offer,
                )
            fault_point("backfill.committed")
            if made:
                log.info("backfill.advanced", backfill_id=backfill_id, chain=chain, runs=made)
            else:
                full.add(chain)
            if monotonic() > until or self._stopping.is_set():
                return

    def _fire(self, made: list[DueRun]) -> None:
        """Say that runs were made; APScheduler calls this for each pass. Workers were woken by the commits."""
        for run in made:
            lateness = round((run.made_at - run.occurrence).total_seconds(), 3)
            log.info("run.due", run_id=run.run_id, task_id=run.task_id, chain=run.chain, lateness_seconds=lateness)

    def _delay(self) -> float:
        """Return the seconds until the next look.

        When the next task is due, and never later than the next poll.
        """
        with self._database.read() as session:
            seconds = self._seconds_until_due(session)
        if seconds is None:
            return self._poll_seconds
        return min(max(seconds, _SHORTEST_WAIT_SECONDS), self._poll_seconds)

    def _seconds_until_due(self, session: Session) -> float | None:
        """Return when the next task is due, by the database's clock; None where none is scheduled."""
        earliest = due.earliest_due(session)
        return None if earliest is None else (earliest - self._database.now(session)).total_seconds()

    def _supervise(self) -> None:
        """Start the clock again whenever its thread has ended."""
        while not self._stopping.wait(self._poll_seconds):
            try:
                self._look_after_the_clock()
            except Exception:
                log.exception("scheduler.supervisor_failed")

    def _look_after_the_clock(self) -> None:
        if self._clock is None or self._clock.is_alive():
            if self._clock is not None:
                self.last_tick = max(self.last_tick, self._clock.store.last_tick)
            return
        log.error("scheduler.thread_died")
        self._clock = _Clock(self.tick, self._fire, self._delay)


class _Clock:
    """One APScheduler with one thread over one store."""

    def __init__(
        self, tick: Callable[[], list[DueRun]], fire: Callable[[list[DueRun]], None], delay: Callable[[], float]
    ) -> None:
        self.store = TaskJobStore(tick, fire, delay)
        self._scheduler: Any = BackgroundScheduler(
            timezone=UTC,
            jobstores={"default": self.store},
            executors={"default": _Inline()},
            daemon=True,
        )
        self._scheduler.start()

    def is_alive(self) -> bool:
        """Tell whether the thread lives; APScheduler's own `running` says yes though it has died."""
        return bool(self._scheduler._thread.is_alive())  # noqa: SLF001 -- nothing public tells

    def stop(self, timeout_seconds: float) -> None:
        """Stop without waiting for ever: `shutdown` itself waits for a pass that may hang in the database."""
        self.store.retired = True
        stopper = threading.Thread(target=self._scheduler.shutdown, name="scheduler-shutdown", daemon=True)
        stopper.start()
        stopper.join(timeout_seconds)


class _Once(_Trigger):
    """A trigger whose one time has come; the next is in the year 9999."""

    def get_next_fire_time(self, previous_fire_time: datetime | None, now: datetime) -> datetime:  # noqa: ARG002
        """Return a time that never comes: without one, the loop would remove the job."""
        return _NEVER


class _Inline(_Executor):
    """Runs a job where it is submitted: it only says that runs were made, workers do the work.

    The library's DebugExecutor counts instances down before up, and so keeps an entry for every job there
    ever was.
    """

    def submit_job(self, job: Untyped, run_times: list[datetime]) -> None:
        """Run the job and dispatch its events."""
        for one in _run_job(job, "default", run_times, "apscheduler.executors.default"):
            self._scheduler._dispatch_event(one)  # noqa: SLF001 -- as the library's own executors do

    def _do_submit_job(self, job: Untyped, run_times: list[datetime]) -> None:
        """Do nothing: `submit_job` has run the job itself."""


class TaskJobStore(_JobStore):
    """The task table as APScheduler's job store; a job is what one look made, all its runs. No method raises.

    Attributes:
        last_tick: `time.monotonic()` of the last look.
        retired: set when its scheduler is stopped, which goes round once more after that.
    """

    def __init__(
        self, tick: Callable[[], list[DueRun]], fire: Callable[[list[DueRun]], None], delay: Callable[[], float]
    ) -> None:
        super().__init__()  # pyright: ignore[reportUnknownMemberType] -- the base class is untyped
        self._tick, self._fire, self._delay = tick, fire, delay
        self.last_tick = monotonic()
        self.retired = False

    def get_due_jobs(self, now: datetime) -> list[Any]:
        """Claim what is due; one job for all runs made.

        An unavailable database is looked at again next time.
        """
        if self.retired:
            return []
        metrics.LOOP_TURNS.count(loop="scheduler")
        try:
            made = self._tick()
        except TransientError as error:
            metrics.TICKS.count(outcome="failed")
            log.warning("scheduler.tick_failed", code=error.code, detail=error.detail)
            return []
        except Exception:  # whatever it was, the clock goes on
            metrics.TICKS.count(outcome="failed")
            metrics.LOOP_FAILURES.count(loop="scheduler")
            log.exception("loop.failed", loop="scheduler")
            return []
        else:
            metrics.TICKS.count(outcome="ok")
            return [self._job(made, now)] if made else []
        finally:
            self.last_tick = monotonic()

    def get_next_run_time(self) -> datetime:
        """Return when to look again, by APScheduler's own clock.

        Host clocks may differ from the database's.
        """
        try:
            seconds = self._delay()
        except Exception as error:  # noqa: BLE001 -- an exception here would end the thread
            log.warning("scheduler.tick_failed", error=type(error).__name__, detail=str(error))
            seconds = 1.0
        return datetime.now(UTC) + timedelta(seconds=seconds)

    def _job(self, made: list[DueRun], now: datetime) -> Untyped:
        """Make APScheduler's view of runs: from columns, without pickle.

        Its id is that of the first of them, so none blocks another.
        """
        job: Untyped = _Job.__new__(_Job)
        job._scheduler, job._jobstore_alias = self._scheduler, self._alias  # noqa: SLF001 -- as every store does
        job.id = job.name = str(made[0].run_id)
        job.func, job.func_ref, job.args, job.kwargs = self._fire, None, (made,), {}
        job.executor, job.trigger, job.next_run_time = "default", _Once(), now
        # Misfire and overlap were decided when the runs were made.
        job.misfire_grace_time, job.coalesce, job.max_instances = None, True, 1
        return job

    def update_job(self, job: Untyped) -> None:
        """Do nothing: the runs are in the table."""

    def remove_job(self, job_id: str) -> None:
        """Do nothing: the runs are in the table."""

    def remove_all_jobs(self) -> None:
        """Do nothing: tasks are removed through the API."""

    def lookup_job(self, job_id: str) -> Untyped | None:  # noqa: ARG002 -- the base class's
        """Find nothing: a job lives for one pass."""
        return None

    def get_all_jobs(self) -> list[Any]:
        """List nothing: tasks are listed by the API."""
        return []

    def add_job(self, job: Untyped) -> None:
        """Refuse quietly: tasks enter through the API's own transaction."""
        log.error("scheduler.job_refused", job=str(job.id))
