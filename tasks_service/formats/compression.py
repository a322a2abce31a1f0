"""Compression of a finished stream of bytes: none, gzip (by ISA-L) or zstd. Streaming, bounded memory.

What lives here is the wrapping of encoded bytes; what they mean is the encoders' business. The same input in the same
pieces gives the same output: the gzip header carries no time and no name. Called by export.py.
"""

from __future__ import annotations

from typing import Any, Final, Protocol, cast

from tasks_service.errors import InvalidRequestError

EXTENSIONS: Final = {"none": "", "gzip": ".gz", "zstd": ".zst"}
"""What each compression appends to a file's name; the keys are the names a target may use."""

_GZIP_LEVEL = 1  # ISA-L: 1 of 0..3; higher levels cost twice the time for a few per cent
_GZIP_WINDOW = 31  # zlib's way to say: a gzip header and trailer around it
_ZSTD_LEVEL = 3


class Compressor(Protocol):
    """One stream being compressed; used by one thread."""

    extension: str

    def feed(self, data: bytes) -> bytes:
        """Take more bytes and return what is ready, perhaps nothing."""
        ...

    def finish(self) -> bytes:
        """Return the rest. Nothing may be fed afterwards."""
        ...


class _Plain:
    extension = EXTENSIONS["none"]

    def feed(self, data: bytes) -> bytes:
        return data

    def finish(self) -> bytes:
        return b""


class _Gzip:
    extension = EXTENSIONS["gzip"]

    def __init__(self) -> None:
        from isal import isal_zlib

        # The library's stubs leave some parameters untyped.
        self._stream: Any = cast("Any", isal_zlib).compressobj(_GZIP_LEVEL, isal_zlib.DEFLATED, _GZIP_WINDOW)

    def feed(self, data: bytes) -> bytes:
        return self._stream.compress(data)

    def finish(self) -> bytes:
        return self._stream.flush()


class _Zstd:
    extension = EXTENSIONS["zstd"]

    def __init__(self) -> None:
        import zstandard

        self._stream = zstandard.ZstdCompressor(level=_ZSTD_LEVEL, write_checksum=True).compressobj()

    def feed(self, data: bytes) -> bytes:
        return self._stream.compress(data)

    def finish(self) -> bytes:
        return self._stream.flush()


def compressor(name: str) -> Compressor:
    """Return a new stream of that compression. Raises InvalidRequestError for a name that is not in EXTENSIONS."""
    kinds = {"none": _Plain, "gzip": _Gzip, "zstd": _Zstd}
    if name not in kinds:
        raise InvalidRequestError(f"Unknown compression {name!r}; use one of {', '.join(EXTENSIONS)}.")
    return kinds[name]()
