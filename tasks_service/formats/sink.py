"""Where a library writes a file that is passed on as it grows. Called by the encoders whose files a library writes."""

from __future__ import annotations

import io
from typing import Any


class Sink(io.RawIOBase):
    """A file that only grows, and whose new bytes are taken away."""

    def __init__(self) -> None:
        """Begin empty."""
        self._new = bytearray()
        self._written = 0

    def writable(self) -> bool:
        """Tell that it can be written to."""
        return True

    def write(self, data: Any) -> int:  # noqa: ANN401 -- whatever has a buffer
        """Take bytes; return how many."""
        size = memoryview(data).nbytes
        self._new += data
        self._written += size
        return size

    def flush(self) -> None:
        """Do nothing, also when it is closed: a library that is left in the middle may still try."""

    def tell(self) -> int:
        """Return how many bytes were written in all."""
        return self._written

    def taken(self) -> bytes:
        """Return what was written since it was last asked for."""
        data = bytes(self._new)
        self._new.clear()
        return data
