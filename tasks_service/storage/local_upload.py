"""One upload to the local directory, from its first byte to its place or its disappearance.

What lives here: writing, finishing and giving up. What does not: where things lie (local_tree.py) and who may
upload what (local.py, which alone calls this).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import secrets
import shutil
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import google_crc32c

from tasks_service.errors import ServiceError, StorageError, StorageUnavailableError
from tasks_service.storage import StoredObject
from tasks_service.storage.local_tree import Tree, content_name, describe, sync_folder
from tasks_service.storage.names import already_exists

_PASSING = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EIO,
    errno.ESTALE,
    errno.ETIMEDOUT,
    errno.EMFILE,
    errno.ENFILE,
    errno.EAGAIN,
}
"""Errors that pass without anybody changing the configuration; a full disk does once old files expire."""


class LocalUpload:
    """An object being written, by one thread. Its owner calls `end` whatever happens."""

    def __init__(self, tree: Tree, name: str) -> None:
        self._tree = tree
        self._name = name
        self._folder = tree.uploads / secrets.token_hex(16)
        self._descriptor: int | None = None
        self._crc32c: Any = google_crc32c.Checksum()  # the library types its input as unknown
        self._size = 0
        self._generation: int | None = None
        self._broken = False
        self._committed = False

    def begin(self) -> None:
        """Make the upload's directory and file, and lock the file for as long as this process writes it."""
        with translated(), self._tree.lock(fcntl.LOCK_SH):
            self._folder.mkdir()
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            self._descriptor = os.open(self._folder / "data", flags, 0o644)
            fcntl.flock(self._descriptor, fcntl.LOCK_EX)

    def write(self, data: bytes) -> None:
        """Add bytes. Raises StorageUnavailableError (a full disk), StorageError."""
        descriptor = self._open()
        self._broken = True  # until all of it is written: half a piece must never be committed
        with translated():
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        self._crc32c.update(data)
        self._size += len(data)
        self._broken = False

    def commit(self) -> StoredObject:
        """Make the file durable and put it in place. Raises StorageError where the name is taken."""
        descriptor = self._open()
        self._broken = True
        with translated():
            os.fsync(descriptor)
            self._generation = self._tree.next_generation()
            content = content_name(self._generation, self._crc32c.digest())
            (self._folder / "data").rename(self._folder / content)
            sync_folder(self._folder)
            found = describe(self._name, self._tree.place(self._folder, self._name) / content)
        if found is None or found.stored.size != self._size:
            raise StorageUnavailableError("The file was deleted or changed while it was being finished; try again.")
        self._committed = True
        return found.stored

    def end(self) -> None:
        """Release the lock; where nothing was committed leave nothing, however far the commit came."""
        try:
            if not self._committed:
                self._leave_nothing()
        finally:
            descriptor, self._descriptor = self._descriptor, None
            if descriptor is not None:
                os.close(descriptor)

    def _leave_nothing(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
        if self._generation is not None:
            with contextlib.suppress(OSError):
                self._tree.delete(self._name, self._generation)
                self._tree.prune(self._name)

    def _open(self) -> int:
        if self._descriptor is None or self._broken:
            raise StorageError("This upload has ended or failed; begin another.")
        return self._descriptor


@contextmanager
def translated() -> Generator[None]:
    """Turn what the filesystem raises into the service's errors, without the machine's paths."""
    try:
        yield
    except OSError as error:
        raise _service_error(error) from error


def _service_error(error: OSError) -> ServiceError:
    if error.errno == errno.EEXIST:
        return already_exists()
    reason = os.strerror(error.errno) if error.errno else "unknown error"
    if error.errno in _PASSING:
        return StorageUnavailableError(f"The storage directory cannot be used now: {reason}.")
    return StorageError(
        f"The storage directory cannot be used: {reason}. "
        "The service's user must be able to create and write in the directory that local.directory names."
    )
