"""Workbooks: every value exact or text, every row on a sheet, the same bytes for the same rows."""

from __future__ import annotations

import gc
import io
import json
import re
import zipfile
from datetime import UTC, datetime
from typing import Any

import openpyxl
import pytest
from lxml import etree
from openpyxl.utils.escape import unescape

from segments import Catalog
from tasks_service.config import IndexSettings
from tasks_service.errors import InvalidRequestError, UnfitDocumentError
from tasks_service.formats import Encoder, xlsx_encoder
from tasks_service.formats.columns import FileColumn
from tasks_service.formats.registry import check_by_catalog, check_options, encoder_for
from tasks_service.formats.xlsx_cells import column_letters
from tasks_service.formats.xlsx_encoder import XlsxEncoder
from tasks_service.formats.xlsx_workbook import sheet_name


def naive(*parts: int) -> datetime:
    """A moment as a spreadsheet has it: without a zone."""
    return datetime(*parts, tzinfo=UTC).replace(tzinfo=None)  # type: ignore[misc,arg-type]


Sheets = dict[str, list[tuple[Any, ...]]]


def made(*names: str, dates: bool = False) -> XlsxEncoder:
    return XlsxEncoder([FileColumn(name, (name,)) for name in names], "products", dates=[dates] * len(names))


def written(encoder: Encoder, *pages: list[dict[str, Any]]) -> bytes:
    writer = encoder.writer()
    data = b"".join(writer.add(encoder.encode([json.dumps(one).encode() for one in page])) for page in pages)
    return data + writer.finish()


def read(data: bytes) -> Sheets:
    workbook = openpyxl.load_workbook(io.BytesIO(data))
    return {
        sheet.title: [
            tuple(unescape(cell) if isinstance(cell, str) else cell for cell in row)
            for row in sheet.iter_rows(values_only=True)
        ]
        for sheet in workbook.worksheets
    }


def value(cell: Any, *, dates: bool = False) -> Any:
    [[_, (_, found)]] = read(written(made("first", "cell", dates=dates), [{"first": 0, "cell": cell}])).values()
    return found


def test_a_text_stands_where_there_is_no_value() -> None:
    target = {"export_format": "xlsx", "export_index": "products", "columns": ["id", "at"]}
    target["options"] = {"null": "n/a <", "dates": "excel"}
    catalog = Catalog.from_mapping({"id": {"type": "long"}, "at": {"type": "date"}})
    index = IndexSettings(file_prefix="Product", source="products", columns=[])
    assert check_options("xlsx", target["options"]) == []
    data = written(encoder_for(target, catalog, index), [{"id": None}, {"id": "", "at": "n/a <"}])
    assert read(data) == {"products": [("id", "at"), ("n/a <", "n/a <"), ("", "n/a <")]}


@pytest.mark.parametrize("null", [None, 0, "x" * 101, "\n", "\ud800"])
def test_null_is_a_text_that_can_be_seen(null: object) -> None:
    [fault] = check_options("xlsx", {"null": null})
    assert (fault.pointer, fault.code) == ("/target/options/null", "invalid_option")


def test_a_file_without_rows_has_its_header() -> None:
    assert read(written(made("id", "name"))) == {"products": [("id", "name")]}


def test_rows_come_below_the_header_page_by_page() -> None:
    data = written(made("id", "b"), [{"id": 1, "b": "x"}, {"id": 2}], [{"id": 3, "b": None}])
    assert read(data) == {"products": [("id", "b"), (1, "x"), (2, None), (3, None)]}


@pytest.mark.parametrize(
    "cell",
    [
        True,
        False,
        0,
        -7,
        999_999_999_999_999,
        -999_999_999_999_999,
        1.5,
        0.1 + 0.2,
        1e300,
        -2.5e-300,
        "",
        " ",
        "a\nb\tc",
        "\r\n",
        " spaced ",
        "<&>\"'",
        "=1+1",
        "@SUM(1)",
        "https://shop.example.org",
        "TRUE",
        "12",
        "2026-05-26T12:00:00Z",
        "\x00\x01\x08\x0b\x0c\x1f",
        "\ufffe\uffff",
        "é😀\u2028",
        "_x0041_",
        "_x0041_x0042_",
        "__x0041_",
        "_x0041\r",
        "_x0041\x01",
        "_x00_",
        "x" * 32_767,
        "😀" * 16_383,
    ],
    ids=lambda one: ascii(one)[:30],
)
def test_a_value_comes_back_as_it_is(cell: Any) -> None:
    found = value(cell)
    assert (type(found), found) == (type(cell), cell)


@pytest.mark.parametrize(
    ("raw", "text"),
    [
        (b"1000000000000000", "1000000000000000"),
        (b"-1234567890123456", "-1234567890123456"),
        (b"1234567890123456789012345", "1234567890123456789012345"),
        (b"5e-324", "5e-324"),
        (b'["a",{"b":1}]', '["a",{"b":1}]'),
        (b'{"b" : [1, 2]}', '{"b":[1,2]}'),
        (b'"\\ud800"', "\ufffd"),
    ],
)
def test_what_no_number_cell_holds_is_text(raw: bytes, text: str) -> None:
    encoder = made("cell")
    writer = encoder.writer()
    data = writer.add(encoder.encode([b'{"cell":' + raw + b"}"])) + writer.finish()
    assert read(data)["products"][1] == (text,)


def test_no_cell_is_a_formula_or_a_link() -> None:
    data = written(made("=a", "b"), [{"=a": "=HYPERLINK(1)", "b": "+1"}, {"=a": "http://x", "b": "-1+2"}])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sheet = archive.read("xl/worksheets/sheet1.xml")
    assert b"<f>" not in sheet
    assert b"<hyperlink" not in sheet
    workbook = openpyxl.load_workbook(io.BytesIO(data))
    kinds = {cell.data_type for row in workbook.active.iter_rows() for cell in row}  # type: ignore[union-attr]
    assert kinds <= {"s", "inlineStr"}


@pytest.mark.parametrize("text", ["x" * 32_768, "😀" * 16_384])
def test_a_text_that_no_cell_holds_fails_the_run_and_says_where(text: str) -> None:
    page = [json.dumps({"id": row, "note": text if row == 7 else "x"}).encode() for row in range(9)]
    with pytest.raises(
        UnfitDocumentError, match=r"Column 'note' .* 32768 characters in the row whose 'id' is 7;"
    ) as one:
        made("id", "note").encode(page)
    assert not one.value.retryable
    with pytest.raises(UnfitDocumentError, match="32768 characters; a cell of xlsx holds 32767"):
        made("note").encode(page)


def test_a_list_too_long_for_a_cell_fails_too() -> None:
    with pytest.raises(UnfitDocumentError, match="Column 'items'"):
        made("items").encode([json.dumps({"items": ["x" * 1000] * 40}).encode()])


@pytest.mark.parametrize(
    ("text", "expected", "shown"),
    [
        ("2026-05-26", naive(2026, 5, 26), "yyyy-mm-dd"),
        ("2026-05-26T13:45:10Z", naive(2026, 5, 26, 13, 45, 10), "yyyy-mm-dd hh:mm:ss"),
        ("2026-05-26T13:45:10.123Z", naive(2026, 5, 26, 13, 45, 10, 123000), "yyyy-mm-dd hh:mm:ss.000"),
        ("2026-05-26T13:45:10.120000", naive(2026, 5, 26, 13, 45, 10, 120000), "yyyy-mm-dd hh:mm:ss.000"),
        ("2026-05-26T01:45:10+02:00", naive(2026, 5, 25, 23, 45, 10), "yyyy-mm-dd hh:mm:ss"),
        ("2026-05-26 01:45", naive(2026, 5, 26, 1, 45), "yyyy-mm-dd hh:mm:ss"),
        (1779803110123, naive(2026, 5, 26, 13, 45, 10, 123000), "yyyy-mm-dd hh:mm:ss.000"),
        ("1900-03-01", naive(1900, 3, 1), "yyyy-mm-dd"),
        ("9999-12-31T23:59:59.999Z", naive(9999, 12, 31, 23, 59, 59, 999000), "yyyy-mm-dd hh:mm:ss.000"),
    ],
)
def test_dates_become_those_of_a_spreadsheet_where_asked_for(text: Any, expected: datetime, shown: str) -> None:
    data = written(made("day", dates=True), [{"day": text}])
    cell = openpyxl.load_workbook(io.BytesIO(data)).active["A2"]  # type: ignore[index]
    assert (cell.value, cell.number_format) == (expected, shown)
    assert value(text) == text


@pytest.mark.parametrize(
    "text",
    [
        "2026-05-26T13:45:10.1234Z",
        "1900-02-28",
        "0001-01-01",
        "2026-02-30",
        "soon",
        "2026-05-26T24:30:00Z",
        "2026",
        -(10**14),
        "9999-12-31T23:59:59-05:00",
        "2026-05-26T13:45:60Z",
        ["2026-05-26"],
    ],
)
def test_a_date_that_a_spreadsheet_cannot_hold_exactly_stays_text(text: Any) -> None:
    found = value(text, dates=True)
    assert found == (json.dumps(text) if isinstance(text, list) else text)


def test_only_columns_of_dates_become_dates() -> None:
    catalog = Catalog.from_mapping({"created": {"type": "date"}, "code": {"type": "keyword"}})
    target = {"export_format": "xlsx", "export_index": "products", "options": {"dates": "excel"}}
    encoder = encoder_for(target, catalog, IndexSettings(file_prefix="Product", source="products"))
    rows = read(written(encoder, [{"created": "2026-05-26", "code": "2026-05-26"}]))["products"]
    assert rows == [("code", "created"), ("2026-05-26", naive(2026, 5, 26))]


def test_a_full_sheet_is_followed_by_another_with_the_header(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_encoder, "SHEET_ROWS", 4)
    pages = [[{"id": row} for row in range(start, start + 5)] for start in (0, 5)]
    sheets = read(written(made("id"), *pages))
    assert list(sheets) == ["products", "products 2", "products 3", "products 4"]
    assert [rows[0] for rows in sheets.values()] == [("id",)] * 4
    assert [len(rows) for rows in sheets.values()] == [4, 4, 4, 2]
    assert [row for rows in sheets.values() for row in rows[1:]] == [(row,) for row in range(10)]
    assert list(read(written(made("id"), pages[0][:3]))) == ["products"], "a sheet that is just full has none after it"


def test_a_sheet_ends_before_its_member_is_too_large(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_encoder, "SHEET_BYTES", 9000)
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 9000)
    data = written(made("id", "x"), [{"id": row, "x": "y" * 100} for row in range(150)])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        sizes = [info.file_size for info in archive.infolist() if "sheet" in info.filename]
    assert len(sizes) > 3
    assert max(sizes) <= 9000
    assert [row[0] for rows in read(data).values() for row in rows[1:]] == list(range(150))


def test_a_file_too_large_for_any_spreadsheet_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(xlsx_encoder, "FILE_BYTES", 5000)
    with pytest.raises(UnfitDocumentError, match=r"`target\.split`"):
        written(made("id"), [{"id": row} for row in range(10)])


def test_the_package_is_what_excel_writes() -> None:
    data = written(made("id", "x"), [{"id": 1, "x": "<"}])
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        members = {name: etree.fromstring(archive.read(name)) for name in archive.namelist()}
        assert {info.date_time for info in archive.infolist()} == {(1980, 1, 1, 0, 0, 0)}
    listed = {one.get("PartName") for one in members["[Content_Types].xml"] if one.get("PartName")}
    unlisted = {"[Content_Types].xml", "_rels/.rels", "xl/_rels/workbook.xml.rels"}
    assert {f"/{name}" for name in members if name not in unlisted} == listed
    sheet = members["xl/worksheets/sheet1.xml"]
    place = "{http://schemas.openxmlformats.org/spreadsheetml/2006/main}"
    assert [row.get("r") for row in sheet.iter(f"{place}row")] == ["1", "2"]
    assert [cell.get("r") for cell in sheet.iter(f"{place}c")] == ["A1", "B1", "A2", "B2"]
    assert sheet.find(f"{place}dimension") is None
    header = openpyxl.load_workbook(io.BytesIO(data)).active["A1"]  # type: ignore[index]
    assert header.font.bold


def test_the_same_rows_make_the_same_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    pages = [[{"id": row, "x": "y"} for row in range(10)]] * 2
    data = written(made("id", "x"), *pages)
    monkeypatch.setattr("time.time", lambda: 4e9)
    assert written(made("id", "x"), *pages) == data
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        said = {name: re.findall(rb"\d{4}-\d\d-\d\dT[\d:]+Z", archive.read(name)) for name in archive.namelist()}
    assert {moment for found in said.values() for moment in found} == {b"1980-01-01T00:00:00Z"}


def test_bytes_leave_as_rows_come() -> None:
    encoder = made("id")
    writer = encoder.writer()
    page = encoder.encode([json.dumps({"id": row * 7919}).encode() for row in range(5000)])
    sizes = [len(writer.add(page)) for _ in range(5)]
    assert min(sizes[1:]) > 1000, "nothing waits for the end"
    assert len(writer.finish()) < 20_000


@pytest.mark.filterwarnings("error")
def test_a_writer_that_is_left_in_the_middle_says_nothing() -> None:
    encoder = made("id")
    writer = encoder.writer()
    writer.add(encoder.encode([b'{"id":1}']))
    del writer
    gc.collect()


@pytest.mark.parametrize(
    ("name", "number", "expected"),
    [
        ("products", 0, "products"),
        ("products", 1, "products 2"),
        ("a/b:c[d]", 0, "a_b_c_d_"),
        ("'quoted'", 0, "quoted"),
        ("History", 0, "History_"),
        ("", 0, "_"),
        ("x" * 40, 0, "x" * 31),
        ("x" * 40, 99, "x" * 27 + " 100"),
    ],
)
def test_sheets_have_names_that_spreadsheets_allow(name: str, number: int, expected: str) -> None:
    assert sheet_name(name, number) == expected


@pytest.mark.parametrize(
    ("position", "letters"), [(0, "A"), (25, "Z"), (26, "AA"), (701, "ZZ"), (702, "AAA"), (16_383, "XFD")]
)
def test_columns_have_letters(position: int, letters: str) -> None:
    assert column_letters(position) == letters


def test_more_columns_than_a_sheet_has_are_refused_with_what_would_be_right() -> None:
    catalog = Catalog.from_mapping({f"f{number}": {"type": "long"} for number in range(16_385)})
    index = IndexSettings(file_prefix="Product", source="products")
    target = {"export_format": "xlsx", "export_index": "products"}
    [fault] = check_by_catalog(target, catalog, index)
    assert (fault.pointer, fault.code) == ("/target/columns", "too_many")
    with pytest.raises(InvalidRequestError, match="16384 columns"):
        encoder_for(target, catalog, index)
    assert check_by_catalog(target | {"columns": ["f1"]}, catalog, index) == []
    long = [{"field": "f1", "header": "x" * 32_768}, "f2"]
    [fault] = check_by_catalog(target | {"columns": long}, catalog, index)
    assert (fault.pointer, fault.code) == ("/target/columns/0", "too_long")


def test_wrong_options_are_faults_with_a_pointer() -> None:
    assert check_options("xlsx", {"dates": "excel", "nested": "explode", "explode": "items"}) == []
    faults = check_options("xlsx", {"dates": "iso", "delimiter": ",", "nested": 1})
    assert [(one.pointer.rpartition("/")[2], one.code) for one in faults] == [
        ("delimiter", "unknown_option"),
        ("dates", "invalid_option"),
        ("nested", "invalid_option"),
    ]


def test_a_list_is_exploded_into_rows_of_a_sheet() -> None:
    catalog = Catalog.from_mapping(
        {"id": {"type": "long"}, "items": {"type": "nested", "properties": {"at": {"type": "date"}}}}
    )
    target = {"export_format": "xlsx", "export_index": "orders", "options": {"nested": "explode", "dates": "excel"}}
    encoder = encoder_for(target, catalog, IndexSettings(file_prefix="Order", source="orders"))
    documents = [{"id": 1, "items": [{"at": "2026-05-26"}, {"at": None}]}, {"id": 2, "items": []}]
    page = encoder.encode([json.dumps(one).encode() for one in documents])
    assert (page.rows, page.documents) == (3, 2)
    rows = read(written(encoder, documents))["orders"]
    assert rows == [("id", "items.at"), (1, naive(2026, 5, 26)), (1, None), (2, None)]
