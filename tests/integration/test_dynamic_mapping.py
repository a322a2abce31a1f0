"""An index that nobody mapped: what Elasticsearch makes of JSON by itself, and when that answers exactly.

Strings become text with a keyword sub-field of at most 256 characters. Everything is answered as long as no value of
the chain is longer; then what would need the long value is refused, and the rest is answered.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from segments import OPERATORS, evaluate, operators_for
from tasks_service.config import ElasticsearchSettings, IndexSettings
from tasks_service.errors import SourceError
from tasks_service.sources.elasticsearch import ElasticsearchSource
from tests.integration.mapped_indices import CHAIN, Cluster, cluster_at, compiled, rule

NESTED = {"properties": {"lines": {"type": "nested"}}}  # the one thing that JSON cannot say
OTHER_CHAIN = 2
LIMIT = 256
DOCUMENTS: list[dict[str, Any]] = [
    {"name": "Straße", "price": 0.1, "stock": 5, "made": "2026-03-29", "new": True, "lines": [{"sku": "a", "n": 1}]},
    {"name": ["a", "B"], "price": 1.5, "stock": -5, "made": "2026-03-29T10:00:00Z", "new": False, "lines": []},
    {"name": "x" * LIMIT, "tags": ["red", ""], "lines": [{"sku": "ab", "n": 2}, {"sku": "b", "n": 1}]},
    {"name": "😀" * (LIMIT // 2), "tags": None, "shop": {"city": "Łódź"}},
    {"name": "", "shop": {"city": "ŁÓDŹ"}, "lines": [{"sku": None}]},
    {"name": None, "stock": [1, 10**15]},
    {},
]
# Everything that asks for the value of a name, however it is put, and what does not.
ASKING = [
    rule("name", "text", "contains", "x"),
    rule("name", "text", "does_not_contain", ["x", "nothing"]),
    rule("name", "text", "starts_with", "x"),
    rule("name.keyword", "keyword", "ends_with", "x"),
    rule("name", "text", "is", "y" * (LIMIT + 1)),
    rule("name", "keyword", "is_any_of", ["a", "y" * (LIMIT + 1)]),
]
NOT_ASKING = [
    rule("name", "text", "is", "a"),
    rule("name", "text", "is_not", "a"),
    rule("name", "text", "is", "x" * LIMIT),
    rule("name", "keyword", "is_none_of", ["a", "B", ""]),
    rule("name", "text", "is_set"),
    rule("name.keyword", "keyword", "is_set"),
    rule("name", "text", "is_not_set"),
    rule("shop.city", "text", "contains", "łódź"),
    rule("tags", "text", "does_not_contain", "e"),
    rule("price", "number", "is", 0.1),
    rule("stock", "number", "is_between_number", min=2, max=6),
    rule("made", "date", "is_date", "2026-03-29"),
    rule("new", "boolean", "is_true"),
]


@pytest.fixture(scope="module", params=["elasticsearch_url", "elasticsearch9_url"], ids=["8", "9"])
def cluster(request: pytest.FixtureRequest) -> Iterator[Cluster]:
    with cluster_at(request.getfixturevalue(request.param)) as made:
        yield made


@pytest.fixture(scope="module")
def short(cluster: Cluster) -> IndexSettings:
    return cluster.make("short", DOCUMENTS, mappings=NESTED)


def in_line(asked: dict[str, Any]) -> dict[str, Any]:
    return {**asked, "nested": True, "nesting_path": "lines"}


def test_dynamic_mapping_is_what_it_is_said_to_be(cluster: Cluster, short: IndexSettings) -> None:
    catalog = cluster.source.catalog(short)
    name = catalog.by_name["name"]
    assert (name.type, name.exact, name.ignore_above) == ("text", "name.keyword", LIMIT)
    assert {one: catalog.by_name[one].storage for one in ("price", "stock", "made", "new")} == {
        "price": "float",
        "stock": "long",
        "made": "date",
        "new": "boolean",
    }
    every = {row.name for row in OPERATORS.values() if "text" in row.types or "keyword" in row.types}
    assert set(operators_for(name)) == every


@pytest.mark.parametrize(
    "asked", [*ASKING, *NOT_ASKING], ids=lambda asked: f"{asked['field_name']} {asked['operator']}"
)
def test_short_values_are_answered_exactly(cluster: Cluster, short: IndexSettings, asked: dict[str, Any]) -> None:
    cluster.exact(short, asked, DOCUMENTS)


def test_so_are_nested_documents(cluster: Cluster, short: IndexSettings) -> None:
    assert cluster.exact(short, in_line(rule("lines.sku", "text", "contains", "A")), DOCUMENTS) == 2
    assert cluster.exact(short, in_line(rule("lines.sku", "text", "does_not_contain", "a")), DOCUMENTS) == 5
    assert cluster.exact(short, in_line(rule("lines.sku.keyword", "keyword", "is_set")), DOCUMENTS) == 2
    both = [in_line(rule("lines.sku", "text", "starts_with", "a")), in_line(rule("lines.n", "number", "is", 1))]
    assert cluster.exact(short, {"join": "all", "rules": both}, DOCUMENTS) == 1


LONG = [{"name": "x" * (LIMIT + 1)}, {"name": "😀" * (LIMIT // 2) + "x"}, {"name": ["a", "語" * 5000]}]


@pytest.mark.parametrize("long", LONG, ids=["latin", "surrogates", "in an array"])
def test_one_long_value_refuses_what_would_need_it_and_nothing_else(cluster: Cluster, long: dict[str, Any]) -> None:
    documents = [*DOCUMENTS, long]
    name = f"long-{LONG.index(long)}"
    index = cluster.make(name, documents, mappings=NESTED)
    for asked in ASKING:
        with pytest.raises(SourceError) as refused:
            cluster.exact(index, asked, documents)
        assert str(refused.value.detail).startswith("1 documents hold values that Elasticsearch did not index")
        assert f"name.keyword leaves out values of more than {LIMIT} characters" in refused.value.detail
        assert "map it as keyword without ignore_above" in refused.value.detail
    for asked in NOT_ASKING:
        cluster.exact(index, asked, documents)


def test_a_long_value_of_another_chain_refuses_nothing(cluster: Cluster) -> None:
    index = cluster.make("chains", [*DOCUMENTS, {**LONG[0], "chain_id": OTHER_CHAIN}], mappings=NESTED)
    for asked in [*ASKING, *NOT_ASKING]:
        cluster.exact(index, asked, DOCUMENTS)
    tree = compiled(ASKING[0], cluster.source.catalog(index))
    with pytest.raises(SourceError, match="1 documents"):
        cluster.source.sample(index, tree, chain=OTHER_CHAIN, rows=1)


def test_a_long_value_of_a_nested_document_refuses_what_would_need_it(cluster: Cluster) -> None:
    documents = [*DOCUMENTS, {"lines": [{"sku": "a", "n": 1}, {"sku": "x" * (LIMIT + 1), "n": 3}]}]
    index = cluster.make("lines", documents, mappings=NESTED)
    needing = [
        rule("lines.sku", "text", "contains", "a"),
        rule("lines.sku", "text", "does_not_contain", "a"),
        # Which child it is that left its value out is not known: only the sub-field itself has this doubt.
        rule("lines.sku.keyword", "keyword", "is_set"),
        rule("lines.sku.keyword", "keyword", "is_not_set"),
    ]
    for asked in needing:
        with pytest.raises(SourceError, match=r"lines\.sku\.keyword leaves out values of more than 256"):
            cluster.exact(index, in_line(asked), documents)
    for asked in (
        rule("lines.sku", "text", "is", "a"),
        rule("lines.sku", "text", "is_not", "a"),
        rule("lines.sku", "text", "is_set"),
        rule("lines.n", "number", "is", 3),
    ):
        cluster.exact(index, in_line(asked), documents)


def test_it_is_the_same_point_in_time_that_is_counted_and_read(cluster: Cluster) -> None:
    index = cluster.make("moment", DOCUMENTS, mappings=NESTED)
    tree = compiled(ASKING[0], cluster.source.catalog(index))
    with cluster.source.open(index, tree, chain=CHAIN, limit=None) as snapshot:
        cluster.add("moment", [{"name": "x" * (LIMIT + 1)}])
        read = [one for pages in snapshot.partitions(1) for page in pages for one in page]
        assert len(read) == snapshot.total == sum(evaluate(tree, one) for one in DOCUMENTS)
    with (
        pytest.raises(SourceError, match="1 documents"),
        cluster.source.open(index, tree, chain=CHAIN, limit=None),
    ):
        pytest.fail("the long value was not seen")


def test_a_number_field_takes_its_type_from_its_first_value(cluster: Cluster) -> None:
    """The one trap of dynamic mapping that is no refusal: a price that is first whole is kept whole for ever."""
    documents = [{"price": 5}, {"price": 5.7}]
    index = cluster.make("first", documents[:1])
    cluster.add("first", documents[1:])
    assert cluster.source.catalog(index).by_name["price"].storage == "long"
    assert cluster.exact(index, rule("price", "number", "is", 5), documents) == 2


# -- aliases and patterns ------------------------------------------------------------------------------------------


KEYWORD = {"type": "keyword"}


def joined(cluster: Cluster, name: str, one: dict[str, Any], two: dict[str, Any]) -> list[IndexSettings]:
    """The same two indices behind an alias and behind a pattern."""
    chain = {"chain_id": {"type": "long"}}
    for part, properties in (("1", one), ("2", two)):
        body = {"mappings": {"properties": {**chain, **properties}}, "aliases": {f"{cluster.prefix}{name}": {}}}
        cluster.make(f"{name}-{part}", **body)
    return [cluster.named(name), cluster.named(f"{name}-*")]


def test_indices_that_agree_are_one(cluster: Cluster) -> None:
    for index in joined(cluster, "agree", {"f": KEYWORD}, {"f": KEYWORD, "only": {"type": "long"}}):
        documents = [{"f": "a"}, {"f": "b"}, {"only": 5}]
        if index.source.endswith("*"):
            cluster.exact(index, rule("only", "number", "is_not", 5), documents)
            assert cluster.exact(index, rule("f", "keyword", "is", "a"), documents) == 1
            continue
        cluster.add("agree-1", documents[:1])
        cluster.add("agree-2", documents[1:])


@pytest.mark.parametrize(
    ("one", "two", "reason"),
    [
        (KEYWORD, {"type": "text"}, "keyword in one, text in another"),
        ({"type": "long"}, {"type": "double"}, "long in one, double in another"),
        ({"type": "long"}, KEYWORD, "long in one, keyword in another"),
        (KEYWORD, {**KEYWORD, "normalizer": "lowercase"}, "other parameters"),
        (KEYWORD, {**KEYWORD, "null_value": "a"}, "null_value|other parameters"),
        (KEYWORD, {"properties": {"member": KEYWORD}}, "has members in one"),
    ],
)
def test_indices_that_disagree_are_refused_with_the_reason(
    cluster: Cluster, one: dict[str, Any], two: dict[str, Any], reason: str
) -> None:
    name = f"disagree-{abs(hash(repr((one, two))))}"
    for index in joined(cluster, name, {"f": one, "same": KEYWORD}, {"f": two, "same": KEYWORD}):
        catalog = cluster.source.catalog(index)
        refusal = catalog.by_name["f"].refusal
        assert any(part in refusal for part in reason.split("|")), refusal
        assert operators_for(catalog.by_name["f"]) == []
        cluster.exact(index, rule("same", "keyword", "is_not", "a"), [])


def test_nested_in_one_and_plain_in_another_is_refused(cluster: Cluster) -> None:
    inner = {"properties": {"sku": KEYWORD}}
    for index in joined(cluster, "nested", {"lines": {"type": "nested", **inner}}, {"lines": inner}):
        assert "disagree" in cluster.source.catalog(index).by_name["lines.sku"].refusal


def test_a_pattern_that_fits_no_index_is_an_error_and_never_no_rows(cluster: Cluster) -> None:
    with pytest.raises(SourceError, match="no such index"):
        cluster.source.catalog(cluster.named("nothing-of-the-kind-*"))


# -- a mapping that changes ----------------------------------------------------------------------------------------


def test_a_new_field_is_seen_when_the_catalogue_is_no_longer_believed(cluster: Cluster) -> None:
    now = [0.0]
    index = cluster.make("changing", [{"f": "a"}])
    source = ElasticsearchSource(ElasticsearchSettings(urls=[cluster.url]), 30, clock=lambda: now[0])
    try:
        before = source.catalog(index)
        cluster.add("changing", [{"g": 5}])
        now[0] = 29.0
        assert source.catalog(index) is before
        assert before.get("g") is None
        now[0] = 30.0
        assert source.catalog(index).by_name["g"].storage == "long"
    finally:
        source.close()
