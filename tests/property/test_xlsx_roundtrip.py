"""What openpyxl reads back of a workbook equals the documents, whatever is in them (promise 5)."""

from __future__ import annotations

import io
import json
import math
from typing import Any

import openpyxl
from hypothesis import example, given, settings
from hypothesis import strategies as st
from openpyxl.utils.escape import unescape

from tasks_service.formats.xlsx_encoder import XlsxEncoder
from tests.property.test_formats_roundtrip import COLUMNS, INDENTS, NAMES, documents, exact, raw, values

# What could be taken for an escape, beside what has to be one.
ESCAPES = st.text(st.sampled_from("_xX0041Dd\r\x01\ufffe<&\n "), max_size=24)


def read(pages: list[list[bytes]]) -> list[tuple[Any, ...]]:
    encoder = XlsxEncoder(COLUMNS, "products")
    writer = encoder.writer()
    data = b"".join(writer.add(encoder.encode(page)) for page in pages if page) + writer.finish()
    [sheet] = openpyxl.load_workbook(io.BytesIO(data)).worksheets
    return [
        tuple(unescape(cell) if isinstance(cell, str) else cell for cell in row)
        for row in sheet.iter_rows(values_only=True, max_col=len(NAMES))
    ]


def same(cell: Any, value: Any) -> bool:
    """Whether a cell says what the value is."""
    match value:
        case None | bool():
            return cell is value
        case int():
            return exact(str(cell)) == value and isinstance(cell, int) == (abs(value) < 10**15)
        case float():
            held = value == 0 or 2.2250738585072014e-308 <= abs(value) <= 9.99999999999999e307
            number = isinstance(cell, (int, float)) and not isinstance(cell, bool)
            return number == held and math.isclose(float(cell), value, rel_tol=0, abs_tol=0)
        case str():
            return cell == value
        case _:
            return isinstance(cell, str) and exact(cell) == value


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(documents(), INDENTS), max_size=6), st.integers(1, 6))
def test_a_workbook_comes_back_as_it_went(found: list[tuple[dict[str, Any], int | None]], page: int) -> None:
    pages = [raw(document, indent) for document, indent in found]
    header, *rows = read([pages[start : start + page] for start in range(0, len(pages), page)])
    assert header == NAMES
    rows += [(None,) * len(NAMES)] * (len(found) - len(rows))  # openpyxl ends at the last cell there is
    assert len(rows) == len(found)
    for (document, _), row in zip(found, rows, strict=True):
        for name, cell in zip(NAMES, row, strict=True):
            there = values(document, name.split("."))
            assert same(cell, there[0] if there else None), (name, cell, there)


@settings(deadline=None, max_examples=60)
@given(st.lists(ESCAPES, min_size=1, max_size=30))
@example(["_x0041\x01", "_x0041_x0042_", "_x0041\r_", "_x005F_x0041_"])
def test_no_text_is_taken_for_an_escape(texts: list[str]) -> None:
    rows = read([[json.dumps({"a": text}).encode() for text in texts]])[1:]
    assert [row[0] for row in rows] == texts
