"""How each format is read back, by a reader that is not ours, and what it promises of a value.

A format takes part in tests/contract/test_format_conformance.py by its line in READERS.
"""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import openpyxl
import pyarrow.parquet as pq
from lxml import etree
from openpyxl.utils.escape import unescape

Table = tuple[list[str], list[list[Any]]]
"""Headers, and rows of cells as the reader gives them."""

_NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"
_NULL = object()


@dataclass(frozen=True)
class Reader:
    """What reads a file of one format.

    Attributes:
        read: bytes of the file -> its table; formats of whole documents have a header of none and rows of one document.
        says: (cell, value) -> whether the cell says what the value of the document, or of the column, is.
        headers_without_rows: whether a file without rows has them.
    """

    read: Callable[[bytes], Table]
    says: Callable[[Any, Any], bool]
    headers_without_rows: bool = True


def text_of(value: Any) -> str:
    """The text of a value in a cell of text."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)


def _is_text(cell: Any, value: Any) -> bool:
    match value:
        case None:
            return cell is None
        case bool() | str():
            return cell == text_of(value)
        case int():
            return cell == str(value)
        case float():
            return isinstance(cell, str) and float(cell) == value
        case _:
            return isinstance(cell, str) and json.loads(cell) == value


def _read_csv(data: bytes) -> Table:
    """Python's reader has no null: quoted cells get a mark in front, which texts of the tests do not have."""
    text = re.sub(r'("(?:[^"]|"")*")', lambda found: '"\ue000' + found[1][1:], data.decode())
    header, *rows = csv.reader(io.StringIO(text, newline=""), strict=True)
    return [_unmarked(cell) or "" for cell in header], [[_unmarked(cell) for cell in row] for row in rows]


def _unmarked(cell: str) -> str | None:
    return cell.removeprefix("\ue000") if cell else None


def _read_documents(rows: list[Any]) -> Table:
    return [], [[row] for row in rows]


def _equals(cell: Any, value: Any) -> bool:
    return bool(cell == value)


def _read_parquet(data: bytes) -> Table:
    table = pq.read_table(io.BytesIO(data))
    return table.column_names, [list(row.values()) for row in table.to_pylist()]


def _is_typed(cell: Any, value: Any) -> bool:
    if isinstance(cell, datetime):
        moment = datetime.fromisoformat(value)
        return cell == (moment if moment.tzinfo else moment.replace(tzinfo=UTC))
    return type(cell) is type(value) and cell == value if not isinstance(cell, str) else _is_text(cell, value)


def _read_xlsx(data: bytes) -> Table:
    [sheet] = openpyxl.load_workbook(io.BytesIO(data)).worksheets
    header, *rows = sheet.iter_rows(values_only=True)
    return [_unescaped(cell) for cell in header], [[_unescaped(cell) for cell in row] for row in rows]


def _unescaped(cell: Any) -> Any:
    return unescape(cell) if isinstance(cell, str) else cell


def _is_shown(cell: Any, value: Any) -> bool:
    """Integers of more than 15 digits are texts, which a spreadsheet would not show whole; "" is read as nothing."""
    match value:
        case None | bool():
            return cell is value
        case "":
            return cell in (None, "")
        case int() if abs(value) < 10**15:
            return type(cell) is int and cell == value
        case float():
            return isinstance(cell, int | float) and math.isclose(cell, value, rel_tol=0, abs_tol=0)
        case _:
            return _is_text(cell, value)


def _read_xml(data: bytes) -> Table:
    """A cell is the list of its elements; an empty list has none, so the row of the most columns names them all."""
    rows: list[dict[str, list[Any]]] = []
    for row in etree.fromstring(data):
        cells: dict[str, list[Any]] = {}
        for element in row:
            name = re.sub(r"_x([0-9A-F]{4,8})_", lambda found: chr(int(found[1], 16)), element.tag)
            text = _NULL if element.get(_NIL) == "true" else element.text or ""
            cells.setdefault(name, []).append(json.loads(text) if element.get("json") == "true" else text)
        rows.append(cells)
    header = list(max(rows, key=len, default={}))
    return header, [[cells.pop(name, []) for name in header] + list(cells.values()) for cells in rows]


def _is_elements(cell: list[Any], value: Any) -> bool:
    values = value if isinstance(value, list) else [value]
    return len(cell) == len(values) and all(map(_is_element, cell, values))


def _is_element(cell: Any, value: Any) -> bool:
    if value is None or cell is _NULL:
        return value is None and cell is _NULL
    return bool(cell == value) if isinstance(value, dict | str) else _is_text(cell, value)


READERS = {
    "csv": Reader(_read_csv, _is_text),
    "json": Reader(lambda data: _read_documents(json.loads(data)), _equals),
    "jsonl": Reader(lambda data: _read_documents([json.loads(line) for line in data.splitlines()]), _equals),
    "parquet": Reader(_read_parquet, _is_typed),
    "xlsx": Reader(_read_xlsx, _is_shown),
    "xml": Reader(_read_xml, _is_elements, headers_without_rows=False),
}
