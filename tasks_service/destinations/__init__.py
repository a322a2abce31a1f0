"""The port of destinations: customers' buckets, which results are pushed to before they are published.

An object at a destination is whole or absent at any moment, is checked by the destination's own checksum, and carries
the mark of the push it came from: by it a later attempt knows what an earlier one of the same run left, and nobody
else's object is ever replaced or deleted by chance. Adapters: gcs.py and s3.py; which there are is the configuration's
(registry.py). What is pushed, under which names and in which order is pushing.py and paths.py. Called by delivering.py,
sweeper.py and cli/.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Protocol

from tasks_service.errors import ServiceError, TransientError


@dataclass(frozen=True)
class Arrived:
    """An object at a destination, as the destination reports it.

    Attributes:
        version: what tells this object from any other that ever had its name.
        crc32c: base64 of the big-endian checksum of all its bytes.
        mark: the push it came from; None where it is not of this service.
    """

    name: str
    version: str
    size: int
    crc32c: str
    mark: str | None


class Delivery(Protocol):
    """An object on its way, written from one thread."""

    def write(self, data: bytes) -> None:
        """Add bytes. Raises DestinationUnavailableError, DestinationError."""
        ...

    def commit(self) -> Arrived:
        """Let it appear, whole, and return what the destination itself reports of it.

        Raises DestinationChangedError where the object it was to replace is another one by now, or where there was to
        be none and is one; CorruptUploadError, DestinationUnavailableError, DestinationError.
        """
        ...


def unnoted(upload: str) -> None:
    """Note nothing of what was begun."""
    del upload


class Destination(Protocol):
    """A bucket of somebody else's. Safe to share between threads; connects lazily."""

    @property
    def place(self) -> str:
        """The bucket as a URI, `gs://acme-exports`."""
        ...

    def look(self, name: str) -> Arrived | None:
        """Return the object of that name, or None. Raises DestinationUnavailableError, DestinationError."""
        ...

    def put(
        self,
        name: str,
        *,
        content_type: str,
        size: int,
        mark: str,
        replaces: Arrived | None,
        begun: Callable[[str], None] = unnoted,
    ) -> AbstractContextManager[Delivery]:
        """Begin an object of so many bytes, in the place of exactly that one, or of none.

        What is begun and would stay, unseen, if this process died is told to `begun` before its first byte, by the id
        that `abort` takes; what `begun` raises ends it. Leaving the context without `commit`, by any way including
        BaseException, changes nothing that can be seen and leaves nothing; it ends nothing that others began under the
        same name.
        """
        ...

    def delete(self, arrived: Arrived) -> bool:
        """Delete exactly this object; False if it is not there any more."""
        ...

    def abort(self, name: str, upload: str) -> bool:
        """Give up exactly what was begun under that name and id; False if it is not there any more."""
        ...

    def close(self) -> None:
        """Release connections; a later use connects again."""
        ...


class DestinationError(ServiceError):
    """The destination refused the files."""

    code = "destination_refused"
    http_status = 502


class DestinationUnavailableError(TransientError):
    """The destination did not answer."""

    code = "destination_unavailable"


class DestinationChangedError(TransientError):
    """Somebody wrote to the same name at the destination at the same time."""

    code = "destination_changed"


class DestinationTakenError(ServiceError):
    """There is an object of that name at the destination, and it is not of this run."""

    code = "destination_taken"
    http_status = 409


class DestinationGoneError(ServiceError):
    """The destination is no longer configured, or no longer for this chain."""

    code = "destination_gone"
    http_status = 404
