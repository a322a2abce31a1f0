"""CSV: RFC 4180, a header row, CR LF after every row, UTF-8, unless the options say otherwise (csv_options.py).

Null is unquoted nothing (or the text the options name) and "" is quoted, in every dialect.
Arrays and nested documents are JSON cells, objects are dotted columns. A chunk of raw documents becomes rows inside
DuckDB, off the interpreter lock; the bytes depend on nothing but the documents, the columns and the options, so that
every source gives the same file. What lives here is the running of the query of csv_query.py, in bounded memory and by
several threads at once. Called by registry.py.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

from tasks_service.errors import SourceError, UnfitDocumentError
from tasks_service.formats import Encoded, JoiningWriter, Joints
from tasks_service.formats.chunk import Chunk, pieces_of
from tasks_service.formats.composition import Composition
from tasks_service.formats.csv_options import CsvOptions
from tasks_service.formats.csv_query import WIDE, flat_rows_query, rows_query
from tasks_service.formats.engine import Engine
from tasks_service.formats.file_columns import AnyColumn
from tasks_service.formats.flatten import Flattener, Spellings
from tasks_service.formats.formulas import SEPARATORS, starts_formula
from tasks_service.formats.local_times import LocalTimes
from tasks_service.sources import Documents

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

_MARK = b"\x11"
"""Marks suspicious cells while they are counted: a control character, which JSON can only spell as _MARK_ESCAPED."""

_MARK_ESCAPED = b"\\u0011"
_SHOWN = 60


@dataclass(frozen=True, slots=True)
class _Queries:
    """One query in two forms: with suspicious cells marked, and not (the same where there is nothing to count)."""

    marking: str
    plain: str

    @classmethod
    def of(cls, query: Callable[[str], str], options: CsvOptions) -> _Queries:
        plain = query("")
        return cls(query(_MARK.decode()) if options.formula_guard == "off" else plain, plain)


class CsvEncoder:
    """Documents to rows. One encoder a file; its threads share one in-memory DuckDB."""

    extension = "csv"

    def __init__(self, columns: Sequence[AnyColumn], options: CsvOptions, local: LocalTimes | None = None) -> None:
        """Take the columns in order, at least one, and how their instants are written where not as they are."""
        self._options = options
        self.content_type = f"text/csv; charset={options.encoding}"
        header = _header(columns, options)
        self.joints = Joints(header=header, empty=header)
        composition = Composition(columns)
        self._spellings = Spellings(composition.fields)
        self._flattener = Flattener(composition.fields)
        regular = partial(rows_query, composition, self._spellings.watched, options, local)
        self._queries = None if len(composition.fields) > WIDE else _Queries.of(regular, options)
        self._flat_queries = _Queries.of(partial(flat_rows_query, composition, options, local), options)
        self._says_mark = any(_MARK.decode() in text for text in (options.delimiter, *composition.literals))
        self._engine = Engine(self.extension)

    def encode(self, documents: Documents) -> Encoded:
        """Encode one page, in pieces of bounded size.

        Raises UnfitDocumentError where the file's encoding has not every character.
        """
        pieces = [self._transcoded(self._encode(piece)) for piece in pieces_of(documents)]
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
        chunk = Chunk(documents)
        if self._queries is not None and not self._spellings.seen_in(chunk.text):
            encoded = self._rows(self._queries, chunk)
            if encoded is not None:
                return encoded
        encoded = self._rows(self._flat_queries, Chunk([self._flattener.flat(document) for document in documents]))
        assert encoded is not None  # noqa: S101 -- flat documents are regular
        return encoded

    def _transcoded(self, page: Encoded) -> Encoded:
        """Return rows that DuckDB has made, in the encoding of the file."""
        if self._options.encoding != "utf-8":
            text = page.data.decode()
            try:
                page.data = text.encode(self._options.codec)
            except UnicodeEncodeError as error:
                raise self._unfit(text, error.start) from None
        return page

    def _unfit(self, text: str, place: int) -> UnfitDocumentError:
        start = text.rfind(self._options.row_end, 0, place) + 1
        shown = text[start:place].strip()[:_SHOWN]
        return UnfitDocumentError(
            f"The character {text[place]!r} (U+{ord(text[place]):04X}), after {shown!r} in its row, is not in the "
            f"encoding {self._options.encoding}. Choose utf-8 or utf-16, which have every character, or leave the "
            "column out."
        )

    def _rows(self, queries: _Queries, chunk: Chunk) -> Encoded | None:
        """Return the rows of a chunk; None where some document is irregular."""
        data, rows, irregular = self._run(queries.marking, chunk)
        if irregular:
            return None
        if data is None or rows != chunk.rows:
            raise SourceError(f"{chunk.rows} documents gave {rows} rows: one of them is not a JSON object.")
        marks = data.count(_MARK)
        if not marks:
            return Encoded(data, rows)
        if _MARK_ESCAPED not in chunk.text and not self._says_mark:
            return Encoded(data.replace(_MARK, b""), rows, marks)
        plain, _, _ = self._run(queries.plain, chunk)
        return Encoded(plain or b"", rows, marks - (plain or b"").count(_MARK))

    def _run(self, query: str, chunk: Chunk) -> tuple[bytes | None, int, bool]:
        def read(cursor: DuckDBPyConnection) -> tuple[bytes | None, int, bool]:
            rows: list[tuple[bytes | None, int, bool]] = cursor.execute(query).fetchall()
            return rows[0]

        return self._engine.ask(chunk, read)


def _header(columns: Sequence[AnyColumn], options: CsvOptions) -> bytes:
    row = options.delimiter.join(_header_cell(column.header, options) for column in columns) + options.row_end
    return (options.mark + (row if options.header else "")).encode(options.codec)


def _header_cell(text: str, options: CsvOptions) -> str:
    guard = options.formula_guard == "escape"
    if guard and starts_formula(text):
        text = "'" + text
    # What looks like a byte order mark is taken away from the beginning of a file, unless it is quoted.
    special = {*options.special, "\ufeff", *(SEPARATORS if guard else ())}
    return options.quoted(text) if options.quoting == "all" or not text or special & set(text) else text
