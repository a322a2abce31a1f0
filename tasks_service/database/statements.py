"""Small parts of statements that every module of database/ needs.

Guarded updates, inserts that bear a duplicate, values written into the statement, rows handed over as one
parameter, pages.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from datetime import datetime
from functools import cache
from typing import Any, Literal, TypeVar

from sqlalchemy import (
    ARRAY,
    JSON,
    BigInteger,
    ColumnElement,
    CursorResult,
    Dialect,
    FromClause,
    SQLColumnExpression,
    String,
    Text,
    any_,
    bindparam,
    cast,
    column,
    func,
    literal,
    literal_column,
    select,
)
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.types import TypeEngine
from sqlmodel import Session, col
from sqlmodel.sql.expression import SelectOfScalar

from tasks_service.database.models import Attempt, Backfill, Instant, Process, Run, SavedSegment, SegmentVersion, Task

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


def inlined(value: str) -> ColumnElement[str]:
    """Return a value that is written into the statement: only so may SQLite use a partial index."""
    return literal_column(f"'{value}'", String)


def among(dialect: Dialect, number: SQLColumnExpression[int], numbers: list[int]) -> ColumnElement[bool]:
    """Tell whether a column is one of many numbers, which are handed over as one parameter: hundreds take time.

    Not by `handed_over`: joined with a table it knows nothing of, PostgreSQL passes over the column's index.
    """
    if dialect.name == "postgresql":
        return number == any_(literal(numbers, ARRAY(BigInteger())))
    each = func.json_each(literal(json.dumps(numbers), Text())).table_valued("value")
    return number.in_(select(each.c.value))


def handed_over(dialect: Dialect, name: str, **columns: TypeEngine[Any]) -> FromClause:
    """Return a table of rows that an execution hands over in its parameter `name`, as `as_rows` writes them."""
    if dialect.name == "postgresql":
        rows = func.json_to_recordset(cast(bindparam(name, type_=Text()), JSON()))
        named = (column(key, kind) for key, kind in columns.items())
        return rows.table_valued(*named, name=name).render_derived(with_types=True)
    each = func.json_each(bindparam(name, type_=Text())).table_valued("value")
    return select(
        *(
            func.json_extract(each.c.value, literal_column(f"'$.{key}'"), type_=kind).label(key)
            for key, kind in columns.items()
        )
    ).subquery(name)


def as_rows(dialect: Dialect, rows: Sequence[Mapping[str, Any]]) -> str:
    """Write rows for `handed_over`; of their values, instants are written as the database stores them."""
    kind = Instant()

    @cache  # the rows of a herd share their instants
    def instant(value: datetime) -> Any:  # noqa: ANN401 -- by dialect
        stored = kind.process_bind_param(value, dialect)
        return stored.isoformat() if isinstance(stored, datetime) else stored

    return json.dumps(rows, default=instant)


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
