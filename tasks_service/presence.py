"""A process saying that it is there: who it is, what it does, every few seconds, until it ends as it should.

What lives here: the loop that says so, and the last word. What does not: the rows (database/processes.py), and any
decision: a row is for people to read, leases alone say whose a run is. Used by every process of cli/.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import structlog

from tasks_service.database import processes
from tasks_service.database.engine import Database
from tasks_service.database.processes import Identity, Kind, State
from tasks_service.errors import TransientError
from tasks_service.loops import Loops

log = structlog.stdlib.get_logger(__name__)

_LAST_WORD_SECONDS = 2.0
"""A process that ends waits so long for a database that is away: its row shows as late, and is forgotten in a day."""

Doing = Callable[[], tuple[State, int | None]]


def idle() -> tuple[State, int | None]:
    """Say that the process waits for work, or that its kind shows none."""
    return "idle", None


class Presence:
    """The row of this process. Made after any fork."""

    def __init__(self, database: Database, kind: Kind, doing: Doing = idle) -> None:
        """Take where to say it, what kind of process this is, and what tells its state and the run it works on."""
        self._database = database
        self._doing = doing
        self._lock = threading.Lock()
        self._started = self._ended = False
        self.identity = Identity.of_this(kind)

    def begin(self, loops: Loops) -> None:
        """Say it from a loop of its own, at once and then every ten seconds.

        What people read is not worth a process: it goes on, whatever becomes of this loop.
        """
        loops.start("presence", self.say, every_seconds=processes.SEEN_SECONDS, ends_process=False)

    def say(self) -> None:
        """Say it once. A database that does not answer is told the next time."""
        with self._lock:  # the last word is `end`'s
            if self._ended:
                return
            state, run_id = self._doing()
            try:
                with self._database.write() as session:
                    now = self._database.now(session)
                    if not self._started:
                        # A container starts with the name and number of the one before it: that one's row goes.
                        processes.gone(session, self.identity)
                    processes.seen(session, self.identity, now=now, state=state, run_id=run_id)
            except TransientError as error:
                log.warning("presence.unavailable", code=error.code, detail=error.detail)
            else:
                self._started = True

    def end(self) -> None:
        """Take the row away: the process ends as it should."""
        with self._lock:
            self._ended = True
            if not self._started:
                return
            try:
                self._database.retrying(
                    lambda session: processes.gone(session, self.identity), within_seconds=_LAST_WORD_SECONDS
                )
            except TransientError as error:
                log.warning("presence.unavailable", code=error.code, detail=error.detail)
