"""One zip archive as a stream: members one after the other, constant memory, the same bytes for the same members.

Members are as large as they come (zip64 throughout), their sizes and checksums follow them, and they carry no time of
day. What is compressed already is stored; the rest is deflated. The standard library's writer ends an archive whenever
it is closed or collected, half-written ones too: here nothing it says after an abandonment goes any further, and the
object comes to be by its own commit alone. Called by splitting.py.
"""

from __future__ import annotations

import zipfile
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any, cast

from tasks_service.artifacts.writing import Write

CONTENT_TYPE = "application/zip"
_LEVEL = 1  # of zlib: what higher ones gain is a few per cent


class _Stream:
    """What the archive is written to: it cannot be sought in, and is deaf once abandoned."""

    def __init__(self, write: Write) -> None:
        self._write: Write | None = write

    def write(self, data: bytes) -> int:
        if self._write is not None:
            self._write(bytes(data))
        return len(data)

    def flush(self) -> None:
        """Do nothing: nothing waits here."""

    def abandon(self) -> None:
        self._write = None


class ZipArchive:
    """An archive being written, by one thread; its owner ends it by `finish`, or else by `abandon` and `finish`."""

    def __init__(self, write: Write, *, deflate: bool) -> None:
        self._stream = _Stream(write)
        kind = zipfile.ZIP_DEFLATED if deflate else zipfile.ZIP_STORED
        self._zip = zipfile.ZipFile(cast("Any", self._stream), "w", compression=kind, compresslevel=_LEVEL)

    @contextmanager
    def member(self, name: str) -> Generator[Write]:
        """Write one member; the next begins when this has ended."""
        with self._zip.open(name, "w", force_zip64=True) as member:
            yield member.write

    def finish(self) -> None:
        """Write the directory of members, without which the archive is none."""
        self._zip.close()

    def abandon(self) -> None:
        """Let nothing that is still written reach anybody."""
        self._stream.abandon()
