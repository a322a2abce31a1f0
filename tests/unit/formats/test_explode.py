"""A row for each element of one nested list, and none lost: whatever a document holds at the list's place."""

from __future__ import annotations

import json
from typing import Any, ClassVar

import pytest

from segments import Catalog
from tasks_service.config import IndexSettings
from tasks_service.errors import Fault, InvalidRequestError, SourceError, UnfitDocumentError
from tasks_service.formats import Encoded, Encoder, explode, portions_of
from tasks_service.formats.columns import FileColumn
from tasks_service.formats.registry import check_by_catalog, check_options, described_columns, encoder_for

CATALOG = Catalog.from_mapping(
    {
        "id": {"type": "long"},
        "items": {
            "type": "nested",
            "properties": {
                "sku": {"type": "keyword"},
                "price": {"properties": {"amount": {"type": "double"}}},
                "taxes": {"type": "nested", "properties": {"rate": {"type": "double"}}},
            },
        },
        "order": {
            "properties": {
                "code": {"type": "keyword"},
                "lines": {"type": "nested", "properties": {"n": {"type": "long"}}},
            }
        },
    }
)
ONE_LIST = Catalog.from_mapping(
    {"id": {"type": "long"}, "items": {"type": "nested", "properties": {"sku": {"type": "keyword"}}}}
)
FLAT = Catalog.from_mapping({"id": {"type": "long"}})


def index(columns: list[str] | None = None) -> IndexSettings:
    return IndexSettings(file_prefix="Product", source="products", columns=columns or [])


def exploding(*columns: Any, path: str = "items", **options: Any) -> Encoder:
    target: dict[str, Any] = {"options": {"nested": "explode", "explode": path} | options}
    return encoder_for(target | ({"columns": list(columns)} if columns else {}), CATALOG, index())


def rows(made: Encoder, *documents: Any) -> list[str]:
    page = made.encode([one if isinstance(one, bytes) else json.dumps(one).encode() for one in documents])
    lines = page.data.decode().split("\r\n")[:-1]
    assert page.rows == len(lines)
    assert page.documents == len(documents)
    return lines


def test_a_document_has_a_row_for_each_element() -> None:
    document = {"id": 1, "items": [{"sku": "a", "price": {"amount": 1.5}}, {"sku": "b"}]}
    assert rows(exploding("id", "items.sku", "items.price.amount"), document) == ["1,a,1.5", "1,b,"]


@pytest.mark.parametrize(
    "document", [{"id": 1}, {"id": 1, "items": None}, {"id": 1, "items": []}, {"items": [[]], "id": 1}]
)
def test_a_document_without_elements_has_a_row_all_the_same(document: dict[str, Any]) -> None:
    assert rows(exploding("id", "items.sku"), document) == ["1,"]


@pytest.mark.parametrize(
    ("items", "expected"),
    [
        ({"sku": "a"}, ["1,a"]),
        ([[{"sku": "a"}], [[{"sku": "b"}], {"sku": "c"}]], ["1,a", "1,b", "1,c"]),
        ([None, {"sku": "a"}], ["1,", "1,a"]),
        ([{"sku": ["a", "b"]}], ['1,"[""a"",""b""]"']),
        ([{"sku": 'a"\r\n,'}], ['1,"a""\r\n,"']),
    ],
)
def test_elements_are_found_wherever_the_index_finds_them(items: Any, expected: list[str]) -> None:
    page = exploding("id", "items.sku").encode([json.dumps({"id": 1, "items": items}).encode()])
    assert page.data.decode() == "".join(row + "\r\n" for row in expected)
    assert (page.rows, page.documents) == (len(expected), 1)


@pytest.mark.parametrize(
    "document",
    [
        {"order": {"code": "x", "lines": [{"n": 1}, {"n": 2}]}},
        {"order.code": "x", "order.lines": [{"n": 1}, {"n": 2}]},
        {"order": {"code": "x"}, "order.lines": [{"n": 1}, {"n": 2}]},
        {"order": {"code": "x", "lines": {"n": 1}}, "order.lines": {"n": 2}},
    ],
)
def test_a_list_may_lie_inside_an_object_in_either_spelling(document: dict[str, Any]) -> None:
    assert rows(exploding("order.code", "order.lines.n", path="order.lines"), document) == ["x,1", "x,2"]


def test_a_list_inside_a_list_of_objects_is_one_list() -> None:
    document = {"order": [{"code": "x", "lines": [{"n": 1}]}, 7, {"code": "y", "lines": [{"n": 2}]}]}
    made = exploding("order.lines.n", "order.code", path="order.lines")
    assert rows(made, document) == ['1,"[""x"",""y""]"', '2,"[""x"",""y""]"']


def test_an_element_can_be_a_cell_as_a_whole_and_other_lists_stay_cells() -> None:
    document = {"items": [{"sku": "a", "taxes": [{"rate": 1}]}], "order": {"lines": [{"n": 1}, {"n": 2}]}}
    made = exploding("items", "items.taxes", "items.taxes.rate", "order.lines.n")
    assert rows(made, document) == ['"{""sku"":""a"",""taxes"":[{""rate"":1}]}","[{""rate"":1}]",[1],"[1,2]"']


def test_a_field_may_have_the_name_that_elements_have_while_they_are_encoded() -> None:
    catalog = Catalog.from_mapping(
        {"element": {"type": "keyword"}, "items": {"type": "nested", "properties": {"sku": {"type": "keyword"}}}}
    )
    made = encoder_for({"options": {"nested": "explode"}}, catalog, index())
    assert rows(made, {"element": "e", "items": [{"sku": "a"}]}) == ["e,a"]


def test_whitespace_line_ends_and_half_characters_are_no_matter() -> None:
    spread = b'{ "id" : 1 ,\r\n "items" :\n [ { "sku" : "a\\ud800" } , null ] }'
    assert rows(exploding("id", "items.sku"), spread) == ["1,a\ufffd", "1,"]
    half_a_name = b'{"\\ud800":1,"id":2,"items":{"sku":"b"}}'
    assert rows(exploding("id", "items.sku"), half_a_name) == ["2,b"]


@pytest.mark.parametrize("document", [b"[1]", b'{"id":', b"7", b'{"id":"\xff"}', b'{"items":[{]}'])
def test_what_is_no_object_is_refused(document: bytes) -> None:
    with pytest.raises(SourceError, match="not valid JSON"):
        exploding("id", "items.sku").encode([document])


def test_columns_are_those_of_the_elements_beside_the_others() -> None:
    assert exploding().joints == encoder_for({"columns": EXPLODED}, CATALOG, index()).joints
    target = {"export_format": "csv", "options": {"nested": "explode", "explode": "items"}}
    described = described_columns(target, CATALOG, index()) or []
    assert [column["field"] for column in described] == EXPLODED
    assert [column["type"] for column in described] == ["number", "number", "keyword", None, "keyword", None]


EXPLODED = ["id", "items.price.amount", "items.sku", "items.taxes", "order.code", "order.lines"]


def test_flatten_makes_a_list_of_each_field_of_every_list() -> None:
    made = encoder_for({"options": {"nested": "flatten"}}, CATALOG, index())
    assert made.joints is not None
    assert made.joints.header == b"id,items.price.amount,items.sku,items.taxes.rate,order.code,order.lines.n\r\n"
    assert rows(made, {"id": 1, "items": [{"sku": "a"}, {"sku": "b"}]}) == ['1,,"[""a"",""b""]",,,']


def test_the_only_list_need_not_be_named() -> None:
    made = encoder_for({"options": {"nested": "explode"}}, ONE_LIST, index())
    assert rows(made, {"id": 1, "items": [{"sku": "a"}, {"sku": "b"}]}) == ["1,a", "1,b"]


@pytest.mark.parametrize(
    ("options", "pointer", "code"),
    [
        ({"nested": "explore"}, "/target/options/nested", "invalid_option"),
        ({"nested": ["explode"]}, "/target/options/nested", "invalid_option"),
        ({"nested": "explode", "explode": ["items", "order.lines"]}, "/target/options/explode", "invalid_option"),
        ({"explode": "items"}, "/target/options/explode", "clash"),
        ({"nested": "json", "explode": "items"}, "/target/options/explode", "clash"),
    ],
)
def test_wrong_options_are_faults_with_a_pointer(options: dict[str, Any], pointer: str, code: str) -> None:
    assert [(one.pointer, one.code) for one in check_options("csv", options)] == [(pointer, code)]
    assert check_by_catalog({"options": options}, CATALOG, index()) == []


@pytest.mark.parametrize(
    ("catalog", "options", "pointer", "code", "says"),
    [
        (FLAT, {}, "/target/options/nested", "no_nested_list", "no nested list"),
        (CATALOG, {}, "/target/options/explode", "required", "items, order.lines"),
        (CATALOG, {"explode": "item"}, "/target/options/explode", "unknown_field", "`items`"),
        (CATALOG, {"explode": "zzz"}, "/target/options/explode", "unknown_field", "items, order.lines"),
        (
            CATALOG,
            {"explode": "items.taxes"},
            "/target/options/explode",
            "unknown_field",
            "inside the nested list `items`",
        ),
        (CATALOG, {"explode": "id"}, "/target/options/explode", "unknown_field", "no nested list `id`"),
    ],
)
def test_a_list_that_cannot_be_exploded_is_a_fault(
    catalog: Catalog, options: dict[str, Any], pointer: str, code: str, says: str
) -> None:
    options = {"nested": "explode"} | options
    [fault] = check_by_catalog({"options": options}, catalog, index())
    assert (fault.pointer, fault.code) == (pointer, code)
    assert says in fault.detail
    with pytest.raises(InvalidRequestError) as caught:
        encoder_for({"options": options}, catalog, index())
    assert caught.value.faults == (fault,)


def test_an_object_around_the_list_is_no_column_beside_its_elements() -> None:
    target: dict[str, Any] = {"columns": ["id", "order"], "options": {"nested": "explode", "explode": "order.lines"}}
    [fault] = check_by_catalog(target, CATALOG, index())
    assert (fault.pointer, fault.code) == ("/target/columns/1", "around_exploded")
    del target["columns"]
    [of_the_index] = check_by_catalog(target, CATALOG, index(["id", "order"]))
    assert of_the_index == Fault("/target/columns", "around_exploded", fault.detail)
    with pytest.raises(InvalidRequestError, match="`order` holds the list"):
        encoder_for(target, CATALOG, index(["id", "order"]))


def test_every_fault_of_list_and_columns_is_told_at_once() -> None:
    faults = check_by_catalog({"columns": ["idd"], "options": {"nested": "explode", "explode": "x"}}, CATALOG, index())
    assert [fault.pointer for fault in faults] == ["/target/options/explode", "/target/columns/0"]


@pytest.mark.parametrize("export_format", ["json", "jsonl"])
def test_whole_documents_are_not_exploded(export_format: str) -> None:
    assert [one.code for one in check_options(export_format, {"nested": "explode"})] == ["unknown_option"]


def test_a_page_that_would_become_huge_is_encoded_in_portions() -> None:
    made = exploding("id", "items.sku")
    wide = json.dumps({"id": 1, "x": "y" * 50_000, "items": [{"sku": str(n)} for n in range(500)]}).encode()
    narrow = json.dumps({"id": 1}).encode()
    assert [len(portion) for portion in portions_of(made, [wide, wide, *[narrow] * 5])] == [1, 1, 5]
    assert list(portions_of(made, [narrow] * 5)) == [[narrow] * 5]
    assert list(portions_of(made, [])) == []


def test_a_document_that_would_become_too_large_fails_the_run() -> None:
    long = json.dumps({"order": {"code": "x" * 300_000}, "items": [{"sku": str(n)} for n in range(1000)]}).encode()
    with pytest.raises(UnfitDocumentError, match=r"of 1000 rows.*columns of long texts") as caught:
        exploding("order.code", "items.sku").encode([long])
    assert not caught.value.retryable
    assert len(rows(exploding("id", "items.sku"), long)) == 1000, "what no column needs is not repeated"


def test_an_element_repeats_nothing_that_no_column_needs() -> None:
    class Seen:
        extension, content_type, joints = "x", "x", None
        pages: ClassVar[list[list[bytes]]] = []

        def encode(self, documents: list[bytes]) -> Encoded:
            self.pages.append(documents)
            return Encoded(b"", len(documents))

        def writer(self) -> Any:
            raise NotImplementedError

    columns = [FileColumn("id", ("id",)), FileColumn("sku", ("items", "sku"))]
    made = explode.exploding(("items",), columns, lambda _: Seen())
    page = made.encode([b'{"id":1,"id.x":2,"x":3,"items":[{"sku":4},{"sku":5}]}'])
    assert Seen.pages == [[b'{"id":1,"id.x":2,"element":{"sku":4}}', b'{"id":1,"id.x":2,"element":{"sku":5}}']]
    assert (page.rows, page.documents) == (2, 1)
