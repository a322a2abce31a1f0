"""The board of one run's parts, kept in the database: what parts/ asks, as fenced reads and writes.

What lives here is the meeting of parts/ (which knows no database) and database/parts.py (which knows no objects).
Called by runner.py; helping.py takes parts for other workers.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from datetime import datetime
from typing import Any, TypeVar

import structlog
from sqlmodel import Session

from tasks_service.database import parts
from tasks_service.database.claims import Claim
from tasks_service.database.engine import Database
from tasks_service.database.parts import PlanDraft, TakenPart
from tasks_service.errors import LeaseLost
from tasks_service.executors import Executor
from tasks_service.order import ExportOrder
from tasks_service.parts import Part, PartFile, Plan, Standing
from tasks_service.sources import Division, Share

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")


class RunBoard:
    """Keeps account of the parts of one run, for the attempt that has claimed it."""

    def __init__(self, database: Database, executor: Executor, claim: Claim, order: ExportOrder) -> None:
        """Take where the account is kept, what wakes workers, and the attempt's claim and order."""
        self._database = database
        self._executor = executor
        self._claim = claim
        run, _, attempt = order.folder.rpartition("/")
        self._new_folder = f"{run}/parts-{attempt}"
        self._plan: tuple[int, str] | None = None

    def plan(self) -> Plan | None:
        """Return the plan of the run."""
        found = self._database.retrying(lambda session: parts.open_plan(session, self._claim.run_id))
        if found is None or found.id is None:
            return None
        self._plan = found.id, found.folder
        return Plan(found.fingerprint, found.handle)

    def divide(self, fingerprint: str, division: Division) -> None:
        """Store the plan and its parts, and wake a worker; whoever takes a part wakes the next."""
        shares = [(asdict(share), share.documents) for share in division.shares]
        total = sum(share.documents for share in division.shares)
        draft = PlanDraft(fingerprint, division.handle, total, self._new_folder, shares)

        def divide(session: Session, now: datetime) -> int | None:
            made = parts.make_plan(session, self._claim, now=now, draft=draft)
            self._executor.offer(session, self._claim.run_id)
            return made

        made = self._write(divide)
        if made is None:
            raise LeaseLost
        self._plan = made, self._new_folder

    def give_up(self, reason: str) -> None:
        """End the plan; the run shows that it starts over, and why."""
        plan_id, _ = self._current()
        said = f"{reason} The parts that were done are not used; the run starts over."
        if not self._write(lambda s, now: parts.end_plan(s, self._claim, now=now, plan_id=plan_id, reason=said)):
            raise LeaseLost
        self._plan = None
        log.warning("run.started_over", reason=reason)

    def take(self) -> Part | None:
        """Take the next part that nobody has."""
        plan_id, folder = self._current()
        taken = self._write(lambda s, now: parts.take_own(s, self._claim, now=now, plan_id=plan_id))
        return None if taken is None else part_of(taken, folder)

    def finish(self, part: Part, file: PartFile) -> None:
        """Note that a part is whole."""
        if not self._write(lambda s, now: parts.finish_part(s, part.key, now=now, file=file.to_json())):
            raise LeaseLost

    def standing(self) -> Standing:
        """Tell how far the parts are."""
        plan_id, _ = self._current()
        found = self._database.retrying(lambda session: parts.parts_of(session, plan_id))
        return Standing(
            files=[PartFile.from_json(part.file) if part.file is not None else None for part in found],
            documents=sum(part.rows for part in found),
            bytes=sum(part.bytes_written for part in found),
        )

    def _current(self) -> tuple[int, str]:
        if self._plan is None:
            raise ValueError("the run is not divided")
        return self._plan

    def _write(self, write: Callable[[Session, datetime], T]) -> T:
        return self._database.retrying(lambda session: write(session, self._database.now(session)))


def part_of(taken: TakenPart, folder: str) -> Part:
    """Return a part as it is to be written: under a name that no other claim of it can share."""
    told: dict[str, Any] = taken.share
    share = Share(tuple(told["slices"]), told["of"], told["documents"])
    return Part(taken.number, taken.parts, share, f"{taken.number:02d}-{taken.lease_token}", folder, key=taken)
