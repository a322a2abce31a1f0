"""The end of a divided export: the objects of all parts become one, which is read back and held against every part.

Called by coordinating.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from tasks_service.artifacts import ArtifactFile, FilePart, Written
from tasks_service.artifacts.writing import Committed, Meter
from tasks_service.errors import CorruptUploadError, IncompleteError
from tasks_service.formats import Encoder
from tasks_service.order import ExportOrder
from tasks_service.parts import PartFile
from tasks_service.storage import Storage, StoredObject


def join(
    order: ExportOrder,
    encoder: Encoder,
    committed: Committed,
    files: Sequence[PartFile],
    *,
    total: int,
    check: Callable[[int], None],
) -> ArtifactFile:
    """Put the parts together, in order, and verify every byte of what came of it.

    `check` is told how many bytes were read back. Raises IncompleteError, CorruptUploadError, StorageUnavailableError,
    StorageError; the object is in `committed`, for its owner to take back.
    """
    documents = sum(file.documents for file in files)
    if documents != total:
        raise IncompleteError(f"The parts hold {documents} documents where the snapshot holds {total}.")
    sources = [file.stored for file in files]
    stored = committed.storage.compose(order.object_name, sources, content_type=encoder.content_type)
    committed.objects.append(stored)
    written = _read_back(committed.storage, stored, files, check)
    if (stored.size, stored.crc32c) != (written.bytes, written.crc32c):
        raise CorruptUploadError(
            f"The storage reports {stored.size} bytes with crc32c {stored.crc32c} where {written.bytes} bytes with "
            f"crc32c {written.crc32c} lie in it."
        )
    return ArtifactFile(
        name=order.file_name,
        content_type=encoder.content_type,
        rows=sum(file.rows for file in files),
        documents=documents,
        suspicious_cells=sum(file.suspicious_cells for file in files),
        written=written,
        stored=stored,
        parts=tuple(FilePart(file.rows, file.written) for file in files),
    )


def _read_back(
    storage: Storage, stored: StoredObject, files: Sequence[PartFile], check: Callable[[int], None]
) -> Written:
    """Return what lies in the storage; raise CorruptUploadError where it is not the parts, byte for byte."""
    whole = Meter(lambda _data: None)
    pieces = storage.read(stored)
    rest = b""
    for number, file in enumerate(files):
        meter = Meter(whole.write)
        while meter.size < file.written.bytes:
            rest = rest or next(pieces, b"")
            check(whole.size)
            if not rest:
                raise CorruptUploadError(f"The file ends in part {number + 1} of {len(files)}.")
            left = file.written.bytes - meter.size
            meter.write(rest[:left])
            rest = rest[left:]
        if meter.written != file.written:
            raise CorruptUploadError(f"Part {number + 1} of {len(files)} is not in the file as it was written.")
    if rest or next(pieces, b""):
        raise CorruptUploadError("The file goes on behind its last part.")
    return whole.written
