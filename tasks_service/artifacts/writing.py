"""Bytes on their way into the storage: counted, checksummed, finalised, and held against what the storage reports.

What lives here: one object (`stored_object`), one encoded file wherever its bytes go (`FileWriter`), and the promise
that an attempt which fails takes back what it had finalised (`taking_back`). What does not: how many files there are
and what they are called (splitting.py). Called by export.py and its neighbours here.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Protocol

import google_crc32c
import structlog

from tasks_service.artifacts import StoredFile, Written
from tasks_service.errors import CorruptUploadError, ServiceError
from tasks_service.fault_points import fault_point
from tasks_service.formats import Encoded, Encoder, Joints
from tasks_service.formats.compression import Compressor
from tasks_service.storage import Storage, StoredObject, Upload

log = structlog.stdlib.get_logger(__name__)

Write = Callable[[bytes], object]
"""Takes bytes further on their way."""


class _Checksum(Protocol):
    """What is used of google_crc32c's untyped checksum."""

    def update(self, chunk: bytes, /) -> None: ...

    def digest(self) -> bytes: ...


class Meter:
    """Counts and checksums bytes, and passes them on."""

    def __init__(self, write: Write) -> None:
        self._write = write
        self._sha256 = hashlib.sha256()
        self._crc32c: _Checksum = google_crc32c.Checksum()
        self.size = 0

    def write(self, data: bytes) -> int:
        """Take bytes; return how many, as a file does."""
        if data:
            self._sha256.update(data)
            self._crc32c.update(data)
            self.size += len(data)
            self._write(data)
        return len(data)

    @property
    def written(self) -> Written:
        """What went through so far."""
        return Written(self.size, base64.b64encode(self._crc32c.digest()).decode(), self._sha256.hexdigest())


class Committed:
    """The objects an attempt has finalised so far."""

    def __init__(self, storage: Storage) -> None:
        self.storage = storage
        self.objects: list[StoredObject] = []

    def take_back(self) -> None:
        """Delete them all; what cannot be deleted now is the sweeper's."""
        for stored in self.objects:
            try:
                self.storage.delete(stored.name, generation=stored.generation)
            except ServiceError as error:
                log.warning("export.object_left", object_name=stored.name, code=error.code)


@contextmanager
def taking_back(storage: Storage) -> Generator[Committed]:
    """Collect what is finalised inside, and delete it again where the inside does not come to its end."""
    committed = Committed(storage)
    try:
        yield committed
    except BaseException:
        committed.take_back()
        raise


class ObjectWriter:
    """One object being written."""

    def __init__(self, upload: Upload, name: str, content_type: str, committed: Committed) -> None:
        self.name = name
        self.content_type = content_type
        self._upload = upload
        self._committed = committed
        self._meter = Meter(upload.write)

    def write(self, data: bytes) -> int:
        """Add bytes. Raises StorageUnavailableError, StorageError."""
        size = self._meter.write(data)
        fault_point("upload.chunk")
        return size

    def commit(self) -> StoredFile:
        """Finalise the object, and compare what the storage reports with what was written.

        Raises CorruptUploadError where they differ; whoever collects the committed objects deletes it then.
        """
        fault_point("upload.complete")
        stored, written = self._upload.commit(), self._meter.written
        self._committed.objects.append(stored)
        fault_point("upload.finalised")
        if (stored.size, stored.crc32c) != (written.bytes, written.crc32c):
            raise CorruptUploadError(
                f"The storage reports {stored.size} bytes with crc32c {stored.crc32c} where {written.bytes} bytes "
                f"with crc32c {written.crc32c} were written."
            )
        fault_point("upload.verified")
        return StoredFile(self.name, self.content_type, written, stored)


@contextmanager
def stored_object(committed: Committed, folder: str, name: str, content_type: str) -> Generator[ObjectWriter]:
    """Begin the object `folder/name`; left without a commit, by any way, there is none."""
    with committed.storage.upload(f"{folder}/{name}", content_type=content_type) as upload:
        fault_point("upload.begun")
        yield ObjectWriter(upload, name, content_type, committed)


class FileWriter:
    """One file of encoded pages, compressed, wherever `write` takes its bytes."""

    def __init__(self, encoder: Encoder, compression: Compressor, write: Write) -> None:
        self._joints = encoder.joints or Joints()
        self._writer = encoder.writer()
        self._compression = compression
        self._meter = Meter(write)
        self._encoded_bytes = 0
        self.rows = 0
        self.documents = 0
        self.suspicious_cells = 0

    @property
    def size(self) -> int:
        """Bytes written so far, as they are stored."""
        return self._meter.size

    def size_with(self, page: Encoded) -> int:
        """Return how many bytes, before compression, a file whose pages are joined would have, ended with this page."""
        before = self._joints.separator if self.rows else self._joints.header
        return self._encoded_bytes + len(before) + len(page.data) + len(self._joints.footer)

    def add(self, page: Encoded) -> None:
        """Add a page of whole rows."""
        self._put(self._writer.add(page))
        self.rows += page.rows
        self.documents += page.documents
        self.suspicious_cells += page.suspicious_cells

    def finish(self) -> Written:
        """Write the end of the file; return what it is."""
        self._put(self._writer.finish())
        self._meter.write(self._compression.finish())
        return self._meter.written

    def _put(self, data: bytes) -> None:
        self._encoded_bytes += len(data)
        self._meter.write(self._compression.feed(data))
