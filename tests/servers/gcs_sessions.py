"""Resumable uploads, by the rules of Google Cloud Storage rather than the emulator's.

The emulator appends whatever comes: bytes sent twice are stored twice, and a question for the status ends the
upload. Here a session counts what is persisted (in multiples of 256 KiB until the last byte), leaves out what
it has already, answers questions, verifies declared checksums, and hands the emulator one whole object at the
end.
"""

from __future__ import annotations

import base64
import json
import re
import tempfile
import threading
import uuid
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import IO, Any

import google_crc32c

GRANULE = 256 * 1024
SPOOL = 8 * 1024 * 1024
RANGE = re.compile(r"bytes (?:(\d+)-(\d+)|\*)/(\d+|\*)")


class BadUploadError(Exception):
    """The upload request cannot be served; the HTTP status to answer."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def _spool() -> IO[bytes]:
    return tempfile.SpooledTemporaryFile(max_size=SPOOL)


@dataclass(slots=True)
class Session:
    """One upload under way.

    Attributes:
        bucket: where the object goes.
        query: parameters of the start that count at the end too: name, preconditions.
        metadata: the object's, as declared at the start.
        content: what is persisted so far.
        persisted: how many bytes that is.
        answer: what the finished upload was answered, for those who ask again.
    """

    bucket: str
    query: dict[str, str]
    metadata: dict[str, Any]
    key: str = field(default_factory=lambda: uuid.uuid4().hex)
    content: IO[bytes] = field(default_factory=_spool)
    persisted: int = 0
    crc32c: Any = field(default_factory=google_crc32c.Checksum)
    answer: tuple[int, dict[str, str], bytes] | None = None
    lock: threading.Lock = field(default_factory=threading.Lock)

    def accept(self, body: bytes, content_range: str | None, *, broken: bool = False) -> bool:
        """Persist the new bytes of a request; returns whether the object is complete now.

        Args:
            body: what arrived.
            content_range: the header; absent means the whole object in one request.
            broken: the connection ended before all of it arrived.

        Raises:
            BadUploadError: a gap before these bytes, a total that does not fit, or no such range.
        """
        first, total = self._range(body, content_range, broken=broken)
        if first > self.persisted:
            raise BadUploadError(503, f"{self.persisted} bytes are persisted, these start at {first}")
        new = body[self.persisted - first :]
        complete = not broken and total is not None and self.persisted + len(new) == total
        if not complete:
            new = new[: max(0, (self.persisted + len(new)) // GRANULE * GRANULE - self.persisted)]
        self.content.write(new)
        self.crc32c.update(new)
        self.persisted += len(new)
        if total is not None and self.persisted > total:
            raise BadUploadError(400, f"{self.persisted} bytes are more than the declared {total}")
        return complete

    def _range(self, body: bytes, content_range: str | None, *, broken: bool) -> tuple[int, int | None]:
        if content_range is None:
            return 0, None if broken else len(body)
        match = RANGE.fullmatch(content_range)
        if not match:
            raise BadUploadError(400, f"no such Content-Range: {content_range}")
        total = None if match[3] == "*" else int(match[3])
        if match[1] is None:
            return self.persisted, total
        if not broken and int(match[2]) - int(match[1]) + 1 != len(body):
            raise BadUploadError(400, "Content-Range and Content-Length differ")
        return int(match[1]), total

    def verify(self, headers: Mapping[str, str]) -> None:
        """Compare what arrived with every crc32c the client declared, at the start or with the last bytes.

        Raises:
            BadUploadError: they differ.
        """
        actual = base64.b64encode(self.crc32c.digest()).decode()
        declared = [self.metadata.get("crc32c")]
        declared += [
            item.strip().removeprefix("crc32c=")
            for item in headers.get("x-goog-hash", "").split(",")
            if item.strip().startswith("crc32c=")
        ]
        for value in declared:
            if value and value != actual:
                raise BadUploadError(400, f"Provided CRC32C {value} doesn't match calculated CRC32C {actual}.")

    def multipart(self) -> tuple[str, list[bytes | IO[bytes]], int]:
        """The object as one multipart upload: content type, the pieces of the body, its length."""
        boundary = f"=={self.key}=="
        kind = self.metadata.get("contentType") or "application/octet-stream"
        head = (
            f"--{boundary}\r\nContent-Type: application/json; charset=UTF-8\r\n\r\n"
            f"{json.dumps(self.metadata)}\r\n"
            f"--{boundary}\r\nContent-Type: {kind}\r\n\r\n"
        ).encode()
        tail = f"\r\n--{boundary}--\r\n".encode()
        self.content.seek(0)
        pieces: list[bytes | IO[bytes]] = [head, self.content, tail]
        return f'multipart/related; boundary="{boundary}"', pieces, len(head) + self.persisted + len(tail)

    def range_header(self) -> dict[str, str]:
        """The ``Range`` header of a 308 answer: absent while nothing is persisted."""
        return {"Range": f"bytes=0-{self.persisted - 1}"} if self.persisted else {}
