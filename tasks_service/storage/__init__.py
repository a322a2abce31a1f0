"""The port of storage: where files are written and signed. Adapters: gcs.py and local.py.

A file is written under an object name that no other attempt can share, is finalised or absent, and is never truncated:
an `Upload` that is not committed leaves nothing. The conformance suite in tests/contract runs over every adapter.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

MOST_SOURCES: Final = 32
"""How many objects are put together at once; Google Cloud Storage takes no more."""

LINKS_AT_ONCE: Final = 8
"""How many links to the files of one result are signed at once: each may be a call to the network."""


@dataclass(frozen=True)
class StoredObject:
    """One finalised object. `crc32c` is the base64 of the big-endian checksum, as Google Cloud Storage writes it."""

    bucket: str
    name: str
    generation: int
    size: int
    crc32c: str
    created_at: datetime


@dataclass(frozen=True)
class SignedUrl:
    """A link to one generation of one object. Never stored, never logged."""

    url: str
    expires_at: datetime

    def __repr__(self) -> str:
        """Hide the link: a repr ends in logs and tracebacks."""
        return f"SignedUrl(url='...', expires_at={self.expires_at!r})"


class Upload(Protocol):
    """An object being written, in binary, from one thread."""

    def write(self, data: bytes) -> None:
        """Add bytes. Raises StorageUnavailableError, StorageError."""
        ...

    def commit(self) -> StoredObject:
        """Finalise the object and return what the storage itself reports of it (size, checksum, generation)."""
        ...


class Storage(Protocol):
    """A bucket. Safe to share between threads; connects lazily."""

    def upload(self, name: str, *, content_type: str) -> AbstractContextManager[Upload]:
        """Begin an object that must not exist yet.

        Leaving the context without `commit`, by any way including BaseException, leaves no object.
        """
        ...

    def compose(self, name: str, sources: Sequence[StoredObject], *, content_type: str) -> StoredObject:
        """Put 1 to MOST_SOURCES objects together, in order, to one that must not exist yet; return what is reported.

        The sources stay. It is whole or absent, and of exactly these generations: raises CorruptUploadError where one
        of them is not there any more; StorageUnavailableError, StorageError.
        """
        ...

    def read(self, stored: StoredObject) -> Iterator[bytes]:
        """Yield the bytes of exactly this generation, from its first to its last.

        Raises CorruptUploadError where it is not there any more; StorageUnavailableError, StorageError.
        """
        ...

    def stat(self, name: str) -> StoredObject | None:
        """Return the live generation of an object, or None."""
        ...

    def delete(self, name: str, *, generation: int | None) -> bool:
        """Delete that generation (None: whichever is live); False if it is not there. Idempotent."""
        ...

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield every object under a prefix (the sweeper of orphans asks)."""
        ...

    def sign(self, stored: StoredObject, *, file_name: str, content_type: str, lifetime: timedelta) -> SignedUrl:
        """Make a link to exactly this generation that downloads as `file_name`."""
        ...

    def close(self) -> None:
        """Release connections; a later use connects again."""
        ...

    def check(self, *, writing: bool = True) -> None:
        """Answer quickly if the bucket can be used; raise StorageUnavailableError or StorageError otherwise.

        Without `writing` only what the web needs is asked: an identity that may not write is enough for it.
        """
        ...
