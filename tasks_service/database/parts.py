"""Parts of big runs: planning them, claiming one, and the writes under its lease.

A plan belongs to the run; only its attempt (a `Claim`) makes one or gives it up. A part is claimed by any worker that
finds no run to carry out, or is taken by the run's own attempt. Every write names the part's token, and changes nothing
once the part is another's, or nobody needs it: the plan or the run has ended, or is to be cancelled.
Called by dealing.py, helping.py, beats.py and sweeper.py.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import exists, update
from sqlmodel import Session, and_, col, or_, select
from sqlmodel.sql.expression import SelectOfScalar

from tasks_service.database.journal import log_event
from tasks_service.database.leases import Beat, Claim, held
from tasks_service.database.models import Run, Task
from tasks_service.database.part_models import Part, Plan
from tasks_service.database.runs import GOING
from tasks_service.database.statements import changed

_MOST_CLAIMS = 2
"""A part that ended the worker which took it may have been what ended it: others try once more, then only its run."""


@dataclass(frozen=True)
class PlanDraft:
    """What a plan is made of; `shares` are (JSON value, documents) in the order of the file."""

    fingerprint: str
    handle: dict[str, Any]
    total: int
    folder: str
    shares: Sequence[tuple[dict[str, Any], int]]


@dataclass(frozen=True)
class TakenPart:
    """A part that somebody works on: for as long as its lease is renewed, or (`run_token`) its run is theirs."""

    id: int
    plan_id: int
    number: int
    parts: int
    share: dict[str, Any]
    lease_token: int
    run_token: int | None


@dataclass(frozen=True)
class PartClaim:
    """A part that is one worker's, with all that is known of its plan and of its run."""

    part: TakenPart
    fingerprint: str
    handle: dict[str, Any]
    folder: str
    run: Claim

    @property
    def run_id(self) -> int:
        """The run the part belongs to."""
        return self.run.run_id


def open_plan(session: Session, run_id: int) -> Plan | None:
    """Return the plan of a run that was not given up."""
    return session.exec(select(Plan).where(Plan.run_id == run_id, col(Plan.ended_at).is_(None))).first()


def parts_of(session: Session, plan_id: int) -> list[Part]:
    """Return the parts of a plan, in the order of the file."""
    return list(session.exec(select(Part).where(Part.plan_id == plan_id).order_by(col(Part.number))).all())


def make_plan(session: Session, claim: Claim, *, now: datetime, draft: PlanDraft) -> int | None:
    """Store a plan and its parts; None where the run is another's by now. One that is there already is returned."""
    if not _is_held(session, claim):
        return None
    there = open_plan(session, claim.run_id)
    if there is not None:  # a commit whose answer was lost, which is being repeated
        return there.id if there.folder == draft.folder else None
    plan = Plan(
        run_id=claim.run_id,
        fingerprint=draft.fingerprint,
        handle=draft.handle,
        total=draft.total,
        folder=draft.folder,
        created_at=now,
    )
    session.add(plan)
    session.flush()
    if plan.id is None:
        raise ValueError("the plan is not stored")
    for number, (share, documents) in enumerate(draft.shares):
        session.add(Part(plan_id=plan.id, number=number, share=share, documents=documents))
    said = f"{draft.total} documents in {len(draft.shares)} parts, for any worker to take."
    _log(session, claim, now=now, event="run.divided", message=said)
    return plan.id


def end_plan(session: Session, claim: Claim, *, now: datetime, plan_id: int, reason: str) -> bool:
    """Give a plan up: what its parts have written is not used, and the run starts over."""
    if not _is_held(session, claim):
        return False
    ended = session.exec(
        update(Plan)
        .where(col(Plan.id) == plan_id, col(Plan.run_id) == claim.run_id, col(Plan.ended_at).is_(None))
        .values(ended_at=now, reason=reason)
        .execution_options(synchronize_session=False)
    )
    if not changed(ended):
        return False
    session.exec(
        update(Run)
        .where(col(Run.id) == claim.run_id)
        .values(started_over=col(Run.started_over) + 1)
        .execution_options(synchronize_session=False)
    )
    _log(session, claim, now=now, event="run.started_over", message=reason, level="warning")
    return True


def take_own(session: Session, claim: Claim, *, now: datetime, plan_id: int) -> TakenPart | None:
    """Take the next part for the run's own attempt; None where others have all that are left.

    What is taken for a run that is another's by now cannot be finished.
    """
    # A former attempt of the run held the parts it worked on by its own token.
    former = and_(col(Part.run_token).is_not(None), col(Part.run_token) < claim.lease_token)
    free = or_(col(Part.state) == "waiting", former, col(Part.lease_until) <= now)
    query = (
        select(Part)
        .where(Part.plan_id == plan_id, Part.state != "done", free)
        .order_by(col(Part.number))
        .limit(1)
        .with_for_update(skip_locked=True)
    )
    return _take(session, query, owner=claim.owner, run_token=claim.lease_token)


def claim_part(
    session: Session, *, now: datetime, owner: str, lease_seconds: float, without: Collection[int] = ()
) -> PartClaim | None:
    """Take a part of the run that was divided first, for `lease_seconds`; None where there is none.

    `without` are plans whose parts this worker cannot write.
    """
    free = or_(
        col(Part.state) == "waiting",
        and_(col(Part.state) == "running", col(Part.lease_until) <= now),
    )
    query = (
        select(Part)
        .join(Plan, col(Plan.id) == Part.plan_id)
        .join(Run, col(Run.id) == Plan.run_id)
        .where(
            free,
            col(Part.claims) < _MOST_CLAIMS,
            col(Plan.ended_at).is_(None),
            col(Plan.id).not_in(list(without)),
            Run.state == "running",
            col(Run.cancel_requested_at).is_(None),
        )
        .order_by(col(Part.plan_id), col(Part.number))
        .limit(1)
        .with_for_update(skip_locked=True, of=Part)
    )
    taken = _take(session, query, owner=owner, until=now + timedelta(seconds=lease_seconds))
    if taken is None:
        return None
    plan = session.get_one(Plan, taken.plan_id)
    run = session.get_one(Run, plan.run_id)
    return PartClaim(taken, plan.fingerprint, plan.handle, plan.folder, _as_claim(session, run, owner))


def beat_part(
    session: Session,
    part: TakenPart,
    *,
    now: datetime,
    lease_seconds: float,
    rows: int,
    total: int | None,  # noqa: ARG001 -- as a run's beat: the plan says it
    bytes_written: int,
) -> Beat:
    """Renew the lease of a part, and note how far it is."""
    renewed = session.exec(
        update(Part)
        .where(*_held(part))
        .values(lease_until=now + timedelta(seconds=lease_seconds), rows=rows, bytes_written=bytes_written)
        .execution_options(synchronize_session=False)
    )
    return Beat(owned=changed(renewed), cancel_requested=False)


def finish_part(session: Session, part: TakenPart, *, now: datetime, file: dict[str, Any]) -> bool:
    """Note the object of a part, whole; False where the part is another's or its run needs it no more."""
    finished = session.exec(
        update(Part)
        .where(*_held(part))
        .values(
            state="done",
            lease_until=None,
            file=file,
            rows=file["documents"],
            bytes_written=file["bytes"],
            finished_at=now,
        )
        .execution_options(synchronize_session=False)
    )
    if changed(finished):
        return True
    found = session.exec(select(Part).where(Part.id == part.id)).one()
    # A commit whose answer was lost, which is being repeated.
    return found.state == "done" and found.lease_token == part.lease_token and found.file == file


def release_part(session: Session, part: TakenPart) -> bool:
    """Give a part back unfinished."""
    released = session.exec(
        update(Part)
        .where(*_held(part))
        .values(state="waiting", lease_until=None, lease_owner=None, run_token=None, rows=0, bytes_written=0)
        .execution_options(synchronize_session=False)
    )
    return changed(released)


def sweepable_plans(session: Session, *, now: datetime, limit: int, settled_seconds: float = 0) -> list[Plan]:
    """Return plans that were given up, or whose run ended, `settled_seconds` ago or earlier, and were not swept.

    The latest first, for the reason that attempts are (leftovers.py).
    """
    before = now - timedelta(seconds=settled_seconds)
    query = (
        select(Plan)
        .join(Run, col(Run.id) == Plan.run_id)
        .where(col(Plan.swept_at).is_(None), or_(col(Plan.ended_at) <= before, col(Run.finished_at) <= before))
        .order_by(col(Plan.id).desc())
        .limit(limit)
    )
    return list(session.exec(query).all())


def mark_plan_swept(session: Session, plan_id: int, *, now: datetime) -> None:
    """Note that nothing of this plan lies in the storage any more."""
    session.exec(update(Plan).where(col(Plan.id) == plan_id).values(swept_at=now))


def _take(
    session: Session,
    query: SelectOfScalar[Part],
    *,
    owner: str,
    until: datetime | None = None,
    run_token: int | None = None,
) -> TakenPart | None:
    """Take the part a query finds, if it is still as it was read."""
    part = session.exec(query.execution_options(populate_existing=True)).first()
    if part is None or part.id is None:
        return None
    token = part.lease_token + 1
    taken = session.exec(
        update(Part)
        .where(col(Part.id) == part.id, col(Part.lease_token) == part.lease_token, col(Part.state) == part.state)
        .values(
            state="running",
            claims=part.claims + 1,
            lease_owner=owner,
            lease_until=until,
            lease_token=token,
            run_token=run_token,
            rows=0,
            bytes_written=0,
        )
        .execution_options(synchronize_session=False)
    )
    if not changed(taken):
        return None
    return TakenPart(
        part.id, part.plan_id, part.number, len(parts_of(session, part.plan_id)), part.share, token, run_token
    )


def _held(part: TakenPart) -> tuple[Any, ...]:
    """Return the conditions under which a part is still its worker's, and anybody needs it."""
    if part.run_token is not None:
        going = and_(col(Run.state) == "running", col(Run.lease_token) == part.run_token)
    else:
        going = and_(col(Run.state).in_(GOING), col(Run.cancel_requested_at).is_(None))
    planned = and_(col(Plan.id) == part.plan_id, col(Plan.ended_at).is_(None), col(Run.id) == col(Plan.run_id))
    return (
        col(Part.id) == part.id,
        col(Part.lease_token) == part.lease_token,
        col(Part.state) == "running",
        exists().where(planned, going),
    )


def _is_held(session: Session, claim: Claim) -> bool:
    """Tell whether the run is still this claim's, and keep it so until the end of the transaction."""
    return session.exec(select(Run.id).where(*held(claim)).with_for_update()).first() is not None


def _as_claim(session: Session, run: Run, owner: str) -> Claim:
    """Describe the run a part belongs to, as its own worker sees it."""
    task = session.get_one(Task, run.task_id)
    return Claim(
        run_id=run.id or 0,
        task_id=run.task_id,
        chain=run.chain,
        kind=run.kind,
        occurrence=run.occurrence,
        definition=run.definition,
        attempt_number=run.claims,
        attempts=run.attempts,
        lease_token=run.lease_token,
        owner=owner,
        client_id=task.client_id,
    )


def _log(session: Session, claim: Claim, *, now: datetime, event: str, message: str, level: str = "info") -> None:
    log_event(session, task_id=claim.task_id, run_id=claim.run_id, now=now, event=event, message=message, level=level)
