"""Rules and the query and SQL they become: read in review whenever the compilers change."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from segments import to_elasticsearch, to_sql
from tests.unit.segments.shop import MAPPED, TABLED, compiled, group, item, rule

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
}


@pytest.mark.parametrize("name", CASES)
def test_what_rules_become(name: str, golden: Callable[[str, str], None]) -> None:
    rules = CASES[name]
    sql, parameters = to_sql(compiled(*rules, catalog=TABLED))
    whole = {
        "rules": rules,
        "elasticsearch": to_elasticsearch(compiled(*rules, catalog=MAPPED)),
        "sql": sql,
        "parameters": parameters,
    }
    golden(f"segments/{name}.json", json.dumps(whole, indent=1, ensure_ascii=False) + "\n")
