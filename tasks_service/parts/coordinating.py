"""A big export from its attempt's side: divide it, or go on where a former attempt was; work, wait, put together.

What is done survives everything but doubt: parts stay when a worker dies, is stopped or cannot reach something, and are
given up where the view they come from is gone or anything did not add up. Called by export.py.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager

import structlog

from tasks_service.artifacts import Result
from tasks_service.artifacts.writing import Committed
from tasks_service.errors import (
    Cancelled,
    CorruptUploadError,
    IncompleteError,
    ServiceError,
    SnapshotLostError,
)
from tasks_service.formats import Encoder
from tasks_service.order import ExportOrder
from tasks_service.parts import Board, Part, PartFile, Plan, Standing
from tasks_service.parts.joining import join
from tasks_service.parts.writing import can_be_parts, fingerprint, write_part
from tasks_service.progress import Progress, Report
from tasks_service.sources import Snapshot, Source
from tasks_service.storage import MOST_SOURCES

log = structlog.stdlib.get_logger(__name__)

_LOOK_SECONDS = 1.0
"""How often the attempt looks how far the others are."""

_RENEW_SECONDS = 10.0
"""How often a view is renewed that this attempt does not read; it lives for 30 s at least."""

_WHOLE_RESULTS = ("split", "archive", "limit", "sort")
"""What a target may ask for that one worker alone can do: an end after so many rows, the first rows, an order."""


def plan_to_go_on_with(order: ExportOrder, source: Source, board: Board) -> Plan | None:
    """Return the plan of a former attempt; None where there is none, or it had to be given up.

    Raises SourceUnavailableError where that cannot be known now.
    """
    plan = board.plan()
    if plan is None:
        return None
    if plan.fingerprint != fingerprint(order):
        return board.give_up("The service or the configuration of the index is another one now.")
    try:
        with source.resume(plan.handle) as snapshot:
            if None in board.standing().files:
                snapshot.renew()
    except SnapshotLostError as error:
        return board.give_up(error.detail)
    return plan


def is_divided(order: ExportOrder, snapshot: Snapshot, encoder: Encoder, board: Board) -> bool:
    """Tell whether the export goes in parts: it was divided before, or is worth it and can be, and is divided now."""
    if board.plan() is not None:
        return True
    whole = any(order.target.get(name) for name in _WHOLE_RESULTS)
    if whole or not can_be_parts(encoder) or not 0 < order.part_rows < snapshot.total:
        return False
    division = snapshot.divide(min(MOST_SOURCES, -(-snapshot.total // order.part_rows)), order.readers)
    if division is None or len(division.shares) == 1:
        snapshot.release()
        return False
    board.divide(fingerprint(order), division)
    log.info("run.divided", parts=len(division.shares), documents=snapshot.total)
    return True


def export_parts(
    order: ExportOrder, snapshot: Snapshot, encoder: Encoder, committed: Committed, board: Board, report: Report
) -> Result:
    """Write parts until all are whole, whoever writes them, and put them together to one file.

    Raises IncompleteError, CorruptUploadError, what reading and writing raise, and what `report` raises.
    """
    with _given_up_in_doubt(board, snapshot):
        attempt = _Attempt(order, snapshot, encoder, committed, board, report)
        files = attempt.work()
        file = join(order, encoder, committed, files, total=snapshot.total, check=attempt.verified)
    return Result(files=[file])


@contextmanager
def _given_up_in_doubt(board: Board, snapshot: Snapshot) -> Generator[None]:
    """Let go of the view where it is not needed any more, and of the parts where they cannot be trusted."""
    try:
        yield
    except (SnapshotLostError, IncompleteError, CorruptUploadError) as error:
        snapshot.release()
        board.give_up(error.detail)
        raise
    except ServiceError as error:
        if not error.retryable:
            snapshot.release()
        raise
    except Cancelled:
        snapshot.release()
        raise
    except Exception:
        snapshot.release()
        board.give_up("Something unexpected happened; the log of the service has the details.")
        raise
    snapshot.release()


class _Attempt:
    """One attempt's part in a divided run."""

    def __init__(
        self,
        order: ExportOrder,
        snapshot: Snapshot,
        encoder: Encoder,
        committed: Committed,
        board: Board,
        report: Report,
    ) -> None:
        self._order = order
        self._snapshot = snapshot
        self._encoder = encoder
        self._storage = committed.storage
        self._board = board
        self._report = report
        self._standing = board.standing()
        self._looked_at = self._renewed_at = time.monotonic()
        self._pause = threading.Event()

    def work(self) -> list[PartFile]:
        """Return all parts, once they are whole."""
        while True:
            part = self._board.take()
            if part is not None:
                self._write(part)
                continue
            standing = self._look()
            self._check(0, 0)
            whole = [file for file in standing.files if file is not None]
            if len(whole) == len(standing.files):
                return whole
            self._wait()

    def verified(self, size: int) -> None:
        """Report how much of the file was read back."""
        standing = self._standing
        self._report(Progress(standing.documents, self._snapshot.total, standing.bytes, size))

    def _write(self, part: Part) -> None:
        file = write_part(self._order, part, self._snapshot, self._encoder, self._storage, self._check)
        self._board.finish(part, file)
        log.info("part.finished", part=part.number + 1, parts=part.parts, rows=file.rows, bytes=file.written.bytes)
        self._renewed_at = time.monotonic()
        self._look()

    def _wait(self) -> None:
        """Wait a moment for the parts that others have; the view lives on meanwhile."""
        if time.monotonic() - self._renewed_at > _RENEW_SECONDS:
            self._snapshot.renew()
            self._renewed_at = time.monotonic()
        self._pause.wait(_LOOK_SECONDS)

    def _look(self) -> Standing:
        self._standing, self._looked_at = self._board.standing(), time.monotonic()
        return self._standing

    def _check(self, documents: int, size: int) -> None:
        """Report what all parts have written, and this attempt's own so far."""
        if time.monotonic() - self._looked_at > _LOOK_SECONDS:
            self._look()
        standing = self._standing
        self._report(Progress(standing.documents + documents, self._snapshot.total, standing.bytes + size))
