"""A worker: claim a run, carry it out under its lease, classify how it ended, record that.

What an export is stands in export.py; what a claim is stands in database/claims.py. This module decides what an ending
means: published, tried again later (with full jitter), failed for good, handed back, or nothing at all because another
worker owns the run by now. Called by cli/ (the worker process) and by tests.
"""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable, Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import structlog
from sqlmodel import Session

from tasks_service import metrics, sweeper, zones
from tasks_service.app import Services
from tasks_service.artifacts.leavings import delete_objects
from tasks_service.artifacts.sealing import Exported
from tasks_service.beats import Beater, Beating, hold_run
from tasks_service.config import WorkerSettings
from tasks_service.database import claims, clients, tasks, zone_rules
from tasks_service.database.claims import Claim
from tasks_service.database.engine import RETRY_SECONDS
from tasks_service.database.processes import State
from tasks_service.dealing import RunBoard
from tasks_service.delivering import check_destination, deliver
from tasks_service.errors import (
    Cancelled,
    Interrupted,
    LeaseLost,
    NotFoundError,
    ServiceError,
    TransientError,
)
from tasks_service.export import run_export
from tasks_service.fault_points import fault_point
from tasks_service.filenames import file_name
from tasks_service.formats.zone_option import zone_asked_for
from tasks_service.helping import Helper
from tasks_service.lease import Drain, Lease
from tasks_service.loops import Loops, attempted
from tasks_service.order import ExportOrder
from tasks_service.zones import Rules

log = structlog.stdlib.get_logger(__name__)

_SWEEP_SECONDS = 60.0
_LONGEST_ASKED_SECONDS = 3600.0
"""A part that asks to be left alone for longer is asked again all the same."""

_LONGEST_SWEEP_SECONDS = 3600.0
"""A storage that is slow may take long over the deletions of one sweep; one that does not answer ends it."""


class AuthorityLostError(ServiceError):
    """The client this task belongs to may no longer export; its schedule is paused."""

    code = "authority_lost"
    http_status = 403


class Worker:
    """Carries out one run after another until it is told to stop."""

    def __init__(
        self,
        services: Services,
        *,
        name: str | None = None,
        loops: Loops | None = None,
        beater: Beater | None = None,
    ) -> None:
        """Take the services; `beater` renews what is held (a thread of this process, where none is given)."""
        self._services = services
        self._beater = beater or partial(Beating, services.database, services.settings.worker)
        self._settings: WorkerSettings = services.settings.worker
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self._drain = Drain()
        self._run_id: int | None = None
        self._helper = Helper(services, self.name, self._drain, self._order, self._beater)
        self._swept_at = float("-inf")
        self._idle_seconds = services.settings.idle_poll_seconds
        # A look takes long where the database is away: it is asked again for a while (Database.retrying).
        self._loop = (loops or Loops()).add("worker", max(self._idle_seconds, RETRY_SECONDS))

    def doing(self) -> tuple[State, int | None]:
        """Return what the worker does, and the run it carries out, or helps with."""
        run_id, helped = self._run_id, self._helper.run_id
        if self._drain.since is not None:
            return "draining", helped if run_id is None else run_id
        if run_id is not None:
            return "working", run_id
        return ("idle" if helped is None else "helping"), helped

    def run(self, stop: threading.Event) -> None:
        """Work until `stop` is set; then finish the run in hand, or hand it back once the grace is over."""
        watcher = threading.Thread(target=self._watch, args=(stop,), name="worker-drain", daemon=True)
        watcher.start()
        log.info("worker.started", worker=self.name)
        while not stop.is_set():
            self._loop.tick()
            worked = attempted("worker", self._turn)
            if not worked:
                # A database that did not answer wakes nobody: it is looked at again soon.
                unknown = worked is None
                self._services.executor.wait(self._settings.poll_interval_seconds if unknown else self._idle_seconds)
        log.info("worker.stopped", worker=self.name)

    def _turn(self) -> bool | None:
        """Carry out a run if there is one, and sweep if it is time; tell whether there was a run, None: unknown."""
        try:
            worked = self.work_once()
            self._sweep_now_and_then()
        except TransientError as error:
            # The database did not answer, for longer than retrying() tries; a worker outlives that.
            log.warning("worker.unavailable", code=error.code, detail=error.detail)
            return None
        return worked

    def work_once(self) -> bool:
        """Claim one run and carry it out, or help with a part of another; False if there was neither."""
        claim = self._claim()
        # Within a run progress is what is looked at (lease.py): it may be at work for hours.
        self._loop.tick(within_seconds=float("inf"))
        if claim is None:
            helped = self._helper.work_once()
            self._loop.tick()
            return helped
        fault_point("claim.committed")
        with structlog.contextvars.bound_contextvars(
            run_id=claim.run_id, task_id=claim.task_id, chain=claim.chain, attempt=claim.attempt_number
        ):
            self._run_id = claim.run_id
            try:
                self._attempt(claim)
            finally:
                self._run_id = None
        return True

    def _watch(self, stop: threading.Event) -> None:
        stop.wait()
        self._drain.since = time.monotonic()
        self._services.executor.stop()
        log.info("worker.draining", worker=self.name, grace_seconds=self._settings.grace_seconds)

    def _claim(self) -> Claim | None:
        def claim(session: Session) -> Claim | None:
            taken = claims.claim_run(
                session,
                clock=self._services.database.now,
                owner=self.name,
                lease_seconds=self._settings.lease_seconds,
                running_per_chain=self._services.settings.limits.running_per_chain,
                max_claims=self._settings.max_claims,
            )
            if taken is not None:
                fault_point("claim.written")
            return taken

        return self._services.database.retrying(claim)

    def _attempt(self, claim: Claim) -> None:
        """Carry out one attempt and record its end; every ending is one of these lines."""
        log.info("run.started", worker=self.name, kind=claim.kind, occurrence=claim.occurrence.isoformat())
        started = time.monotonic()
        try:
            with Lease(hold_run(claim), self._settings, self._drain, self._beater) as lease:
                fault_point("attempt.started")
                self._check_authority(claim)
                order = self._order(claim)
                self._name_object(claim, order.object_name)
                board = RunBoard(self._services.database, self._services.executor, claim, order)
                check_destination(self._services, order)
                exported = run_export(order, self._services.source, self._services.storage, lease.report, board)
                exported = deliver(self._services, claim, order, exported, lease.report, self._record)
                self._publish(claim, order, exported)
                _count_published(order, exported, time.monotonic() - started)
        except LeaseLost:
            log.warning("run.lease_lost")
        except Cancelled:
            self._record("cancel", lambda s, now: claims.cancelled(s, claim, now=now))
            log.info("run.cancelled")
        except Interrupted:
            self._hand_back(claim)
            log.info("run.handed_back")
        except ServiceError as error:
            self._fail(claim, error)
        except Exception:
            log.exception("run.unexpected_error")
            self._fail(claim, _UnexpectedError())
        else:
            log.info("run.finished", seconds=round(time.monotonic() - started, 3))

    def _check_authority(self, claim: Claim) -> None:
        """Ask again whether the task's client may export: much may have changed since the task was stored."""

        def check(session: Session) -> str | None:
            reason = clients.standing(session, claim.client_id)
            if reason is not None and (task := tasks.get_task(session, claim.task_id, chain=None)) is not None:
                tasks.pause_task(session, task, now=self._services.database.now(session), note=reason, reason=reason)
            return reason

        reason = self._services.database.retrying(check)
        if reason is not None:
            raise AuthorityLostError(f"The schedule is paused: {reason}.")

    def _order(self, claim: Claim) -> ExportOrder:
        """Turn the run's own copy of its task into one attempt's work."""
        settings = self._services.settings
        target: dict[str, Any] = claim.definition["target"]
        trigger: dict[str, Any] = claim.definition["trigger"]
        if trigger.get("segment") is None and trigger.get("segment_id") is not None:
            raise SegmentGoneError
        index = settings.indices.get(target["export_index"])
        if index is None:
            raise IndexGoneError(f"The export index {target['export_index']} is no longer configured.")
        name = file_name(
            index,
            claim.task_id,
            trigger,
            claim.occurrence,
            target["export_format"],
            target.get("compression") or "none",
        )
        folder = f"{settings.storage.prefix}/{claim.chain}/{claim.task_id}/{claim.run_id}"
        version = trigger.get("segment_version")
        clock, output = zones.name_in(trigger), zone_asked_for(target.get("options") or {})
        rules = self._rules({clock} if output is None else {clock, output})
        return ExportOrder(
            task=claim.task_id,
            run=claim.run_id,
            chain=claim.chain,
            index=index,
            target=target,
            segment=trigger.get("segment"),
            zone=clock,
            clock=rules[clock].zone if clock in rules else None,
            output_rules=None if output is None else rules.get(output),
            now=claim.occurrence,
            # The lease token grows with every claim: no other attempt can share this folder.
            folder=f"{folder}/{claim.attempt_number}-{claim.lease_token}",
            file_name=name,
            readers=settings.elasticsearch.slices
            if settings.source.kind == "elasticsearch"
            else settings.files.threads,
            buffer_bytes=self._settings.buffer_bytes,
            saved_segment=(trigger["segment_id"], version) if version is not None else None,
            most_files=settings.limits.files_per_run,
            part_rows=self._settings.part_rows,
        )

    def _rules(self, names: set[str]) -> Mapping[str, Rules]:
        """Return the rules of zones that hold for the whole service: parts by other workers are to read the same."""
        database = self._services.database
        return database.retrying(lambda session: zone_rules.held(session, names, now=database.now(session)))

    def _name_object(self, claim: Claim, name: str) -> None:
        """Note where the attempt writes, before its first byte: the sweeper finds it whatever becomes of us."""
        if not self._record("object", lambda session, _: claims.name_object(session, claim, name)):
            raise LeaseLost

    def _publish(self, claim: Claim, order: ExportOrder, exported: Exported) -> None:
        """Make the artifact *the* one of the run, by compare-and-set; delete it where the run is another's by now."""
        days = order.target.get("retention_days") or self._services.settings.storage.retention_days

        def publish(session: Session, now: datetime) -> bool:
            return claims.publish(
                session,
                claim,
                now=now,
                artifact=exported.artifact,
                expires_at=now + timedelta(days=days),
                query=exported.query,
            )

        if self._record("publish", publish):
            return
        fault_point("publish.refused")
        delete_objects(self._services.storage, [(one.name, one.generation) for one in exported.objects])
        raise LeaseLost

    def _hand_back(self, claim: Claim) -> None:
        """Give the run back to the queue, and wake a worker for it."""

        def hand_back(session: Session, now: datetime) -> bool:
            given = claims.hand_back(session, claim, now=now)
            if given:
                self._services.executor.offer(session, claim.run_id)
            return given

        self._record("hand_back", hand_back)

    def _fail(self, claim: Claim, error: ServiceError) -> None:
        """Record a failure: another attempt later where that can help, the end of the run where it cannot."""
        failures = claim.attempts + 1
        again = error.retryable and failures < self._settings.max_attempts
        delay = retry_delay(failures, self._settings, random.random)
        if isinstance(error, TransientError) and error.retry_after is not None:
            # On top of it, so that all who were asked to wait do not come back in the same second.
            delay += timedelta(seconds=min(error.retry_after, _LONGEST_ASKED_SECONDS))

        def fail(session: Session, now: datetime) -> bool:
            retry_at = now + delay if again else None
            failed = claims.fail(session, claim, now=now, code=error.code, detail=error.detail, retry_at=retry_at)
            if failed and retry_at is not None:
                self._services.executor.offer(session, claim.run_id, at=retry_at)
            return failed

        recorded = self._record("failure", fail)
        log.warning("run.failed", code=error.code, detail=error.detail, retry=again, recorded=recorded)

    def _record(self, fact: str, write: Callable[[Session, datetime], bool]) -> bool:
        """Write one fact about the claim, fenced by its token; False where it is another's run by now."""
        database = self._services.database

        def fenced(session: Session) -> bool:
            written = write(session, database.now(session))
            if written:
                fault_point(f"{fact}.written")
            return written

        recorded = database.retrying(fenced)
        if recorded:
            fault_point(f"{fact}.committed")
        return recorded

    def _sweep_now_and_then(self) -> None:
        if time.monotonic() - self._swept_at < _SWEEP_SECONDS:
            return
        self._swept_at = time.monotonic()
        self._loop.tick(within_seconds=_LONGEST_SWEEP_SECONDS)
        sweeper.sweep(self._services.database, self._services.storage, self._services.destinations)


def _count_published(order: ExportOrder, exported: Exported, seconds: float) -> None:
    labels = {"index": order.target["export_index"], "format": order.target["export_format"]}
    metrics.EXPORT_SECONDS.observe(seconds, **labels)
    if exported.artifact is not None:
        metrics.EXPORT_ROWS.count(exported.artifact["rows"], **labels)
        metrics.EXPORT_BYTES.count(exported.artifact["bytes"], **labels)


class IndexGoneError(NotFoundError):
    """The export index is no longer configured."""

    code = "index_gone"


class SegmentGoneError(NotFoundError):
    """The saved segment was not there any more when the run was made; without it every row would be exported."""

    code = "segment_gone"


class _UnexpectedError(ServiceError):
    """Something unexpected happened in the service; its log has the details."""

    # Unknown is not known to be permanent: the ceiling on attempts bounds the harm of trying again.
    retryable = True


def retry_delay(failures: int, settings: WorkerSettings, uniform: Callable[[], float]) -> timedelta:
    """Return the delay before the next attempt: full jitter under an exponential ceiling, capped."""
    ceiling = min(settings.retry_cap_seconds, settings.retry_base_seconds * 2.0 ** min(failures - 1, 30))
    return timedelta(seconds=uniform() * ceiling)
