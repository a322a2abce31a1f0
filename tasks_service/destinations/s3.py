"""A destination in a bucket of Amazon S3, or of what speaks it.

What lives here: the port over boto3, which is imported where it is first used. What does not: words for errors
(s3_errors.py). Called through registry.py.

Every part and every object is sent with its CRC-32C, which the bucket checks; a large object goes in parts and comes to
be by one request that names the CRC-32C of the whole. Both that request and the one that writes a small object carry
what must be there until then (nothing, or the object that is to be replaced). The object carries the mark of its push,
by which an answer that got lost is told from somebody else's object.
"""

from __future__ import annotations

import base64
import os
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager
from typing import Any, TypeVar

import google_crc32c
import structlog

from tasks_service.config import DestinationSettings
from tasks_service.destinations import (
    Arrived,
    DestinationChangedError,
    DestinationError,
    DestinationUnavailableError,
    unnoted,
)
from tasks_service.destinations.s3_errors import LostUploadError, Told
from tasks_service.errors import ServiceError
from tasks_service.storage.patience import Patience

log = structlog.stdlib.get_logger(__name__)

T = TypeVar("T")

MARK = "tasks-service-upload"
"""Key of the object metadata that names the push an object came from; as in storage/gcs_upload.py."""

_PART_BYTES = 8 * 1024 * 1024
_MOST_PARTS = 10_000
_MEBIBYTE = 1024 * 1024
_CONNECT_SECONDS = 10.0
_CLEAN_UP = Patience(seconds=5.0, first=0.2, cap=1.0)


def part_bytes(size: int) -> int:
    """Return how large the parts of an object of so many bytes are: 8 MiB, or more where it would have too many."""
    least = -(-size // _MOST_PARTS)
    return max(_PART_BYTES, -(-least // _MEBIBYTE) * _MEBIBYTE)


def crc32c_of(data: bytes) -> str:
    """Return the CRC-32C of bytes as S3 writes it: big-endian, in base64."""
    checksum: Any = google_crc32c.Checksum(data)
    return base64.b64encode(checksum.digest()).decode()


class S3Destination:
    """A bucket of somebody else's. Safe to share between threads; connects at the first use in each process."""

    def __init__(self, name: str, settings: DestinationSettings, patience: Patience) -> None:
        """Take its name in the configuration, its settings, and how long an answer is waited for."""
        self._settings = settings
        self._patience = patience
        self._told = Told(name, settings.bucket)
        self._connecting = threading.Lock()
        self._connected: tuple[int, Any] | None = None
        self.bucket = settings.bucket
        self.place = f"s3://{settings.bucket}"

    def look(self, name: str, *, patience: Patience | None = None) -> Arrived | None:
        """Return the object of that name, or None."""
        try:
            found = self.call("head_object", patience, Key=name, ChecksumMode="ENABLED")
        except _NothingThereError:
            return None
        # Names of headers have no case, and what speaks S3 may write them anyhow.
        metadata = {key.lower(): value for key, value in found["Metadata"].items()}
        return Arrived(
            name=name,
            version=found["ETag"],
            size=found["ContentLength"],
            crc32c=found.get("ChecksumCRC32C", ""),
            mark=metadata.get(MARK),
        )

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
    ) -> Generator[_Small | _Large]:
        """Begin an object; see the port."""
        condition: dict[str, Any] = {"IfNoneMatch": "*"} if replaces is None else {"IfMatch": replaces.version}
        described: dict[str, Any] = {
            "ContentType": content_type,
            "ContentDisposition": "attachment",
            "CacheControl": "private, no-store",
            "Metadata": {MARK: mark},
        }
        kind = _Small if size <= _PART_BYTES else _Large
        delivery = kind(self, name, size, mark, described, condition, begun)
        try:
            delivery.begin()
            yield delivery
        finally:
            delivery.end()

    def delete(self, arrived: Arrived, *, patience: Patience | None = None) -> bool:
        """Delete exactly this object; False if it is not there any more.

        S3 tells objects apart by their content: another push of the same bytes is the same to its condition, so that
        the mark is looked at first.
        """
        found = self.look(arrived.name, patience=patience)
        if found is None or (found.version, found.mark) != (arrived.version, arrived.mark):
            return False
        try:
            self.call("delete_object", patience, Key=arrived.name, IfMatch=arrived.version)
        except (_NothingThereError, DestinationChangedError):
            return False
        return True

    def abort(self, name: str, upload: str, *, patience: Patience | None = None) -> bool:
        """Give up one upload in parts; False if it is not there any more.

        By its id alone: who began another upload of the name cannot be told, and it may be a successor's.
        """
        try:
            self.call("abort_multipart_upload", patience, Key=name, UploadId=upload)
        except (LostUploadError, _NothingThereError):
            return False
        return True

    def settled(self, name: str, mark: str, write: Callable[[], object]) -> Arrived:
        """Let an object appear by a request, and return what the bucket reports of it.

        An answer may get lost, and the repetition meet what the first had made: then the object bears the mark.
        Raises DestinationChangedError where what was to be there is not.
        """
        try:
            write()
        except (_NothingThereError, DestinationChangedError, LostUploadError) as error:
            found = self.look(name)
            if found is None or found.mark != mark:
                if isinstance(error, _NothingThereError):
                    raise DestinationChangedError from error  # what was to be replaced is gone
                raise
        else:
            found = self.look(name)
        if found is None or found.mark != mark:
            raise DestinationChangedError
        if not found.crc32c or "-" in found.crc32c:
            raise DestinationError(
                f"{self._told.name}: the service of bucket {self.bucket} reports no CRC-32C of whole objects, without "
                "which nothing can be verified there."
            )
        return found

    def close(self) -> None:
        """Close the connections; the next use opens new ones."""
        with self._connecting:
            connected, self._connected = self._connected, None
        if connected is not None and connected[0] == os.getpid():
            connected[1].close()

    # -- the vendor's side --------------------------------------------------------------------------------------------

    def call(self, operation: str, patience: Patience | None = None, **members: Any) -> Any:  # noqa: ANN401 -- a vendor's answer
        """Ask the bucket something, again while it does not answer and patience lasts. Every call may be repeated."""
        failure: ServiceError | None = None
        for _ in (patience or self._patience).attempts():
            try:
                return self._ask(operation, members)
            except LostUploadError:
                raise
            except DestinationUnavailableError as error:
                failure = error
        raise failure or DestinationUnavailableError

    def _ask(self, operation: str, members: dict[str, Any]) -> Any:  # noqa: ANN401 -- a vendor's answer
        from botocore.exceptions import ClientError  # pyright: ignore[reportMissingTypeStubs] -- it has none

        refused: Any = ClientError
        with self._told.translated():
            try:
                return getattr(self._client(), operation)(Bucket=self.bucket, **members)
            except refused as error:
                if error.response.get("Error", {}).get("Code") in {"NoSuchKey", "404", "NotFound"}:
                    raise _NothingThereError from error
                raise

    def _client(self) -> Any:  # noqa: ANN401 -- a vendor's object
        with self._connecting:
            if self._connected is None or self._connected[0] != os.getpid():
                self._connected = (os.getpid(), self._connect())
            return self._connected[1]

    def _connect(self) -> Any:  # noqa: ANN401 -- a vendor's object
        import boto3  # pyright: ignore[reportMissingTypeStubs] -- it has none
        from botocore.config import Config  # pyright: ignore[reportMissingTypeStubs] -- it has none

        settings = self._settings
        secret = settings.secret_access_key
        library: Any = boto3
        session = library.session.Session(
            aws_access_key_id=settings.access_key_id,
            aws_secret_access_key=None if secret is None else secret.get_secret_value(),
            region_name=settings.region,
            profile_name=settings.profile,
        )
        make: Any = Config
        config = make(
            connect_timeout=min(_CONNECT_SECONDS, settings.timeout_seconds),
            read_timeout=settings.timeout_seconds,
            # Repeated here, for as long as patience lasts.
            retries={"total_max_attempts": 1, "mode": "standard"},
            # Checksums are our own, of the bytes as they were read.
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            # At another endpoint than Amazon's a bucket seldom has a host name.
            s3={"addressing_style": "path" if settings.endpoint else "auto"},
        )
        return session.client("s3", endpoint_url=settings.endpoint, config=config)


class _NothingThereError(ServiceError):
    """There is no such object."""


class _Delivery:
    """An object on its way, by one thread. Its owner calls `end` whatever happens."""

    def __init__(
        self,
        bucket: S3Destination,
        name: str,
        size: int,
        mark: str,
        described: dict[str, Any],
        condition: dict[str, Any],
        begun: Callable[[str], None],
    ) -> None:
        self._bucket = bucket
        self._begun = begun
        self._name = name
        self._size = size
        self._mark = mark
        self._described = described
        self._condition = condition
        self._buffer: bytearray = bytearray()
        self._committed = False
        self._committing = False

    def begin(self) -> None:
        """Do nothing: there is nothing to begin."""

    def end(self) -> None:
        """Leave nothing but what was committed."""
        self._buffer.clear()
        for clean in (self._abort, self._remove):
            try:
                clean()
            except ServiceError as error:
                log.warning("push.object_left", object_name=self._name, code=error.code)

    def _abort(self) -> None:
        """Do nothing: there is nothing to give up."""

    def _remove(self) -> None:
        """Delete the object if it appeared all the same, and only its answer was lost."""
        if self._committed or not self._committing:
            return
        found = self._bucket.look(self._name, patience=_CLEAN_UP)
        if found is not None and found.mark == self._mark:
            self._bucket.delete(found, patience=_CLEAN_UP)

    def _appear(self, write: Callable[[], object]) -> Arrived:
        self._committing = True
        arrived = self._bucket.settled(self._name, self._mark, write)
        self._committed = True
        return arrived


class _Small(_Delivery):
    """An object in one request."""

    def write(self, data: bytes) -> None:
        """Add bytes."""
        self._buffer += data

    def commit(self) -> Arrived:
        """Send it."""
        content = bytes(self._buffer)
        members: dict[str, Any] = {
            "Body": content,
            "ChecksumCRC32C": crc32c_of(content),
            **self._described,
            **self._condition,
        }
        return self._appear(lambda: self._bucket.call("put_object", Key=self._name, **members))


class _Large(_Delivery):
    """An object in parts, each kept until the bucket says it has it."""

    _upload: str | None = None

    def begin(self) -> None:
        """Begin the upload, and tell its id before the first part: without parts it costs nothing.

        Where an answer is lost, the upload it was about is known to nobody. It has no part, and never gets one.
        """
        self._parts: list[dict[str, Any]] = []
        self._part_bytes = part_bytes(self._size)
        self._crc32c: Any = google_crc32c.Checksum()  # the library types its input as unknown
        checksum: dict[str, Any] = {"ChecksumAlgorithm": "CRC32C", "ChecksumType": "FULL_OBJECT"}
        begun = self._bucket.call("create_multipart_upload", Key=self._name, **self._described, **checksum)
        upload: str = begun["UploadId"]
        self._upload = upload
        self._begun(upload)

    def write(self, data: bytes) -> None:
        """Add bytes; whole parts leave at once."""
        self._crc32c.update(data)
        self._buffer += data
        while len(self._buffer) >= self._part_bytes:
            self._send(bytes(self._buffer[: self._part_bytes]))
            del self._buffer[: self._part_bytes]

    def commit(self) -> Arrived:
        """Send the last part, and let the bucket put them together."""
        if self._buffer:
            self._send(bytes(self._buffer))
            self._buffer.clear()
        members: dict[str, Any] = {
            "UploadId": self._upload,
            "MultipartUpload": {"Parts": self._parts},
            "MpuObjectSize": self._size,
            "ChecksumCRC32C": base64.b64encode(self._crc32c.digest()).decode(),
            "ChecksumType": "FULL_OBJECT",
            **self._condition,
        }
        return self._appear(lambda: self._bucket.call("complete_multipart_upload", Key=self._name, **members))

    def _send(self, content: bytes) -> None:
        number, checksum = len(self._parts) + 1, crc32c_of(content)
        members: dict[str, Any] = {
            "UploadId": self._upload,
            "PartNumber": number,
            "Body": content,
            "ChecksumCRC32C": checksum,
        }
        sent = self._bucket.call("upload_part", Key=self._name, **members)
        self._parts.append({"PartNumber": number, "ETag": sent["ETag"], "ChecksumCRC32C": checksum})

    def _abort(self) -> None:
        """Give up this upload; whatever else was begun under the name is somebody else's, a successor's perhaps."""
        if self._upload is not None and not self._committed:
            self._bucket.abort(self._name, self._upload, patience=_CLEAN_UP)
