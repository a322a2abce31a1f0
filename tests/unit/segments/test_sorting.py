from __future__ import annotations

from typing import Any

import pytest

from segments import Catalog, SegmentError, read_sort, sort_clauses

CATALOG = Catalog.from_mapping(
    {
        "name": {"type": "text", "fields": {"raw": {"type": "keyword"}}},
        "words": {"type": "text"},
        "folded": {"type": "keyword", "normalizer": "lowercase"},
        "unread": {"type": "keyword", "doc_values": False},
        "hidden": {"type": "text", "fields": {"raw": {"type": "keyword", "doc_values": False}}},
        "unindexed": {"type": "long", "index": False},
        "half": {"type": "half_float"},
        "count": {"type": "long"},
        "lines": {"type": "nested", "properties": {"n": {"type": "long"}}},
        "place": {"type": "geo_point"},
        "other_name": {"type": "alias", "path": "name"},
    }
)


def faults(raw: Any) -> list[tuple[str, str]]:
    with pytest.raises(SegmentError) as caught:
        read_sort(raw, CATALOG)
    return [(fault.pointer, fault.code) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("words", "a keyword sub-field"),
        ("folded", "normalizer"),
        ("unread", "doc_values"),
        ("hidden", "doc_values"),
        ("unindexed", "index: false"),
        ("lines.n", "nested documents"),
        ("place", "geo_point"),
    ],
)
def test_a_field_that_has_no_exact_order_is_refused_with_what_would_help(name: str, why: str) -> None:
    with pytest.raises(SegmentError, match=why):
        read_sort([name], CATALOG)
    assert faults([{"field": name}]) == [("/0/field", "not_sortable")]


def test_what_is_no_list_of_fields_is_refused() -> None:
    assert faults("name") == [("", "wrong_type")]
    assert faults([{"field": "name", "order": None}, {"field": 1}, []]) == [
        ("/0/order", "unknown_order"),
        ("/1/field", "required"),
        ("/2", "wrong_type"),
    ]


def test_a_text_is_sorted_by_its_keyword_and_an_alias_by_what_it_names() -> None:
    for name in ("name", "other_name", "name.raw"):
        [(clause, descending)] = sort_clauses(read_sort([{"field": name, "order": "desc"}], CATALOG))
        assert list(clause) == ["name.raw"]
        assert clause["name.raw"] == {"order": "desc", "missing": "_last", "mode": "max", "unmapped_type": "keyword"}
        assert descending


def test_an_integer_has_a_second_clause_that_tells_the_largest_from_none() -> None:
    clauses = sort_clauses(read_sort(["count"], CATALOG))
    assert [(clause["count"]["order"], clause["count"]["mode"], down) for clause, down in clauses] == [
        ("asc", "min", False),
        ("desc", "min", True),
    ]


def test_the_server_cannot_page_by_half_floats_but_by_their_doubles() -> None:
    [(clause, _)] = sort_clauses(read_sort(["half"], CATALOG))
    assert clause["half"]["numeric_type"] == "double"
