from __future__ import annotations

from typing import Any

import pytest

from segments import Catalog
from tasks_service.config import IndexSettings
from tasks_service.errors import InvalidRequestError
from tasks_service.formats.registry import FORMATS, check_columns, check_options, encoder_for

CATALOG = Catalog.from_mapping(
    {
        "name": {"type": "text", "fields": {"keyword": {"type": "keyword"}}},
        "id": {"type": "long"},
        "owner": {"properties": {"code": {"type": "keyword"}, "name": {"type": "keyword"}}},
        "items": {"type": "nested", "properties": {"sku": {"type": "keyword"}}},
    }
)


def index(columns: list[str] | None = None) -> IndexSettings:
    return IndexSettings(file_prefix="Product", source="products", columns=columns or [])


def header(target: dict[str, Any], settings: IndexSettings | None = None) -> bytes:
    return encoder_for(target, CATALOG, settings or index()).joints.header


@pytest.mark.parametrize("name", FORMATS)
def test_every_format_has_an_encoder_of_its_name(name: str) -> None:
    assert encoder_for({"export_format": name}, CATALOG, index()).extension == name


def test_csv_is_the_default() -> None:
    assert encoder_for({}, CATALOG, index()).extension == "csv"


def test_columns_are_the_catalogues_in_its_order() -> None:
    assert header({}) == b"id,items,name,owner.code,owner.name\r\n"


def test_the_configuration_may_name_the_columns() -> None:
    assert header({}, index(["name", "id"])) == b"name,id\r\n"


def test_the_task_names_the_columns_before_the_configuration() -> None:
    columns = ["id", {"field": "owner.code", "header": "Owner, code"}, {"field": "items"}, "owner", "items.sku"]
    assert header({"columns": columns}, index(["name"])) == b'id,"Owner, code",items,owner,items.sku\r\n'


def test_a_nested_path_and_an_object_are_json_cells_and_a_nested_field_the_list_of_its_values() -> None:
    made = encoder_for({"columns": ["items", "owner", "items.sku"]}, CATALOG, index())
    document = b'{"items":[{"sku":"a"},{"sku":"b"}],"owner":{"code":1}}'
    assert made.encode([document]).data == (b'"[{""sku"":""a""},{""sku"":""b""}]","{""code"":1}","[""a"",""b""]"\r\n')


@pytest.mark.parametrize(
    ("columns", "pointer", "code", "says"),
    [
        ([], "/target/columns", "empty", "at least one"),
        (["id", "nmae"], "/target/columns/1", "unknown_field", "'name'"),
        (["name.keyword"], "/target/columns/0", "unknown_field", "nearest"),
        (["zzzzzz"], "/target/columns/0", "unknown_field", "export_indices"),
        ([7], "/target/columns/0", "wrong_type", "field"),
        ([{"field": "id", "width": 3}], "/target/columns/0/width", "unknown_member", "header"),
        ([{"header": "x"}], "/target/columns/0/field", "required", "field"),
        ([{"field": "id", "header": ""}], "/target/columns/0/header", "wrong_type", "at least one character"),
        ([{"field": "idd"}], "/target/columns/0/field", "unknown_field", "'id'"),
        (["id", {"field": "name", "header": "id"}], "/target/columns/1", "duplicate", "another `header`"),
        (["id", "id"], "/target/columns/1", "duplicate", "another `header`"),
        (["id"] * 10_001, "/target/columns", "too_many", "10000"),
    ],
)
def test_wrong_columns_are_faults_with_a_pointer(columns: list[Any], pointer: str, code: str, says: str) -> None:
    faults = check_columns(columns, CATALOG)
    assert [(fault.pointer, fault.code) for fault in faults] == [(pointer, code)]
    assert says in faults[0].detail


def test_every_wrong_column_is_named_at_once() -> None:
    pointers = [fault.pointer for fault in check_columns(["a", "id", "b"], CATALOG)]
    assert pointers == ["/target/columns/0", "/target/columns/2"]


def test_columns_the_index_lost_since_are_refused_at_the_run() -> None:
    with pytest.raises(InvalidRequestError, match="'gone'") as caught:
        encoder_for({"columns": ["gone"]}, CATALOG, index())
    assert [fault.pointer for fault in caught.value.faults] == ["/target/columns/0"]


@pytest.mark.parametrize(
    ("options", "pointer"),
    [
        ({"delimeter": ";"}, "/target/options/delimeter"),
        ({"delimiter": ""}, "/target/options/delimiter"),
        ({"delimiter": ";;"}, "/target/options/delimiter"),
        ({"delimiter": '"'}, "/target/options/delimiter"),
        ({"delimiter": "\n"}, "/target/options/delimiter"),
        ({"delimiter": "\ud800"}, "/target/options/delimiter"),
        ({"delimiter": 1}, "/target/options/delimiter"),
        ({"bom": "yes"}, "/target/options/bom"),
        ({"formula_guard": "warn"}, "/target/options/formula_guard"),
        ({"formula_guard": []}, "/target/options/formula_guard"),
    ],
)
def test_wrong_options_are_faults_with_a_pointer(options: dict[str, Any], pointer: str) -> None:
    assert [fault.pointer for fault in check_options("csv", options)] == [pointer]
    with pytest.raises(InvalidRequestError):
        encoder_for({"options": options}, CATALOG, index())


def test_good_options_have_no_faults() -> None:
    assert check_options("csv", {"delimiter": "\t", "bom": True, "formula_guard": "escape"}) == []
    assert check_options("jsonl", {}) == []


@pytest.mark.parametrize("name", ["json", "jsonl"])
def test_json_has_no_options(name: str) -> None:
    assert [fault.pointer for fault in check_options(name, {"bom": True})] == ["/target/options/bom"]


def test_an_unknown_format_is_refused_with_what_there_is() -> None:
    with pytest.raises(InvalidRequestError, match="csv, json, jsonl"):
        encoder_for({"export_format": "pdf"}, CATALOG, index())
