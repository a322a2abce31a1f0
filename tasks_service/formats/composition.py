"""How the cells of a row come from a document: which fields are asked for, and what is made of them, as SQL.

Fields are asked for once for each column and once more for templates that need others; the cells are a list over the
values `v` of those fields. What lives here is pure text. Called by csv_query.py and cells.py, for documents of every
kind, since flat ones (flatten.py) hold the same fields in the same order.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from tasks_service.formats.file_columns import AnyColumn, ConstantColumn, FileColumn, TemplateColumn

_NULL: Final = "CAST(NULL AS VARCHAR)"


class Composition:
    """The fields and the cells of a file's columns.

    Attributes:
        fields: what is asked of every document, at least one; those of the columns themselves come first, in order.
        literals: the constants, and the templates, of which some text stands in every row.
    """

    def __init__(self, columns: Sequence[AnyColumn]) -> None:
        """Take the columns in order, at least one."""
        self._columns = columns
        fields = [column for column in columns if isinstance(column, FileColumn)]
        places = {field.path: place for place, field in reversed(list(enumerate(fields)))}
        for field in (field for column in columns if isinstance(column, TemplateColumn) for field in column.fields):
            if places.setdefault(field.path, len(fields)) == len(fields):
                fields.append(field)
        self._places = places
        # A document is asked for something even where every cell is a constant.
        self.fields = tuple(fields) or (FileColumn("", ("",)),)
        constants = (column.text or "" for column in columns if isinstance(column, ConstantColumn))
        pieces = (
            piece
            for one in columns
            if isinstance(one, TemplateColumn)
            for piece in one.pieces
            if isinstance(piece, str)
        )
        self.literals = (*constants, *pieces)

    def texts(self) -> str:
        """Return the list of the cells' texts, over texts `v`, among which the fields come first."""
        return self._cells(lambda one: one.text, "v[{}]".format, lambda text: text)

    def json(self) -> str:
        """Return the list of the cells as JSON, over values `v` that are JSON, as `texts` does."""
        text_of = "json_extract_string(CAST(v[{}] AS JSON), '$')".format
        return self._cells(lambda one: one.json, text_of, lambda text: f"CAST(to_json({text}) AS VARCHAR)")

    def _cells(
        self,
        constant: Callable[[ConstantColumn], str | None],
        text_of: Callable[[int], str],
        made: Callable[[str], str],
    ) -> str:
        """Join slices of the fields, which lie in the columns' order, with what stands between them."""
        runs: list[str] = []
        first = place = 1
        for column in self._columns:
            if isinstance(column, FileColumn):
                place += 1
                continue
            if place > first:
                runs.append(f"v[{first}:{place - 1}]")
            first = place
            if isinstance(column, ConstantColumn):
                text = constant(column)
                runs.append(f"[{_NULL if text is None else literal(text)}]")
            else:
                runs.append(f"[{made(self._concatenated(column, text_of))}]")
        if place > first:
            runs.append(f"v[{first}:{place - 1}]")
        return " || ".join(runs)

    def _concatenated(self, column: TemplateColumn, text_of: Callable[[int], str]) -> str:
        # What is null or absent is nothing: concat passes over it.
        pieces = (literal(one) if isinstance(one, str) else text_of(self._places[one] + 1) for one in column.pieces)
        return f"concat({', '.join(pieces)})"


def literal(text: str) -> str:
    """Return a text as an SQL literal."""
    # A NUL cannot stand in a statement's text.
    parts = ["'" + part.replace("'", "''") + "'" for part in text.split("\0")]
    return parts[0] if len(parts) == 1 else "(" + " || chr(0) || ".join(parts) + ")"
