"""A run under a lease: what its worker holds, and the writes it makes while it goes.

Each names the lease token and changes nothing once another worker has taken the run over or it has ended.
Called by beats.py and runner.py through claims.py; how a run ends is endings.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol

from sqlalchemy import case, literal, update
from sqlmodel import Session, col, or_, select

from tasks_service.database.counting import write_fenced
from tasks_service.database.models import Attempt, Instant, Run
from tasks_service.database.statements import changed


class Fenced(Protocol):
    """What a run's writes are fenced by: a claim has it, and so has what little of one another process is told."""

    @property
    def run_id(self) -> int: ...  # noqa: D102

    @property
    def task_id(self) -> int: ...  # noqa: D102

    @property
    def lease_token(self) -> int: ...  # noqa: D102


@dataclass(frozen=True)
class Fence:
    """No more of a claim than its writes are fenced by."""

    run_id: int
    task_id: int
    lease_token: int


@dataclass(frozen=True)
class Claim:
    """A run that is one worker's for as long as its lease is renewed.

    `attempt_number` counts claims from 1; `attempts` counts the attempts that failed before this one,
    without those that were interrupted or abandoned. `definition` is {"target": ..., "trigger": ...} as it
    was when the run was made.
    """

    run_id: int
    task_id: int
    chain: int
    kind: str
    occurrence: datetime
    definition: dict[str, Any]
    attempt_number: int
    attempts: int
    lease_token: int
    owner: str
    client_id: str


@dataclass(frozen=True)
class Beat:
    """What a heartbeat learns: whether the run is still this worker's, and whether it is to be cancelled."""

    owned: bool
    cancel_requested: bool


def held(claim: Fenced) -> tuple[Any, ...]:
    """Return the conditions under which a run is still this claim's."""
    return (col(Run.id) == claim.run_id, col(Run.lease_token) == claim.lease_token, col(Run.state) == "running")


def beat(
    session: Session,
    claim: Fenced,
    *,
    now: datetime,
    lease_seconds: float,
    rows: int,
    total: int | None,
    bytes_written: int,
) -> Beat:
    """Renew the lease and note the progress. `progress_at` moves only where there was some."""
    moved = or_(col(Run.rows) != rows, col(Run.bytes_written) != bytes_written)
    renewed = session.exec(
        update(Run)
        .where(*held(claim))
        .values(
            lease_until=now + timedelta(seconds=lease_seconds),
            rows=rows,
            total=total,
            bytes_written=bytes_written,
            progress_at=case((moved, literal(now, Instant())), else_=col(Run.progress_at)),
        )
        .returning(col(Run.cancel_requested_at))
        .execution_options(synchronize_session=False)
    ).all()
    if not renewed:
        write_fenced(session, claim.run_id, "beat")
        return Beat(owned=False, cancel_requested=False)
    return Beat(owned=True, cancel_requested=renewed[0][0] is not None)


def name_object(session: Session, claim: Claim, object_name: str) -> bool:
    """Note where this attempt writes, before its first byte.

    The sweeper finds it whatever becomes of the worker.
    """
    named = session.exec(
        update(Attempt)
        .where(
            col(Attempt.run_id) == claim.run_id,
            col(Attempt.lease_token) == claim.lease_token,
            col(Attempt.ended_at).is_(None),
        )
        .values(object_name=object_name)
        .execution_options(synchronize_session=False)
    )
    if not changed(named):
        write_fenced(session, claim.run_id, "object_name")
        return False
    return True


def note_push(session: Session, claim: Claim, push: dict[str, Any]) -> bool:
    """Note where at a destination this attempt pushes its files to, before the first byte, and what it began there.

    The sweeper finds it whatever becomes of the worker.
    """
    noted = session.exec(
        update(Attempt)
        .where(
            col(Attempt.run_id) == claim.run_id,
            col(Attempt.lease_token) == claim.lease_token,
            col(Attempt.ended_at).is_(None),
        )
        .values(push=push)
        .execution_options(synchronize_session=False)
    )
    if not changed(noted):
        write_fenced(session, claim.run_id, "push")
        return False
    return True


def former_marks(session: Session, claim: Claim) -> frozenset[str]:
    """Return the marks of what earlier attempts of the run may have left at its destination."""
    query = select(Attempt).where(
        col(Attempt.run_id) == claim.run_id,
        col(Attempt.lease_token) < claim.lease_token,
        col(Attempt.push).is_not(None),
    )
    return frozenset(one.push["mark"] for one in session.exec(query).all() if one.push is not None)


def record_query(session: Session, claim: Claim, query: dict[str, Any]) -> bool:
    """Note the query the run's segment was compiled to."""
    noted = session.exec(
        update(Run).where(*held(claim)).values(query=query).execution_options(synchronize_session=False)
    )
    return changed(noted)
