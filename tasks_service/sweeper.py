"""Deleting what nobody may download any more: objects of attempts that were not published, and expired files.

Answers remembered for an Idempotency-Key go the same way once nobody repeats a request that old, and the rows of
processes that ended without a word.

An attempt's objects (files, archive, manifest, all in one folder) are deleted only after the attempt has ended in the
database (a lapsed one is abandoned there first, by the same compare-and-set that fences its worker), so nothing is ever
deleted under a worker that could still publish it. Called by workers, now and then.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import TypeVar

import structlog
from sqlmodel import Session

from tasks_service import metrics
from tasks_service.artifacts.leavings import delete_attempt, delete_folder, delete_result
from tasks_service.database import claims, parts, processes, tasks
from tasks_service.database.engine import Database
from tasks_service.errors import ServiceError, TransientError
from tasks_service.fault_points import fault_point
from tasks_service.storage import Storage

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

_BATCH = 100
_SETTLED_SECONDS = 3600.0
"""How long after an attempt's end its worker may still finish an upload; far longer than one takes to stop."""

_ANSWERS_KEPT = timedelta(days=2)
"""How long an Idempotency-Key is remembered; the field's custom is at least one day."""


def sweep(database: Database, storage: Storage) -> int:
    """Delete orphaned and expired objects, a batch of each; return how many were deleted.

    Raises:
        TransientError: the database or the storage did not answer; what is left is swept another time, rather than
            waited for object by object.
    """
    database.retrying(lambda session: _forget(session, database.now(session)))
    deleted = _sweep_orphans(database, storage) + _sweep_parts(database, storage) + _sweep_expired(database, storage)
    metrics.SWEEPS.count(outcome="ok")
    return deleted


def _forget(session: Session, now: datetime) -> None:
    tasks.forget_answers(session, before=now - _ANSWERS_KEPT)
    processes.forget(session, now=now)


def _sweep_orphans(database: Database, storage: Storage) -> int:
    """Delete what unpublished attempts left, and look again for a while: a late worker may still finish an upload."""
    deleted = 0
    for orphan in _read(database, claims.sweepable):
        fault_point("sweep.listed")
        gone = _deleted(partial(delete_attempt, storage, orphan.object_name), orphan.run_id)
        if gone:
            deleted += gone
            fault_point("sweep.deleted")
            metrics.SWEPT.count(gone, kind="orphan")
            log.info("sweep.orphan_deleted", run_id=orphan.run_id, object_name=orphan.object_name, objects=gone)
    for orphan in _read(database, partial(claims.sweepable, settled_seconds=_SETTLED_SECONDS)):
        if _deleted(partial(delete_attempt, storage, orphan.object_name), orphan.run_id) is not None:
            _write(database, partial(claims.mark_swept, attempt_id=orphan.attempt_id))
    return deleted


def _sweep_parts(database: Database, storage: Storage) -> int:
    """Delete the parts of runs that have ended, or started over; look again for a while, as for attempts."""
    deleted = 0
    for plan in _read(database, parts.sweepable_plans):
        gone = _deleted(partial(delete_folder, storage, plan.folder), plan.run_id)
        if gone:
            deleted += gone
            metrics.SWEPT.count(gone, kind="parts")
            log.info("sweep.parts_deleted", run_id=plan.run_id, objects=gone)
    for plan in _read(database, partial(parts.sweepable_plans, settled_seconds=_SETTLED_SECONDS)):
        if _deleted(partial(delete_folder, storage, plan.folder), plan.run_id) is not None and plan.id is not None:
            _write(database, partial(parts.mark_plan_swept, plan_id=plan.id))
    return deleted


def _sweep_expired(database: Database, storage: Storage) -> int:
    deleted = 0
    for file in _read(database, claims.expired_files):
        gone = _deleted(partial(delete_result, storage, file.artifact), file.run_id)
        if gone is not None:
            deleted += gone
            fault_point("expiry.deleted")
            metrics.SWEPT.count(gone, kind="expired")
            _write(database, partial(claims.mark_file_deleted, run_id=file.run_id))
            log.info("sweep.expired_deleted", run_id=file.run_id, objects=gone)
    return deleted


def _deleted(delete: Callable[[], int], run_id: int) -> int | None:
    """Delete, and return how much; None where the storage refused, so that it is tried again another time."""
    try:
        return delete()
    except TransientError:
        raise
    except ServiceError as error:
        metrics.SWEEPS.count(outcome="failed")
        log.warning("sweep.failed", run_id=run_id, code=error.code)
        return None


def _read(database: Database, query: Callable[..., list[T]]) -> list[T]:
    return database.retrying(lambda session: query(session, now=database.now(session), limit=_BATCH))


def _write(database: Database, change: Callable[..., None]) -> None:
    database.retrying(lambda session: change(session, now=database.now(session)))
