"""Nothing a caller writes becomes more than a value: not in a query, not in SQL, not in a pattern."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from segments import Catalog, evaluate, to_elasticsearch, to_sql
from tests.unit.segments.shop import TABLED, compiled, faults, item, rule, segment

OBJECTS: list[Any] = [
    {"value": "x", "boost": 2},
    {"index": "users", "id": "1", "path": "secrets"},
    {"script": {"source": "1"}},
    {"query": "*", "default_field": "*"},
    {"$ne": None},
    [["x"]],
    [{"value": "x"}],
]
HOSTILE = [
    "' OR 1=1 --",
    '" OR 1=1 --',
    "'; DROP TABLE shop; --",
    "$1",
    "?",
    "*",
    ".*",
    "a|b",
    "(?i)x",
    "[^a]",
    "\\",
    "\\E.*\\Q",
    "x{1,1000}",
    "~(a)",
    "<1-100>",
    "@",
    "#",
    "&",
    '"a"',
    "\0",
    "\n",
    "now-1d/d",
    "${x}",
    "{{x}}",
    "%",
    "_",
]


@pytest.fixture(scope="module")
def shop() -> Iterator[duckdb.DuckDBPyConnection]:
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE shop (category VARCHAR, line_items STRUCT(sku VARCHAR)[])")
        yield connection


@pytest.mark.parametrize("value", OBJECTS, ids=str)
@pytest.mark.parametrize(
    ("name", "kind", "operator"),
    [
        ("category", "keyword", "is"),
        ("category", "keyword", "is_any_of"),
        ("category", "keyword", "contains"),
        ("price", "number", "is"),
        ("price", "number", "is_any_of"),
        ("price", "number", "is_greater_than"),
        ("active", "boolean", "is"),
        ("created", "date", "is_date"),
    ],
)
def test_objects_and_nested_lists_are_no_operands(value: object, name: str, kind: str, operator: str) -> None:
    assert {code for _, code in faults(segment(rule(name, kind, operator, value)))} == {"wrong_type"}


@pytest.mark.parametrize(
    "name",
    ["_id", "_source", "_ignored", "*", "cat*", "category^5", "category\\", "chain_id OR 1", '"category"', "doc['x']"],
)
def test_field_names_are_those_of_the_catalogue_only(name: str) -> None:
    assert faults(segment(rule(name, "keyword", "is", "x"))) == [("/rules/0/field_name", "unknown_field")]


@pytest.mark.parametrize("text", HOSTILE)
@pytest.mark.parametrize("operator", ["is", "is_any_of", "contains", "starts_with", "ends_with"])
def test_hostile_text_is_only_ever_itself(shop: duckdb.DuckDBPyConnection, text: str, operator: str) -> None:
    value = [text] if operator == "is_any_of" else text
    tree = compiled(
        rule("category", "keyword", operator, value),
        item("sku", "keyword", operator, value),
        join="any",
        catalog=TABLED,
    )
    sql, parameters = to_sql(tree)
    assert text not in {"?", "_", '"a"'} or len(parameters) == 2
    assert text in {"?", "_", "%", "*", "$1", "#", "@", "&", "\n", "\\"} or text not in sql
    documents = [text, "x", "", "a", "b", "users", text.upper() + "!", "!" + text]
    shop.execute("DELETE FROM shop")
    shop.executemany("INSERT INTO shop VALUES (?, NULL)", [[word] for word in documents])
    found = shop.execute(f"SELECT category FROM shop WHERE {sql}", parameters).fetchall()  # noqa: S608
    assert sorted(word for (word,) in found) == sorted(word for word in documents if evaluate(tree, {"category": word}))
    query = json.dumps(to_elasticsearch(tree))
    for word in ("script", "query_string", "wildcard", "fuzzy", "match_phrase", "runtime"):
        assert word not in query


def test_identifiers_are_quoted() -> None:
    columns = [('a" OR TRUE --', "VARCHAR"), ("s", 'STRUCT("it\'s" VARCHAR, "x""y" VARCHAR[])')]
    catalog = Catalog.from_columns(columns)
    names = [field.name for field in catalog.fields]
    tree = compiled(*[rule(name, "keyword", "is", "v") for name in names], catalog=catalog)
    sql, parameters = to_sql(tree)
    with duckdb.connect() as connection:
        connection.execute('CREATE TABLE t ("a"" OR TRUE --" VARCHAR, s STRUCT("it\'s" VARCHAR, "x""y" VARCHAR[]))')
        connection.execute("INSERT INTO t VALUES ('v', {'it''s': 'v', 'x\"y': ['v']}), ('w', NULL)")
        found = connection.execute(f"SELECT count(*) FROM t WHERE {sql}", parameters).fetchone()  # noqa: S608
    assert found == (1,)
