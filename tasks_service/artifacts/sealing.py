"""The last step of every export: files that lie whole in the storage become one result, with its manifest beside it.

What lives here: the check that nothing is missing, the manifest, and the record the run keeps. What does not: how the
files came to lie there (one attempt that wrote them, or parts that were put together), and making them the run's (the
compare-and-set of database/endings.py). Called by export.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Protocol

from segments import Catalog
from tasks_service import __version__
from tasks_service.artifacts import Result, StoredFile, file_document, object_document
from tasks_service.artifacts.manifest import (
    CONTENT_TYPE,
    Manifest,
    ManifestArchive,
    ManifestColumn,
    ManifestFile,
    ManifestPart,
    ManifestSegment,
    ManifestService,
    to_bytes,
)
from tasks_service.artifacts.writing import Committed, stored_object
from tasks_service.errors import IncompleteError
from tasks_service.filenames import manifest_name
from tasks_service.formats.registry import described_columns, schema_of
from tasks_service.order import ExportOrder
from tasks_service.storage import StoredObject


class View(Protocol):
    """What is told of the frozen view all rows were read from; a `Snapshot` is one."""

    @property
    def total(self) -> int:
        """The exact number of its documents."""
        ...

    @property
    def taken_at(self) -> datetime:
        """The instant it shows."""
        ...

    @property
    def query(self) -> dict[str, Any]:
        """The compiled query."""
        ...

    @property
    def catalog(self) -> Catalog:
        """The catalogue it was opened with."""
        ...


@dataclass(frozen=True)
class Exported:
    """The outcome of an attempt: the artifact (None: nothing to write), its objects, the query for the record."""

    artifact: dict[str, Any] | None
    objects: tuple[StoredObject, ...]
    query: dict[str, Any]


def check_whole(documents: int, view: View) -> None:
    """Raise IncompleteError where other than all documents of the view were written."""
    if documents != view.total:
        raise IncompleteError(f"{documents} documents were read where the snapshot holds {view.total}.")


def seal(order: ExportOrder, view: View, result: Result, committed: Committed) -> Exported:
    """Put the manifest beside the files of a result, the last object of all, and describe what the run is to keep.

    Whatever it leaves unfinished is in `committed`, for its owner to take back. Raises IncompleteError where the files
    do not hold every document of the view, CorruptUploadError, StorageUnavailableError, StorageError.
    """
    check_whole(result.documents, view)
    name = manifest_name(result.archive.name if result.archive is not None else order.file_name)
    with stored_object(committed, order.folder, name, CONTENT_TYPE) as opened:
        opened.write(to_bytes(_manifest(order, view, result)))
        manifest = opened.commit()
    artifact = _record(order, view, result, manifest)
    return Exported(artifact=artifact, objects=tuple(committed.objects), query=view.query)


def _manifest(order: ExportOrder, view: View, result: Result) -> Manifest:
    target = order.target
    columns = described_columns(target, view.catalog, order.index)
    return Manifest(
        manifest_version=1,
        service=ManifestService(name="tasks-service", version=__version__),
        task=order.task,
        run=order.run,
        chain=order.chain,
        index=target["export_index"],
        occurrence=_instant(order.now),
        timezone=order.zone,
        snapshot_at=_instant(view.taken_at),
        format=target["export_format"],
        options=target.get("options") or {},
        compression=order.compression,
        split=target.get("split"),
        limit=target.get("limit"),
        dry_data=target.get("dry_data") or False,
        columns=None if columns is None else [ManifestColumn.model_validate(column) for column in columns],
        xml_schema=schema_of(target, view.catalog, order.index),
        segment=_segment(order),
        query=view.query,
        rows=result.rows,
        documents=result.documents,
        bytes=result.bytes,
        suspicious_cells=result.suspicious_cells,
        archive=_archive(result),
        files=[
            ManifestFile(
                name=file.name,
                rows=file.rows,
                documents=file.documents,
                **vars(file.written),
                parts=[ManifestPart(rows=part.rows, **vars(part.written)) for part in file.parts],
            )
            for file in result.files
        ],
    )


def _segment(order: ExportOrder) -> ManifestSegment | None:
    saved, version = order.saved_segment or (None, None)
    return None if order.segment is None else ManifestSegment(id=saved, version=version, rules=order.segment)


def _archive(result: Result) -> ManifestArchive | None:
    archive = result.archive
    return None if archive is None else ManifestArchive(name=archive.name, kind="zip", **vars(archive.written))


def _record(order: ExportOrder, view: View, result: Result, manifest: StoredFile) -> dict[str, Any]:
    """Return the artifact as the run keeps it. Where it is one object, that is described at its top."""
    files = [file_document(file) for file in result.files]
    whole: dict[str, Any] = {"file_name": order.file_name, "bytes": result.bytes}
    if result.archive is not None:
        whole = object_document(result.archive)
    elif order.target.get("split") is None:
        [whole] = files
    return {
        **whole,
        "bucket": manifest.stored.bucket,
        "rows": result.rows,
        "documents": result.documents,
        "format": order.target["export_format"],
        "compression": order.compression,
        "split": order.target.get("split"),
        "archive": None if result.archive is None else "zip",
        "suspicious_cells": result.suspicious_cells,
        "snapshot_at": _instant(view.taken_at),
        "files": files,
        "manifest": object_document(manifest),
    }


def _instant(moment: datetime) -> str:
    return moment.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ")
