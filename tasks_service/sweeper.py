"""Deleting what nobody may download any more: objects of attempts that were not published, and expired files.

An attempt's object is deleted only after the attempt has ended in the database (a lapsed one is abandoned there first,
by the same compare-and-set that fences its worker), so nothing is ever deleted under a worker that could still publish
it. Called by workers, now and then.
"""

from __future__ import annotations

import structlog

from tasks_service.database import claims
from tasks_service.database.engine import Database
from tasks_service.errors import ServiceError
from tasks_service.storage import Storage

log = structlog.stdlib.get_logger(__name__)

_BATCH = 100


def sweep(database: Database, storage: Storage) -> int:
    """Delete orphaned and expired objects, a batch of each; return how many were deleted."""
    return _sweep_orphans(database, storage) + _sweep_expired(database, storage)


def _sweep_orphans(database: Database, storage: Storage) -> int:
    orphans = database.retrying(lambda session: claims.sweepable(session, now=database.now(session), limit=_BATCH))
    deleted = 0
    for orphan in orphans:
        try:
            gone = storage.delete(orphan.object_name, generation=None)
        except ServiceError as error:
            log.warning("sweep.failed", object_name=orphan.object_name, code=error.code)
            continue
        database.retrying(
            lambda session, id_=orphan.attempt_id: claims.mark_swept(session, id_, now=database.now(session))
        )
        deleted += gone
        if gone:
            log.info("sweep.orphan_deleted", object_name=orphan.object_name)
    return deleted


def _sweep_expired(database: Database, storage: Storage) -> int:
    expired = database.retrying(lambda session: claims.expired_files(session, now=database.now(session), limit=_BATCH))
    deleted = 0
    for file in expired:
        try:
            deleted += storage.delete(file.object_name, generation=file.generation)
        except ServiceError as error:
            log.warning("sweep.failed", object_name=file.object_name, code=error.code)
            continue
        database.retrying(
            lambda session, id_=file.run_id: claims.mark_file_deleted(session, id_, now=database.now(session))
        )
        log.info("sweep.expired_deleted", run_id=file.run_id, object_name=file.object_name)
    return deleted
