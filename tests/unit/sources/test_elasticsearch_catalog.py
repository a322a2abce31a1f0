from __future__ import annotations

from typing import Any

import pytest

from segments import Catalog, compile_segment
from tasks_service.errors import SourceError
from tasks_service.sources.elasticsearch_catalog import left_out, read_catalog
from tests.unit.segments.shop import AMSTERDAM, NOW, rule, segment

PROPERTIES = {"id": {"type": "long"}, "items": {"type": "nested", "properties": {"sku": {"type": "keyword"}}}}


def mapping(**more: Any) -> dict[str, Any]:
    return {"mappings": {"properties": PROPERTIES, **more}}


def test_the_mapping_becomes_the_catalogue() -> None:
    catalog = read_catalog({"products": mapping()}, {})
    assert [column.name for column in catalog.columns] == ["id", "items"]
    assert catalog.doubts_counted


def test_an_alias_over_equal_indices_is_one_catalogue() -> None:
    one, two = read_catalog({"a": mapping()}, {}), read_catalog({"a": mapping(), "b": mapping()}, {})
    assert one.fields == two.fields
    assert one.columns == two.columns


def test_fields_that_the_indices_behind_an_alias_define_differently_are_refused() -> None:
    other = {"mappings": {"properties": {**PROPERTIES, "id": {"type": "keyword"}}}}
    field = read_catalog({"a": mapping(), "b": other}, {}).get("id")
    assert field is not None
    assert "disagree" in field.refusal


@pytest.mark.parametrize(
    ("source", "mode"),
    [
        ({"enabled": False}, None),
        ({"enabled": "false"}, None),
        ({"mode": "synthetic"}, None),
        ({"mode": "disabled"}, None),
        ({"includes": ["a"]}, None),
        ({"excludes": ["a"]}, None),
        ({}, "synthetic"),
    ],
)
def test_an_index_that_does_not_keep_its_documents_is_refused(source: dict[str, Any], mode: str | None) -> None:
    settings = {"a": {"settings": {"index.mapping.source.mode": mode}}} if mode else {}
    with pytest.raises(SourceError, match="_source"):
        read_catalog({"a": mapping(_source=source)}, settings)


def test_one_such_index_behind_an_alias_is_enough() -> None:
    with pytest.raises(SourceError, match="_source"):
        read_catalog({"a": mapping(), "b": mapping(_source={"enabled": False})}, {})


def test_no_index_at_all_is_an_error() -> None:
    with pytest.raises(SourceError, match="no such index"):
        read_catalog({}, {})


# -- what the settings and runtime fields add ----------------------------------------------------------------------


def catalog(properties: dict[str, Any], settings: dict[str, Any] | None = {}, **mapping: Any) -> Catalog:  # noqa: B006
    answered = None if settings is None else {"a": {"settings": settings}}
    return read_catalog({"a": {"mappings": {"properties": properties, **mapping}}}, answered)


STRING = {"type": "text", "fields": {"keyword": {"type": "keyword"}}}


def test_a_limit_in_the_settings_is_for_every_keyword_that_has_none_of_its_own() -> None:
    properties = {"k": {"type": "keyword"}, "t": STRING, "own": {"type": "keyword", "ignore_above": 9}}
    nested = {"n": {"type": "nested", "properties": {"k": {"type": "keyword"}}}, "o": {"properties": properties}}
    found = catalog({**properties, **nested}, {"index.mapping.ignore_above": "5"})
    limits = {field.name: field.ignore_above for field in found.fields}
    assert limits == {
        "k": 5,
        "t": 5,
        "t.keyword": 5,
        "own": 9,
        "n.k": 5,
        "o.k": 5,
        "o.t": 5,
        "o.t.keyword": 5,
        "o.own": 9,
    }


def test_ignoring_what_is_malformed_is_for_every_field_that_can_and_does_not_say() -> None:
    properties = {"n": {"type": "long"}, "k": {"type": "keyword"}, "own": {"type": "date", "ignore_malformed": False}}
    found = catalog(properties, {"index.mapping.ignore_malformed": "true"})
    assert {field.name: field.malformed for field in found.fields} == {"n": True, "k": False, "own": False}


def test_settings_that_may_not_be_read_may_say_anything() -> None:
    found = catalog({"n": {"type": "long"}, "t": STRING, "f": {"type": "boolean"}}, None)
    assert all(field.malformed or field.ignore_above == 0 for field in found.fields)
    tree = compile_segment(segment(rule("t", "text", "is", "a")), found, now=NOW, zone=AMSTERDAM)
    assert left_out(found, tree) == "t.keyword leaves out long values (map it as keyword without ignore_above)"
    tree = compile_segment(segment(rule("n", "number", "is", 1)), found, now=NOW, zone=AMSTERDAM)
    assert left_out(found, tree) == "n leaves out malformed values (map it without ignore_malformed)"


@pytest.mark.parametrize("mode", ["logsdb", "time_series"])
def test_an_index_mode_that_rebuilds_documents_is_refused_unless_it_keeps_them(mode: str) -> None:
    with pytest.raises(SourceError, match="_source"):
        catalog({}, {"index.mode": mode})
    assert catalog({}, {"index.mode": mode, "index.mapping.source.mode": "STORED"}).fields == ()


def test_a_runtime_field_is_refused_and_so_is_what_it_hides() -> None:
    runtime = {
        "price": {"type": "long"},
        "day": {"type": "keyword", "script": {"source": "emit('x')"}},
        "parts": {"type": "composite", "script": {"source": "x"}, "fields": {"a": {"type": "long"}}},
    }
    found = catalog({"price": {"type": "double"}, "name": {"type": "keyword"}}, runtime=runtime)
    refused = {field.name: field.refusal for field in found.fields if field.refusal}
    assert sorted(refused) == ["day", "parts.a", "price"]
    assert all("runtime field" in reason for reason in refused.values())
    assert [column.name for column in found.columns] == ["name", "price"]
    assert found.doubts_counted


def test_the_order_of_an_answer_does_not_matter() -> None:
    one = {"mappings": {"properties": {"f": {"type": "long"}}}}
    two = {"mappings": {"properties": {"f": {"type": "double"}}}}
    assert read_catalog({"a": one, "b": two}, {}) == read_catalog({"b": two, "a": one}, {})
