"""The executor without a message: workers look at the run table by themselves, every poll interval.

An offer only shortens the wait of workers in the same process; on one machine the poll finds everything
else. Holds no state that the run table does not. Built by app.py.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime

from sqlalchemy import event
from sqlmodel import Session


class TableExecutor:
    """Wakes the workers of this process; the others poll."""

    def __init__(self) -> None:
        self._offered = threading.Event()
        self._stopped = threading.Event()

    def offer(self, session: Session, run_id: int, *, at: datetime | None = None) -> None:  # noqa: ARG002 -- the port's: others send both
        """Wake this process's workers once the transaction that queues the run is committed."""
        if self not in session.info.setdefault("woken", []):  # one wake-up a transaction, however many runs
            session.info["woken"].append(self)
            event.listen(session, "after_commit", self._wake)

    def wait(self, timeout_seconds: float) -> None:
        """Return when a run was offered in this process, when stopped, or after the timeout."""
        if not self._stopped.is_set():
            self._offered.wait(timeout_seconds)
            if not self._stopped.is_set():
                self._offered.clear()

    def stop(self) -> None:
        """End every wait, now and for good."""
        self._stopped.set()
        self._offered.set()

    def close(self) -> None:
        """Do nothing: nothing is held."""

    def rescue(self, session: Session, run_ids: Sequence[int]) -> int:  # noqa: ARG002 -- the port's
        """Do nothing: workers find every run by looking."""
        return 0

    def _wake(self, session: Session) -> None:  # noqa: ARG002 -- SQLAlchemy hands it to every listener
        self._offered.set()
