"""Writing what was decided of many due tasks: one statement a table, however many they are.

What lives here: the rows of outcomes, and the statements that write them. What does not: what is decided (due.py, who
alone calls this).

Rows are handed over as one parameter, and what a run takes over from its task (chain, version, target, trigger) the
database copies itself: of a herd of due tasks nothing is read, parsed and sent back that nobody looks at.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any, NamedTuple

from sqlalchemy import (
    BigInteger,
    Boolean,
    Dialect,
    Integer,
    Text,
    Update,
    bindparam,
    insert,
    literal_column,
    select,
    update,
)
from sqlalchemy.sql.dml import ReturningInsert
from sqlmodel import Session, col

from tasks_service.database.counting import runs_fired
from tasks_service.database.journal import SkippedRange, skip_message, skip_row
from tasks_service.database.models import Event, Instant, Run, Skip, Task
from tasks_service.database.runs import UNTOUCHED, definition_copied
from tasks_service.database.statements import as_rows, handed_over, inlined, insert_unless_there
from tasks_service.fault_points import fault_point


class DueRun(NamedTuple):
    """A run that was made because its occurrence was due."""

    run_id: int
    task_id: int
    chain: int
    occurrence: datetime
    available_at: datetime
    made_at: datetime


@dataclass
class Outcomes:
    """Rows to be written at the end of a transaction that began its work at `now`."""

    now: datetime
    runs: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    skips: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    events: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])
    advances: list[dict[str, Any]] = field(default_factory=list[dict[str, Any]])

    def run(
        self,
        task_id: int,
        occurrence: datetime,
        *,
        available_at: datetime,
        serial: bool,
        trigger: Mapping[str, Any] | None,
    ) -> None:
        """Have a run made; `trigger`: what it carries out, where that is not the task's as it is stored."""
        self.runs.append(
            {
                "place": len(self.runs),
                "task_id": task_id,
                "occurrence": occurrence,
                "available_at": available_at,
                "serial": serial,
                "trigger": None if trigger is None else json.dumps(trigger),
            }
        )

    def skip(self, task_id: int, trigger: Mapping[str, Any], skipped: SkippedRange) -> None:
        """Have it recorded that occurrences are not run, and said in the task's log."""
        self.skips.append(skip_row(task_id, trigger, skipped, now=self.now))
        self.events.append(
            {
                "task_id": task_id,
                "run_id": None,
                "time": self.now,
                "level": "warning",
                "event": "occurrence.skipped",
                "message": skip_message(skipped),
            }
        )

    def advance(self, task_id: int, *, read: datetime | None, following: datetime | None) -> None:
        """Have a task go on from the occurrence that was read to the one that follows."""
        self.advances.append({"task_id": task_id, "read": read, "following": following})

    def write(self, session: Session) -> list[DueRun]:
        """Write all of it; return the runs, in the order in which they were decided."""
        session.flush()
        connection = session.connection()
        dialect = connection.dialect
        made: list[DueRun] = []
        if self.runs:
            rows = {"due": as_rows(dialect, self.runs), "now": self.now}
            found = connection.execute(_runs_made(dialect), rows).all()
            made = sorted(DueRun._make((*row, self.now)) for row in found)
            runs_fired(session, [(run.made_at - run.occurrence).total_seconds() for run in made])
        if self.skips:
            connection.execute(insert_unless_there(dialect, Skip).on_conflict_do_nothing(), self.skips)
        if self.events:
            connection.execute(insert(Event), self.events)
        fault_point("due.inserted")
        connection.execute(_tasks_advanced(dialect), {"advance": as_rows(dialect, self.advances)})
        return made


@lru_cache(maxsize=8)
def _runs_made(dialect: Dialect) -> ReturningInsert[Any]:
    due = handed_over(
        dialect,
        "due",
        place=Integer(),
        task_id=BigInteger(),
        occurrence=Instant(),
        available_at=Instant(),
        serial=Boolean(),
        trigger=Text(),
    ).c
    values: dict[str, Any] = {
        "task_id": col(Task.id),
        "chain": col(Task.chain),
        "occurrence": due.occurrence,
        "task_version": col(Task.version),
        "definition": definition_copied(dialect, due.trigger),
        "serial": due.serial,
        "created_at": bindparam("now", type_=Instant()),
        "available_at": due.available_at,
        "kind": inlined("schedule"),
        "state": inlined("queued"),
        **{name: literal_column(str(value), Integer) for name, value in UNTOUCHED.items()},
    }
    copied = select(*values.values()).where(col(Task.id) == due.task_id).order_by(due.place)
    returned: list[Any] = [Run.id, Run.task_id, Run.chain, Run.occurrence, Run.available_at]
    made: Any = insert_unless_there(dialect, Run).from_select(list(values), copied)
    return made.on_conflict_do_nothing().returning(*returned)


@lru_cache(maxsize=8)
def _tasks_advanced(dialect: Dialect) -> Update:
    advance = handed_over(dialect, "advance", task_id=BigInteger(), read=Instant(), following=Instant()).c
    return (
        update(Task)
        .where(col(Task.id) == advance.task_id, col(Task.next_run_at) == advance.read)
        .values(next_run_at=advance.following, revision=col(Task.revision) + 1)
    )
