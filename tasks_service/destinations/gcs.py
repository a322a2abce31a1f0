"""A destination in a bucket of Google Cloud Storage.

Its objects are written by the same resumable sessions as the service's own (storage/gcs.py, which has the vendor's
library): checked by Google against their CRC-32C, finalised or absent, in the place of exactly one generation. A
session that was not finished shows nothing, cannot be listed, and lapses by itself. Called through registry.py.
"""

from __future__ import annotations

from collections.abc import Callable, Generator
from contextlib import AbstractContextManager, ExitStack, contextmanager

from tasks_service.config import DestinationSettings, GcsSettings
from tasks_service.destinations import (
    Arrived,
    DestinationChangedError,
    DestinationError,
    DestinationUnavailableError,
    unnoted,
)
from tasks_service.errors import StorageError, StorageUnavailableError
from tasks_service.storage import StoredObject, Upload
from tasks_service.storage.gcs import GcsStorage
from tasks_service.storage.names import NameTakenError
from tasks_service.storage.patience import Patience


class GcsDestination:
    """A bucket of somebody else's."""

    def __init__(self, name: str, settings: DestinationSettings, patience: Patience) -> None:
        """Take its name in the configuration, its settings, and how long an answer is waited for."""
        self._bucket = GcsStorage(
            GcsSettings.model_validate(
                {
                    "bucket": settings.bucket,
                    "credentials_file": settings.credentials_file,
                    "endpoint": settings.endpoint,
                    "timeout_seconds": settings.timeout_seconds,
                }
            ),
            patience=patience,
            section=f"destinations.{name}",
        )
        self._name = name
        self.place = f"gs://{settings.bucket}"

    def look(self, name: str) -> Arrived | None:
        """Return the object of that name, or None."""
        with self._translated():
            found = self._bucket.look(name)
        return None if found is None else _arrived(found.stored, found.mark)

    @contextmanager
    def put(
        self,
        name: str,
        *,
        content_type: str,
        size: int,
        mark: str,
        replaces: Arrived | None,
        begun: Callable[[str], None] = unnoted,
    ) -> Generator[_GcsDelivery]:
        """Begin an object; see the port. A session lapses by itself, so that nothing is told to `begun`."""
        del size, begun
        generation = 0 if replaces is None else int(replaces.version)
        upload = self._bucket.upload(name, content_type=content_type, mark=mark, replaces=generation)
        with ExitStack() as open_:
            with self._translated():
                session = open_.enter_context(upload)
            yield _GcsDelivery(session, mark, self._translated)

    def delete(self, arrived: Arrived) -> bool:
        """Delete that generation; False if it is not there any more."""
        with self._translated():
            return self._bucket.delete(arrived.name, generation=int(arrived.version))

    def abort(self, name: str, upload: str) -> bool:
        """Do nothing: a session that nobody goes on with shows nothing, and lapses."""
        del name, upload
        return False

    def close(self) -> None:
        """Close the connections."""
        self._bucket.close()

    @contextmanager
    def _translated(self) -> Generator[None]:
        """Say of errors that they are the destination's, not the service's own storage's."""
        try:
            yield
        except NameTakenError as error:
            raise DestinationChangedError from error
        except StorageUnavailableError as error:
            raise DestinationUnavailableError(f"{self._name}: {error.detail}", retry_after=error.retry_after) from error
        except StorageError as error:
            raise DestinationError(f"{self._name}: {error.detail}") from error


class _GcsDelivery:
    """An object on its way."""

    def __init__(self, upload: Upload, mark: str, translated: Callable[[], AbstractContextManager[None]]) -> None:
        self._upload = upload
        self._mark = mark
        self._translated = translated

    def write(self, data: bytes) -> None:
        """Add bytes."""
        with self._translated():
            self._upload.write(data)

    def commit(self) -> Arrived:
        """Finalise it."""
        with self._translated():
            return _arrived(self._upload.commit(), self._mark)


def _arrived(stored: StoredObject, mark: str | None) -> Arrived:
    return Arrived(stored.name, str(stored.generation), stored.size, stored.crc32c, mark)
