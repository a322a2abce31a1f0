"""Constants and templates: the same in every format with columns, whatever the documents hold."""

from __future__ import annotations

import csv
import io
import json
from typing import Any

import openpyxl
import pytest

from segments import Catalog
from tasks_service.artifacts.manifest import ManifestColumn
from tasks_service.config import IndexSettings
from tasks_service.formats.registry import check_by_catalog, described_columns, encoder_for

CATALOG = Catalog.from_mapping(
    {
        "id": {"type": "long"},
        "name": {"properties": {"first": {"type": "keyword"}, "last": {"type": "keyword"}}},
        "price": {"type": "double"},
        "items": {"type": "nested", "properties": {"sku": {"type": "keyword"}}},
    }
)
INDEX = IndexSettings(file_prefix="Product", source="products")
FULL_NAME = {"template": "{name.first} {name.last}", "header": "Full name"}
DOCUMENT = {"id": 7, "name": {"first": "Ada", "last": "Lovelace"}, "price": 1.5, "items": [{"sku": "a"}, {"sku": "b"}]}


def csv_text(columns: list[Any], *documents: dict[str, Any], **options: Any) -> str:
    target = {"export_format": "csv", "columns": columns, "options": options}
    encoder = encoder_for(target, CATALOG, INDEX)
    page = encoder.encode([json.dumps(one).encode() for one in documents])
    return page.data.decode()


def csv_rows(columns: list[Any], *documents: dict[str, Any], **options: Any) -> list[list[str]]:
    return list(csv.reader(io.StringIO(csv_text(columns, *documents, **options), newline="")))


def xlsx_rows(columns: list[Any], *documents: dict[str, Any], **options: Any) -> list[tuple[Any, ...]]:
    target = {"export_format": "xlsx", "columns": columns, "options": options}
    encoder = encoder_for(target, CATALOG, INDEX)
    writer = encoder.writer()
    data = writer.add(encoder.encode([json.dumps(one).encode() for one in documents])) + writer.finish()
    [sheet] = openpyxl.load_workbook(io.BytesIO(data)).worksheets
    return list(sheet.iter_rows(values_only=True))


def template(text: str) -> dict[str, str]:
    return {"template": text, "header": "t"}


@pytest.mark.parametrize(
    ("value", "cell", "in_xlsx"),
    [
        ("NL", "NL", "NL"),
        ("", '""', None),
        ('a,"b"', '"a,""b"""', 'a,"b"'),
        ("it's", "it's", "it's"),
        ("a\0b", "a\0b", "a_x0000_b"),
        (None, "", None),
        (True, "true", True),
        (5, "5", 5),
        (12345678901234567890, "12345678901234567890", "12345678901234567890"),
        (1.5, "1.5", 1.5),
    ],
)
def test_a_constant_is_in_every_row(value: Any, cell: str, in_xlsx: Any) -> None:
    columns = ["id", {"constant": value, "header": "c"}, "price"]
    assert csv_text(columns, {"id": 1}, {"id": 2, "price": 3}) == f"1,{cell},\r\n2,{cell},3\r\n"
    assert [row[1] or None for row in xlsx_rows(columns, {"id": 1}, {"id": 2})[1:]] == [in_xlsx, in_xlsx]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("{name.first} {name.last}", "Ada Lovelace"),
        ("{id}-{id}/{price}", "7-7/1.5"),
        ("{{{id}}} {{x}} }}{{", "{7} {x} }{"),
        ("no field", "no field"),
        ("it's '{id}'", "it's '7'"),
        ("{name}", '{"first":"Ada","last":"Lovelace"}'),
        ("{items.sku}", '["a","b"]'),
        ("é😀\n{id}", "é😀\n7"),
    ],
)
def test_a_template_is_a_text_in_which_fields_stand(text: str, expected: str) -> None:
    columns = ["price", template(text), "id"]
    assert csv_rows(columns, DOCUMENT) == [["1.5", expected, "7"]]
    assert xlsx_rows(columns, DOCUMENT) == [("price", "t", "id"), (1.5, expected, 7)]


def test_what_is_null_or_absent_is_nothing_in_a_template() -> None:
    documents = [{"name": {"first": "Ada", "last": None}}, {"name": {"first": ""}}, {}]
    assert csv_text([FULL_NAME, template("{id}")], *documents) == 'Ada ,""\r\n ,""\r\n ,""\r\n'
    assert [row[0] for row in xlsx_rows([FULL_NAME], *documents)[1:]] == ["Ada ", " ", " "]


def test_a_template_has_the_same_text_however_a_document_spells_its_fields() -> None:
    documents = [
        {"id": 1, "name": {"first": "Ada", "last": "L"}},
        {"id": 1, "name.first": "Ada", "name": {"last": "L"}},
        {"id": 1, "name.first": "Ada", "name.last": "L"},
    ]
    columns = ["name.last", FULL_NAME, {"constant": 1, "header": "one"}, "id"]
    assert csv_rows(columns, *documents) == [["L", "Ada L", "1", "1"]] * 3
    assert csv_rows(columns, documents[0]) == [["L", "Ada L", "1", "1"]]
    listed = {"name": [{"first": "Ada"}, {"first": "Al"}]}
    assert csv_rows([FULL_NAME], listed) == [['["Ada","Al"] ']]


def test_columns_may_be_constants_and_templates_alone_and_stand_anywhere() -> None:
    one, two = {"constant": "1", "header": "one"}, {"constant": 2, "header": "two"}
    assert csv_rows([one, two], DOCUMENT, {}) == [["1", "2"]] * 2
    assert csv_rows([one, "id", two, template("{price}"), "price", "name.first"], DOCUMENT) == [
        ["1", "7", "2", "1.5", "1.5", "Ada"]
    ]
    assert xlsx_rows([one, two], {})[1:] == [("1", 2)]


def test_wide_files_have_them_too() -> None:
    names = [f"f{number}" for number in range(80)]
    catalog = Catalog.from_mapping({name: {"type": "long"} for name in names})
    columns = [*names[:70], template("{f1}:{f79}"), *names[70:]]
    encoder = encoder_for({"columns": columns}, catalog, INDEX)
    [row] = encoder.encode([json.dumps({name: at for at, name in enumerate(names)}).encode()]).data.decode().split()
    assert row.split(",") == [*map(str, range(70)), "1:79", *map(str, range(70, 80))]


def test_the_formula_guard_sees_what_comes_of_them() -> None:
    columns = [{"constant": "=1", "header": "c"}, template("{name.first}{id}")]
    page = encoder_for({"columns": columns}, CATALOG, INDEX).encode([b'{"name":{"first":"@"},"id":1}', b'{"id":2}'])
    assert (page.data, page.suspicious_cells) == (b"=1,@1\r\n=1,2\r\n", 3)
    assert csv_rows(columns, {"name": {"first": "@"}, "id": 1}, formula_guard="escape") == [["'=1", "'@1"]]
    assert csv_rows([template("-{id}")], {"id": 1}, formula_guard="escape") == [["-1"]], "a number is no formula"


@pytest.mark.parametrize("column", [{"constant": "=\x11x", "header": "c"}, template("=\x11x")])
def test_the_mark_of_suspicious_cells_may_be_in_them(column: dict[str, str]) -> None:
    page = encoder_for({"columns": [column]}, CATALOG, INDEX).encode([b"{}"])
    assert (page.data, page.suspicious_cells) == (b"=\x11x\r\n", 1)


def test_the_mark_of_suspicious_cells_may_be_the_delimiter() -> None:
    target = {"columns": ["id", "price", "name.first"], "options": {"delimiter": "\x11"}}
    page = encoder_for(target, CATALOG, INDEX).encode([b'{"id":1,"price":2,"name":{"first":"=a"}}'])
    assert (page.data, page.suspicious_cells) == (b"1\x112\x11=a\r\n", 1)


def test_fields_of_an_exploded_list_stand_in_templates() -> None:
    columns = [template("{id}:{items.sku}"), {"constant": "x", "header": "x"}]
    exploding = {"nested": "explode", "explode": "items"}
    assert csv_rows(columns, DOCUMENT, {"id": 8}, **exploding) == [["7:a", "x"], ["7:b", "x"], ["8:", "x"]]


def test_a_constant_that_looks_like_a_date_or_a_formula_is_what_it_is_in_a_workbook() -> None:
    columns = [{"constant": "2026-05-26", "header": "d"}, {"constant": "=1", "header": "f"}]
    assert xlsx_rows(columns, {}, dates="excel")[1:] == [("2026-05-26", "=1")]


def test_a_manifest_says_what_is_no_field() -> None:
    columns = ["id", {"constant": None, "header": "n"}, {"constant": 5, "header": "five"}, FULL_NAME]
    told = described_columns({"export_format": "csv", "columns": columns}, CATALOG, INDEX) or []
    assert [ManifestColumn.model_validate(one).model_dump(mode="json") for one in told] == [
        {"name": "id", "field": "id", "type": "number"},
        {"name": "n", "field": None, "type": None, "constant": None},
        {"name": "five", "field": None, "type": None, "constant": 5},
        {"name": "Full name", "field": None, "type": None, "template": "{name.first} {name.last}"},
    ]


@pytest.mark.parametrize(
    ("column", "pointer", "code", "says"),
    [
        ({"constant": 1}, "/header", "required", "`header`"),
        ({"constant": [], "header": "x"}, "/constant", "wrong_type", "text, a number"),
        ({"constant": {}, "header": "x"}, "/constant", "wrong_type", "text, a number"),
        ({"constant": 1, "field": "id", "header": "x"}, "", "clash", "field, constant"),
        ({"template": 1, "header": "x"}, "/template", "wrong_type", "template"),
        ({"template": "{id}"}, "/header", "required", "`header`"),
        ({"template": "", "header": "x"}, "/template", "invalid_template", "empty"),
        ({"template": "{id", "header": "x"}, "/template", "invalid_template", "'{' at character 1"),
        ({"template": "id}", "header": "x"}, "/template", "invalid_template", "'}' at character 3"),
        ({"template": "{}", "header": "x"}, "/template", "invalid_template", "names no field"),
        ({"template": "{{id}", "header": "x"}, "/template", "invalid_template", "double one"),
        ({"template": "{idd}", "header": "x"}, "/template", "unknown_field", "'id'"),
        ({"template": "{id!r}", "header": "x"}, "/template", "unknown_field", "'id!r'"),
        ({"template": "{price:.2f}", "header": "x"}, "/template", "unknown_field", "'price'"),
        ({"template": "{ id }", "header": "x"}, "/template", "unknown_field", "nearest is 'id'"),
        ({"template": "{id}" * 101, "header": "x"}, "/template", "too_many", "100 fields"),
        ({"constant": 1, "header": "id"}, "", "duplicate", "another `header`"),
    ],
)
def test_wrong_ones_are_faults_with_a_pointer(column: Any, pointer: str, code: str, says: str) -> None:
    [fault] = check_by_catalog({"columns": ["id", column]}, CATALOG, INDEX)
    assert (fault.pointer, fault.code) == (f"/target/columns/1{pointer}", code)
    assert says in fault.detail


def test_every_unknown_field_of_a_template_is_named() -> None:
    faults = check_by_catalog({"columns": [template("{a} {id} {b} {a}")]}, CATALOG, INDEX)
    assert [fault.detail[:22] for fault in faults] == ["There is no field 'a';", "There is no field 'b';"]


def test_all_that_is_wrong_with_a_column_is_said_at_once() -> None:
    faults = check_by_catalog({"columns": [{"template": "{a}", "heading": "x"}]}, CATALOG, INDEX)
    pointers = [fault.pointer.removeprefix("/target/columns/0/") for fault in faults]
    assert pointers == ["heading", "header", "template"]


def test_an_object_around_an_exploded_list_does_not_stand_in_a_template() -> None:
    catalog = Catalog.from_mapping(
        {"o": {"properties": {"items": {"type": "nested", "properties": {"n": {"type": "long"}}}}}}
    )
    target = {"columns": [template("{o}")], "options": {"nested": "explode"}}
    assert [fault.code for fault in check_by_catalog(target, catalog, INDEX)] == ["around_exploded"]


def test_there_are_bounds() -> None:
    constants = [{"constant": number, "header": str(number)} for number in range(101)]
    assert [fault.code for fault in check_by_catalog({"columns": constants}, CATALOG, INDEX)] == ["too_many"]
    assert check_by_catalog({"columns": constants[:100]}, CATALOG, INDEX) == []
    assert csv_rows(constants[:100], {}) == [[str(number) for number in range(100)]]
