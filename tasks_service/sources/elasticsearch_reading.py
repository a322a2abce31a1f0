"""What the readers of one snapshot share: which slices are left, how large a page may be, whether all rows came.

What lives here is the bookkeeping, safe to share between threads; the requests are elasticsearch.py's, which alone
calls this.
"""

from __future__ import annotations

import threading
from collections import deque

from tasks_service.errors import IncompleteError
from tasks_service.sources import Share
from tasks_service.sources.elasticsearch_pages import Page

_FIRST_SIZE = 8
"""Rows of the first page, when nothing is known of the documents' size: each of them may weigh megabytes."""

_GROWTH = 16
"""How many times as many rows a page may have as the largest one before it: small documents come before large ones."""

_MOST_ROWS = 10_000  # index.max_result_window


class Reading:
    """The queue of slices, the rows so far, the size of pages."""

    def __init__(self, share: Share, limit: int | None, page_bytes: int) -> None:
        """Take what is to be read, and what a page may weigh."""
        self._page_bytes = page_bytes
        self._lock = threading.Lock()
        self._total = share.documents
        self._of = share.of
        self._left = deque(share.slices)
        self._unfinished = len(share.slices)
        self._rows = 0
        self._limited = limit is not None
        self._row_bytes = 0.0
        self._most = _FIRST_SIZE

    def next_slice(self) -> int | None:
        """Return a slice that nobody has taken; None where all are."""
        with self._lock:
            return self._left.popleft() if self._left else None

    def slice_of(self, number: int) -> dict[str, int] | None:
        """Return a slice as a search names it; None where there is but one."""
        return {"id": number, "max": self._of} if self._of > 1 else None

    def page_size(self) -> int:
        """Return how many rows to ask for; 0 when a limit has been reached."""
        with self._lock:
            wanted = int(self._page_bytes / self._row_bytes) if self._row_bytes else _FIRST_SIZE
            size = max(1, min(_MOST_ROWS, wanted, self._most))
            return min(size, self._total - self._rows) if self._limited else size

    def took(self, page: Page) -> None:
        """Learn from a page that was read; it has documents."""
        with self._lock:
            self._rows += len(page.documents)
            self._row_bytes = page.size / len(page.documents)
            self._most = max(self._most, _GROWTH * len(page.documents))

    def slice_finished(self) -> None:
        """Count a slice as read. The last one knows whether anything is missing."""
        with self._lock:
            self._unfinished -= 1
            if not self._unfinished and self._rows != self._total:
                raise IncompleteError(f"{self._rows} rows were read where the snapshot holds {self._total}.")
