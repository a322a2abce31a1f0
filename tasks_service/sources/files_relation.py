"""A relation over document files: what is read from, with one typed column a field and the document of each row.

What lives here is the relation itself, the SQL it is written in, and how the files are asked; what makes one of files
of a kind is files_kinds.py's and files_lines.py's. Called by those and by files.py.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tasks_service.sources.files_folder import OpenFolder

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection
    from duckdb.sqltypes import DuckDBPyType

MAX_DOCUMENT = 16 * 1024 * 1024
"""Bytes a document of JSON lines or CSV may have."""
_FETCHED = 10_000

FILES = "\0files\0"
"""Stands for the list of files in a statement: the files of one version are opened again for each snapshot."""


DECODED = "\0decoded\0"
"""Stands for the columns of Relation.decoded that are asked for."""


@dataclass(frozen=True, slots=True)
class Relation:
    """What is read from: `SELECT {document} FROM {over(folder)}` has a document a row, as text.

    Attributes:
        source: what stands behind FROM, with one typed column a field; see `over`.
        decoded: (name, expression) of columns that are there when they are asked for.
        document: an expression over it.
        columns: (name, type as DESCRIBE prints it) of every field.
        types: dotted path -> date, for texts that all are ISO 8601 dates.
        thread_bytes: what each thread that reads needs, where that is much; see `fit_memory`.
    """

    source: str
    document: str
    columns: tuple[tuple[str, str], ...]
    types: tuple[tuple[str, str], ...] = ()
    thread_bytes: int = 0
    decoded: tuple[tuple[str, str], ...] = ()

    def over(self, folder: OpenFolder, *statements: str) -> str:
        """Return the source over the files of an open folder, for statements that name columns of it.

        Columns that are decoded one by one are left out where none of the statements names them, quoted.
        """
        named = [
            f", {value} AS {quoted(name)}"
            for name, value in self.decoded
            if any(quoted(name) in one for one in statements)
        ]
        return _over(self.source.replace(DECODED, "".join(named)), folder.paths)


def _over(statement: str, paths: list[str]) -> str:
    return statement.replace(FILES, "[" + ", ".join(literal(path) for path in paths) + "]")


def fit_memory(connection: DuckDBPyConnection, thread_bytes: int) -> None:
    """Take fewer threads where the memory limit is less than what all of them need, and put no rows by.

    DuckDB puts few rows that pass a filter by until they are 2,048, whatever they weigh. Where threads need little it
    still fills whatever it may with Parquet files, and is no faster for it: two thirds of the limit are enough.
    """
    limit = "parse_formatted_bytes(current_setting('memory_limit'))"
    if not thread_bytes:
        (enough,) = connection.execute(f"SELECT {limit} * 2 // 3").fetchone() or (0,)
        connection.execute(f"SET memory_limit = '{enough}B'")
        return
    fitting = f"SELECT least(current_setting('threads'), {limit} // {thread_bytes})"
    (threads,) = connection.execute(fitting).fetchone() or (1,)
    connection.execute(f"SET threads = {max(threads, 1)}; SET enable_caching_operators = false")


class Probe:
    """Asks questions of the files."""

    def __init__(self, connection: DuckDBPyConnection, folder: OpenFolder) -> None:
        self._connection = connection
        self.folder = folder

    def fit_memory(self, thread_bytes: int) -> None:
        """See `fit_memory`."""
        fit_memory(self._connection, thread_bytes)

    def row(self, statement: str) -> tuple[Any, ...]:
        """Return the one row of a statement."""
        row = self._connection.execute(_over(statement, self.folder.paths)).fetchone()
        return row or ()

    def rows(self, statement: str) -> Iterator[tuple[Any, ...]]:
        """Yield the rows of a statement as they come."""
        cursor = self._connection.execute(_over(statement, self.folder.paths))
        while rows := cursor.fetchmany(_FETCHED):
            yield from rows

    def described(self, source: str) -> tuple[tuple[str, str], ...]:
        """Return (name, printed type) of every column."""
        statement = f"DESCRIBE SELECT * FROM {source}"  # noqa: S608 -- made of literals
        rows = self._connection.execute(_over(statement, self.folder.paths)).fetchall()
        return tuple((str(row[0]), str(row[1])) for row in rows)

    def typed(self, source: str) -> list[tuple[str, DuckDBPyType]]:
        """Return (name, type) of every column."""
        relation = self._connection.sql(_over(f"SELECT * FROM {source}", self.folder.paths))  # noqa: S608
        return list(zip(relation.columns, relation.types, strict=True))


def quoted(identifier: str) -> str:
    """Return a quoted DuckDB identifier."""
    return '"' + identifier.replace('"', '""') + '"'


def literal(text: str) -> str:
    """Return an SQL literal."""
    return "'" + text.replace("'", "''") + "'"


def unused(name: str, taken: Iterable[str]) -> str:
    """Return a name for a column of our own that no field has."""
    folded = {one.lower() for one in taken}
    while name in folded:
        name += "_"
    return name
