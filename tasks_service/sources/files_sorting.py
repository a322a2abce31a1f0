"""Documents of files in an order, in memory that neither their number nor their size matters to.

A sort by DuckDB alone would hold whole documents. So they are put aside first, in a file of their own and in any order;
only keys and places are sorted, which DuckDB moves to disk where it must; then documents are read from their places.
What lives here is that, and the folder it takes: readable by nobody else, gone with the snapshot, and where a killed
process left one behind removed by the next sort. Called by files.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import itertools
import os
import shutil
import tempfile
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO

from tasks_service.sources import Documents
from tasks_service.sources.files_relation import literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

FIRST_ROWS = 256
_PAGE_BYTES = 2 * 1024 * 1024
_MOST_ROWS = 10_000
_PREFIX = "tasks-service-sort-"
_SETTLED_SECONDS = 60
"""Younger folders are left alone: their process may not have locked them yet."""


def rows_that_fit(page: Documents) -> int:
    """Return how many documents the next page may have, by what those of a page weigh."""
    mean = max(sum(map(len, page)) // len(page), 1)
    return max(1, min(_MOST_ROWS, _PAGE_BYTES // mean))


class SortedDocuments:
    """The documents of one statement in order."""

    def __init__(self, connection: DuckDBPyConnection, folder: Path, limit: int) -> None:
        """Take a connection that may hold tables of ours, a folder that is empty, and how many documents to give."""
        self._connection = connection
        self._folder = folder
        self._limit = limit
        # One thread: each needs memory of its own to read files, and none of them is what is waited for.
        connection.execute(f"SET temp_directory = {literal(str(folder))}; SET threads = 1")

    def pages(self, statement: str, parameters: list[Any]) -> Iterator[Documents]:
        """Yield pages in order. `statement` selects documents as bytes, and their sort keys. Raises duckdb.Error."""
        with (self._folder / "documents").open("w+b") as file:
            self._put_aside(file, statement, parameters)
            cursor = self._connection.cursor()
            # Equal ones stand as they were read: by one thread, file by file, line by line.
            cursor.execute("SELECT place, size FROM places ORDER BY key, place LIMIT ?", [self._limit])
            rows = FIRST_ROWS
            while places := cursor.fetchmany(rows):
                page = [os.pread(file.fileno(), size, place) for place, size in places]
                rows = rows_that_fit(page)
                yield page

    def _put_aside(self, file: BinaryIO, statement: str, parameters: list[Any]) -> None:
        cursor = self._connection.cursor()
        cursor.execute(statement, parameters)
        kind = str(cursor.description[1][1])
        self._connection.execute(f"CREATE TABLE places (key {kind}, place BIGINT, size BIGINT)")
        insert = f"INSERT INTO places SELECT unnest(?::{kind}[]), unnest(?::BIGINT[]), unnest(?::BIGINT[])"
        rows, end = FIRST_ROWS, 0
        while found := cursor.fetchmany(rows):
            page: Documents = [document for document, _ in found]
            file.writelines(page)
            sizes = [len(document) for document in page]
            *places, end = itertools.accumulate(sizes, initial=end)
            self._connection.execute(insert, [[key for _, key in found], places, sizes])
            rows = rows_that_fit(page)
        file.flush()


@contextmanager
def sorting_folder(parent: Path | None) -> Generator[Path]:
    """Give an empty folder for as long as the context lasts; in the system's temporary one where no parent is given."""
    base = Path(tempfile.gettempdir()) if parent is None else parent
    base.mkdir(parents=True, exist_ok=True)
    _remove_left(base)
    folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=base))
    lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _remove_left(base: Path) -> None:
    """Remove the folders of processes that ended before they could."""
    for folder in base.glob(f"{_PREFIX}*"):
        with contextlib.suppress(OSError):
            found = folder.lstat()
            if found.st_uid != os.geteuid() or time.time() - found.st_mtime < _SETTLED_SECONDS:
                continue
            lock = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
            finally:
                os.close(lock)
