"""Small parts of statements that every module of database/ needs.

Guarded updates, inserts that bear a duplicate, pages.
"""

from __future__ import annotations

from typing import Any, Literal, TypeVar

from sqlalchemy import CursorResult, Dialect
from sqlalchemy.dialects import postgresql, sqlite
from sqlmodel import Session, col
from sqlmodel.sql.expression import SelectOfScalar

from tasks_service.database.models import Attempt, Backfill, Process, Run, SavedSegment, SegmentVersion, Task

Direction = Literal["next", "previous"]
Row = TypeVar("Row", Run, Task, SavedSegment, SegmentVersion, Backfill, Process)


def identity(row: Task | Run | Attempt | SavedSegment | Backfill) -> int:
    """Return the id of a stored row."""
    if row.id is None:
        raise ValueError("the row is not stored yet")
    return row.id


def changed(result: object) -> bool:
    """Tell whether a guarded update changed its row."""
    return isinstance(result, CursorResult) and result.rowcount == 1


def insert_unless_there(dialect: Dialect, table: type[Any]) -> postgresql.Insert | sqlite.Insert:
    """Return an insert that knows `on_conflict_do_nothing` and `on_conflict_do_update`.

    Each dialect has its own class for it, with one grammar.
    """
    return postgresql.insert(table) if dialect.name == "postgresql" else sqlite.insert(table)


def page(
    session: Session,
    query: SelectOfScalar[Row],
    row: type[Row],
    *,
    limit: int,
    after: int | None,
    direction: Direction,
) -> tuple[list[Row], bool]:
    """Return up to `limit` rows of `query`, newest first, and whether there are more in that direction.

    `after` is the id of the row the page starts behind: older ones follow it in direction `next`, newer
    ones in direction `previous` (the page itself is newest first in both).
    """
    back = direction == "previous"
    if after is not None:
        query = query.where(col(row.id) > after if back else col(row.id) < after)
    query = query.order_by(col(row.id).asc() if back else col(row.id).desc()).limit(limit + 1)
    rows = list(session.exec(query).all())
    more = len(rows) > limit
    rows = rows[:limit]
    return (rows[::-1] if back else rows), more
