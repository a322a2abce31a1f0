"""What an export is, said once: compile, open the source, encode, upload, verify, describe.

`run_export` carries out one attempt and returns the artifact it finalised (files, and the manifest beside them), or
nothing where there was nothing to write and the task asks for no file. It knows nothing of leases, retries or the
database: progress goes through one callable, which also raises when the attempt must stop. Called by runner.py.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from zoneinfo import ZoneInfo

from segments import EVERYTHING, Catalog, SegmentError, Tree, compile_segment
from tasks_service.artifacts.sealing import Exported, check_whole, seal
from tasks_service.artifacts.splitting import KeepingEncoder, Layout, ResultWriter, result_writer
from tasks_service.artifacts.writing import taking_back
from tasks_service.errors import EmptyExportError, Fault, InvalidRequestError
from tasks_service.fault_points import fault_point
from tasks_service.formats import Encoder
from tasks_service.formats.registry import encoder_for
from tasks_service.order import ExportOrder
from tasks_service.pipeline import encoded_chunks
from tasks_service.sources import Snapshot, Source
from tasks_service.storage import Storage


@dataclass(frozen=True)
class Progress:
    """Where an attempt stands: documents and bytes written so far, and the exact total of its snapshot."""

    rows: int = 0
    total: int | None = None
    bytes_written: int = 0


class SegmentRefusedError(InvalidRequestError):
    """The index no longer answers this segment."""

    code = "segment_refused"


Report = Callable[[Progress], None]
"""Called at least once a second; raises StopAttempt when the attempt must end."""


def run_export(order: ExportOrder, source: Source, storage: Storage, report: Report) -> Exported:
    """Export the rows of one chain that match one segment to new objects, all of them whole, or leave nothing.

    Raises a ServiceError that says whether trying again can help, or the StopAttempt that `report` raised.
    """
    report(Progress())
    catalog = source.catalog(order.index)
    tree = compile_rows(order, catalog, source.catalogs())
    opened = source.open(order.index, tree, chain=order.chain, limit=order.target.get("limit"))
    with taking_back(storage) as committed, opened as snapshot:
        fault_point("snapshot.opened")
        report(Progress(total=snapshot.total))
        if snapshot.total == 0 and not _wants_empty_file(order):
            return Exported(artifact=None, objects=(), query=snapshot.query)
        encoder = encoder_for(order.target, snapshot.catalog, order.index)
        with result_writer(Layout.of(order), encoder, committed) as writer:
            _write_rows(order, snapshot, encoder, writer, report)
            result = writer.finish()
        return seal(order, snapshot, result, committed)


def compile_rows(order: ExportOrder, catalog: Catalog, others: Mapping[str, Catalog]) -> Tree:
    """Compile the order's segment against the catalogues as they are now, at the run's own moment."""
    if order.segment is None:
        return EVERYTHING
    try:
        return compile_segment(order.segment, catalog, others, now=order.now, zone=ZoneInfo(order.zone))
    except SegmentError as error:
        raise SegmentRefusedError(
            "The index no longer answers this segment: " + "; ".join(f"{f.pointer} {f.detail}" for f in error.faults),
            faults=[Fault(f"/trigger/segment{f.pointer}", f.code, f.detail) for f in error.faults],
        ) from error


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
