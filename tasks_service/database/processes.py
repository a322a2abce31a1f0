"""The processes of the service: each says who it is and what it does, every so often.

What lives here: the rows. What does not: when they are written (presence.py). Nothing is decided by them: leases alone
say whose a run is. Called by presence.py, sweeper.py, api/ and cli/.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Literal

from sqlalchemy import delete
from sqlmodel import Session, col, select

from tasks_service import __version__
from tasks_service.database.models import Process
from tasks_service.database.statements import Direction, insert_unless_there, page

Kind = Literal["web", "scheduler", "worker"]
State = Literal["idle", "working", "helping", "draining"]
"""`helping`: it writes a part of a run that another worker carries out. `draining`: it ends, whatever it finishes."""

SEEN_SECONDS = 10.0
"""A process says so often that it is there."""

LATE_SECONDS = 3 * SEEN_SECONDS
"""One that has not said so for that long is late: it hangs, it is cut off from the database, or it has died."""

_KEPT = timedelta(days=1)


@dataclass(frozen=True)
class Identity:
    """Who a process is."""

    name: str
    kind: Kind
    host: str
    pid: int
    version: str

    @classmethod
    def of_this(cls, kind: Kind) -> Identity:
        """Return the identity of the process this is called in."""
        host, pid = socket.gethostname(), os.getpid()
        return cls(f"{host}:{pid}", kind, host, pid, __version__)


def seen(session: Session, who: Identity, *, now: datetime, state: State, run_id: int | None = None) -> None:
    """Note that a process is there, and what it does; where it has no row, that it has just started."""
    said = {"seen_at": now, "state": state, "run_id": run_id}
    row = {"kind": who.kind, "host": who.host, "pid": who.pid, "version": who.version}
    statement = insert_unless_there(session.get_bind().dialect, Process)
    session.connection().execute(
        statement.values(name=who.name, started_at=now, **row, **said).on_conflict_do_update(
            index_elements=["name"], set_=said
        )
    )


def gone(session: Session, who: Identity) -> None:
    """Note that a process has ended as it should: it is not there any more."""
    session.exec(delete(Process).where(col(Process.name) == who.name))


def forget(session: Session, *, now: datetime) -> None:
    """Forget the processes that were last seen a day ago."""
    session.exec(delete(Process).where(col(Process.seen_at) < now - _KEPT))


def is_late(process: Process, *, now: datetime) -> bool:
    """Tell whether a process should have been seen since."""
    return now - process.seen_at > timedelta(seconds=LATE_SECONDS)


def list_processes(
    session: Session, *, limit: int, after: int | None = None, direction: Direction = "next"
) -> tuple[list[Process], bool]:
    """Return a page of processes, the ones started last first, and whether there are more (see `page`)."""
    return page(session, select(Process), Process, limit=limit, after=after, direction=direction)


def all_processes(session: Session) -> Sequence[Process]:
    """Return every process, by kind and name."""
    return session.exec(select(Process).order_by(col(Process.kind), col(Process.name))).all()
