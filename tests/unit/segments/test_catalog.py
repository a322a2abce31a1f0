from __future__ import annotations

from typing import Any

import pytest

from segments import Catalog, Field, SegmentError, check, compile_segment, doubtful, doubts, equals, operators_for
from segments.tree import Compare
from tests.unit.segments.shop import AMSTERDAM, MAPPED, NOW, TABLED, faults, item, rule, segment


def _field(spec: dict[str, Any]) -> Field:
    field = Catalog.from_mapping({"f": spec}).get("f")
    assert field is not None
    return field


def test_the_same_data_has_the_same_columns_in_the_same_order_from_both_sources() -> None:
    assert MAPPED.columns == TABLED.columns
    assert [column.name for column in MAPPED.columns] == [
        "active",
        "address.city",
        "category",
        "chain_id",
        "created",
        "description",
        "line_items",
        "name",
        "price",
        "stock",
    ]
    assert MAPPED.columns[1].path == ("address", "city")


def test_fields_are_sorted_and_multi_fields_are_fields_but_no_columns() -> None:
    names = [field.name for field in MAPPED.fields]
    assert names == sorted(names)
    assert "name.exact" in names
    assert MAPPED.by_name["line_items.sku"].nested == "line_items"


def test_fingerprints_tell_catalogues_apart() -> None:
    again = Catalog.from_columns([("a", "VARCHAR"), ("b", "BIGINT")])
    assert again.fingerprint == Catalog.from_columns([("b", "BIGINT"), ("a", "VARCHAR")]).fingerprint
    assert again.fingerprint != Catalog.from_columns([("a", "VARCHAR"), ("b", "INTEGER")]).fingerprint


@pytest.mark.parametrize(
    ("spec", "type_", "answers"),
    [
        ({"type": "keyword"}, "keyword", "is"),
        ({"type": "keyword", "ignore_above": 256}, "keyword", "is"),
        ({"type": "keyword", "normalizer": "lower"}, "keyword", "is_set"),
        ({"type": "text"}, "text", "is_set"),
        ({"type": "text", "fields": {"k": {"type": "keyword"}}}, "text", "is_any_of"),
        ({"type": "text", "fields": {"k": {"type": "keyword", "normalizer": "lower"}}}, "text", "is_set"),
        ({"type": "keyword", "normalizer": "lower", "fields": {"k": {"type": "keyword"}}}, "keyword", "is"),
        ({"type": "date_nanos"}, "date", "is_date"),
        ({"type": "half_float"}, "number", "is"),
        ({"type": "boolean"}, "boolean", "is_true"),
    ],
)
def test_what_a_mapping_can_answer(spec: dict[str, Any], type_: str, answers: str) -> None:
    field = _field(spec)
    assert field.type == type_
    assert answers in operators_for(field)


@pytest.mark.parametrize("spec", [{"type": "text"}, {"type": "keyword", "normalizer": "lower"}])
def test_what_only_knows_whether_it_is_set(spec: dict[str, Any]) -> None:
    assert operators_for(_field(spec)) == ["is_set", "is_not_set"]


@pytest.mark.parametrize(
    "spec",
    [
        {"type": "scaled_float", "scaling_factor": 100},
        {"type": "unsigned_long"},
        {"type": "wildcard"},
        {"type": "constant_keyword"},
        {"type": "ip"},
        {"type": "flattened"},
        {"type": "geo_point"},
        {"type": "object", "enabled": False},
        {"type": "keyword", "index": False},
        {"type": "keyword", "null_value": "NULL"},
        {"type": "long", "null_value": 0},
        {"type": "long", "script": {"source": "emit(1)"}},
    ],
)
def test_what_cannot_be_asked_is_a_column_and_refused_with_the_reason(spec: dict[str, Any]) -> None:
    catalog = Catalog.from_mapping({"f": spec})
    field = catalog.by_name["f"]
    assert [column.name for column in catalog.columns] == ["f"]
    assert operators_for(field) == []
    kind = field.type if field.type != "other" else "keyword"
    assert faults(segment(rule("f", kind, "is_set")), catalog) == [("/rules/0/operator", "not_answerable")]
    with pytest.raises(SegmentError, match=r"rules cannot ask|its mapping says|script"):
        compile_segment(segment(rule("f", kind, "is_set")), catalog, now=NOW, zone=AMSTERDAM)


def test_targets_of_copy_to_are_refused() -> None:
    catalog = Catalog.from_mapping({"a": {"type": "keyword", "copy_to": "all"}, "all": {"type": "keyword"}})
    assert operators_for(catalog.by_name["a"])
    assert not operators_for(catalog.by_name["all"])


def test_aliases_are_fields_but_no_columns() -> None:
    catalog = Catalog.from_mapping({"a": {"type": "keyword"}, "b": {"type": "alias", "path": "a"}})
    assert [column.name for column in catalog.columns] == ["a"]
    assert faults(segment(rule("b", "keyword", "is", "x")), catalog) == []
    assert not operators_for(Catalog.from_mapping({"b": {"type": "alias", "path": "gone"}}).by_name["b"])


def test_values_that_were_not_indexed_are_refused_or_counted() -> None:
    properties = {
        "k": {"type": "keyword", "ignore_above": 5},
        "t": {"type": "text", "fields": {"raw": {"type": "keyword", "ignore_above": 256}}},
        "n": {"type": "long", "ignore_malformed": True},
        "c": {"type": "nested", "properties": {"k": {"type": "keyword", "ignore_above": 5}}},
    }
    asked = [
        (rule("k", "keyword", "is", "12345"), ()),
        (rule("k", "keyword", "is", "123456"), ("k",)),
        (rule("k", "keyword", "is", "😀😀😀"), ("k",)),  # six UTF-16 units
        (rule("k", "keyword", "is_any_of", ["1", "123456"]), ("k",)),
        (rule("k", "keyword", "contains", "1"), ("k",)),
        (rule("k", "keyword", "is_set"), ()),
        (rule("t", "text", "is", "x"), ()),
        (rule("t", "text", "is_not", "x"), ()),
        (rule("t", "text", "starts_with", "x"), ("t.raw",)),
        (rule("t", "text", "is_set"), ()),
        (rule("n", "number", "is", 1), ("n",)),
        ({**rule("c.k", "keyword", "is_set"), "nested": True, "nesting_path": "c"}, ("c.k",)),
    ]
    refusing, counting = Catalog.from_mapping(properties), Catalog.from_mapping(properties, doubts_counted=True)
    for one, doubted in asked:
        refused = [("/rules/0/operator", "not_answerable")] if doubted else []
        assert faults(segment(one), refusing) == refused, one
        tree = compile_segment(segment(one), counting, now=NOW, zone=AMSTERDAM)
        assert doubtful(tree) == doubted, one
        query = doubts(tree)
        assert query == ({"bool": {"filter": [{"terms": {"_ignored": list(doubted)}}]}} if doubted else None)


@pytest.mark.parametrize(
    ("asked", "expected"),
    [
        (rule("nmae", "keyword", "is", "x"), ("/rules/0/field_name", "unknown_field")),
        (rule("address", "keyword", "is", "x"), ("/rules/0/field_name", "unknown_field")),
        (rule("category", "text", "is", "x"), ("/rules/0/field_type", "wrong_field_type")),
        (rule("price", "keyword", "is", "x"), ("/rules/0/field_type", "wrong_field_type")),
        (rule("description", "text", "contains", "x"), ("/rules/0/operator", "not_answerable")),
        (rule("line_items.sku", "keyword", "is", "x"), ("/rules/0/nested", "wrong_nesting")),
        ({**item("sku", "keyword", "is", "x"), "nesting_path": "lines"}, ("/rules/0/nesting_path", "wrong_nesting")),
        (
            {**rule("category", "keyword", "is", "x"), "nested": True, "nesting_path": "line_items"},
            ("/rules/0/nesting_path", "wrong_nesting"),
        ),
    ],
)
def test_faults_of_the_check(asked: dict[str, Any], expected: tuple[str, str]) -> None:
    assert faults(segment(asked)) == [expected]


@pytest.mark.parametrize(
    "asked",
    [
        rule("name", "text", "is", "x"),
        rule("name", "keyword", "is_any_of", ["x"]),
        rule("name.exact", "keyword", "is", "x"),
        rule("description", "text", "is_set"),
        rule("stock", "long", "is", 5),
        rule("stock", "double", "is", 5.5),
    ],
)
def test_types_agree_with_a_field_or_its_sub_fields(asked: dict[str, Any]) -> None:
    assert faults(segment(asked)) == []


def test_indices_that_disagree() -> None:
    one = Catalog.from_mapping({"a": {"type": "keyword"}, "b": {"type": "long"}})
    two = Catalog.from_mapping({"a": {"type": "text"}, "b": {"type": "long"}, "c": {"type": "date"}})
    merged = Catalog.merged([one, two])
    assert [column.name for column in merged.columns] == ["a", "b", "c"]
    assert operators_for(merged.by_name["a"]) == []
    assert "disagree" in merged.by_name["a"].refusal
    short, long = ({"k": {"type": "keyword", "ignore_above": limit}} for limit in (10, 256))
    limits = Catalog.merged([Catalog.from_mapping(short), Catalog.from_mapping(long)]).by_name["k"]
    assert (limits.refusal, limits.ignore_above) == ("", 10)
    other = Catalog.from_mapping({"k": {"type": "keyword", "null_value": "x"}})
    assert "other parameters" not in Catalog.merged([other, Catalog.from_mapping(short)]).by_name["k"].refusal
    assert operators_for(Catalog.merged([Catalog.from_mapping(short), other]).by_name["k"]) == []
    assert operators_for(merged.by_name["b"])


def test_the_filter_of_the_service() -> None:
    tree = equals(MAPPED, "chain_id", 1764)
    assert isinstance(tree, Compare)
    assert check(tree, MAPPED) == tree
    assert equals(Catalog.from_mapping({"chain": {"type": "keyword"}}), "chain", 7) == Compare(
        Catalog.from_mapping({"chain": {"type": "keyword"}}).by_name["chain"], "eq", "7"
    )
    for name, value in (("nothing", 1), ("line_items.quantity", 1), ("price", "x"), ("active", 1), ("created", 1)):
        with pytest.raises(SegmentError):
            equals(MAPPED, name, value)
    with pytest.raises(SegmentError, match="keyword sub-field"):
        equals(MAPPED, "description", "x")


@pytest.mark.parametrize(
    ("printed", "type_", "storage", "lists"),
    [
        ("VARCHAR", "keyword", "keyword", 0),
        ("BIGINT[]", "number", "long", 1),
        ("DECIMAL(18,3)", "number", "decimal(18,3)", 0),
        ("ENUM('a', 'b''c', 'd(e)')", "keyword", "keyword", 0),
        ("TIMESTAMP WITH TIME ZONE[][]", "date", "date", 2),
        ("JSON", "other", "json", 0),
        ("MAP(VARCHAR, STRUCT(a INTEGER)[])", "other", "map", 0),
        ("VARCHAR[3]", "other", "array[3]", 0),
        ("UNION(n INTEGER, s VARCHAR)", "other", "union", 0),
        ("BLOB", "other", "blob", 0),
    ],
)
def test_column_types(printed: str, type_: str, storage: str, lists: int) -> None:
    field = Catalog.from_columns([("f", printed)]).by_name["f"]
    assert (field.type, field.storage, field.lists) == (type_, storage, lists)


def test_structs_and_lists_of_structs() -> None:
    printed = 'STRUCT("select" VARCHAR, "a ""b""" STRUCT(x INTEGER, y DECIMAL(10,2)[]), items STRUCT(z DATE)[])'
    catalog = Catalog.from_columns([("o", printed)])
    assert [field.name for field in catalog.fields] == ['o.a "b".x', 'o.a "b".y', "o.items.z", "o.select"]
    assert catalog.by_name["o.items.z"].nested == "o.items"
    assert [column.name for column in catalog.columns] == ['o.a "b".x', 'o.a "b".y', "o.items", "o.select"]


def test_pins() -> None:
    columns = [("a", "VARCHAR"), ("b", "VARCHAR"), ("c", "BIGINT"), ("s", "STRUCT(x VARCHAR)")]
    pins = {"a": "text", "b": "date", "c": "date", "s": "nested"}
    catalog = Catalog.from_columns(columns, types=pins)
    assert [field.type for field in catalog.fields] == ["text", "date", "date", "keyword"]
    assert catalog.by_name["s.x"].nested == "s"
    for wrong in ({"a": "number"}, {"nothing": "text"}, {"s.x": "boolean"}):
        with pytest.raises(ValueError, match=r"cannot be pinned|fit no column"):
            Catalog.from_columns(columns, types=wrong)


@pytest.mark.parametrize("printed", ["", "STRUCT(a", "VARCHAR)", "DECIMAL(1", "'", "STRUCT(a)"])
def test_what_duckdb_never_prints(printed: str) -> None:
    with pytest.raises(ValueError, match="not a DuckDB type"):
        Catalog.from_columns([("f", printed)])


def test_one_name_spelt_by_two_columns_is_refused() -> None:
    catalog = Catalog.from_columns([("a.b", "VARCHAR"), ("a", "STRUCT(b VARCHAR)")])
    assert faults(segment(rule("a.b", "keyword", "is", "x")), catalog) == [("/rules/0/operator", "not_answerable")]
