"""Storage in a bucket of Google Cloud Storage.

What lives here: the port over the client library, which is imported where it is first used and connected in
the process that uses it. What does not: one upload (gcs_upload.py), signed links (gcs_links.py,
gcs_signers.py), words for errors (gcs_errors.py). Called by app.py, export.py, sweeper.py, api/.
"""

from __future__ import annotations

import os
import secrets
import threading
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from tasks_service.config import GcsSettings
from tasks_service.errors import StorageError
from tasks_service.storage import SignedUrl, StoredObject
from tasks_service.storage.gcs_errors import SECTION, no_credentials, translated
from tasks_service.storage.gcs_links import DATED_BACK, LONGEST, Download, signed_url
from tasks_service.storage.gcs_signers import CLOUD_PLATFORM, READ_WRITE, Signer, choose_signer
from tasks_service.storage.gcs_upload import MARK, Address, GcsUpload, Marked, described
from tasks_service.storage.names import already_exists, attachment, checked_name, checked_prefix, source_gone
from tasks_service.storage.patience import Patience

GOOGLE = "https://storage.googleapis.com"

_CONNECT_SECONDS = 10.0
_CHECK_SECONDS = 10.0
_RANGE_BYTES = 8 * 1024 * 1024
_READING = ("storage.objects.get",)
_WRITING = ("storage.objects.create", "storage.objects.delete", "storage.objects.get", "storage.objects.list")
_UNKNOWN_TO_ENDPOINT = {404, 405, 501}


@dataclass(frozen=True)
class _Connection:
    """The vendor's objects of one process."""

    process: int
    credentials: Any
    client: Any
    bucket: Any


class GcsStorage:
    """A bucket. Safe to share between threads; connects at the first use in each process."""

    def __init__(
        self,
        settings: GcsSettings,
        *,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
        patience: Patience | None = None,
        section: str = SECTION,
    ) -> None:
        """Take the settings, and their section's name; the clock links are dated by; how long to wait for answers."""
        self._settings = settings
        self._section = section
        self._name = settings.bucket or ""
        self._endpoint = (settings.endpoint or GOOGLE).rstrip("/")
        self._now = now
        self._patience = patience or Patience()
        self._timeout = (min(_CONNECT_SECONDS, settings.timeout_seconds), settings.timeout_seconds)
        self._connecting = threading.Lock()
        self._connected: _Connection | None = None
        self._signer: Signer | None = None

    def upload(
        self, name: str, *, content_type: str, mark: str | None = None, replaces: int = 0
    ) -> AbstractContextManager[GcsUpload]:
        """Begin an object; see the port. Raises StorageError, StorageUnavailableError.

        Beyond the port: the mark it is known again by, and the generation that it is to take the place of.
        """
        return self._upload(checked_name(name), content_type, mark or secrets.token_hex(16), replaces)

    @contextmanager
    def _upload(self, name: str, content_type: str, mark: str, replaces: int) -> Generator[GcsUpload]:
        from google.auth.transport.requests import AuthorizedSession

        address = Address(
            endpoint=self._endpoint,
            bucket=self._name,
            section=self._section,
            name=name,
            content_type=content_type,
            mark=mark,
            replaces=replaces,
            chunk_bytes=self._settings.chunk_bytes,
            timeout=self._timeout,
            patience=self._patience,
        )
        # A session of its own: an upload belongs to one thread, and its connection ends with it.
        upload = GcsUpload(address, AuthorizedSession(self._connection().credentials), self)
        try:
            upload.begin()
            yield upload
        finally:
            upload.end()

    def compose(self, name: str, sources: Sequence[StoredObject], *, content_type: str) -> StoredObject:
        """Have the storage itself put the objects together; their bytes do not travel."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        mark = secrets.token_hex(16)
        generations = [source.generation for source in sources]
        with translated(self._name, self._section):
            bucket = self._connection().bucket
            blob = bucket.blob(checked_name(name))
            told = described(content_type, mark)
            blob.content_type, blob.content_disposition = told["contentType"], told["contentDisposition"]
            blob.cache_control, blob.metadata = told["cacheControl"], told["metadata"]
            try:
                blob.compose(
                    [bucket.blob(source.name, generation=source.generation) for source in sources],
                    if_generation_match=0,
                    if_source_generation_match=generations,
                    timeout=self._timeout,
                    retry=self._retry(),
                )
            except (NotFound, PreconditionFailed) as error:
                # An answer may have been lost, and the repetition met the object it had made.
                found = self.look(name)
                if found is None:
                    raise source_gone() from error
                if found.mark != mark:
                    raise already_exists() from error
                return found.stored
            return self._stored(blob)

    def read(self, stored: StoredObject) -> Iterator[bytes]:
        """Yield the bytes of this generation, asked for range by range, each patiently."""
        from google.api_core.exceptions import NotFound

        with translated(self._name, self._section):
            blob = self._connection().bucket.blob(checked_name(stored.name), generation=stored.generation)
        for start in range(0, stored.size, _RANGE_BYTES):
            end = min(start + _RANGE_BYTES, stored.size) - 1
            with translated(self._name, self._section):
                try:
                    piece: bytes = blob.download_as_bytes(
                        start=start,
                        end=end,
                        raw_download=True,
                        checksum=None,
                        timeout=self._timeout,
                        retry=self._retry(),
                    )
                except NotFound as error:
                    raise source_gone() from error
            yield piece

    def stat(self, name: str) -> StoredObject | None:
        """Return the live generation of an object, or None."""
        found = self.look(checked_name(name))
        return found.stored if found else None

    def look(self, name: str, *, patience: Patience | None = None) -> Marked | None:
        """Return the live object and the mark of its upload, or None."""
        with translated(self._name, self._section):
            blob = self._connection().bucket.get_blob(name, timeout=self._timeout, retry=self._retry(patience))
        if blob is None:
            return None
        metadata: dict[str, str] = blob.metadata or {}
        return Marked(self._stored(blob), metadata.get(MARK))

    def delete(self, name: str, *, generation: int | None, patience: Patience | None = None) -> bool:
        """Delete that generation (None: whichever is live); False if it is not there."""
        from google.api_core.exceptions import NotFound, PreconditionFailed

        with translated(self._name, self._section):
            blob = self._connection().bucket.blob(checked_name(name), generation=generation)
            try:
                blob.delete(if_generation_match=generation, timeout=self._timeout, retry=self._retry(patience))
            except (NotFound, PreconditionFailed):
                return False
        return True

    def list(self, prefix: str) -> Iterator[StoredObject]:
        """Yield the objects whose name begins with the prefix."""
        with translated(self._name, self._section):
            blobs = self._connection().client.list_blobs(
                self._name,
                prefix=checked_prefix(prefix),
                fields="items(name,generation,size,crc32c,timeCreated),nextPageToken",
                timeout=self._timeout,
                retry=self._retry(),
            )
            for blob in blobs:
                yield self._stored(blob)

    def sign(self, stored: StoredObject, *, file_name: str, content_type: str, lifetime: timedelta) -> SignedUrl:
        """Make a V4 link to exactly this generation. Without a key it is signed by IAM, a call to the network."""
        now = self._now().replace(microsecond=0)
        with translated(self._name, self._section):
            signer = self._link_signer()
            url = signed_url(
                Download(stored.bucket, stored.name, stored.generation, attachment(file_name), content_type),
                endpoint=self._endpoint,
                account=signer.account,
                sign=signer.sign,
                dated=now - DATED_BACK,
                lifetime=min(lifetime + DATED_BACK, LONGEST),
            )
        return SignedUrl(url=url, expires_at=now + min(lifetime, LONGEST - DATED_BACK))

    def close(self) -> None:
        """Close the client's connections; the next use opens new ones."""
        with self._connecting:
            connected, self._connected, self._signer = self._connected, None, None
        if connected is not None and connected.process == os.getpid():
            connected.client.close()

    def check(self, *, writing: bool = True) -> None:
        """Ask once which of the rights that are needed are held, and find who signs links."""
        timeout = min(_CHECK_SECONDS, self._settings.timeout_seconds)
        needed = _WRITING if writing else _READING
        with translated(self._name, self._section):
            missing = self._missing(self._connection(), needed, timeout)
            self._link_signer()
        if missing:
            raise StorageError(
                f"The service account lacks {', '.join(missing)} on bucket {self._name}; grant it Storage Object User "
                "(roles/storage.objectUser)."
            )

    def _missing(self, connection: _Connection, needed: tuple[str, ...], timeout: float) -> tuple[str, ...]:
        from google.api_core.exceptions import GoogleAPICallError

        try:
            held = connection.bucket.test_iam_permissions(list(needed), timeout=timeout, retry=None)
        except GoogleAPICallError as error:
            if error.code not in _UNKNOWN_TO_ENDPOINT:
                raise
            # Either the bucket or, at another endpoint than Google's, the question is unknown: a listing tells.
            list(connection.client.list_blobs(self._name, max_results=1, timeout=timeout, retry=None))
            return ()
        return tuple(name for name in needed if name not in held)

    # -- the vendor's side ----------------------------------------------------------------------------------------

    def _connection(self) -> _Connection:
        with self._connecting:
            if self._connected is None or self._connected.process != os.getpid():
                with translated(self._name, self._section):
                    self._connected = self._connect()
                    self._signer = None
            return self._connected

    def _connect(self) -> _Connection:
        from google.cloud import storage  # pyright: ignore[reportMissingTypeStubs] -- it has none

        credentials = self._credentials()
        options = {"api_endpoint": self._endpoint} if self._settings.endpoint else None
        # Without a project the library would search for one, over the network; objects need none.
        client: Any = storage.Client(project=None, credentials=credentials, client_options=options)
        return _Connection(os.getpid(), credentials, client, client.bucket(self._name))

    def _credentials(self) -> Any:  # noqa: ANN401 -- a vendor's object
        import google.auth

        if self._settings.credentials_file is None:
            library: Any = google.auth
            return library.default(scopes=[CLOUD_PLATFORM])[0]
        scope = CLOUD_PLATFORM if self._settings.signing_account else READ_WRITE
        return _key_credentials(self._settings.credentials_file, scope, self._section)

    def _link_signer(self) -> Signer:
        connection = self._connection()
        if self._signer is None:
            self._signer = choose_signer(
                connection.credentials,
                account=self._settings.signing_account,
                timeout=self._settings.timeout_seconds,
            )
        return self._signer

    def _retry(self, patience: Patience | None = None) -> Any:  # noqa: ANN401 -- a vendor's object
        """Return the library's own policy with our patience. All our calls are reads or carry a generation."""
        from google.cloud.storage.retry import DEFAULT_RETRY  # pyright: ignore[reportMissingTypeStubs] -- it has none

        patience = patience or self._patience
        retry: Any = DEFAULT_RETRY
        return retry.with_delay(initial=patience.first, maximum=patience.cap).with_timeout(patience.seconds)

    def _stored(self, blob: Any) -> StoredObject:  # noqa: ANN401 -- a vendor's object
        return StoredObject(
            bucket=self._name,
            name=blob.name,
            generation=int(blob.generation),
            size=int(blob.size),
            crc32c=blob.crc32c,
            created_at=blob.time_created,
        )


def _key_credentials(path: Path, scope: str, section: str) -> Any:  # noqa: ANN401 -- a vendor's object
    from google.oauth2 import service_account

    loader: Any = service_account.Credentials
    try:
        return loader.from_service_account_file(str(path), scopes=[scope])
    except (OSError, ValueError) as error:
        raise no_credentials(section) from error
