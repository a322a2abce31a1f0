"""What `dry_data` leaves out, and that what it keeps is as it was."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments import Catalog
from tasks_service.config import IndexSettings
from tasks_service.errors import InvalidRequestError, SourceError
from tasks_service.formats.dry_data import DryData
from tasks_service.formats.registry import check_by_catalog, described_columns, encoder_for
from tests.dry_documents import dry

CATALOG = Catalog.from_mapping(
    {
        "chain_id": {"type": "long"},
        "created_date": {"type": "date"},
        "id": {"type": "long"},
        "lines": {"type": "nested", "properties": {"id": {"type": "long"}, "sku": {"type": "keyword"}}},
        "name": {"type": "keyword"},
        "shop": {"properties": {"city": {"type": "keyword"}, "id": {"type": "long"}}},
    }
)


def index(**changes: Any) -> IndexSettings:
    return IndexSettings(file_prefix="Product", source="products", **changes)


def one(document: str, **changes: Any) -> str:
    [kept] = DryData(index(**changes)).documents([document.encode()])
    return kept.decode()


@pytest.mark.parametrize(
    ("document", "kept"),
    [
        (
            '{"id":1,"chain_id":2,"created_date":"x","last_modified_date":"x","a":1}',
            '{"a":1}',
        ),
        ('{"created_at":1,"updated_at":1,"a":1}', '{"a":1}'),
        ('{"a":null,"b":"","c":[],"d":{},"e":0,"f":false,"g":" "}', '{"e":0,"f":false,"g":" "}'),
        (' { "a" : null , "c": [ ],\n "d": {\t}, "e" : 1 } ', '{"e":1}'),
        ('{"a":{"b":{"c":null},"d":[{}]},"e":{"f":""}}', '{"a":{"d":[{}]}}'),
        ('{"a":[null,"",[],{"b":null},{"b":1}]}', '{"a":[null,"",[],{},{"b":1}]}'),
        ('{"a":"null","b":"[]","c":["\\"\\""]}', '{"a":"null","b":"[]","c":["\\"\\""]}'),
        ('{"a":123456789012345678901234567890.10,"b":1E5,"c":null}', '{"a":123456789012345678901234567890.10,"b":1E5}'),
        (
            '{"shop":{"id":1},"lines":[{"id":1,"created_date":2}]}',
            '{"shop":{"id":1},"lines":[{"id":1,"created_date":2}]}',
        ),
        ('{"id":null,"chain_id":1}', "{}"),
    ],
)
def test_a_document_keeps_what_means_something_elsewhere(document: str, kept: str) -> None:
    assert one(document) == kept


@pytest.mark.parametrize(
    "document",
    [
        '{"shop":{"id":1,"city":"A"},"lines":[{"id":1,"sku":"b"},{"id":2}]}',
        '{"shop":{"id":1,"city":"A"},"lines":[{"id":1,"sku":"b"},{"id":2,"note":null}]}',
        '{"shop.id":1,"shop":{"city":"A"},"lines":[{"id":1,"sku":"b"},{}]}',
    ],
)
def test_names_may_lie_in_objects_and_lists(document: str) -> None:
    kept = one(document, dry_without=["lines.id", "shop.id"])
    assert kept == '{"shop":{"city":"A"},"lines":[{"sku":"b"},{}]}'


def test_the_chain_is_left_out_by_whatever_name_it_has() -> None:
    assert one('{"retailer":{"chain":7,"name":"x"}}', chain_field="retailer.chain") == '{"retailer":{"name":"x"}}'


@pytest.mark.parametrize("document", [b"[]", b"{", b"1", b"", b'{"a":null', b"[" * 100_000])
def test_what_is_no_object_is_named(document: bytes) -> None:
    with pytest.raises(SourceError, match="not a JSON object"):
        DryData(index()).documents([document])


VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=12,
)


@given(document=st.dictionaries(st.text(max_size=3), VALUES, max_size=5), indent=st.sampled_from([None, 1]))
def test_any_document_is_what_is_not_empty_in_it(document: dict[str, Any], indent: int | None) -> None:
    wanted = dry({name: value for name, value in document.items() if name not in {"id", "chain_id"}})
    assert json.loads(one(json.dumps(document, indent=indent))) == wanted


@pytest.mark.parametrize("name", ["json", "jsonl"])
def test_whole_documents_are_written_without_it(name: str) -> None:
    made = encoder_for({"export_format": name, "dry_data": True}, CATALOG, index())
    encoded = made.encode([b'{"id":1,"name":"a"}', b'{"id":2,"name":null}'])
    assert encoded.rows == 2
    assert encoded.data.replace(b",\n", b"\n").split() == [b'{"name":"a"}', b"{}"]


def test_columns_are_those_of_other_fields() -> None:
    target = {"export_format": "csv", "dry_data": True}
    wanted = ["lines", "name", "shop.city", "shop.id"]
    assert [column["name"] for column in described_columns(target, CATALOG, index()) or []] == wanted
    of_index = index(columns=["id", "name", "shop.id"], dry_without=["id", "shop"])
    assert encoder_for(target, CATALOG, of_index).encode([b'{"id":1,"name":"a","shop":{"id":2}}']).data == b"a\r\n"


@pytest.mark.parametrize("name", ["csv", "parquet", "xlsx", "xml"])
def test_a_table_without_columns_is_refused(name: str) -> None:
    target = {"export_format": name, "dry_data": True}
    [fault] = check_by_catalog(target, CATALOG, index(columns=["id", "chain_id"]))
    assert (fault.pointer, fault.code) == ("/target/dry_data", "no_columns")
    with pytest.raises(InvalidRequestError, match="leaves no column"):
        encoder_for(target, CATALOG, index(columns=["id"]))
