"""The shipped index templates, and what is said of an index that is mapped otherwise."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from segments import OPERATORS, Catalog, operators_for
from tasks_service.config import default_indices
from tasks_service.indices import INDICES, mapping, templates
from tasks_service.indices.advice import differences, doubt, helping
from tasks_service.indices.fields import LONGEST_KEYWORD

FOLDER = Path(templates.__file__).parent / "template_files"
LIMITED = {"type": "keyword", "ignore_above": LONGEST_KEYWORD}


@pytest.mark.parametrize("index", INDICES)
def test_the_files_are_what_the_fields_say(index: str) -> None:
    assert (FOLDER / f"{index}.json").read_text(encoding="utf-8") == templates.text(index), "run `make docs`"


def test_there_is_a_template_for_every_index_a_configuration_has_by_default() -> None:
    assert set(INDICES) == set(default_indices()) == {path.stem for path in FOLDER.glob("*.json")}


@pytest.mark.parametrize("index", INDICES)
def test_every_field_takes_every_operator_of_its_type(index: str) -> None:
    properties = templates.body(index, [index])["template"]["mappings"]["properties"]
    for field in Catalog.from_mapping(properties, doubts_counted=True).fields:
        every = [row.name for row in OPERATORS.values() if set(field.types) & set(row.types)]
        assert operators_for(field) == every, field.name
        limited = field.storage == "text" or "keyword" in field.name.split(".")[1:]
        assert doubt(field) == "" or limited, "codes and names have no limit"
        assert helping(field) is None


def test_the_longest_keyword_fits_a_term_whatever_its_characters() -> None:
    assert len(("😀" * LONGEST_KEYWORD).encode()) <= 32_766 < len(("😀" * (LONGEST_KEYWORD + 1)).encode())


def test_a_template_says_for_which_indices_it_is_and_changes_its_fingerprint() -> None:
    one, two = templates.body("users", ["users"]), templates.body("users", ["users-*"])
    assert (one["index_patterns"], two["index_patterns"]) == (["users"], ["users-*"])
    assert one["_meta"]["fingerprint"] != two["_meta"]["fingerprint"]
    with pytest.raises(KeyError):
        templates.body("../users", ["users"])


@pytest.mark.parametrize(
    ("spec", "better"),
    [
        ({"type": "keyword"}, None),
        ({"type": "keyword", "ignore_above": 256}, LIMITED),
        (LIMITED, None),
        ({"type": "keyword", "normalizer": "lowercase"}, {"type": "keyword"}),
        ({"type": "keyword", "null_value": "x"}, {"type": "keyword"}),
        ({"type": "text"}, {"type": "text", "fields": {"keyword": LIMITED}}),
        ({"type": "text", "fields": {"k": {"type": "keyword"}}}, None),
        (
            {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}},
            {"type": "text", "fields": {"keyword": LIMITED}},
        ),
        ({"type": "match_only_text"}, {"type": "text", "fields": {"keyword": LIMITED}}),
        ({"type": "wildcard"}, {"type": "keyword"}),
        ({"type": "constant_keyword"}, {"type": "keyword"}),
        ({"type": "ip"}, {"type": "keyword"}),
        ({"type": "flattened"}, {"type": "keyword"}),
        ({"type": "geo_point"}, None),
        ({"type": "scaled_float", "scaling_factor": 100}, {"type": "double"}),
        ({"type": "unsigned_long"}, {"type": "long"}),
        ({"type": "long", "ignore_malformed": True}, {"type": "long"}),
        ({"type": "integer", "index": False}, {"type": "long"}),
        ({"type": "date", "index": False}, {"type": "date"}),
        ({"type": "date_nanos", "null_value": 0}, {"type": "date_nanos"}),
        ({"type": "boolean", "ignore_malformed": True}, {"type": "boolean"}),
    ],
)
def test_the_mapping_that_would_help_does(spec: dict[str, Any], better: dict[str, Any] | None) -> None:
    [field, *_] = Catalog.from_mapping({"f": spec}).fields
    assert helping(field) == better
    if better is not None:
        [helped, *_] = Catalog.from_mapping({"f": better}, doubts_counted=True).fields
        assert len(operators_for(helped)) > 2
        assert helping(helped) is None


def test_where_an_index_differs_from_its_template() -> None:
    wanted = Catalog.from_mapping(mapping("transactions")["properties"])
    assert differences(wanted, wanted) == []
    found = Catalog.from_mapping(
        {
            "id": {"type": "keyword"},
            "notes": {"type": "text"},
            "country": {"type": "keyword", "ignore_above": 256},
            "quantity": {"type": "long", "ignore_malformed": True},
            "subtotal": {"type": "double", "index": False},
            "line_items": {"properties": {"sku": {"type": "keyword"}}},
            "something": {"type": "ip"},
        }
    )
    assert {one.field: one.found for one in differences(found, wanted)} == {
        "id": "keyword",
        "notes": "text without a keyword that answers",
        "country": "keyword, ignore_above 256",
        "quantity": "long, ignore_malformed",
        "subtotal": "double, refused: its mapping says index: false; index it to ask for it",
        "line_items.sku": "not nested",
    }


def test_a_limit_as_wide_as_the_templates_own_is_no_difference() -> None:
    wanted = Catalog.from_mapping({"t": {"type": "text", "fields": {"keyword": LIMITED}}})
    wider = Catalog.from_mapping({"t": {"type": "text", "fields": {"keyword": {"type": "keyword"}}}})
    narrower = json.loads(json.dumps({"t": {"type": "text", "fields": {"keyword": {**LIMITED, "ignore_above": 8190}}}}))
    assert differences(wider, wanted) == []
    assert [one.field for one in differences(Catalog.from_mapping(narrower), wanted)] == ["t"]
