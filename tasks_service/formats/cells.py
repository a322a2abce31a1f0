"""The cells of a page, column by column, for the formats that are not CSV: what each document holds for each column.

What lives here is the asking of the engine, and the way round it for irregular documents (flatten.py). What a cell
becomes in a file is the encoders' business. Called by xlsx_encoder.py, parquet_encoder.py
and xml_encoder.py.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from tasks_service.formats.chunk import Chunk, pieces_of
from tasks_service.formats.composition import Composition, literal
from tasks_service.formats.csv_query import CHUNK, WIDE, irregular, pointer
from tasks_service.formats.engine import Engine
from tasks_service.formats.file_columns import AnyColumn
from tasks_service.formats.flatten import Flattener, Spellings
from tasks_service.formats.local_times import LocalTimes
from tasks_service.sources import Documents

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

TEXT = "json_extract_string"
"""Cells as in CSV: a string is itself, anything else its JSON; null and absent are null."""

JSON = "json_extract"
"""Cells as compact JSON, strings quoted and null spelt out; absent is null."""


class Cells:
    """Takes the cells of pages. One a file, used by several threads."""

    def __init__(
        self, columns: Sequence[AnyColumn], engine: Engine, form: str, local: LocalTimes | None = None
    ) -> None:
        """Take the columns in order, TEXT or JSON, and how instants are written where not as they are."""
        self._engine = engine
        self._width = len(columns)
        composition = Composition(columns)
        fields = composition.fields
        cells = composition.json() if form == JSON else composition.texts()
        self._spellings = Spellings(fields)
        self._flattener = Flattener(fields)
        watched = self._spellings.watched
        paths = [pointer(field.path) for field in fields] + [pointer(watch.path) for watch in watched]
        tests = [irregular(watch, len(fields) + position) for position, watch in enumerate(watched)]
        wide = len(fields) > WIDE
        by_path = _values(form, f"[{', '.join(map(literal, paths))}]", local)
        self._query = None if wide else _query(by_path, cells, " OR ".join(tests))
        self._flat_query = _query(_values(form, "'$[*]'", local), cells, "")

    def of(self, documents: Documents) -> Iterator[list[Any]]:
        """Yield an Arrow array of texts for each column, for a piece of the page at a time.

        Raises SourceError where a document is not a JSON object.
        """
        for piece in pieces_of(documents):
            yield self._regular(piece) or self._columns(self._flat_query, self._flat(piece)) or []

    def _flat(self, documents: Documents) -> Chunk:
        return Chunk([self._flattener.flat(document) for document in documents])

    def _regular(self, documents: Documents) -> list[Any] | None:
        """Return the columns; None where some document may be irregular."""
        if self._query is None:
            return None
        chunk = Chunk(documents)
        return None if self._spellings.seen_in(chunk.text) else self._columns(self._query, chunk)

    def _columns(self, query: str, chunk: Chunk) -> list[Any] | None:
        import pyarrow.compute  # pyright: ignore[reportMissingTypeStubs]

        compute: Any = pyarrow.compute

        def read(cursor: DuckDBPyConnection) -> Any:  # noqa: ANN401 -- the library has no types
            return cursor.sql(query).to_arrow_table()

        table = self._engine.ask(chunk, read)
        if compute.any(table["irregular"]).as_py():
            return None
        values = table["cells"].combine_chunks()
        return [compute.list_element(values, position) for position in range(self._width)]


def _values(form: str, paths: str, local: LocalTimes | None) -> str:
    found = f"(SELECT CAST({form}(document, {paths}) AS VARCHAR[]) AS v FROM {CHUNK})"  # noqa: S608 -- as below
    return found if local is None else local.applied(found, quoted=form == JSON)


def _query(values: str, cells: str, odd: str) -> str:
    # A caller's text is only ever inside literal().
    return (
        f"SELECT {cells} AS cells, coalesce({odd or 'false'}, false) AS irregular "  # noqa: S608
        f"FROM {values}"
    )
