"""Runs that ought to be going and are not: nobody claimed them although somebody might have.

One process at a time looks, by a lock that is tried and not waited for. Called by rescuer.py.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from sqlalchemy import text
from sqlmodel import Session, col, select

from tasks_service.database.fairness import fairest
from tasks_service.database.models import Run

_RESCUE_LOCK = 0x726573637565


def only_rescuer(session: Session) -> bool:
    """Tell whether no other process looks now; nobody else does until the end of this transaction."""
    if session.get_bind().dialect.name != "postgresql":
        return True
    taken = session.connection().execute(text("SELECT pg_try_advisory_xact_lock(:key)"), {"key": _RESCUE_LOCK})
    return bool(taken.scalar_one())


def left_waiting(
    session: Session, *, now: datetime, running_per_chain: int, for_seconds: float, limit: int
) -> list[int]:
    """Return up to `limit` runs that could be claimed for `for_seconds` or longer: lapsed ones, then the oldest.

    None where nothing can be claimed, however much is queued: the rest waits for its chain's turn, and whoever ends
    a run claims the next. A worker that is woken for one of these claims the fairest, so that their number counts and
    not which they are.
    """
    since = now - timedelta(seconds=for_seconds)
    if fairest(session, now=since, running_per_chain=running_per_chain) is None:
        return []
    lapsed = (
        select(Run.id)
        .where(col(Run.state) == "running", col(Run.lease_until) <= since)
        .order_by(col(Run.lease_until), col(Run.id))
        .limit(limit)
    )
    queued = (
        select(Run.id)
        .where(col(Run.state) == "queued", col(Run.available_at) <= since)
        .order_by(col(Run.available_at), col(Run.id))
        .limit(limit)
    )
    found = [*session.exec(lapsed).all(), *session.exec(queued).all()]
    return [run_id for run_id in found if run_id is not None][:limit]
