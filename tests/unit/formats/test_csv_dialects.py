"""Dialects of CSV: what each option does to the bytes, and what does not go together."""

from __future__ import annotations

import json
from typing import Any

import duckdb
import pytest

from segments import Catalog
from tasks_service.config import IndexSettings
from tasks_service.errors import InvalidRequestError, UnfitDocumentError
from tasks_service.formats.csv_encoder import CsvEncoder
from tasks_service.formats.csv_options import CsvOptions, csv_faults, csv_options
from tasks_service.formats.file_columns import AnyColumn, ConstantColumn, FileColumn, TemplateColumn
from tasks_service.formats.registry import check_by_catalog, check_options, encoder_for

INDEX = IndexSettings(file_prefix="Product", source="products", columns=[])


def written(*documents: dict[str, Any], **options: Any) -> bytes:
    assert csv_faults(options) == []
    made = CsvEncoder([FileColumn(name, (name,)) for name in ("a", "b")], csv_options(options))
    writer = made.writer()
    pages = [writer.add(made.encode([json.dumps(one).encode()])) for one in documents]
    return b"".join([*pages, writer.finish()])


@pytest.mark.parametrize(
    ("options", "data"),
    [
        ({}, b'a,b\r\n"x\'""y\\",\r\n"",1\r\n'),
        ({"line_ending": "lf"}, b'a,b\n"x\'""y\\",\n"",1\n'),
        ({"header": False}, b'"x\'""y\\",\r\n"",1\r\n'),
        ({"quote": "'"}, b"a,b\r\n'x''\"y\\',\r\n'',1\r\n"),
        ({"escape": "\\"}, b'a,b\r\n"x\'\\"y\\\\",\r\n"",1\r\n'),
        ({"escape": '"'}, b'a,b\r\n"x\'""y\\",\r\n"",1\r\n'),
        ({"quote": "'", "escape": "\\"}, b"a,b\r\n'x\\'\"y\\\\',\r\n'',1\r\n"),
        ({"quoting": "all"}, b'"a","b"\r\n"x\'""y\\",\r\n"","1"\r\n'),
        ({"quoting": "all", "delimiter": "\t", "header": False}, b'"x\'""y\\"\t\r\n""\t"1"\r\n'),
        ({"bom": True, "header": False}, b'\xef\xbb\xbf"x\'""y\\",\r\n"",1\r\n'),
    ],
)
def test_an_option_changes_what_it_says(options: dict[str, Any], data: bytes) -> None:
    assert written({"a": "x'\"y\\"}, {"a": "", "b": 1}, **options) == data


@pytest.mark.parametrize(
    ("encoding", "codec", "mark"),
    [("utf-16", "utf-16-le", b"\xff\xfe"), ("iso-8859-1", "latin-1", b""), ("windows-1252", "cp1252", b"")],
)
def test_an_encoding_is_of_all_bytes_and_named_as_the_files_type(encoding: Any, codec: str, mark: bytes) -> None:
    assert written({"a": "é", "b": "ÿ"}, {}, encoding=encoding) == mark + "a,b\r\né,ÿ\r\n,\r\n".encode(codec)
    assert CsvEncoder([FileColumn("a", ("a",))], CsvOptions(encoding=encoding)).content_type == (
        f"text/csv; charset={encoding}"
    )


@pytest.mark.parametrize("encoding", ["utf-16", "latin-1"])
def test_other_encodings_are_read_by_a_reader_that_is_told(encoding: str, tmp_path: Any) -> None:
    path = tmp_path / "file.csv"
    name = {"latin-1": "iso-8859-1"}.get(encoding, encoding)
    path.write_bytes(written({"a": "é", "b": "x,\n"}, encoding=name))
    query = "SELECT a, b FROM read_csv(?, encoding = ?, header = true, delim = ',', quote = '\"')"
    assert duckdb.connect().execute(query, [str(path), encoding]).fetchall() == [("é", "x,\n")]


def test_a_file_without_rows_or_header_is_empty_but_for_its_mark() -> None:
    assert written(header=False) == b""
    assert written(header=False, encoding="utf-16") == b"\xff\xfe"


def test_the_first_cell_is_never_taken_for_a_byte_order_mark() -> None:
    assert written({"a": "\ufeffx"}, header=False) == '"\ufeffx",\r\n'.encode()
    assert written({"a": "\ufeffx"}).endswith("\r\n\ufeffx,\r\n".encode())
    column = FileColumn("\ufeffx", ("a",))
    assert CsvEncoder([column], CsvOptions()).joints.header == '"\ufeffx"\r\n'.encode()


def test_a_character_that_the_encoding_has_not_ends_the_export_and_is_named() -> None:
    with pytest.raises(UnfitDocumentError, match=r"'€' \(U\+20AC\), after '7,' .*iso-8859-1.*utf-8"):
        written({"a": 1}, {"a": 7, "b": "€"}, encoding="iso-8859-1")


def test_suspicious_cells_are_counted_in_every_dialect() -> None:
    columns = [FileColumn("a", ("a",))]
    for options in (CsvOptions(quoting="all"), CsvOptions(quote="'", escape="\\"), CsvOptions(encoding="utf-16")):
        page = CsvEncoder(columns, options).encode([b'{"a":"=1"}', b'{"a":"1"}', b'{"a":"-x,\\u0011"}'])
        assert page.suspicious_cells == 2
        assert page.data.decode(options.codec).count("\x11") == 1


@pytest.mark.parametrize(
    ("options", "data"),
    [
        ({}, b'a,b\r\nNULL,"NULL"\r\nNULL,""\r\nNULL,null\r\n'),
        ({"quoting": "all"}, b'"a","b"\r\nNULL,"NULL"\r\nNULL,""\r\nNULL,"null"\r\n'),
        ({"formula_guard": "escape"}, b'a,b\r\nNULL,"NULL"\r\nNULL,""\r\nNULL,null\r\n'),
        ({"encoding": "utf-16"}, '\ufeffa,b\r\nNULL,"NULL"\r\nNULL,""\r\nNULL,null\r\n'.encode("utf-16-le")),
    ],
)
def test_the_text_of_null_is_never_quoted_and_a_value_of_that_text_is(options: dict[str, Any], data: bytes) -> None:
    assert written({"a": None, "b": "NULL"}, {"b": ""}, {"b": "null"}, null="NULL", **options) == data


@pytest.mark.parametrize(("null", "value", "row"), [("0", 0, b'0,"0"'), ("true", True, b'true,"true"'), ("", 0, b",0")])
def test_a_value_of_any_type_is_told_from_the_text_of_null(null: str, value: object, row: bytes) -> None:
    assert written({"b": value}, null=null, header=False) == row + b"\r\n"


def test_every_column_has_the_text_of_null() -> None:
    columns: list[AnyColumn] = [ConstantColumn("n", None), ConstantColumn("t", "-")]
    columns += [TemplateColumn("x", "{c}", (("c",),)), FileColumn("a.b", ("a", "b"))]
    made = CsvEncoder(columns, csv_options({"null": "-"}))
    assert made.encode([b"{}"]).data == b'-,"-","",-\r\n'
    assert made.encode([b'{"a":[{"b":null}]}']).data.endswith(b",[null]\r\n")


def test_null_as_a_text_that_could_start_a_formula_is_counted_as_any_cell() -> None:
    page = CsvEncoder([FileColumn("a", ("a",))], csv_options({"null": "-"})).encode([b"{}", b'{"a":"-"}', b'{"a":"x"}'])
    assert (page.data, page.suspicious_cells) == (b'-\r\n"-"\r\nx\r\n', 2)


def test_the_guard_quotes_whatever_the_quoting() -> None:
    assert written({"a": "=1", "b": 1}, formula_guard="escape", quoting="all") == b'"a","b"\r\n"\'=1","1"\r\n'


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("quote", ""),
        ("quote", "''"),
        ("quote", "é"),
        ("quote", " "),
        ("quote", "a"),
        ("quote", "="),
        ("quote", None),
        ("quote", ["'"]),
        ("escape", "\t"),
        ("escape", 1),
        ("escape", None),
        ("quoting", "none"),
        ("quoting", True),
        ("header", 1),
        ("header", "true"),
        ("header", None),
        ("line_ending", "\n"),
        ("line_ending", ["lf"]),
        ("encoding", "latin-1"),
        ("encoding", {}),
        ("bom", 0),
        ("delimiter", "\ufeff"),
        ("delimiter", "\n"),
        ("null", None),
        ("null", 0),
        ("null", "x" * 101),
        ("null", "a\nb"),
        ("null", "\t"),
        ("null", "\0"),
        ("null", "\ufeff"),
        ("null", "\ud800"),
    ],
)
def test_an_option_of_no_meaning_is_refused(name: str, value: object) -> None:
    [fault] = csv_faults({name: value})
    assert (fault.pointer, fault.code) == (f"/target/options/{name}", "invalid_option")
    assert name in fault.detail


@pytest.mark.parametrize(
    ("options", "culprit"),
    [
        ({"delimiter": '"'}, "delimiter"),
        ({"quote": ","}, "quote"),
        ({"delimiter": "'", "quote": "'"}, "delimiter"),
        ({"escape": ","}, "escape"),
        ({"delimiter": "\\", "escape": "\\"}, "delimiter"),
        ({"encoding": "windows-1252", "bom": True}, "encoding"),
        ({"encoding": "utf-16", "bom": False}, "encoding"),
        ({"encoding": "iso-8859-1", "delimiter": "→"}, "delimiter"),
        ({"formula_guard": "escape", "quote": "'"}, "formula_guard"),
        ({"formula_guard": "escape", "escape": "\\"}, "formula_guard"),
        ({"null": "a,b"}, "null"),
        ({"null": "n;a", "delimiter": ";"}, "null"),
        ({"null": '""'}, "null"),
        ({"null": "\\N", "escape": "\\"}, "null"),
        ({"null": "\u2014", "encoding": "iso-8859-1"}, "null"),
        ({"null": "=NA()", "formula_guard": "escape"}, "null"),
        ({"null": "-", "formula_guard": "escape"}, "null"),
        ({"null": "n|=1", "formula_guard": "escape"}, "null"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(options: dict[str, Any], culprit: str) -> None:
    [fault] = csv_faults(options)
    assert (fault.pointer, fault.code) == (f"/target/options/{culprit}", "clash")


def test_everything_that_is_wrong_is_told_at_once() -> None:
    faults = csv_faults({"quote": "''", "encoding": "utf-16", "bom": False, "header": "no", "colour": 1, "escape": ","})
    told = sorted((fault.pointer.rpartition("/")[2], fault.code) for fault in faults)
    assert told == [
        ("colour", "unknown_option"),
        ("encoding", "clash"),
        ("escape", "clash"),
        ("header", "invalid_option"),
        ("quote", "invalid_option"),
    ]


def test_all_that_null_clashes_with_is_told_at_once() -> None:
    faults = csv_faults({"null": '=",;\u2014', "encoding": "iso-8859-1", "formula_guard": "escape"})
    assert [(fault.pointer, fault.code) for fault in faults] == [("/target/options/null", "clash")] * 5
    assert csv_faults({"null": "x" * 100}) == csv_faults({"null": "a;b"}) == csv_faults({"null": "-1.5"}) == []
    assert csv_faults({"null": "-1.5", "formula_guard": "escape"}) == []


def test_a_header_that_the_encoding_has_not_is_refused_when_the_task_is_made() -> None:
    catalog = Catalog.from_mapping({"price": {"type": "double"}})
    target: dict[str, Any] = {
        "export_format": "csv",
        "columns": [{"field": "price", "header": "Preis"}, {"field": "price", "header": "価格"}],
        "options": {"encoding": "windows-1252"},
    }
    [fault] = check_by_catalog(target, catalog, INDEX)
    assert (fault.pointer, fault.code) == ("/target/columns/1", "not_in_encoding")
    for same in (target, target | {"export_format": None}):  # csv is the default
        with pytest.raises(InvalidRequestError, match="価格"):
            encoder_for(same, catalog, INDEX)
    target["options"]["header"] = False
    assert check_by_catalog(target, catalog, INDEX) == []
    encoder_for(target, catalog, INDEX)


def test_the_checks_by_the_catalogue_wait_for_sound_options() -> None:
    catalog = Catalog.from_mapping({"price": {"type": "double"}})
    target = {"export_format": "csv", "columns": ["price"], "options": {"encoding": "ebcdic"}}
    assert check_by_catalog(target, catalog, INDEX) == []
    assert [fault.pointer for fault in check_options("csv", target["options"])] == ["/target/options/encoding"]
