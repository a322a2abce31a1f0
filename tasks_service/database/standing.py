"""How things stand in the whole database at this moment, for /metrics: counts per chain, and what is due next.

Reading only, from partial indices of what waits and what goes: the cost grows with these, never with what has ended.
Called by scrape.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import text
from sqlmodel import Session

from tasks_service.database.due import earliest_due
from tasks_service.database.models import Instant

# States are literals, not parameters: only so may SQLite use the partial indices run_queued and run_leased.
_QUEUED = text(
    "SELECT chain, count(*), min(available_at) AS oldest FROM run WHERE state = 'queued' GROUP BY chain"
).columns(oldest=Instant())
_RUNNING = text("SELECT chain, count(*) FROM run WHERE state = 'running' GROUP BY chain")

_BACKFILL_WAITING = text("SELECT count(*) FROM backfill_occurrence")


@dataclass(frozen=True)
class Standing:
    """What waits and what goes.

    Attributes:
        queued: queued runs by chain; those that wait for their next attempt are among them.
        running: going runs by chain.
        waited_seconds: by chain, for how long the first in its queue could have been claimed.
        backfill_waiting: occurrences of backfills that have no run yet.
        next_due_seconds: until the next occurrence; negative where it is overdue, None where nothing is scheduled.
    """

    queued: Mapping[int, int]
    running: Mapping[int, int]
    waited_seconds: Mapping[int, float]
    backfill_waiting: int
    next_due_seconds: float | None


def standing(session: Session, *, now: datetime) -> Standing:
    """Read how things stand."""
    connection = session.connection()
    queued = [(int(chain), int(count), oldest) for chain, count, oldest in connection.execute(_QUEUED)]
    earliest = earliest_due(session)
    return Standing(
        queued={chain: count for chain, count, _ in queued},
        running={int(chain): int(count) for chain, count in connection.execute(_RUNNING)},
        waited_seconds={chain: max(0.0, (now - oldest).total_seconds()) for chain, _, oldest in queued},
        backfill_waiting=int(connection.execute(_BACKFILL_WAITING).scalar_one()),
        next_due_seconds=None if earliest is None else (earliest - now).total_seconds(),
    )
