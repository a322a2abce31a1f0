"""The port of executors: what wakes workers.

Adapters: table.py (workers look at the run table by themselves), procrastinate.py (messages through PostgreSQL).

An executor carries a run's id and nothing the run table does not know: a wake-up may be lost, doubled or late and no
run suffers, because a worker always claims from the run table. What was lost is offered again by rescuer.py.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Protocol

from sqlmodel import Session


class Executor(Protocol):
    """Wakes workers."""

    def offer(self, session: Session, run_id: int, *, at: datetime | None = None) -> None:
        """Announce a run inside the transaction that queues it, for `at` where it is available only then.

        Called at most a few times per run; never raises.
        """
        ...

    def wait(self, timeout_seconds: float) -> None:
        """Return when a run may have been offered, or after the timeout, or somewhat earlier.

        Called by a worker that has found nothing to claim: the message that woke it has done its work.
        """
        ...

    def stop(self) -> None:
        """End every wait now and for good: the worker is draining."""
        ...

    def close(self) -> None:
        """Release what is held; a message that woke a worker which did not come to its end wakes another."""
        ...

    def rescue(self, session: Session, run_ids: Sequence[int]) -> int:
        """Offer those of these runs again that no message waits for, and clear away what dead workers left.

        Return how many were offered. Called by one process at a time, inside a transaction.
        """
        ...
