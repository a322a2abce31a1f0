"""The moments at which a process may be struck down, by name: what the tests kill, stop and break it at.

What lives here: the table of names, and `fault_point`, which does nothing. What does not: any harm. Nothing a user can
set makes a fault point act: the tests call `strike_with` in processes of theirs (tests/chaos/inside.py), and without
that a call costs under a tenth of a microsecond. Called wherever a step is done that a crash may part from the next.

A name is the thing and what has just happened to it. `written` is inside the transaction, after the last statement and
before the commit; `committed` is after it, before anything is done about it.
"""

from __future__ import annotations

from collections.abc import Callable

FAULT_POINTS: dict[str, str] = {
    "task.written": "a created task, its first event and, if it is due, its run are written",
    "task.committed": "the task is stored and its client has not been answered",
    "due.selected": "a scheduler has locked due tasks and written nothing",
    "due.inserted": "the runs and skips of due tasks are inserted, next_run_at is not moved on",
    "due.written": "next_run_at is moved on too and the runs are offered",
    "due.committed": "the outcomes of due tasks are stored",
    "backfill.taken": "an occurrence is taken off what a backfill has still to run, its run is not made",
    "backfill.written": "the runs of a backfill that there is room for are made and offered",
    "backfill.committed": "the runs of a backfill are stored",
    "claim.abandoned": "a claim has ended the lapsed attempt of another worker and not begun its own",
    "claim.written": "a run is claimed, its new attempt inserted",
    "claim.committed": "the claim holds and its worker has not begun",
    "attempt.started": "the lease is being renewed and nothing was read",
    "beat.written": "a heartbeat is written",
    "beat.committed": "a heartbeat is stored",
    "object.written": "the name of the attempt's object is written",
    "object.committed": "the name of the attempt's object is stored, the object does not exist",
    "snapshot.opened": "the snapshot is open and counted",
    "snapshot.page": "a page of documents was read (each page)",
    "upload.begun": "the upload of an object (a file, then its manifest) is open and has no byte",
    "upload.chunk": "a chunk was handed to the upload of an object (each chunk)",
    "upload.complete": "every byte was handed to the upload, which is not finalised",
    "upload.finalised": "the object exists and was not compared with what was written",
    "upload.verified": "the object is verified and nobody's file (each object)",
    "push.written": "where the attempt pushes its files to is written",
    "push.committed": "where the attempt pushes its files to is stored, and nothing lies there",
    "push.begun": "the push of an object (a file, then its manifest) is open and has no byte",
    "push.chunk": "a piece was handed to the push of an object (each piece)",
    "push.complete": "every byte was handed to the push of an object, which has not appeared",
    "push.finalised": "the object lies at the destination and was not compared with what was pushed",
    "push.verified": "the object lies verified at the destination, its run is not published",
    "publish.written": "the object is made the run's file",
    "publish.committed": "the run is done",
    "publish.refused": "the run is another's by now, the object still exists",
    "failure.written": "a failed attempt is ended, its run queued again or failed",
    "failure.committed": "the failure is stored",
    "hand_back.written": "a draining worker's attempt is ended, its run queued again",
    "hand_back.committed": "the run is handed back",
    "cancel.written": "a cancelled attempt and its run are ended",
    "cancel.committed": "the cancellation is stored",
    "sweep.listed": "the sweeper has found an object that is nobody's and not deleted it",
    "sweep.deleted": "an object that was nobody's is deleted",
    "expiry.deleted": "an expired file is deleted and its run not told",
}
"""Every fault point and what has happened there."""

_strike: Callable[[str], None] | None = None


def fault_point(name: str) -> None:
    """Do nothing, or in a test what it wants to happen here."""
    if _strike is not None:
        _strike(name)


def strike_with(strike: Callable[[str], None] | None) -> None:
    """Have `strike` called with the name of every fault point this process reaches; None: nothing. For tests alone."""
    global _strike  # noqa: PLW0603 -- one process, one hook, and nothing to pay where there is none
    _strike = strike
