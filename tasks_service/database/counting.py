"""Counting what a transaction does, once it is committed: what is rolled back, or tried again, did not happen.

Called by the other modules of database/ where a fact is written, and by engine.py, which knows when it holds.
"""

from __future__ import annotations

from collections.abc import Callable

from sqlmodel import Session

_KEY = "tasks_service.counted"


def when_committed(session: Session, count: Callable[[], None]) -> None:
    """Call `count`, which moves a metric, once this session's transaction is committed."""
    session.info.setdefault(_KEY, []).append(count)


def count_committed(session: Session) -> None:
    """Make the calls of a transaction that was committed."""
    counts: list[Callable[[], None]] = session.info.pop(_KEY, [])
    for count in counts:
        count()
