"""The in-memory DuckDB in which one encoder asks its chunks: off the interpreter lock, from several threads, bounded.

What lives here is the connection and what its errors mean; what is asked is csv_query.py's and cells.py's. Called by
csv_encoder.py and cells.py.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from tasks_service.errors import SourceError
from tasks_service.formats.chunk import Chunk
from tasks_service.formats.csv_query import CHUNK

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_MEMORY = "1GB"
"""DuckDB's limit for all threads of one encoder together; chunks use a small part of it, one huge document more."""

_Answer = TypeVar("_Answer")


class Engine:
    """One database for the threads of one encoder."""

    def __init__(self, export_format: str) -> None:
        """Take the format's name, for what the errors say."""
        self._format = export_format
        self._local = threading.local()
        self._lock = threading.Lock()
        self._database: DuckDBPyConnection | None = None

    def ask(self, chunk: Chunk, read: Callable[[DuckDBPyConnection], _Answer]) -> _Answer:
        """Return what `read` makes of a connection that has the chunk as its table CHUNK.

        Raises SourceError where a document is not valid JSON, or too large.
        """
        import duckdb

        cursor = self._cursor()
        try:
            try:
                return _ask(cursor, chunk, read)
            except duckdb.InvalidInputException:
                # Half a character, escaped, is lawful JSON to Elasticsearch but not to DuckDB.
                return _ask(cursor, chunk.without_lone_surrogates(), read)
        except duckdb.OutOfMemoryException as exc:
            detail = f"A document of the index is too large to be encoded as {self._format}; use jsonl."
            raise SourceError(detail) from exc
        except (duckdb.Error, UnicodeDecodeError) as exc:
            raise SourceError("A document of the index cannot be encoded: it is not valid JSON.") from exc

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


def _ask(cursor: DuckDBPyConnection, chunk: Chunk, read: Callable[[DuckDBPyConnection], _Answer]) -> _Answer:
    cursor.register(CHUNK, chunk.table())
    try:
        return read(cursor)
    finally:
        cursor.unregister(CHUNK)
