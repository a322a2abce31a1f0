"""A chunk of raw documents as the table that DuckDB's encoders read: Arrow over the bytes themselves, nothing copied.

What lives here is the making of the table; what is asked of it is csv_query.py's. Two copies of every document and a
search for line ends are saved by not handing over text that DuckDB splits. Called by csv_encoder.py
and cells.py.
"""

from __future__ import annotations

import array
import itertools
from collections.abc import Iterator
from typing import Any

from tasks_service.sources import Documents
from tasks_service.sources.surrogates import without_lone_surrogates

DOCUMENT = "document"
"""The name of the only column."""

_BYTES = 4 * 1024 * 1024
"""Raw bytes that go into DuckDB at once; a larger document goes alone. Each chunk's query is planned anew, in 3 ms."""

_BATCH = 512
"""Rows DuckDB works on at once: a quarter of its own size takes two thirds of the memory, and no longer."""


class Chunk:
    """Documents, one a row.

    Attributes:
        rows: how many.
        text: their bytes, one after the other.
    """

    def __init__(self, documents: Documents) -> None:
        """Take at least one document, and less than 2 GiB of them."""
        self.rows = len(documents)
        self.text = b"".join(documents)
        self._ends = array.array("i", itertools.accumulate(map(len, documents), initial=0))

    def table(self) -> Any:  # noqa: ANN401 -- the library has no types
        """Return the table, an Arrow one over `text`. That the bytes are UTF-8 is found out where they are parsed."""
        import pyarrow  # pyright: ignore[reportMissingTypeStubs] # noqa: ICN001

        arrow: Any = pyarrow
        ends, text = arrow.py_buffer(self._ends), arrow.py_buffer(self.text)
        whole = arrow.table({DOCUMENT: arrow.StringArray.from_buffers(self.rows, ends, text)})
        return arrow.Table.from_batches(whole.to_batches(max_chunksize=_BATCH))

    def without_lone_surrogates(self) -> Chunk:
        """Return a chunk that differs in the escapes of half a character alone."""
        found = object.__new__(Chunk)
        found.rows, found._ends = self.rows, self._ends
        found.text = without_lone_surrogates(self.text)
        return found


def pieces_of(documents: Documents) -> Iterator[Documents]:
    """Divide a page so that no piece but a single document is over the size."""
    if sum(map(len, documents)) <= _BYTES:
        yield documents
        return
    piece: Documents = []
    size = 0
    for document in documents:
        if piece and size + len(document) > _BYTES:
            yield piece
            piece, size = [], 0
        piece.append(document)
        size += len(document)
    yield piece
