"""Where the files of a result lie: each an object of its own, or all of them in one archive.

Called by splitting.py, which says how many there are and what they are called.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Protocol

from tasks_service.artifacts import StoredFile
from tasks_service.artifacts.archive import CONTENT_TYPE, ZipArchive
from tasks_service.artifacts.writing import Committed, ObjectWriter, Write, stored_object
from tasks_service.filenames import archive_name
from tasks_service.formats import Encoder
from tasks_service.formats.registry import COMPRESSED_FORMATS

_COMPRESSED_TYPES = {"gzip": "application/gzip", "zstd": "application/zstd"}


class OpenFile(Protocol):
    """A file being written."""

    name: str
    content_type: str

    def write(self, data: bytes, /) -> object:
        """Add bytes."""
        ...

    def commit(self) -> StoredFile | None:
        """End it; return the object it is, or None where it lies in an archive."""
        ...


class Container(Protocol):
    """Where files are put, one after the other."""

    def file(self, name: str) -> AbstractContextManager[OpenFile]:
        """Begin a file."""
        ...

    def finish(self) -> StoredFile | None:
        """End it all; return the archive, if it is one."""
        ...

    def abandon(self) -> None:
        """Let nothing more come of it."""
        ...


@contextmanager
def container_of(
    folder: str, file_name: str, encoder: Encoder, compression: str, committed: Committed, *, archive: bool
) -> Generator[Container]:
    """Return where the files of an attempt go."""
    content_type = _COMPRESSED_TYPES.get(compression, encoder.content_type)
    if not archive:
        yield _Folder(folder, content_type, committed)
        return
    deflate = compression == "none" and encoder.extension not in COMPRESSED_FORMATS
    with stored_object(committed, folder, archive_name(file_name), CONTENT_TYPE) as opened:
        zipped = ZipArchive(opened.write, deflate=deflate)
        try:
            yield _Archive(zipped, opened, content_type)
        finally:
            zipped.abandon()
            zipped.finish()


class _Folder:
    """Every file an object."""

    def __init__(self, folder: str, content_type: str, committed: Committed) -> None:
        self._folder = folder
        self._content_type = content_type
        self._committed = committed

    def file(self, name: str) -> AbstractContextManager[ObjectWriter]:
        return stored_object(self._committed, self._folder, name, self._content_type)

    def finish(self) -> None:
        """Do nothing: there is nothing around the files."""

    def abandon(self) -> None:
        """Do nothing: an object that was not committed is none."""


@dataclass
class _Member:
    """A file inside an archive."""

    name: str
    content_type: str
    write: Write

    def commit(self) -> None:
        """Do nothing: what ends a member is the next one, or the end of the archive."""


class _Archive:
    """All files in one object."""

    def __init__(self, zipped: ZipArchive, opened: ObjectWriter, content_type: str) -> None:
        self._zipped = zipped
        self._opened = opened
        self._content_type = content_type

    @contextmanager
    def file(self, name: str) -> Generator[_Member]:
        with self._zipped.member(name) as write:
            yield _Member(name, self._content_type, write)

    def finish(self) -> StoredFile:
        self._zipped.finish()
        return self._opened.commit()

    def abandon(self) -> None:
        self._zipped.abandon()
