"""CSV: RFC 4180, a header row, CR LF after every row, UTF-8; null is unquoted nothing and "" is quoted.

Arrays and nested documents are JSON cells, objects are dotted columns. A chunk of raw documents becomes rows inside
DuckDB, off the interpreter lock; the bytes depend on nothing but the documents, the columns and the options, so that
every source gives the same file. What lives here is the running of the query of csv_query.py, in bounded memory and by
several threads at once. Called by registry.py.
"""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from tasks_service.errors import SourceError
from tasks_service.formats import Encoded, JoiningWriter, Joints
from tasks_service.formats.columns import FileColumn
from tasks_service.formats.csv_options import CsvOptions
from tasks_service.formats.csv_query import FORMULA_STARTS, NUMERIC, ROW_END, SEPARATORS, flat_rows_query, rows_query
from tasks_service.formats.flatten import Flattener, Spellings
from tasks_service.formats.json_encoder import one_line
from tasks_service.sources import Documents
from tasks_service.sources.surrogates import without_lone_surrogates

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_CHUNK_BYTES = 2 * 1024 * 1024
"""Raw bytes that go into DuckDB at once; a larger document goes alone."""

_MEMORY = "1GB"
"""DuckDB's limit for all threads of one encoder together; chunks use a small part of it, one huge document more."""

_WIDE = 64
"""Columns above which documents are flattened first: DuckDB looks every path up anew, in time that grows squared."""

_BOM = "\ufeff"
_NUMERIC = re.compile(NUMERIC)


class CsvEncoder:
    """Documents to rows. One encoder a file; its threads share one in-memory DuckDB."""

    extension = "csv"
    content_type = "text/csv; charset=utf-8"

    def __init__(self, columns: Sequence[FileColumn], options: CsvOptions) -> None:
        """Take the columns in order, at least one."""
        header = _header(columns, options)
        self.joints = Joints(header=header, empty=header)
        self._spellings = Spellings(columns)
        self._flattener = Flattener(columns)
        wide = len(columns) > _WIDE
        self._query = None if wide else rows_query(columns, self._spellings.watched, options)
        self._flat_query = flat_rows_query(options)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._database: DuckDBPyConnection | None = None

    def encode(self, documents: Documents) -> Encoded:
        """Encode one page, in pieces of bounded size."""
        pieces = [self._encode(piece) for piece in _pieces(documents)]
        if len(pieces) == 1:
            return pieces[0]
        return Encoded(
            b"".join(piece.data for piece in pieces),
            sum(piece.rows for piece in pieces),
            sum(piece.suspicious_cells for piece in pieces),
        )

    def writer(self) -> JoiningWriter:
        """Join the rows, below one header."""
        return JoiningWriter(self.joints)

    def _encode(self, documents: Documents) -> Encoded:
        chunk = one_line(documents)
        if self._query is not None and not self._spellings.seen_in(chunk):
            data, rows, suspicious, irregular = self._run(self._query, chunk)
            if not irregular:
                return _checked(data, rows, suspicious, len(documents))
        flat = b"\n".join(map(self._flattener.flat, chunk.split(b"\n")))
        data, rows, suspicious, _ = self._run(self._flat_query, flat)
        return _checked(data, rows, suspicious, len(documents))

    def _run(self, query: str, chunk: bytes) -> tuple[bytes, int, int, bool]:
        import duckdb

        cursor = self._cursor()
        try:
            try:
                row = cursor.execute(query, [chunk]).fetchone()
            except duckdb.InvalidInputException:
                # Half a character, escaped, is lawful JSON to Elasticsearch but not to DuckDB.
                row = cursor.execute(query, [without_lone_surrogates(chunk)]).fetchone()
        except duckdb.OutOfMemoryException as exc:
            raise SourceError("A document of the index is too large to be encoded as csv; use jsonl.") from exc
        except duckdb.Error as exc:
            raise SourceError("A document of the index cannot be encoded: it is not valid JSON.") from exc
        if row is None:  # pragma: no cover -- an aggregate without groups always has a row
            raise SourceError("A page of documents gave no rows.")
        return row

    def _cursor(self) -> DuckDBPyConnection:
        cursor: DuckDBPyConnection | None = getattr(self._local, "cursor", None)
        if cursor is None:
            cursor = self._local.cursor = self._connect()
        return cursor

    def _connect(self) -> DuckDBPyConnection:
        import duckdb

        with self._lock:
            if self._database is None:
                # One thread: a query runs in the thread that asks, and several ask at once.
                self._database = duckdb.connect(":memory:", config={"threads": 1, "memory_limit": _MEMORY})
                self._database.execute("SET temp_directory = ''; SET enable_external_access = false")
            return self._database.cursor()


def _checked(data: bytes | None, rows: int, suspicious: int, expected: int) -> Encoded:
    if data is None or rows != expected:
        raise SourceError(f"{expected} documents gave {rows} rows: one of them is not a JSON object.")
    return Encoded(data, rows, int(suspicious))


def _pieces(documents: Documents) -> Iterator[Documents]:
    """Divide a page so that no piece but a single document is over the size."""
    if sum(map(len, documents)) <= _CHUNK_BYTES:
        yield documents
        return
    piece: Documents = []
    size = 0
    for document in documents:
        if piece and size + len(document) > _CHUNK_BYTES:
            yield piece
            piece, size = [], 0
        piece.append(document)
        size += len(document)
    yield piece


def _header(columns: Sequence[FileColumn], options: CsvOptions) -> bytes:
    row = options.delimiter.join(_header_cell(column.header, options) for column in columns) + ROW_END
    return ((_BOM if options.bom else "") + row).encode()


def _header_cell(text: str, options: CsvOptions) -> str:
    guard = options.formula_guard == "escape"
    if guard and text.startswith(FORMULA_STARTS) and not _NUMERIC.fullmatch(text):
        text = "'" + text
    special = {'"', "\r", "\n", options.delimiter, *(SEPARATORS if guard else ())}
    if not text or special & set(text):
        return '"' + text.replace('"', '""') + '"'
    return text
