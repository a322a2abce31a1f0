"""Deleting what nobody may download any more: objects of attempts that were not published, and expired files.

What such an attempt pushed to a customer's bucket goes too; what a published run pushed there is the customer's.

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
from tasks_service.destinations.pushing import remove_left
from tasks_service.destinations.registry import Destinations
from tasks_service.errors import ServiceError, TransientError
from tasks_service.fault_points import fault_point
from tasks_service.storage import Storage

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

_BATCH = 100
_SETTLED_SECONDS = 3600.0
"""How long after an attempt's end its worker may still finish an upload; far longer than one takes to stop."""

_PUSHES_SOUGHT = timedelta(days=7)
"""How long what is left at a destination that refuses, or is gone, is sought before an operator is told of it."""

_ANSWERS_KEPT = timedelta(days=2)
"""How long an Idempotency-Key is remembered; the field's custom is at least one day."""


def sweep(database: Database, storage: Storage, destinations: Destinations | None = None) -> int:
    """Delete orphaned and expired objects, a batch of each; return how many were deleted.

    Raises:
        TransientError: the database or the storage did not answer; what is left is swept another time, rather than
            waited for object by object. A destination that does not answer keeps nothing else waiting.
    """
    database.retrying(lambda session: _forget(session, database.now(session)))
    deleted = _sweep_orphans(database, storage) + _sweep_parts(database, storage) + _sweep_expired(database, storage)
    deleted += _sweep_pushes(database, destinations or Destinations())
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


def _sweep_pushes(database: Database, destinations: Destinations) -> int:
    """Delete what unpublished attempts left at destinations; look again later, as for their objects."""
    deleted = 0
    for left in _read(database, partial(claims.sweepable_pushes, settled_seconds=_SETTLED_SECONDS)):
        gone = _removed(destinations, left)
        if gone:
            deleted += gone
            metrics.SWEPT.count(gone, kind="pushed")
            log.info("sweep.push_deleted", run_id=left.run_id, destination=left.push["destination"], objects=gone)
        given_up = gone is None and database.retrying(database.now) > left.ended_at + _PUSHES_SOUGHT
        if given_up:
            objects = [f"{left.push['place']}/{name}" for name in left.push["objects"]]
            log.error("sweep.push_left", run_id=left.run_id, destination=left.push["destination"], objects=objects)
        if given_up or (gone is not None and left.settled):
            _write(database, partial(claims.mark_push_swept, attempt_id=left.attempt_id))
    return deleted


def _removed(destinations: Destinations, left: claims.LeftPush) -> int | None:
    """Delete what an attempt left at its destination, and return how much; None where that cannot be done now."""
    name = left.push["destination"]
    destination = destinations.find(name, left.push["place"])
    if destination is None:
        return None
    try:
        return remove_left(left.push, destination, published=left.published)
    except ServiceError as error:
        destinations.rest(name)
        log.warning("sweep.push_failed", run_id=left.run_id, destination=name, code=error.code)
        return None


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
