"""The executor for many machines: wake-ups travel by Procrastinate, over the PostgreSQL that holds the run table.

A message is deferred in the transaction that queues its run, so neither is ever without the other. Its payload is the
run's id; its queueing lock too, so that a run has at most one message waiting. It is a wake-up and nothing more: the
worker it wakes claims the fairest run, then the next, until there is nothing to claim, and only then is the message
finished and deleted. The engine retries nothing; leases and fencing are the run table's. How a worker listens is
procrastinate_listener.py, the engine's tables are procrastinate_schema.py. Built by app.py.
"""

from __future__ import annotations

import random
import threading
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any, cast

import psycopg
import structlog
from procrastinate import SyncPsycopgConnector, exceptions, sql
from procrastinate.jobs import Job
from procrastinate.manager import JobManager
from sqlalchemy import event
from sqlmodel import Session

from tasks_service.executors.procrastinate_listener import QUEUE, STALLED_SECONDS, TASK, Listener
from tasks_service.executors.procrastinate_schema import NAMESPACE, SEARCH_PATH_FIRST

log = structlog.stdlib.get_logger(__name__)

_PENDING = f"SELECT queueing_lock FROM {NAMESPACE}.procrastinate_jobs WHERE status = 'todo' AND queueing_lock = ANY(%s)"  # noqa: S608 -- a constant
_CLEARED_AT_ONCE = 100


class ProcrastinateExecutor:
    """Wakes workers on any host by messages; listens only in a process that waits."""

    def __init__(self, connection: Mapping[str, Any]) -> None:
        """Take psycopg's connection parameters. Connects to nothing before the first `wait`."""
        self._connection = connection
        # Never opened: each offer goes over the connection of its own session.
        self._connector = SyncPsycopgConnector()
        self._manager = JobManager(self._connector)
        self._lock = threading.Lock()
        self._listener: Listener | None = None
        self._stopped = False

    def offer(self, session: Session, run_id: int, *, at: datetime | None = None) -> None:
        """Defer a message when the session's transaction commits: all of a transaction in one statement."""
        if self not in session.info:
            session.info[self] = {}
            event.listen(session, "before_commit", self._defer)
        session.info[self][run_id] = at

    def wait(self, timeout_seconds: float) -> None:
        """Finish the message that woke this worker, and return when the next one comes, or about the timeout.

        The first call begins to listen. Waits of many workers are spread over the half of the timeout.
        """
        with self._lock:
            if self._stopped:
                return
            if self._listener is not None and not self._listener.alive():
                log.error("executor.listener_died")
                self._listener = None
            if self._listener is None:
                self._listener = Listener(self._connection)
        self._listener.wait(timeout_seconds * random.uniform(0.5, 1.0))  # noqa: S311 -- spreads load, guards nothing

    def stop(self) -> None:
        """End every wait, now and for good."""
        with self._lock:
            self._stopped = True
        if self._listener is not None:
            self._listener.stop()

    def close(self) -> None:
        """Stop listening; pass on the message that woke this worker if it left before there was nothing to claim."""
        self.stop()
        if self._listener is not None:
            self._listener.close()

    def rescue(self, session: Session, run_ids: Sequence[int]) -> int:
        """Offer the runs again that no message waits for; delete what dead workers had in hand."""
        connection = _connection(session)
        self._clear(connection)
        if not run_ids:
            return 0
        rows = connection.execute(_PENDING, [[str(run_id) for run_id in run_ids]]).fetchall()
        waiting = {int(row[0]) for row in rows}
        missing = [run_id for run_id in run_ids if run_id not in waiting]
        for run_id in missing:
            self.offer(session, run_id)
        return len(missing)

    def _defer(self, session: Session) -> None:
        if session.in_nested_transaction():
            return  # a savepoint ends, not the transaction
        offers: dict[int, datetime | None] = session.info.pop(self, {})
        if not offers:
            return
        connection = _connection(session)
        jobs = [
            Job(
                queue=QUEUE,
                lock=None,
                queueing_lock=str(run_id),
                task_name=TASK,
                task_kwargs={"run_id": run_id},
                scheduled_at=at,
            )
            for run_id, at in offers.items()
        ]
        try:
            connection.execute(SEARCH_PATH_FIRST)
            if not self._deferred(connection, jobs):
                for job in jobs:
                    self._deferred(connection, [job])
        except (exceptions.ConnectorException, psycopg.Error) as error:
            # The runs are queued all the same: the rescuer offers them. A broken connection fails the commit itself.
            log.warning("executor.offer_failed", runs=len(offers), error=type(error.__cause__ or error).__name__)

    def _deferred(self, connection: psycopg.Connection[Any], jobs: list[Job]) -> bool:
        """Defer them all, or none where a message of one of them waits already."""
        try:
            with connection.transaction():  # a savepoint: a conflict must not undo the transaction that queues runs
                self._manager.batch_defer_jobs(jobs, connection=connection)
        except exceptions.AlreadyEnqueued:
            return False
        return True

    def _clear(self, connection: psycopg.Connection[Any]) -> None:
        """Delete the messages that dead workers had in hand, some at a time, and the workers' own rows."""
        ask = self._connector.execute_query_all_with_connection
        try:
            with connection.transaction():
                connection.execute(SEARCH_PATH_FIRST)
                stalled = ask(
                    connection,
                    sql.queries["select_stalled_jobs_by_heartbeat"],
                    queue=QUEUE,
                    task_name=TASK,
                    seconds_since_heartbeat=STALLED_SECONDS,
                )
                for row in stalled[:_CLEARED_AT_ONCE]:
                    ask(connection, sql.queries["finish_job"], job_id=row["id"], status="failed", delete_job=True)
                if len(stalled) <= _CLEARED_AT_ONCE:
                    ask(connection, sql.queries["prune_stalled_workers"], seconds_since_heartbeat=STALLED_SECONDS)
        except (exceptions.ConnectorException, psycopg.Error) as error:
            # A worker that was thought dead has just finished its message: another time.
            log.info("executor.clearing_failed", error=type(error.__cause__ or error).__name__)
        else:
            if stalled:
                log.info("executor.cleared", messages=len(stalled[:_CLEARED_AT_ONCE]))


def _connection(session: Session) -> psycopg.Connection[Any]:
    connection = session.connection().connection.driver_connection
    if not isinstance(connection, psycopg.Connection):
        raise TypeError("Procrastinate needs PostgreSQL through psycopg.")
    return cast("psycopg.Connection[Any]", connection)
