from __future__ import annotations

import json
from typing import Any

import duckdb
import pytest

from segments import EVERYTHING, Catalog, all_of, compile_segment, equals, to_elasticsearch, to_sql
from segments.packing import MAX_CLAUSES, packs
from tests.unit.segments.shop import (
    AMSTERDAM,
    COLUMNS,
    MAPPED,
    NOW,
    TABLED,
    compiled,
    faults,
    group,
    item,
    rule,
    segment,
)

SOME = [
    rule("category", "keyword", "is_not", "x"),
    rule("price", "number", "is_not_between_number", min=1, max=2),
    rule("created", "date", "is_not_date", "2026-01-01"),
    rule("active", "boolean", "is_true"),
    item("sku", "keyword", "does_not_contain", ["a", "b"]),
    item("quantity", "number", "is_none_of", list(range(100))),
]


def test_sql_is_true_or_false_on_a_row_of_nothing_but_nulls() -> None:
    with duckdb.connect() as connection:
        columns = ", ".join(f'"{field}" {printed}' for field, printed in COLUMNS)
        connection.execute(f"CREATE TABLE shop ({columns})")
        connection.execute("INSERT INTO shop (category) VALUES (NULL)")
        for one in (*SOME, group("any", *SOME), group("all", *SOME, negate=True)):
            sql, parameters = to_sql(compiled(one, catalog=TABLED))
            verdict = connection.execute(f"SELECT {sql} FROM shop", parameters).fetchone()  # noqa: S608
            assert verdict in {(True,), (False,)}, sql


def test_parameters_stand_in_the_order_of_their_marks() -> None:
    sql, parameters = to_sql(compiled(*SOME, catalog=TABLED))
    assert sql.count("?") == len(parameters)


def test_everything() -> None:
    assert to_sql(EVERYTHING) == ("TRUE", [])
    assert to_elasticsearch(EVERYTHING) == {"bool": {"filter": [{"match_all": {}}]}}


def test_exclusions_stand_beside_what_must_hold() -> None:
    a, b, c = (rule("category", "keyword", "is", word) for word in "abc")
    term_a, term_b, term_c = ({"term": {"category": {"value": word}}} for word in "abc")
    inner = group("any", b, group("all", c), negate=True)
    assert to_elasticsearch(compiled(group("all", a, inner))) == {
        "bool": {"filter": [term_a], "must_not": [term_b, term_c]}
    }
    assert to_elasticsearch(compiled(group("all", a, b, negate=True))) == {
        "bool": {"filter": [{"match_all": {}}], "must_not": [{"bool": {"filter": [term_a, term_b]}}]}
    }


def test_queries_stay_in_filter_context() -> None:
    query = to_elasticsearch(compiled(*SOME, group("any", *SOME)))
    assert set(query) == {"bool"}
    assert set(query["bool"]) <= {"filter", "must_not"}
    for clause in _bools(query):
        assert "must" not in clause
        assert "should" not in clause or clause.get("minimum_should_match") == 1


def _bools(query: Any) -> list[dict[str, Any]]:
    if isinstance(query, list):
        return [found for one in query for found in _bools(one)]
    if not isinstance(query, dict):
        return []
    here = [query["bool"]] if "bool" in query else []
    return here + [found for one in query.values() for found in _bools(one)]


def test_the_chain_is_outside_what_a_caller_wrote() -> None:
    wish = compiled(rule("category", "keyword", "is", "x"), rule("category", "keyword", "is", "y"), join="any")
    tree = all_of(equals(MAPPED, "chain_id", 1764), wish)
    chain, rest = to_elasticsearch(tree)["bool"]["filter"]
    assert chain == {"term": {"chain_id": {"value": 1764}}}
    assert set(rest["bool"]) == {"should", "minimum_should_match"}
    sql, parameters = to_sql(all_of(equals(TABLED, "chain_id", 1764), _wish_in_table()))
    assert sql.startswith('(("chain_id" IS NOT NULL AND "chain_id" = CAST(? AS BIGINT)) AND (')
    assert parameters == [1764, "x", "y"]


def _wish_in_table() -> Any:
    one, two = rule("category", "keyword", "is", "x"), rule("category", "keyword", "is", "y")
    return compiled(one, two, join="any", catalog=TABLED)


def test_nothing_is_asked_that_elasticsearch_answers_with_an_error() -> None:
    too_long = "ж" * 16_384  # 32,768 bytes; the longest term has 32,766
    nothing = {"bool": {"filter": [{"match_none": {}}]}}
    assert to_elasticsearch(compiled(rule("category", "keyword", "is", too_long))) == nothing
    found = to_elasticsearch(compiled(rule("category", "keyword", "is_any_of", [too_long, "x"])))
    assert found == {"bool": {"filter": [{"term": {"category": {"value": "x"}}}]}}
    assert to_elasticsearch(compiled(rule("stock", "number", "is", 2**31))) == nothing
    assert to_elasticsearch(compiled(rule("created", "date", "is_after_date", start_date="9999-12-31"))) == nothing


def test_dates_of_nanoseconds_keep_to_their_years() -> None:
    catalog = Catalog.from_mapping({"t": {"type": "date_nanos"}})

    def query(operator: str, **operands: object) -> Any:
        tree = compiled(rule("t", "date", operator, **operands), catalog=catalog)
        return to_elasticsearch(tree)["bool"]["filter"][0]

    assert query("is_before_date", end_date="1960-01-01") == {"match_none": {}}
    assert query("is_after_date", start_date="1960-01-01") == {"exists": {"field": "t"}}
    assert query("is_after_date", start_date="2300-01-01") == {"match_none": {}}
    assert query("is_before_date", end_date="2300-01-01") == {"exists": {"field": "t"}}
    last = "2262-04-11T23:47:16.854Z"  # the last millisecond there is, though not to its end
    found = query("is_between_date", start_date=last, end_date=last)
    assert found == {"range": {"t": {"gte": last, "format": "strict_date_optional_time"}}}


def test_substrings_share_patterns_within_the_length_of_one() -> None:
    needles = tuple("abcdefgh" * 8 for _ in range(5))
    assert [len(pack) for pack in packs(needles)] == [2, 2, 1]
    widest = "θ" * 128  # each has four alike characters
    query = json.dumps(to_elasticsearch(compiled(rule("category", "keyword", "contains", widest))), ensure_ascii=False)
    assert len(query) < 1000


def test_too_many_conditions_are_refused_before_they_are_sent() -> None:
    many = [rule("category", "keyword", "contains", [f"{n}" * 100 for n in range(10)]) for _ in range(101)]
    assert faults(segment(*many[:100])) == []
    assert MAX_CLAUSES == 100 * 10
    assert faults(segment(*many)) == [("/rules", "too_many")]


def test_a_tree_of_a_mapping_has_no_sql() -> None:
    tree = compile_segment(segment(rule("category", "keyword", "is", "x")), MAPPED, now=NOW, zone=AMSTERDAM)
    with pytest.raises(TypeError, match="mapping"):
        to_sql(tree)
