from __future__ import annotations

from typing import Any

import pytest

from tasks_service.errors import SourceError
from tasks_service.sources.elasticsearch_catalog import read_catalog

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
