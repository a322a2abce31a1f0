"""A worker that has no run to carry out helps with a divided one: it takes one part, under a lease of its own.

Whatever goes wrong with a part is no failure of the run here: the part is given back, and its run's own attempt meets
the error itself, where it counts. Called by runner.py.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import structlog
from sqlmodel import Session

from tasks_service.app import Services
from tasks_service.beats import Beater, hold_part
from tasks_service.database import parts
from tasks_service.database.claims import Claim
from tasks_service.database.parts import PartClaim
from tasks_service.dealing import part_of
from tasks_service.errors import LeaseLost, ServiceError, StopAttempt
from tasks_service.formats.registry import encoder_for
from tasks_service.lease import Drain, Lease
from tasks_service.order import ExportOrder
from tasks_service.parts.writing import fingerprint, write_part
from tasks_service.progress import Progress

log = structlog.stdlib.get_logger(__name__)


class Helper:
    """Takes parts of other workers' runs, one at a time.

    Attributes:
        run_id: the run it helps with now; None while it helps with none. May be read from any thread.
    """

    def __init__(
        self,
        services: Services,
        name: str,
        drain: Drain,
        order_of: Callable[[Claim], ExportOrder],
        beater: Beater,
    ) -> None:
        """Take the worker's name, what tells that it is stopping, how a claim becomes an order, what renews a hold."""
        self._services = services
        self._name = name
        self._drain = drain
        self._order_of = order_of
        self._beater = beater
        self._not_mine: set[int] = set()
        self.run_id: int | None = None

    def work_once(self) -> bool:
        """Take one part and write it; False where there is none to take."""
        claim = self._claim()
        if claim is None:
            return False
        part = claim.part.number + 1
        with structlog.contextvars.bound_contextvars(
            run_id=claim.run_id, task_id=claim.run.task_id, chain=claim.run.chain, part=part, parts=claim.part.parts
        ):
            self.run_id = claim.run_id
            try:
                self._attempt(claim)
            finally:
                self.run_id = None
        return True

    def _claim(self) -> PartClaim | None:
        database = self._services.database

        def claim(session: Session) -> PartClaim | None:
            found = parts.claim_part(
                session,
                now=database.now(session),
                owner=self._name,
                lease_seconds=self._services.settings.worker.lease_seconds,
                without=self._not_mine,
            )
            if found is not None:
                self._services.executor.offer(session, found.run_id)  # whoever takes a part wakes the next
            return found

        return database.retrying(claim)

    def _attempt(self, claim: PartClaim) -> None:
        """Write one part and record it; every ending is one of these lines."""
        log.info("part.started", worker=self._name)
        started = time.monotonic()
        try:
            settings = self._services.settings.worker
            with Lease(hold_part(claim), settings, self._drain, self._beater) as lease:
                self._write(claim, lease)
        except LeaseLost:
            log.warning("part.lease_lost")
        except StopAttempt:
            self._give_back(claim)
            log.info("part.handed_back")
        except ServiceError as error:
            self._give_back(claim)
            log.warning("part.failed", code=error.code, detail=error.detail)
        except Exception:
            self._give_back(claim)
            log.exception("part.unexpected_error")
        else:
            log.info("part.finished", seconds=round(time.monotonic() - started, 3))

    def _write(self, claim: PartClaim, lease: Lease) -> None:
        order = self._order_of(claim.run)
        if claim.fingerprint != fingerprint(order):
            self._not_mine.add(claim.part.plan_id)
            raise AnotherVersionError

        def check(documents: int, size: int) -> None:
            lease.report(Progress(documents, None, size))

        storage = self._services.storage
        with self._services.source.resume(claim.handle) as snapshot:
            encoder = encoder_for(order.target, snapshot.catalog, order.index, rules=order.output_rules)
            file = write_part(order, part_of(claim.part, claim.folder), snapshot, encoder, storage, check)
        database = self._services.database
        if not database.retrying(lambda s: parts.finish_part(s, claim.part, now=database.now(s), file=file.to_json())):
            storage.delete(file.stored.name, generation=file.stored.generation)
            raise LeaseLost

    def _give_back(self, claim: PartClaim) -> None:
        self._services.database.retrying(lambda session: parts.release_part(session, claim.part))


class AnotherVersionError(ServiceError):
    """The part belongs to a file that another version or configuration of the service began; it is left alone."""

    code = "another_version"
