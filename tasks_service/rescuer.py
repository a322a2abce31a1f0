"""The rescuer: offers again what no message woke for, so that a lost wake-up costs seconds and never a run.

A message can be lost with the worker that had it in hand, or by a database restored from a copy; and where the lease of
a dead worker's run lapses, nobody sends one. Of any number of processes that look, one does at a time. What is
claimable is the run table's to say (database/rescue.py), what is on its way the executor's. Called by the scheduler
process every few seconds, where the executor sends messages at all.
"""

from __future__ import annotations

import structlog

from tasks_service import metrics
from tasks_service.database.engine import Database
from tasks_service.database.rescue import left_waiting, only_rescuer
from tasks_service.errors import TransientError
from tasks_service.executors import Executor

log = structlog.stdlib.get_logger(__name__)

_BATCH = 100
_PATIENCE_SECONDS = 2.0
"""What could be claimed for so long was not woken for; a message takes milliseconds."""


def rescue(database: Database, executor: Executor, running_per_chain: int) -> int:
    """Look once; return how many runs were offered again. A database that does not answer is looked at next time."""
    try:
        with database.write() as session:
            if not only_rescuer(session):
                return 0
            waiting = left_waiting(
                session,
                now=database.now(session),
                running_per_chain=running_per_chain,
                for_seconds=_PATIENCE_SECONDS,
                limit=_BATCH,
            )
            offered = executor.rescue(session, waiting)
    except TransientError as error:
        log.warning("rescuer.unavailable", code=error.code, detail=error.detail)
        return 0
    if offered:
        metrics.OFFERED_AGAIN.count(offered)
        log.info("rescuer.offered", runs=offered)
    return offered
