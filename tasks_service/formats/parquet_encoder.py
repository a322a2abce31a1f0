"""Parquet: a typed column for each field, in row groups of bounded size, compressed inside with zstd.

Pages become Arrow tables in the threads that read, off the interpreter lock; the writer collects them to row groups,
whose ends depend on the rows alone, so that the same rows in the same order make the same bytes. The index of the row
groups is at the file's end: pages cannot be joined as bytes. What lives here is the file; its types are
parquet_types.py's. Called by registry.py.
"""

from __future__ import annotations

import bisect
from collections.abc import Sequence
from typing import Any, Final, cast

from tasks_service.formats import Encoded
from tasks_service.formats.cells import TEXT, Cells
from tasks_service.formats.engine import Engine
from tasks_service.formats.file_columns import AnyColumn
from tasks_service.formats.parquet_types import Array, ColumnType, Library, typed
from tasks_service.formats.sink import Sink
from tasks_service.sources import Documents

GROUP_ROWS: Final = 100_000
GROUP_BYTES: Final = 32 * 1024 * 1024
"""A row group ends before it would have more of either, but for a single larger row: the writer holds one group."""

_VALUE_BYTES = 8  # what a value that is no text takes


class EncodedTable(Encoded):
    """A page as an Arrow table; it has no bytes of its own.

    Attributes:
        table: the typed columns.
        ends: how many bytes the values have up to and with each row.
    """

    __slots__ = ("ends", "table")

    def __init__(self, table: Array, ends: Sequence[int]) -> None:
        """Take a table of at least one row."""
        super().__init__(b"", table.num_rows)
        self.table = table
        self.ends = ends

    @property
    def size(self) -> int:
        """Bytes of its columns in memory."""
        return self.table.nbytes


class ParquetEncoder:
    """Documents to typed columns. One encoder a file."""

    extension = "parquet"
    content_type = "application/vnd.apache.parquet"
    joints = None

    def __init__(self, columns: Sequence[AnyColumn], types: Sequence[ColumnType]) -> None:
        """Take the columns in order, at least one, and a type for each."""
        self._headers = [column.header for column in columns]
        self._types = types
        self._cells = Cells(columns, Engine(self.extension), TEXT)

    def encode(self, documents: Documents) -> EncodedTable:
        """Encode one page. Raises UnfitDocumentError where a value is not of its column's type."""
        arrow, schema = _arrow(), self._schema()
        named = list(zip(self._headers, self._types, strict=True))
        tables: list[Array] = []
        for texts in self._cells.of(documents):
            columns = [typed(arrow, column, *name_type) for column, name_type in zip(texts, named, strict=True)]
            tables.append(arrow.table(columns, schema=schema))
        table = arrow.concat_tables(tables)
        return EncodedTable(table, _ends(arrow, table))

    def writer(self) -> ParquetWriter:
        """Collect pages to row groups."""
        return ParquetWriter(self._schema())

    def _schema(self) -> Array:
        arrow = _arrow()
        pairs = zip(self._headers, self._types, strict=True)
        return arrow.schema([(header, kind.arrow(arrow)) for header, kind in pairs])


class ParquetWriter:
    """Writes row groups, and at the end their index."""

    def __init__(self, schema: Array) -> None:
        """Begin a file with the columns of that schema."""
        import pyarrow.parquet  # pyright: ignore[reportMissingTypeStubs]

        library: Any = pyarrow.parquet
        self._sink = Sink()
        self._file = library.ParquetWriter(self._sink, schema, compression="zstd")
        self._waiting: list[Array] = []
        self._rows = 0
        self._bytes = 0

    def add(self, page: Encoded) -> bytes:
        """Take a page; return the bytes of the row groups that are full."""
        encoded = cast("EncodedTable", page)
        start = 0
        while start < encoded.rows:
            end, size = self._room(encoded.ends, start)
            if end == start and self._rows:
                self._write_group()
                continue
            self._waiting.append(encoded.table.slice(start, end - start))
            self._rows += end - start
            self._bytes += size
            start = end
        return self._sink.taken()

    def finish(self) -> bytes:
        """Return the last row group, and the index of all."""
        self._write_group()
        self._file.close()
        return self._sink.taken()

    def _room(self, ends: Sequence[int], start: int) -> tuple[int, int]:
        """Return up to which row the open group has room, and the bytes of these; an empty one takes any row."""
        before = ends[start - 1] if start else 0
        end = min(bisect.bisect_right(ends, before + GROUP_BYTES - self._bytes, start), start + GROUP_ROWS - self._rows)
        if not self._rows:
            end = max(end, start + 1)
        return end, (ends[end - 1] - before if end > start else 0)

    def _write_group(self) -> None:
        if self._rows:
            # One piece a column: where pages of documents ended must not show in the file.
            group = _arrow().concat_tables(self._waiting).combine_chunks()
            self._waiting = []
            self._file.write_table(group, row_group_size=self._rows)
        self._rows = self._bytes = 0


def _ends(arrow: Library, table: Array) -> list[int]:
    """Return how many bytes a table's values have up to and with each row."""
    compute = arrow.compute
    texts = [column for column in table.columns if column.type == arrow.string()]
    sizes: Array = arrow.repeat(arrow.scalar(_VALUE_BYTES * len(table.columns), arrow.int64()), table.num_rows)
    for column in texts:
        sizes = compute.add(sizes, compute.fill_null(compute.binary_length(column), 0))
    return compute.cumulative_sum(sizes).to_pylist()


def _arrow() -> Library:
    import pyarrow.compute  # pyright: ignore[reportMissingTypeStubs, reportUnusedImport]

    return pyarrow
