"""Reading and encoding side by side: partitions of a snapshot become one stream of encoded chunks.

Each partition is read by a thread of its own, which also encodes (encoders leave the interpreter lock), no more of
them at a time than there are processors: what an encoder needs is memory, and more at once are not faster. The chunks
meet in a buffer bounded by bytes, from which the exporting thread takes them: it compresses, checksums and uploads
while the readers go on. What lives here is the meeting and the ending:
an error of a reader surfaces in the exporting thread, and when that thread stops for any reason every reader is ended
before the snapshot is closed. Called by export.py alone.
"""

from __future__ import annotations

import contextlib
import os
import threading
from collections import deque
from collections.abc import Callable, Generator, Iterator, Sequence

import structlog

from tasks_service.fault_points import fault_point
from tasks_service.formats import Encoded, Encoder, portions_of
from tasks_service.sources import Documents

log = structlog.stdlib.get_logger(__name__)

_HEARTBEAT_SECONDS = 1.0
"""How often a waiting exporter looks whether it has been asked to stop."""

_JOIN_SECONDS = 30.0
"""How long an ending pipeline waits for its readers; a reader's own request time-outs are what ends it."""


class _EndedError(Exception):
    """The exporting thread has gone; a reader ends quietly."""


class _Buffer:
    """Chunks on their way, at most `limit` bytes (and always room for one chunk)."""

    def __init__(self, limit: int, readers: int) -> None:
        self._limit = limit
        self._chunks: deque[Encoded] = deque()
        self._bytes = 0
        self._readers = readers
        self._error: BaseException | None = None
        self._ended = False
        self._changed = threading.Condition()

    def put(self, chunk: Encoded) -> None:
        with self._changed:
            while self._bytes and self._bytes + chunk.size > self._limit and not self._ended:
                self._changed.wait()
            if self._ended:
                raise _EndedError
            self._chunks.append(chunk)
            self._bytes += chunk.size
            self._changed.notify_all()

    def get(self, timeout: float) -> Encoded | None:
        """Return the next chunk, or None after the timeout; raise what a reader raised, StopIteration at the end."""
        with self._changed:
            self._changed.wait_for(lambda: self._chunks or self._error or not self._readers, timeout)
            if self._error is not None:
                raise self._error
            if self._chunks:
                chunk = self._chunks.popleft()
                self._bytes -= chunk.size
                self._changed.notify_all()
                return chunk
            if not self._readers:
                raise StopIteration
            return None

    def reader_finished(self, error: BaseException | None) -> None:
        with self._changed:
            self._readers -= 1
            self._error = self._error or error
            self._changed.notify_all()

    def end(self) -> None:
        with self._changed:
            self._ended = True
            self._chunks.clear()
            self._changed.notify_all()

    @property
    def ended(self) -> bool:
        return self._ended


def encoded_chunks(
    partitions: Sequence[Iterator[Documents]],
    encoder: Encoder,
    *,
    buffer_bytes: int,
    check: Callable[[], None],
) -> Generator[Encoded, None, None]:
    """Yield every page of every partition, encoded, in the order they become ready.

    `check` is called at least once a second, also while the source is silent; what it raises ends everything. The
    iterator must be closed (`contextlib.closing`) so that no reader outlives it.
    """
    buffer = _Buffer(buffer_bytes, len(partitions))
    processors = threading.BoundedSemaphore(_processors())
    threads = [
        threading.Thread(
            target=_read, args=(partition, encoder, buffer, processors), name=f"reader-{number}", daemon=True
        )
        for number, partition in enumerate(partitions)
    ]
    try:
        for thread in threads:
            thread.start()
        while True:
            check()
            try:
                chunk = buffer.get(_HEARTBEAT_SECONDS)
            except StopIteration:
                return
            if chunk is not None:
                yield chunk
    finally:
        buffer.end()
        for thread in threads:
            if thread.ident is not None:
                thread.join(_JOIN_SECONDS)
        if left := sum(thread.is_alive() for thread in threads):
            log.warning("pipeline.readers_left", readers=left, waited_seconds=_JOIN_SECONDS)


def _processors() -> int:
    """Return how many processors this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _read(
    partition: Iterator[Documents], encoder: Encoder, buffer: _Buffer, processors: threading.BoundedSemaphore
) -> None:
    error: BaseException | None = None
    try:
        for documents in partition:
            fault_point("snapshot.page")
            if buffer.ended:
                break
            for portion in portions_of(encoder, documents) if documents else ():
                with processors:
                    chunk = encoder.encode(portion)
                buffer.put(chunk)
    except _EndedError:
        pass
    except BaseException as raised:  # noqa: BLE001 -- it is raised again in the exporting thread
        error = raised
    finally:
        # Closing a generator runs the reader's own clean-up here, in the thread that read.
        with contextlib.suppress(Exception):
            close = getattr(partition, "close", None)
            if close is not None:
                close()
        buffer.reader_finished(error)
