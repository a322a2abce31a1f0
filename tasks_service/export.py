"""What an export is, said once: compile, open the source, encode, upload, verify, describe.

`run_export` carries out one attempt and returns the artifact it finalised, or nothing where there was nothing to write
and the task asks for no file. It knows nothing of leases, retries or the database: progress goes through one callable,
which also raises when the attempt must stop. Called by runner.py.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Protocol
from zoneinfo import ZoneInfo

import google_crc32c

from segments import EVERYTHING, Catalog, SegmentError, Tree, compile_segment
from tasks_service.config import IndexSettings
from tasks_service.errors import (
    CorruptUploadError,
    EmptyExportError,
    Fault,
    IncompleteError,
    InvalidRequestError,
)
from tasks_service.formats import Encoded, Encoder
from tasks_service.formats.compression import Compressor, compressor
from tasks_service.formats.registry import encoder_for
from tasks_service.pipeline import encoded_chunks
from tasks_service.sources import Snapshot, Source
from tasks_service.storage import Storage, StoredObject, Upload


@dataclass(frozen=True)
class ExportOrder:
    """One attempt's work. `now` is the run's occurrence: what relative rules are measured from."""

    chain: int
    index: IndexSettings
    target: dict[str, Any]
    segment: dict[str, Any] | None
    zone: str
    now: datetime
    object_name: str
    file_name: str
    readers: int
    buffer_bytes: int


@dataclass(frozen=True)
class Progress:
    """Where an attempt stands: documents and bytes written so far, and the exact total of its snapshot."""

    rows: int = 0
    total: int | None = None
    bytes_written: int = 0


@dataclass(frozen=True)
class Exported:
    """The outcome of an attempt: what was finalised (None: nothing to write), and the compiled query for the record."""

    artifact: dict[str, Any] | None
    stored: StoredObject | None
    query: dict[str, Any]


class SegmentRefusedError(InvalidRequestError):
    """The index no longer answers this segment."""

    code = "segment_refused"


Report = Callable[[Progress], None]
"""Called at least once a second; raises StopAttempt when the attempt must end."""


def run_export(order: ExportOrder, source: Source, storage: Storage, report: Report) -> Exported:
    """Export the rows of one chain that match one segment to one new object, whole, or leave nothing.

    Raises a ServiceError that says whether trying again can help, or the StopAttempt that `report` raised.
    """
    report(Progress())
    catalog = source.catalog(order.index)
    tree = compile_rows(order, catalog, source.catalogs())
    with source.open(order.index, tree, chain=order.chain, limit=order.target.get("limit")) as snapshot:
        report(Progress(total=snapshot.total))
        if snapshot.total == 0 and not _wants_empty_file(order):
            return Exported(artifact=None, stored=None, query=snapshot.query)
        encoder = encoder_for(order.target, snapshot.catalog, order.index)
        compression = compressor(order.target.get("compression") or "none")
        with storage.upload(order.object_name, content_type=_content_type(encoder, order.target)) as upload:
            written = _write(order, snapshot, encoder, _Sink(upload, compression), report)
            stored = upload.commit()
    _verify(stored, written, storage)
    return Exported(artifact=_describe(order, snapshot, encoder, written, stored), stored=stored, query=snapshot.query)


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


class _Checksum(Protocol):
    """What is used of google_crc32c's untyped checksum."""

    def update(self, chunk: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class _Sink:
    """The last stretch: compress, count, checksum, upload."""

    def __init__(self, upload: Upload, compression: Compressor) -> None:
        self._upload = upload
        self._compression = compression
        self._sha256 = hashlib.sha256()
        self._crc32c: _Checksum = google_crc32c.Checksum()
        self.size = 0
        self.rows = 0
        self.documents = 0
        self.suspicious_cells = 0

    def write(self, data: bytes) -> None:
        self._store(self._compression.feed(data))

    def count(self, page: Encoded) -> None:
        self.rows += page.rows
        self.documents += page.documents
        self.suspicious_cells += page.suspicious_cells

    def finish(self) -> None:
        self._store(self._compression.finish())

    def _store(self, data: bytes) -> None:
        if data:
            self._sha256.update(data)
            self._crc32c.update(data)
            self.size += len(data)
            self._upload.write(data)

    @property
    def sha256(self) -> str:
        return self._sha256.hexdigest()

    @property
    def crc32c(self) -> str:
        return base64.b64encode(self._crc32c.digest()).decode()


def _write(order: ExportOrder, snapshot: Snapshot, encoder: Encoder, sink: _Sink, report: Report) -> _Sink:
    """Write the whole file into the sink; raise IncompleteError where the documents are not the snapshot's total."""

    def check() -> None:
        report(Progress(rows=sink.documents, total=snapshot.total, bytes_written=sink.size))

    writer = encoder.writer()
    partitions = snapshot.partitions(order.readers) if snapshot.total else ()
    chunks = encoded_chunks(partitions, encoder, buffer_bytes=order.buffer_bytes, check=check)
    with contextlib.closing(chunks):
        for chunk in chunks:
            sink.write(writer.add(chunk))
            sink.count(chunk)
    sink.write(writer.finish())
    sink.finish()
    if sink.documents != snapshot.total:
        raise IncompleteError(f"{sink.documents} documents were read where the snapshot holds {snapshot.total}.")
    check()
    return sink


def _verify(stored: StoredObject, written: _Sink, storage: Storage) -> None:
    """Compare what the storage reports with what was written; an object that differs is deleted."""
    if (stored.size, stored.crc32c) != (written.size, written.crc32c):
        storage.delete(stored.name, generation=stored.generation)
        raise CorruptUploadError(
            f"The storage reports {stored.size} bytes with crc32c {stored.crc32c} where {written.size} bytes "
            f"with crc32c {written.crc32c} were written."
        )


def _describe(
    order: ExportOrder, snapshot: Snapshot, encoder: Encoder, written: _Sink, stored: StoredObject
) -> dict[str, Any]:
    """Return the artifact as the run keeps it."""
    return {
        "bucket": stored.bucket,
        "object": stored.name,
        "generation": stored.generation,
        "bytes": stored.size,
        "rows": written.rows,
        "documents": written.documents,
        "crc32c": stored.crc32c,
        "sha256": written.sha256,
        "file_name": order.file_name,
        "format": order.target["export_format"],
        "compression": order.target.get("compression") or "none",
        "content_type": _content_type(encoder, order.target),
        "suspicious_cells": written.suspicious_cells,
        "snapshot_at": snapshot.taken_at.strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "stored_at": stored.created_at.isoformat(),
    }


def _wants_empty_file(order: ExportOrder) -> bool:
    on_empty = order.target.get("on_empty") or "file"
    if on_empty == "error":
        raise EmptyExportError
    return on_empty == "file"


def _content_type(encoder: Encoder, target: dict[str, Any]) -> str:
    by_compression = {"gzip": "application/gzip", "zstd": "application/zstd"}
    return by_compression.get(target.get("compression") or "none", encoder.content_type)
