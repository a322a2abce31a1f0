"""One upload to Google Cloud Storage: a resumable session, driven chunk by chunk.

The session is driven by its documented requests rather than through the client library's writer, which
finalises what it holds when it is closed or collected, never asks where a broken upload stands, cannot go on
from a chunk that was persisted in part, and cancels at the wrong address. Here an object comes to be by
`commit` alone: until then the last bytes have not been sent. Every chunk is kept until the storage says it
has it.

The object carries a mark of its upload, by which an answer that got lost after the commit, or a 412 to a
repeated request, is told from somebody else's object. Called by gcs.py alone.
"""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol
from urllib.parse import quote

import google_crc32c
import structlog

from tasks_service.errors import CorruptUploadError, ServiceError, StorageError, StorageUnavailableError
from tasks_service.storage import StoredObject
from tasks_service.storage.gcs_errors import PASSING_STATUSES, refused, translated, unavailable
from tasks_service.storage.names import already_exists
from tasks_service.storage.patience import Patience

log = structlog.stdlib.get_logger(__name__)

MARK = "tasks-service-upload"
"""Key of the object metadata that names the upload an object came from."""

_PERSISTED = re.compile(r"bytes=0-(\d+)")
_INCOMPLETE = 308
"""The answer to a chunk that is not the last."""

_CLEAN_UP = Patience(seconds=5.0, first=0.2, cap=1.0)
_CLEAN_UP_TIMEOUT = 10.0


@dataclass(frozen=True)
class Marked:
    """An object as the storage reports it, and the mark of the upload it came from."""

    stored: StoredObject
    mark: str | None


def described(content_type: str, mark: str) -> dict[str, Any]:
    """Return how every object of ours is described to the storage: what it is, and the mark it is known again by."""
    return {
        "contentType": content_type,
        "contentDisposition": "attachment",
        "cacheControl": "private, no-store",
        "metadata": {MARK: mark},
    }


class Bucket(Protocol):
    """What an upload needs of the bucket beside its own session."""

    def look(self, name: str, *, patience: Patience | None = None) -> Marked | None:
        """Return the live object."""
        ...

    def delete(self, name: str, *, generation: int | None, patience: Patience | None = None) -> bool:
        """Delete a generation."""
        ...


@dataclass(frozen=True)
class Address:
    """Where an upload goes and how it gets there.

    Attributes:
        section: of the settings, for errors to name.
        mark: what the object is known again by.
        replaces: the generation that must be there until the object takes its place; 0: none.
    """

    endpoint: str
    bucket: str
    section: str
    name: str
    content_type: str
    mark: str
    replaces: int
    chunk_bytes: int
    timeout: tuple[float, float]
    patience: Patience


class GcsUpload:
    """An object being written, by one thread. Its owner calls `end` whatever happens."""

    def __init__(self, address: Address, transport: Any, bucket: Bucket) -> None:  # noqa: ANN401 -- a vendor's session
        """Take where it goes, an authorised requests.Session of its own, and the bucket."""
        self._to = address
        self._transport = transport
        self._bucket = bucket
        self._session: str | None = None
        self._buffer = bytearray()
        self._sent = 0
        self._crc32c: Any = google_crc32c.Checksum()  # the library types its input as unknown
        self._broken = False
        self._finishing = False
        self._committed = False

    def begin(self) -> None:
        """Start the session. Raises StorageError where the name is taken or the bucket refuses."""
        url = (
            f"{self._to.endpoint}/upload/storage/v1/b/{quote(self._to.bucket, safe='')}/o"
            f"?uploadType=resumable&ifGenerationMatch={self._to.replaces}&name={quote(self._to.name, safe='')}"
        )
        metadata = {
            "name": self._to.name,
            **described(self._to.content_type, self._to.mark),
        }
        headers = {"Content-Type": "application/json; charset=UTF-8", "X-Upload-Content-Type": self._to.content_type}
        answer = self._persistently(lambda: self._request("POST", url, json.dumps(metadata).encode(), headers))
        if answer.status_code == 412:  # noqa: PLR2004 -- precondition failed
            raise already_exists()
        self._session = answer.headers.get("Location") if answer.ok else None
        if self._session is None:
            raise self._refused(answer)

    def write(self, data: bytes) -> None:
        """Add bytes; whole chunks leave at once, but never the last ones."""
        self._check_open()
        self._broken = True  # until all of it is taken: half a piece must never be committed
        self._crc32c.update(data)
        self._buffer += data
        size = self._to.chunk_bytes
        start = 0
        while len(self._buffer) - start > size:
            self._send(bytes(self._buffer[start : start + size]), total=None)
            start += size
        del self._buffer[:start]
        self._broken = False

    def commit(self) -> StoredObject:
        """Send the last bytes and return the object as the storage reports it afterwards."""
        self._check_open()
        self._broken = True
        self._finishing = True
        self._send(bytes(self._buffer), total=self._sent + len(self._buffer))
        found = self._bucket.look(self._to.name)
        if found is None or found.mark != self._to.mark:
            raise StorageUnavailableError("The object went while it was being finished; try again.")
        self._committed = True
        return found.stored

    def end(self) -> None:
        """Close the connection; where nothing was committed, cancel, and remove what may have been finalised."""
        try:
            if not self._committed:
                self._leave_nothing()
        finally:
            self._broken = True
            self._buffer.clear()
            self._transport.close()

    def _check_open(self) -> None:
        if self._session is None or self._broken:
            raise StorageError("This upload has ended or failed; begin another.")

    # -- sending ------------------------------------------------------------------------------------------------

    def _send(self, data: bytes, *, total: int | None) -> None:
        """Send a chunk until it is persisted; with a total, until the object is finalised.

        The storage may persist a part of what it is sent: patience starts anew whenever it has more than before.
        """
        while True:
            answer = self._send_once(data, total)
            if self._is_finished(answer, total):
                self._sent += len(data)
                return
            persisted = self._persisted(answer, at_most=self._sent + len(data))
            data = data[persisted - self._sent :]
            self._sent = persisted
            if not data and total is None:
                return

    def _send_once(self, data: bytes, total: int | None) -> Any:  # noqa: ANN401 -- a vendor's response
        """Send patiently, and return the first answer that is more than "nothing new".

        After a try that failed the storage is asked first how much it has: the bytes, or even the whole object, may
        have arrived and only the answer been lost.
        """
        failure: ServiceError = unavailable()
        for attempt in self._to.patience.attempts():
            try:
                answer = self._ask() if attempt else self._put(data, total)
                if attempt and self._is_standstill(answer, data):
                    answer = self._put(data, total)
            except StorageUnavailableError as error:
                failure = error
                continue
            if answer.status_code in PASSING_STATUSES:
                failure = self._refused(answer)
            elif not self._is_standstill(answer, data):
                return answer
        raise failure

    def _is_standstill(self, answer: Any, data: bytes) -> bool:  # noqa: ANN401 -- a vendor's response
        at_most = self._sent + len(data)
        return answer.status_code == _INCOMPLETE and self._persisted(answer, at_most=at_most) == self._sent

    def _put(self, data: bytes, total: int | None) -> Any:  # noqa: ANN401 -- a vendor's response
        length = "*" if total is None else str(total)
        span = f"{self._sent}-{self._sent + len(data) - 1}" if data else "*"
        headers = {"Content-Range": f"bytes {span}/{length}", "Content-Type": self._to.content_type}
        if total is not None:
            headers["X-Goog-Hash"] = f"crc32c={base64.b64encode(self._crc32c.digest()).decode()}"
        return self._request("PUT", self._session, data, headers)

    def _ask(self) -> Any:  # noqa: ANN401 -- a vendor's response
        """Ask how much of the upload is persisted."""
        return self._request("PUT", self._session, b"", {"Content-Range": "bytes */*"})

    def _is_finished(self, answer: Any, total: int | None) -> bool:  # noqa: ANN401 -- a vendor's response
        """Tell whether the object is finalised; raise where it never will be."""
        status = answer.status_code
        if status == _INCOMPLETE:
            return False
        if total is not None:
            if answer.ok:
                return True
            if status in {404, 410, 412} and self._is_ours():
                return True  # finalised by a request whose answer was lost
            if status == 412:  # noqa: PLR2004 -- precondition failed
                raise already_exists()
            if status == 400 and "crc32c" in answer.text.lower():  # noqa: PLR2004 -- bad request
                raise CorruptUploadError("The bytes were damaged on their way to the storage, which refused them.")
        if answer.ok or status in {404, 410}:
            raise StorageUnavailableError("The storage has lost the upload's session; the upload must start over.")
        raise self._refused(answer)

    def _persisted(self, answer: Any, *, at_most: int) -> int:  # noqa: ANN401 -- a vendor's response
        match = _PERSISTED.fullmatch(answer.headers.get("Range", ""))
        persisted = int(match[1]) + 1 if match else 0
        if not self._sent <= persisted <= at_most:
            raise StorageUnavailableError("The storage has lost a part of the upload; the upload must start over.")
        return persisted

    def _refused(self, answer: Any) -> ServiceError:  # noqa: ANN401 -- a vendor's response
        asked = answer.headers.get("Retry-After")
        return refused(answer.status_code, answer.text, self._to.bucket, self._to.section, retry_after=asked)

    def _is_ours(self) -> bool:
        found = self._bucket.look(self._to.name)
        return found is not None and found.mark == self._to.mark

    # -- requests -----------------------------------------------------------------------------------------------

    def _request(self, method: str, url: str | None, data: bytes, headers: dict[str, str]) -> Any:  # noqa: ANN401 -- a vendor's response
        with translated(self._to.bucket, self._to.section):
            return self._transport.request(
                method, url, data=data, headers=headers, timeout=self._to.timeout, allow_redirects=False
            )

    def _persistently(self, request: Callable[[], Any]) -> Any:  # noqa: ANN401 -- a vendor's response
        failure: ServiceError = unavailable()
        for _ in self._to.patience.attempts():
            try:
                answer = request()
            except StorageUnavailableError as error:
                failure = error
                continue
            if answer.status_code not in PASSING_STATUSES:
                return answer
            failure = self._refused(answer)
        raise failure

    def _leave_nothing(self) -> None:
        """Cancel the session at its own address; delete the object if it was finalised all the same.

        What cannot be done now is left to the sweeper, which knows the object's name; a session that was not
        cancelled lapses by itself and shows nothing.
        """
        if self._session is None:
            return
        for clean in (self._cancel, self._remove):
            try:
                clean()
            except ServiceError as error:
                log.warning(
                    "storage.upload_left", object=self._to.name, step=clean.__name__.strip("_"), code=error.code
                )

    def _cancel(self) -> None:
        with translated(self._to.bucket, self._to.section):
            self._transport.request("DELETE", self._session, headers={"Content-Length": "0"}, timeout=_CLEAN_UP_TIMEOUT)

    def _remove(self) -> None:
        if not self._finishing:
            return
        found = self._bucket.look(self._to.name, patience=_CLEAN_UP)
        if found is not None and found.mark == self._to.mark:
            self._bucket.delete(self._to.name, generation=found.stored.generation, patience=_CLEAN_UP)
