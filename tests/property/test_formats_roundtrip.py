"""What a standard reader reads back equals the documents, whatever is in them (promise 5).

CSV is read by Python's csv (which cannot tell null from "") and by DuckDB (which can); JSON and JSONL by json,
XML by lxml.
"""

from __future__ import annotations

import csv
import io
import json
import tempfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from tasks_service.errors import UnfitDocumentError
from tasks_service.formats.columns import FileColumn
from tasks_service.formats.csv_encoder import CsvEncoder
from tasks_service.formats.csv_options import CsvOptions, csv_faults
from tasks_service.formats.formulas import FORMULA_STARTS, NUMERIC
from tasks_service.formats.json_encoder import JsonEncoder, JsonLinesEncoder
from tasks_service.formats.xml_encoder import XmlEncoder
from tasks_service.formats.xml_schema import TEXT, element_name, schema

NAMES = ("a", "b.c", "b.d.e", "list", "é ü", 'q"', "s,t", "x/y~z", "number")
COLUMNS = [FileColumn(name, tuple(name.split("."))) for name in NAMES]

# DuckDB's reader has no NUL in its cells; the encoder has (tests/unit).
TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.sampled_from(
    [
        "",
        " ",
        '"',
        '""',
        ",",
        "\n",
        "\r\n",
        "\r",
        "null",
        "NULL",
        "true",
        "1",
        "=1+1",
        "'",
        "\ufeff",
        "é",
        "😀",
        "\t",
        "\\",
        "\u2028",
    ]
)
INTEGERS = st.integers(-(2**63), 2**64) | st.integers(-(10**40), 10**40)
FLOATS = st.floats(allow_nan=False, allow_infinity=False)
SCALARS = st.none() | st.booleans() | TEXTS | INTEGERS | FLOATS
CELLS = SCALARS | st.lists(SCALARS | st.dictionaries(TEXTS, SCALARS, max_size=2), max_size=3)
INDENTS = st.sampled_from([None, 1])


@st.composite
def documents(draw: st.DrawFn) -> dict[str, Any]:
    """A document of which each column is there or not, with the dotted ones spelt in one way or another."""
    document: dict[str, Any] = {}
    for name in NAMES:
        if not draw(st.booleans()):
            continue
        value = draw(CELLS)
        parts = name.split(".")
        cuts = draw(st.integers(0, 2 ** (len(parts) - 1) - 1))
        keys = [parts[0]]
        for position, part in enumerate(parts[1:]):
            if cuts >> position & 1:
                keys[-1] += "." + part
            else:
                keys.append(part)
        place = document
        for key in keys[:-1]:
            place = place.setdefault(key, {})
        place[keys[-1]] = value
    return document


def values(document: Any, parts: list[str]) -> list[Any]:
    """All values of a dotted field: the oracle, written the plain way."""
    if not parts:
        return [document]
    if not isinstance(document, dict):
        return []
    found = []
    for depth in range(1, len(parts) + 1):
        key = ".".join(parts[:depth])
        if key in document:
            found += values(document[key], parts[depth:])
    return found


def raw(document: dict[str, Any], indent: int | None) -> bytes:
    return json.dumps(document, ensure_ascii=indent is None, indent=indent).encode()


def exact(text: str) -> Any:
    """Decode JSON without losing a digit of an integer."""
    return json.loads(text)


def same(cell: str | None, value: Any) -> bool:
    """Whether a cell says what the value is."""
    match value:
        case None:
            return cell is None
        case bool():
            return cell == ("true" if value else "false")
        case int():
            return cell is not None and Decimal(cell) == value and "." not in cell and "e" not in cell.lower()
        case float():
            return cell is not None and float(cell) == value
        case str():
            return cell == value
        case _:
            return cell is not None and exact(cell) == value


def encoded(found: list[bytes], **options: Any) -> tuple[str, int]:
    made = CsvEncoder(COLUMNS, CsvOptions(**options))
    if not found:
        return made.joints.empty.decode(), 0
    page = made.encode(found)
    assert page.rows == len(found)
    return (made.joints.header + page.data).decode(), page.suspicious_cells


def read_by_python(text: str, options: CsvOptions) -> list[list[str]]:
    doubled = options.escaping == options.quote
    escape = None if doubled else options.escaping
    lines = io.StringIO(text, newline="")
    return list(
        csv.reader(lines, delimiter=options.delimiter, quotechar=options.quote, doublequote=doubled, escapechar=escape)
    )


def read_by_duckdb(text: str, options: CsvOptions) -> list[tuple[str | None, ...]]:
    with tempfile.TemporaryDirectory() as folder, duckdb.connect() as connection:
        path = Path(folder) / "file.csv"
        path.write_bytes(text.encode())
        columns = ", ".join(f"'c{number}': 'VARCHAR'" for number in range(len(NAMES)))
        new_line = {"lf": "\\n", "crlf": "\\r\\n"}[options.line_ending]
        return connection.execute(
            "SELECT * FROM read_csv(?, header = ?, auto_detect = false, delim = ?, quote = ?, escape = ?, nullstr = ?, "  # noqa: S608
            f"allow_quoted_nulls = false, columns = {{{columns}}}, new_line = '{new_line}', parallel = false)",
            [str(path), options.header, options.delimiter, options.quote, options.escaping, options.null],
        ).fetchall()


@st.composite
def dialects(draw: st.DrawFn) -> dict[str, Any]:
    """Options that are sound together, each at its default half of the time."""
    choices: dict[str, list[Any]] = {
        "delimiter": [";", "\t", "|", " ", "\u00a7", "'", '"', "1", "n"],
        "quote": ["'", "|", "`", "\\", ","],
        "escape": ["\\", '"', "'", "^"],
        "quoting": ["all"],
        "header": [False],
        "line_ending": ["lf"],
        "encoding": ["utf-16", "iso-8859-1", "windows-1252"],
        "bom": [True],
        "formula_guard": ["escape"],
        "null": ["NULL", "null", "1", "true", "-", "'", "\\N", " ", "é", "n/a"],
    }
    options = {name: draw(st.sampled_from(values)) for name, values in choices.items() if draw(st.booleans())}
    # What does not go together is told one by one, so that leaving out what is named ends at what does.
    while faults := csv_faults(options):
        del options[faults[0].pointer.rpartition("/")[2]]
    return options


@settings(deadline=None, max_examples=200)
@given(st.lists(st.tuples(documents(), INDENTS), max_size=4), dialects())
def test_csv_comes_back_as_it_went(found: list[tuple[dict[str, Any], int | None]], given: dict[str, Any]) -> None:
    options = CsvOptions(**given)
    pages = [raw(document, indent) for document, indent in found]
    made = CsvEncoder(COLUMNS, options)
    plain, _ = encoded(pages, **given | {"encoding": "utf-8", "bom": False})
    try:
        plain.encode(options.codec)
    except UnicodeEncodeError:
        with pytest.raises(UnfitDocumentError, match=options.encoding):
            made.encode(pages)
        return
    data = made.joints.header + (made.encode(pages).data if pages else b"")
    text = data.decode(options.codec)
    marked = options.bom or options.encoding == "utf-16"
    assert text.startswith("\ufeff") == marked
    text = text[marked:]
    rows = read_by_python(text, options)
    by_duckdb = read_by_duckdb(text, options) if rows else []
    if options.header:
        assert tuple(rows.pop(0)) == NAMES
    assert len(rows) == len(by_duckdb) == len(found)
    for (document, _), row, cells in zip(found, rows, by_duckdb, strict=True):
        assert row == [options.null if cell is None else cell for cell in cells]
        for name, cell in zip(NAMES, cells, strict=True):
            there = values(document, name.split("."))
            assert says(cell, there[0] if there else None, options), (name, cell, there)


def says(cell: str | None, value: Any, options: CsvOptions) -> bool:
    """Whether a cell says what the value is, behind the guard's apostrophe where it has one."""
    if options.formula_guard == "escape" and cell is not None and cell.startswith("'") and risky(cell[1:]):
        return same(cell[1:], value) or same(cell, value)
    return same(cell, value)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(documents(), INDENTS), min_size=1, max_size=5))
def test_the_guard_changes_nothing_but_cells_that_could_be_formulas(
    found: list[tuple[dict[str, Any], int | None]],
) -> None:
    pages = [raw(document, indent) for document, indent in found]
    plain, counted = encoded(pages)
    guarded, left = encoded(pages, formula_guard="escape")
    changed = 0
    for before, after in zip(cells_of(plain), cells_of(guarded), strict=True):
        if before == after:
            assert not risky(after)
        else:
            assert after == "'" + before
            assert risky(before)
            changed += 1
    assert (counted, left) == (changed, 0)


def cells_of(text: str) -> list[str]:
    return [cell for row in csv.reader(io.StringIO(text, newline="")) for cell in row]


def risky(cell: str) -> bool:
    import re

    return cell.startswith(FORMULA_STARTS) and not re.fullmatch(NUMERIC, cell)


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(documents(), INDENTS), min_size=1, max_size=5), st.integers(1, 5))
def test_json_and_json_lines_come_back_as_they_went(found: list[tuple[dict[str, Any], int | None]], page: int) -> None:
    pages = [raw(document, indent) for document, indent in found]
    meant = [document for document, _ in found]
    split = [pages[start : start + page] for start in range(0, len(pages), page)]
    lines = b"".join(JsonLinesEncoder().encode(one).data for one in split)
    assert [json.loads(line) for line in lines.split(b"\n")[:-1]] == meant
    array = JsonEncoder()
    whole = (
        array.joints.header + array.joints.separator.join(array.encode(one).data for one in split) + array.joints.footer
    )
    assert json.loads(whole) == meant


@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(documents(), INDENTS), min_size=2, max_size=6), st.integers(1, 5))
def test_rows_do_not_depend_on_the_page_they_come_in(found: list[tuple[dict[str, Any], int | None]], page: int) -> None:
    """Irregular documents send their whole page another way; the bytes are the same."""
    pages = [raw(document, indent) for document, indent in found]
    made = CsvEncoder(COLUMNS, CsvOptions())
    split = [pages[start : start + page] for start in range(0, len(pages), page)]
    assert b"".join(made.encode(one).data for one in split) == made.encode(pages).data


CONTROLS = st.text(st.characters(codec="utf-8") | st.sampled_from("\0\x08\r\n\t\x85\ufffe\uffff"), max_size=6)
XML_NAMES = (*NAMES, "controls", "inside")
XML_COLUMNS = [FileColumn(name, tuple(name.split("."))) for name in XML_NAMES]
XML_TYPES = [TEXT] * len(XML_COLUMNS)
XML_SCHEMA = etree.XMLSchema(etree.fromstring(schema(XML_COLUMNS, XML_TYPES).encode()))
NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"


@settings(deadline=None, max_examples=100)
@given(st.lists(st.tuples(documents(), CONTROLS, INDENTS), max_size=4), st.integers(1, 4))
def test_xml_comes_back_as_it_went(found: list[tuple[dict[str, Any], str, int | None]], page: int) -> None:
    meant = [document | {"controls": text, "inside": [{"of": text}, text]} for document, text, _ in found]
    pages = [raw(document, indent) for document, (_, _, indent) in zip(meant, found, strict=True)]
    made = XmlEncoder(XML_COLUMNS, XML_TYPES)
    writer = made.writer()
    split = [pages[start : start + page] for start in range(0, len(pages), page)]
    root = etree.fromstring(b"".join([*(writer.add(made.encode(one)) for one in split), writer.finish()]))
    XML_SCHEMA.assertValid(root)
    assert len(root) == len(meant)
    for document, row in zip(meant, root, strict=True):
        for name in XML_NAMES:
            there = values(document, name.split("."))
            wanted = flat(there[0]) if there else [None]
            elements = row.findall(element_name(name))
            assert len(elements) == len(wanted), name
            assert all(map(holds, elements, wanted)), (name, wanted)


def flat(value: Any) -> list[Any]:
    """The values of a list, and of the lists in it; any other value alone."""
    return [one for inner in value for one in flat(inner)] if isinstance(value, list) else [value]


def holds(element: Any, value: Any) -> bool:
    text = element.text or ""
    if element.get(NIL) == "true":
        return value is None
    if element.get("json") == "true":
        return exact(text) == value
    return value is not None and not isinstance(value, dict) and same(text, value)
