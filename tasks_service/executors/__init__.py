"""The port of executors: what wakes workers. Adapter: table.py (workers look at the run table by themselves).

An executor carries a run's id and nothing the run table does not know: a wake-up may be lost, doubled or late and no
run suffers, because a worker always claims from the run table.
"""

from __future__ import annotations

from typing import Protocol

from sqlmodel import Session


class Executor(Protocol):
    """Wakes workers."""

    def offer(self, session: Session, run_id: int) -> None:
        """Announce a run inside the transaction that makes it. Called at most a few times per run; never raises."""
        ...

    def wait(self, timeout_seconds: float) -> None:
        """Return when a run may have been offered, or after the timeout. Called by an idle worker."""
        ...

    def stop(self) -> None:
        """End every wait now and for good: the worker is draining."""
        ...
