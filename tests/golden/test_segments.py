"""Rules and the query and SQL they become: read in review whenever the compilers change."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from segments import Field, Linked, to_elasticsearch, to_sql, with_keys
from tasks_service.sources.elasticsearch_links import stand_in
from tests.unit.segments.shop import MAPPED, TABLED, compiled, group, item, rule


def about(link: str, *rules: object, **members: object) -> dict[str, Any]:
    return {"index": "suppliers", "link": link, **group("all", *rules), **members}


CASES: dict[str, list[Any]] = {
    "everything": [],
    "published_example": [rule("category", "keyword", "is", "Electronics")],
    "equality": [
        rule("category", "keyword", "is_not", "x"),
        rule("category", "keyword", "is_any_of", ["x", "y"]),
        rule("name", "text", "is", "x"),
        rule("active", "boolean", "is_false"),
        rule("address.city", "keyword", "is_not_set"),
    ],
    "substrings": [
        rule("category", "keyword", "contains", "Kč.*"),
        rule("name", "text", "starts_with", ["ab", 'c"d']),
        rule("category", "keyword", "ends_with", "ß"),
        rule("category", "keyword", "does_not_contain", ["a" * 100, "b" * 100]),
    ],
    "numbers": [
        rule("stock", "number", "is", 5.0),
        rule("stock", "integer", "is_greater_than", 1.5),
        rule("stock", "number", "is", 2**40),
        rule("price", "number", "is", 0),
        rule("price", "number", "is_less_than", 0),
        rule("price", "number", "is_any_of", [0, 1, 2.5]),
        rule("price", "number", "is_between_number", min=1.1),
        rule("price", "number", "is_not_between_number", min=1, max=2),
    ],
    "dates": [
        rule("created", "date", "is_date", "2026-03-29"),
        rule("created", "date", "is_after_date", start_date="2026-03-28T10:00:00Z"),
        rule("created", "date", "is_not_between_date", start_date="2026-01-01", end_date="2026-03-31"),
        rule("created", "date", "relative_less_than", time_factor="day", time_amount=1),
        rule("created", "date", "relative_exactly", time_factor="months", time_amount=1),
        rule("created", "date", "in_current", time_factor="quarter"),
    ],
    "nested": [
        item("sku", "keyword", "is", "a"),
        item("quantity", "number", "is_greater_than", 2),
        item("sku", "keyword", "is_not", "b"),
        group("any", item("sku", "keyword", "contains", "c"), item("at", "date", "is_set")),
    ],
    "groups": [
        rule("category", "keyword", "is", "x"),
        group(
            "any",
            rule("active", "boolean", "is_true"),
            group("all", rule("stock", "number", "is", 1), rule("price", "number", "is", 2), negate=True),
        ),
    ],
    "linked": [
        about("stock", rule("city", "keyword", "is", "Delft")),
        about("price", rule("city", "keyword", "is", "Delft"), negate=True),
        about("category", rule("city", "keyword", "is_set"), key="code"),
        about("line_items.sku", about("id", rule("id", "number", "is", 1)), key="code"),
    ],
}


def _two_keys(one: Linked) -> tuple[int | str, ...]:
    assert isinstance(one.key, Field)
    return (7, 8) if one.key.type == "number" else ("a", "b")


@pytest.mark.parametrize("name", CASES)
def test_what_rules_become(name: str, golden: Callable[[str, str], None]) -> None:
    rules = CASES[name]
    sql, parameters = to_sql(compiled(*rules, catalog=TABLED))
    asked = compiled(*rules, catalog=MAPPED)
    plain = with_keys(asked, _two_keys)
    whole: dict[str, Any] = {
        "rules": rules,
        "elasticsearch": to_elasticsearch(plain),
        "sql": sql,
        "parameters": parameters,
    }
    if plain != asked:
        whole["elasticsearch_recorded"] = to_elasticsearch(asked, stand_in)
    golden(f"segments/{name}.json", json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
