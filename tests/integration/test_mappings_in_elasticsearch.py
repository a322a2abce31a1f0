"""What a mapping can answer, asked of a real Elasticsearch: every answer is exact, or refused with the reason.

Documents and mappings are chosen where the index differs from the document. What the compiled query selects is compared
with what the segment means; where a rule is refused, the reason is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from segments import OPERATORS, Catalog, SegmentError, evaluate, operators_for
from tasks_service.errors import SourceError
from tests.integration.mapped_indices import CHAIN, Cluster, cluster_at, compiled, rule, texts


@pytest.fixture(scope="module", params=["elasticsearch_url", "elasticsearch9_url"], ids=["8", "9"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with cluster_at(request.getfixturevalue(request.param)) as made:
        yield made


OPERANDS: dict[str, list[Any]] = {
    "words": ["a", "A", "Straße", ["x", "ong"], "語"],
    "number": [5, 5.7, 0, -1, 2**53 + 1],
    "date": ["2026-03-29", "2026-03-29T10:00:00Z"],
    "factor": ["day", "month"],
    "amount": [0, 2],
}
SCALARS: dict[str, list[Any]] = {
    "number": [5, 5.7, 0, 2**53 + 1],
    "boolean": [True, False],
    "keyword": ["a", "", "NULL", "5", "abc", "Straße"],
}


def every_rule(name: str, kind: str, nested: str | None, operators: list[str]) -> Iterator[dict[str, Any]]:
    """Rules for each of these operators: every operand its turn."""
    place = {} if nested is None else {"nested": True, "nesting_path": nested}
    for operator in (OPERATORS[one] for one in operators if kind in OPERATORS[one].types):
        pool = SCALARS.get(kind, SCALARS["keyword"])
        for turn in range(5 if operator.operands else 1):
            operands: dict[str, Any] = {}
            for operand in operator.operands:
                values = OPERANDS.get(operand.kind, pool)
                operands[operand.member] = values[turn % len(values)]
                if operand.kind == "list":
                    operands[operand.member] = pool[turn % 2 :: 2]
            if "max" in operands:
                operands |= {"min": -3, "max": turn * 3}
            yield {**rule(name, kind, operator.name), **operands, **place}


STRINGS = [{}, {"f": None}, {"f": ""}, {"f": "a"}, {"f": ["A", "abc"]}, {"f": "Straße"}, {"f": 5}, {"f": True}]
STRINGS += [{"f": "NULL"}, {"f": [None]}, {"f": []}, {"f": "語 long"}, {"f": "x" * 300}]
SHORT = STRINGS[:-1]
NUMBERS = [{}, {"f": None}, {"f": 5}, {"f": 5.7}, {"f": "5"}, {"f": [0, -1]}, {"f": -3}, {"f": "5.7"}, {"f": 0.1}]
DATES = [{}, {"f": None}, {"f": "2026-03-29"}, {"f": "2026-03-29T10:00:00+02:00"}, {"f": 1774778400000}]
DATES += [{"f": ["2026-03-30T23:59:59.999Z", "1969-12-31"]}, {"f": "2026"}, {"f": "2026-03-29T10:00:00.123456789Z"}]
FLAGS = [{}, {"f": None}, {"f": True}, {"f": "false"}, {"f": ""}, {"f": [False, True]}]
KEYWORD = {"type": "keyword"}
DYNAMIC = {"type": "text", "fields": {"keyword": {**KEYWORD, "ignore_above": 256}}}
TEXT = {"type": "text", "fields": {"keyword": KEYWORD}}

# What is asked of each mapping: every operator the catalogue offers, on the field and on its sub-fields.
EXACT: dict[str, tuple[dict[str, Any], list[dict[str, Any]]]] = {
    "keyword": (KEYWORD, STRINGS),
    "keyword without doc values": ({**KEYWORD, "doc_values": False}, STRINGS),
    "keyword stored apart": ({**KEYWORD, "store": True, "eager_global_ordinals": True}, STRINGS),
    "keyword with a limit nothing reaches": ({**KEYWORD, "ignore_above": 300}, STRINGS),
    "keyword with text": ({**KEYWORD, "fields": {"words": {"type": "text"}}}, STRINGS),
    "keyword with a normalised one": ({**KEYWORD, "fields": {"low": {**KEYWORD, "normalizer": "lowercase"}}}, STRINGS),
    "normalised with a plain one": ({**KEYWORD, "normalizer": "lowercase", "fields": {"plain": KEYWORD}}, STRINGS),
    "text with keyword": (TEXT, STRINGS),
    "text as dynamic mapping makes it": (DYNAMIC, SHORT),
    "text with two limits": ({"type": "text", "fields": {"a": {**KEYWORD, "ignore_above": 3}, "b": KEYWORD}}, STRINGS),
    "text without norms": ({**TEXT, "norms": False, "index_options": "docs"}, STRINGS),
    "text alone": ({"type": "text"}, STRINGS),
    "text alone without norms": ({"type": "text", "norms": False}, STRINGS),
    "long": ({"type": "long"}, NUMBERS),
    "long without doc values": ({"type": "long", "doc_values": False}, NUMBERS),
    "long with keyword": ({"type": "long", "fields": {"keyword": KEYWORD}}, NUMBERS[:3]),
    "short": ({"type": "short"}, NUMBERS),
    "float": ({"type": "float"}, NUMBERS),
    "half_float": ({"type": "half_float"}, NUMBERS),
    "double without doc values": ({"type": "double", "doc_values": False}, NUMBERS),
    "number that ignores what is malformed": ({"type": "long", "ignore_malformed": True}, NUMBERS),
    "date": ({"type": "date"}, DATES),
    "date without doc values": ({"type": "date", "doc_values": False}, DATES),
    "date_nanos": ({"type": "date_nanos"}, [one for one in DATES if "1969" not in str(one)]),
    "boolean": ({"type": "boolean"}, FLAGS),
    "boolean without doc values": ({"type": "boolean", "doc_values": False}, FLAGS),
}


@pytest.mark.parametrize("name", EXACT)
def test_every_operator_a_mapping_offers_is_exact(cluster: Cluster, name: str) -> None:
    spec, documents = EXACT[name]
    index = cluster.mapped({"f": spec}, documents)
    catalog = cluster.source.catalog(index)
    rules = [
        one
        for field in catalog.fields
        for kind in field.types
        if field.name.startswith("f") and field.ignore_above != 3
        for one in every_rule(field.name, kind, None, operators_for(field))
    ]
    trees = [compiled(one, catalog) for one in rules]
    found = cluster.select(index, trees)
    asked = zip(rules, trees, found, strict=True)
    for one, tree, selected in asked:
        meant = [{"chain_id": CHAIN, **document} for document in documents if evaluate(tree, document)]
        assert texts(selected) == texts(meant), one
    assert any(found), "nothing is ever found"


FORMATS: dict[str, list[Any]] = {
    "yyyy/MM/dd HH:mm:ss||yyyy/MM/dd||epoch_millis": [
        "2026/03/29 10:00:00",
        "2026/03/29",
        1774778400000,
        "1774951199999",
    ],
    "epoch_second": [1774778400, "1774778400", 0],
    "epoch_millis": [2026, 1774778400000],
    "epoch_second||strict_date_optional_time": [2026, "2026-03-29"],
    "dd-MM-yyyy": ["29-03-2026", "30-03-2026"],
    "d.M.yyyy H:mm": ["29.3.2026 9:05", "30.12.2026 23:59"],
    "yyyy-MM-dd HH:mm:ss.SSS": ["2026-03-29 10:00:00.001", "2026-03-28 23:59:59.999"],
    "yyyy-MM-dd'T'HH:mm:ssX": ["2026-03-29T01:00:00+02", "2026-03-29T10:00:00Z"],
    "yyyyMMddHHmmss": ["20260329100000"],
    "basic_date": ["20260329", "20260330"],
    "basic_date_time_no_millis": ["20260329T100000Z", "20260329T010000+0200"],
    "strict_date": ["2026-03-29"],
    "date_hour_minute": ["2026-03-29T10:00"],
    "date_time": ["2026-03-29T10:00:00.123+02:00"],
    "year_month": ["2026-03", "2026-04"],
    "iso8601": ["2026-03-29T10:00:00Z", "2026-03-29"],
    "strict_date_optional_time_nanos": ["2026-03-29T10:00:00.123456789Z", "2026"],
}


@pytest.mark.parametrize("form", FORMATS)
def test_dates_of_any_format_are_exact(cluster: Cluster, form: str) -> None:
    documents: list[dict[str, Any]] = [{"f": one} for one in FORMATS[form]]
    documents += [{"f": FORMATS[form]}, {}, {"f": None}]
    index = cluster.mapped({"f": {"type": "date", "format": form}}, documents)
    catalog = cluster.source.catalog(index)
    rules = list(every_rule("f", "date", None, operators_for(catalog.by_name["f"])))
    trees = [compiled(one, catalog) for one in rules]
    for one, tree, selected in zip(rules, trees, cluster.select(index, trees), strict=True):
        meant = [{"chain_id": CHAIN, **document} for document in documents if evaluate(tree, document)]
        assert texts(selected) == texts(meant), one


def test_dates_of_a_format_that_only_elasticsearch_reads_are_exact_too(cluster: Cluster) -> None:
    held = ["Sun Mar 29 10:00:00 +0200 2026", "Mon Mar 30 10:00:00 +0000 2026"]
    spec = {"type": "date", "format": "EEE MMM dd HH:mm:ss Z yyyy"}
    index = cluster.mapped({"f": spec}, [{"f": one} for one in held])
    tree = compiled(rule("f", "date", "is_date", "2026-03-29"), cluster.source.catalog(index))
    assert [one["f"] for one in cluster.select(index, [tree])[0]] == held[:1]


# -- what is refused, and why ---------------------------------------------------------------------------------------

REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "scaled": ({"type": "scaled_float", "scaling_factor": 100}, "number", "map it as double"),
    "flattened": ({"type": "flattened"}, "keyword", "type flattened"),
    "ip": ({"type": "ip"}, "keyword", "type ip"),
    "not indexed": ({**KEYWORD, "index": False}, "keyword", "index: false"),
    "a number not indexed": ({"type": "long", "index": False}, "number", "index: false"),
    "neither indexed nor in doc values": (
        {"type": "date", "index": False, "doc_values": False},
        "date",
        "index: false",
    ),
    "null_value": ({**KEYWORD, "null_value": "NULL"}, "keyword", "null_value"),
    "a number's null_value": ({"type": "long", "null_value": 0}, "number", "null_value"),
    "object that is not indexed": ({"type": "object", "enabled": False}, "keyword", "map its members"),
    "normalizer": ({**KEYWORD, "normalizer": "lowercase"}, "keyword", "normalizer"),
    "text alone": ({"type": "text"}, "text", "keyword sub-field"),
    "text with a keyword of null_value": (
        {"type": "text", "fields": {"k": {**KEYWORD, "null_value": "NULL"}}},
        "text",
        "f.k cannot: its mapping says null_value",
    ),
    "text with a keyword not indexed": (
        {"type": "text", "fields": {"k": {**KEYWORD, "index": False, "doc_values": False}}},
        "text",
        "f.k cannot: its mapping says index",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_a_mapping_cannot_answer_is_refused_with_the_reason(cluster: Cluster, name: str) -> None:
    spec, kind, reason = REFUSED[name]
    if spec["type"] == "scaled_float":
        catalog = Catalog.from_mapping({"f": spec}, doubts_counted=True)  # a type this server has no module for
    else:
        catalog = cluster.source.catalog(cluster.mapped({"f": spec}, []))
    value: Any = {"keyword": "a", "text": "a", "number": 5, "date": "2026-03-29"}[kind]
    operator = "is_date" if kind == "date" else "is"
    with pytest.raises(SegmentError) as refused:
        compiled(rule("f", kind, operator, value), catalog)
    assert reason in str(refused.value)


def test_a_sub_field_of_another_type_answers_for_itself(cluster: Cluster) -> None:
    documents = [{"f": "5"}, {"f": "abc"}, {"f": "70"}, {}]
    properties = {"f": {**TEXT, "fields": {"n": {"type": "long", "ignore_malformed": True}, "keyword": KEYWORD}}}
    index = cluster.mapped(properties, documents)
    with pytest.raises(SourceError, match=r"1 documents hold values.*f\.n leaves out malformed values"):
        cluster.exact(index, rule("f", "number", "is_greater_than", 6), documents)
    some = [one for one in documents if one != {"f": "abc"}]
    index = cluster.mapped(properties, some)
    assert cluster.exact(index, rule("f", "number", "is_greater_than", 6), some) == 1
    assert cluster.exact(index, rule("f", "text", "contains", "7"), some) == 1
    numbers = cluster.mapped({"f": {"type": "long", "fields": {"digits": KEYWORD}}}, [{"f": 5}, {"f": 57}])
    assert cluster.exact(numbers, rule("f", "keyword", "starts_with", "5"), [{"f": 5}, {"f": 57}]) == 2


def test_targets_of_copy_to_are_refused_and_their_sources_are_not(cluster: Cluster) -> None:
    documents = [{"f": "a"}, {"all": "a"}]
    index = cluster.mapped({"f": {**KEYWORD, "copy_to": "all"}, "all": KEYWORD}, documents)
    assert cluster.exact(index, rule("f", "keyword", "is", "a"), documents) == 1
    with pytest.raises(SegmentError, match="copy_to"):
        cluster.exact(index, rule("all", "keyword", "is", "a"), documents)


def test_an_alias_field_is_its_target(cluster: Cluster) -> None:
    documents = [{"f": "a"}, {"f": None}, {}]
    index = cluster.mapped({"f": KEYWORD, "other": {"type": "alias", "path": "f"}}, documents)
    assert cluster.exact(index, rule("other", "keyword", "is_not", "a"), documents) == 2


def test_runtime_fields_are_refused_also_where_they_hide_a_mapped_field(cluster: Cluster) -> None:
    documents = [{"price": 5, "a.b": "x", "f": 1}]
    runtime = {"price": {"type": "keyword"}, "a.b": {"type": "keyword"}}
    properties = {"price": {"type": "long"}, "f": {"type": "long"}}
    index = cluster.mapped(properties, documents, mappings={"runtime": runtime, "dynamic": "runtime"})
    for name, kind in (("price", "number"), ("a.b", "keyword")):
        with pytest.raises(SegmentError, match="runtime field"):
            cluster.exact(index, rule(name, kind, "is_set"), documents)
    assert cluster.exact(index, rule("f", "number", "is", 1), documents) == 1


# -- what the settings of an index say ------------------------------------------------------------------------------


def test_a_limit_in_the_settings_counts_like_one_in_the_mapping(cluster: Cluster) -> None:
    documents = [{"f": "abc"}, {"f": "abcdef"}]
    index = cluster.mapped({"f": KEYWORD}, documents, settings={"index.mapping.ignore_above": 5})
    with pytest.raises(SourceError, match="f leaves out values of more than 5 characters"):
        cluster.exact(index, rule("f", "keyword", "contains", "b"), documents)
    assert cluster.exact(index, rule("f", "keyword", "is", "abc"), documents) == 1
    assert cluster.exact(index, rule("f", "keyword", "is_set"), documents) == 2


def test_malformed_values_by_the_settings_count_like_those_by_the_mapping(cluster: Cluster) -> None:
    documents = [{"n": 5}, {"n": "five"}, {"k": "a"}]
    settings = {"index.mapping.ignore_malformed": True}
    index = cluster.mapped({"n": {"type": "long"}, "k": KEYWORD}, documents, settings=settings)
    with pytest.raises(SourceError, match="n leaves out malformed values"):
        cluster.exact(index, rule("n", "number", "is_not", 5), documents)
    assert cluster.exact(index, rule("k", "keyword", "is_not", "a"), documents) == 2


def test_an_index_for_logs_rebuilds_its_documents_and_is_refused(cluster: Cluster) -> None:
    index = cluster.mapped({"f": KEYWORD}, [], settings={"index.mode": "logsdb"})
    with pytest.raises(SourceError, match="_source"):
        cluster.source.catalog(index)
