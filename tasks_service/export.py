"""What an export is, said once: compile, open the source, encode, upload, verify, describe.

`run_export` carries out one attempt and returns the artifact it finalised (files, and the manifest beside them), or
nothing where there was nothing to write and the task asks for no file. It knows nothing of leases, retries or the
database: progress goes through one callable, which also raises when the attempt must stop. Called by runner.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from contextlib import AbstractContextManager

from segments import EVERYTHING, Catalog, SegmentError, SortKey, Tree, compile_segment, read_sort
from tasks_service.artifacts import Result
from tasks_service.artifacts.sealing import Exported, check_whole, seal
from tasks_service.artifacts.splitting import KeepingEncoder, Layout, ResultWriter, result_writer
from tasks_service.artifacts.writing import Committed, taking_back
from tasks_service.errors import EmptyExportError, Fault, InvalidRequestError
from tasks_service.fault_points import fault_point
from tasks_service.formats import Encoder
from tasks_service.formats.registry import encoder_for
from tasks_service.order import ExportOrder
from tasks_service.parts import Board
from tasks_service.parts.coordinating import export_parts, is_divided, plan_to_go_on_with
from tasks_service.pipeline import encoded_chunks
from tasks_service.progress import Progress, Report
from tasks_service.sources import Snapshot, Source
from tasks_service.storage import Storage


class SegmentRefusedError(InvalidRequestError):
    """The index no longer answers this segment."""

    code = "segment_refused"


def run_export(
    order: ExportOrder, source: Source, storage: Storage, report: Report, board: Board | None = None
) -> Exported:
    """Export the rows of one chain that match one segment to new objects, all of them whole, or leave nothing.

    With a board a big export goes in parts, which other workers may write too; finished ones survive a failure.
    Raises a ServiceError that says whether trying again can help, or the StopAttempt that `report` raised.
    """
    report(Progress())
    with taking_back(storage) as committed, _view(order, source, board) as snapshot:
        fault_point("snapshot.opened")
        report(Progress(total=snapshot.total))
        if snapshot.total == 0 and not _wants_empty_file(order):
            return Exported(artifact=None, objects=(), query=snapshot.query)
        encoder = encoder_for(order.target, snapshot.catalog, order.index, rules=order.output_rules)
        if board is not None and is_divided(order, snapshot, encoder, board):
            result = export_parts(order, snapshot, encoder, committed, board, report)
        else:
            result = _export_whole(order, snapshot, encoder, committed, report)
        return seal(order, snapshot, result, committed)


def _view(order: ExportOrder, source: Source, board: Board | None) -> AbstractContextManager[Snapshot]:
    """Open a view of the documents as they are now, or the one that a former attempt has divided."""
    plan = plan_to_go_on_with(order, source, board) if board is not None else None
    if plan is not None:
        return source.resume(plan.handle)
    catalog = source.catalog(order.index)
    tree = compile_rows(order, catalog, source.catalogs())
    sort = compile_sort(order, catalog)
    return source.open(order.index, tree, chain=order.chain, limit=order.target.get("limit"), sort=sort)


def compile_rows(order: ExportOrder, catalog: Catalog, others: Mapping[str, Catalog]) -> Tree:
    """Compile the order's segment against the catalogues as they are now, at the run's own moment."""
    if order.segment is None:
        return EVERYTHING
    try:
        return compile_segment(order.segment, catalog, others, now=order.now, zone=order.local())
    except SegmentError as error:
        raise SegmentRefusedError(
            "The index no longer answers this segment: " + "; ".join(f"{f.pointer} {f.detail}" for f in error.faults),
            faults=[Fault(f"/trigger/segment{f.pointer}", f.code, f.detail) for f in error.faults],
        ) from error


def compile_sort(order: ExportOrder, catalog: Catalog) -> tuple[SortKey, ...]:
    """Return what the order's target sorts rows by, judged by the catalogue as it is now; nothing for any order."""
    wanted: object = order.target.get("sort")
    if wanted is None:
        return ()
    try:
        return read_sort(wanted, catalog)
    except SegmentError as error:
        raise InvalidRequestError(
            "Rows of the index can no longer be sorted as asked: " + "; ".join(fault.detail for fault in error.faults),
            faults=[Fault(f"/target/sort{fault.pointer}", fault.code, fault.detail) for fault in error.faults],
        ) from error


def _export_whole(
    order: ExportOrder, snapshot: Snapshot, encoder: Encoder, committed: Committed, report: Report
) -> Result:
    """Write every row by this attempt alone."""
    with result_writer(Layout.of(order), encoder, committed) as writer:
        _write_rows(order, snapshot, encoder, writer, report)
        return writer.finish()


def _write_rows(order: ExportOrder, snapshot: Snapshot, encoder: Encoder, writer: ResultWriter, report: Report) -> None:
    """Write every row; raise IncompleteError where the documents are not the snapshot's total."""

    def check() -> None:
        report(Progress(rows=writer.documents, total=snapshot.total, bytes_written=writer.size))

    writer.expect(snapshot.total)
    partitions = snapshot.partitions(order.readers) if snapshot.total else ()
    reading = KeepingEncoder(encoder) if writer.splits else encoder
    chunks = encoded_chunks(partitions, reading, buffer_bytes=order.buffer_bytes, check=check)
    with contextlib.closing(chunks):
        for chunk in chunks:
            writer.add(chunk)
    check_whole(writer.documents, snapshot)
    check()


def _wants_empty_file(order: ExportOrder) -> bool:
    on_empty = order.target.get("on_empty") or "file"
    if on_empty == "error":
        raise EmptyExportError
    return on_empty == "file"
