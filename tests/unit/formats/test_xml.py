"""XML: well-formed and true to its schema whatever documents hold, every value told apart from every other."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest
from lxml import etree

from segments import Catalog
from tasks_service.config import IndexSettings
from tasks_service.errors import SourceError, UnfitDocumentError
from tasks_service.formats.registry import check_by_catalog, check_options, encoder_for, schema_of
from tasks_service.formats.xml_schema import element_name

CATALOG = Catalog.from_mapping(
    {
        "id": {"type": "long"},
        "price": {"type": "double"},
        "sold": {"type": "boolean"},
        "day": {"type": "date"},
        "name": {"type": "keyword"},
        "items": {"type": "nested", "properties": {"sku": {"type": "keyword"}, "count": {"type": "integer"}}},
    }
)
INDEX = IndexSettings(file_prefix="Product", source="products", columns=[])
NIL = "{http://www.w3.org/2001/XMLSchema-instance}nil"


def target(columns: list[Any] | None, **options: Any) -> dict[str, Any]:
    return {"export_format": "xml", "columns": columns, "options": options}


def written(wanted: dict[str, Any], *documents: bytes, catalog: Catalog = CATALOG) -> bytes:
    """The file, which satisfies its schema."""
    encoder = encoder_for(wanted, catalog, INDEX)
    writer = encoder.writer()
    data = b"".join([*(writer.add(encoder.encode([one])) for one in documents), writer.finish()])
    validator(wanted, catalog).assertValid(etree.fromstring(data))
    return data


def validator(wanted: dict[str, Any], catalog: Catalog = CATALOG) -> etree.XMLSchema:
    return etree.XMLSchema(etree.fromstring((schema_of(wanted, catalog, INDEX) or "").encode()))


def elements(value: bytes, column: str = "name", **options: Any) -> str:
    """The elements of one value."""
    data = written(target([column], **options), b'{"' + column.encode() + b'":' + value + b"}")
    return data.partition(b"<row>")[2].rpartition(b"</row>")[0].decode()


def test_a_file_without_rows_is_a_document() -> None:
    assert etree.fromstring(written(target(["id"]))).tag == "rows"


def test_rows_have_every_column_in_order() -> None:
    data = written(target(["name", "id"]), b'{"id":1,"name":"x"}', b'{"id":2}')
    assert data.splitlines()[2:4] == [
        b"<row><name>x</name><id>1</id></row>",
        b'<row><name xsi:nil="true"/><id>2</id></row>',
    ]


@pytest.mark.parametrize(
    ("value", "made"),
    [
        (b"null", '<name xsi:nil="true"/>'),
        (b'""', "<name></name>"),
        (b'" "', "<name> </name>"),
        (b'"null"', "<name>null</name>"),
        (b'"[1]"', "<name>[1]</name>"),
        (b'"{}"', "<name>{}</name>"),
        (b'"a & <b> ]]>"', "<name>a &amp; &lt;b&gt; ]]&gt;</name>"),
        (b'"\\r\\n\\t"', "<name>&#13;\n\t</name>"),
        (b'"\\u2028\\ud83d\\ude00"', "<name>\u2028😀</name>"),
        (b'"x\\ud800"', "<name>x\ufffd</name>"),
        (b'"x\\u0000"', '<name json="true">"x\\u0000"</name>'),
        ('"\uffff"'.encode(), '<name json="true">"\\uffff"</name>'),
        (b"12345678901234567890123", "<name>12345678901234567890123</name>"),
        (b"true", "<name>true</name>"),
        (b"[]", ""),
        (b'["a", "b"]', "<name>a</name><name>b</name>"),
        (b'["a", null, ""]', '<name>a</name><name xsi:nil="true"/><name></name>'),
        (b"[[1, [2]], [], 3]", "<name>1</name><name>2</name><name>3</name>"),
        (b'{"b": "<\\u0001"}', '<name json="true">{"b":"&lt;\\u0001"}</name>'),
        (b'[{"b": 1}, "c"]', '<name json="true">{"b":1}</name><name>c</name>'),
    ],
)
def test_values_become_elements(value: bytes, made: str) -> None:
    assert elements(value) == made


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", b"12"),
        ("id", b"123456789012345678901234567890"),
        ("id", b'"-7"'),
        ("id", b"[1,2]"),
        ("price", b"1.5"),
        ("price", b"1e-7"),
        ("price", b"3"),
        ("sold", b"false"),
        ("day", b'"2026-05-26 12:00"'),
        ("day", b"1767312000123"),
    ],
)
def test_values_of_the_columns_type_are_written(column: str, value: bytes) -> None:
    assert elements(value, column).startswith(f"<{column}>")


@pytest.mark.parametrize(
    ("column", "value"),
    [
        ("id", b"1.0"),
        ("id", b'""'),
        ("id", b'"12 "'),
        ("id", b"true"),
        ("id", b'{"a":1}'),
        ("id", b"[1,[2,1.5]]"),
        ("price", b'"nan"'),
        ("price", b'"1.5\\n"'),
        ("price", b'"\\u0661"'),
        ("sold", b"1"),
        ("sold", b'"True"'),
    ],
)
def test_a_value_of_another_type_ends_the_export_unless_all_is_text(column: str, value: bytes) -> None:
    with pytest.raises(UnfitDocumentError, match=f"'{column}' has the value .*typed"):
        elements(value, column)
    assert elements(value, column, typed=False)


def test_types_are_the_catalogues() -> None:
    schema = schema_of(target(None), CATALOG, INDEX) or ""
    assert dict(re.findall(r'element name="(\w+)" type="([\w:]+)"', schema)) == {
        "day": "text",
        "id": "xs:integer",
        "items": "text",
        "name": "text",
        "price": "xs:double",
        "sold": "xs:boolean",
    }
    files = Catalog.from_columns([("price", "DECIMAL(18,2)"), ("huge", "HUGEINT"), ("list", "BIGINT[]")])
    data = written(target(None), b'{"price":12.50,"huge":1' + b"0" * 30 + b',"list":[1,2]}', catalog=files)
    assert b"<list>1</list><list>2</list><price>12.5</price>" in data
    kinds = re.findall(r'type="(xs:[adginrt]\w+)" nillable', schema_of(target(None), files, INDEX) or "")
    assert kinds == ["xs:integer", "xs:integer", "xs:decimal"]


def test_the_schema_tells_a_wrong_file() -> None:
    wanted = target(["id", "name"])
    data = written(wanted, b'{"id":1,"name":"x"}')
    for right, wrong in ((b"<id>1</id>", b"<id>x</id>"), (b"<name>x</name>", b"<other/>"), (b"<row>", b"x<row>")):
        assert not validator(wanted).validate(etree.fromstring(data.replace(right, wrong)))


def test_constants_templates_and_headers_are_as_in_every_format() -> None:
    columns = [
        {"field": "id", "header": "N°"},
        {"constant": True, "header": "on"},
        {"constant": 7, "header": "seven"},
        {"constant": 0.5, "header": "half"},
        {"constant": None, "header": "none"},
        {"constant": "[1]", "header": "text"},
        {"template": "<{name}>", "header": "mark"},
    ]
    for typed in (True, False):
        data = written(target(columns, typed=typed), b'{"id":1,"name":"x"}')
        assert data.splitlines()[2].decode() == (
            "<row><N_x00B0_>1</N_x00B0_><on>true</on><seven>7</seven><half>0.5</half>"
            '<none xsi:nil="true"/><text>[1]</text><mark>&lt;x&gt;</mark></row>'
        )


def test_nested_lists_are_json_flattened_or_exploded() -> None:
    document = b'{"id":1,"items":[{"sku":"a","count":1},{"sku":"b"}]}'
    assert b'<items json="true">{"sku":"a","count":1}</items><items json="true">{"sku":"b"}</items>' in (
        written(target(["items"]), document)
    )
    assert b"<items.sku>a</items.sku><items.sku>b</items.sku>" in written(
        target(["items.sku"], nested="flatten"), document
    )
    exploded = written(target(["id", "items.sku", "items.count"], nested="explode"), document, b'{"id":2}')
    assert exploded.splitlines()[2:5] == [
        b"<row><id>1</id><items.sku>a</items.sku><items.count>1</items.count></row>",
        b'<row><id>1</id><items.sku>b</items.sku><items.count xsi:nil="true"/></row>',
        b'<row><id>2</id><items.sku xsi:nil="true"/><items.count xsi:nil="true"/></row>',
    ]


@pytest.mark.parametrize(
    ("header", "name"),
    [
        ("price", "price"),
        ("owner.code", "owner.code"),
        ("Naïve-1", "Naïve-1"),
        ("Unit price", "Unit_x0020_price"),
        ("1st", "_x0031_st"),
        ("-", "_x002D_"),
        ("a:b", "a_x003A_b"),
        ("a_x0020_b", "a_x005F_x0020_b"),
        ("_x", "_x005F_x"),
        ("_y", "_y"),
        ("Xml", "_x0058_ml"),
        ("価格", "価格"),
        ("😀", "_x0001F600_"),
        ("\0", "_x0000_"),
    ],
)
def test_headers_become_lawful_names_and_stand_in_the_schema(header: str, name: str) -> None:
    assert element_name(header) == name
    wanted = target([{"field": "name", "header": header}])
    [row] = etree.fromstring(written(wanted, b'{"name":"v"}'))
    assert [(one.tag, one.text) for one in row] == [(name, "v")]


def test_many_columns_have_a_schema_too() -> None:
    names = [f"c{number:03}" for number in range(300)]
    catalog = Catalog.from_mapping({name: {"type": "long"} for name in names})
    document = json.dumps({name: number for number, name in enumerate(names)}).encode()
    [row] = etree.fromstring(written(target(None), document, catalog=catalog))
    assert [one.text for one in row] == [str(number) for number in range(300)]


def test_what_is_no_document_is_no_row() -> None:
    for document in (b"{", b"nothing"):
        with pytest.raises(SourceError):
            written(target(["id"]), document)


def test_options_are_judged_all_at_once() -> None:
    assert check_options("xml", {"typed": False, "nested": "flatten"}) == []
    faults = check_options("xml", {"typed": 1, "bom": True, "nested": "no"})
    assert [fault.pointer.rpartition("/")[2] for fault in faults] == ["bom", "typed", "nested"]
    assert check_by_catalog(target(["id"]), CATALOG, INDEX) == []
