"""Groups about another index: what is read, refused and compiled; what they select is in tests/contract."""

from __future__ import annotations

from typing import Any

import pytest

from segments import (
    Catalog,
    Linked,
    SegmentError,
    Tree,
    compile_segment,
    doubtful,
    evaluate,
    linked,
    read_segment,
    to_elasticsearch,
    to_sql,
    with_keys,
)
from segments.rules import Segment
from tests.unit.segments.shop import AMSTERDAM, COLUMNS, NOW, PROPERTIES, group, rule, segment

HERE: dict[str, Any] = {
    **PROPERTIES,
    "owner": {"type": "long"},
    "rating": {"type": "double"},
    "weight": {"type": "float"},
    "short": {"type": "keyword", "ignore_above": 5},
    "hidden": {"type": "keyword", "index": False},
}
THERE: dict[str, Any] = {
    "id": {"type": "long"},
    "chain_id": {"type": "long"},
    "city": {"type": "keyword"},
    "email": {"type": "text", "fields": {"exact": {"type": "keyword"}}},
    "words": {"type": "text"},
    "since": {"type": "date"},
    "unread": {"type": "long", "doc_values": False},
    "cards": {"type": "nested", "properties": {"number": {"type": "long"}}},
}
PRODUCTS = Catalog.from_mapping(HERE, doubts_counted=True)
OTHERS = {
    "users": Catalog.from_mapping(THERE, doubts_counted=True),
    "cities": Catalog.from_mapping({"name": {"type": "keyword"}, "size": {"type": "long"}}),
}
TABLES = Catalog.from_columns([*COLUMNS, ("owner", "BIGINT"), ("rating", "DOUBLE"), ("labels", "VARCHAR[]")])
OTHER_TABLES = {"users": Catalog.from_columns([("id", "BIGINT"), ("city", "VARCHAR"), ("tags", "VARCHAR[]")])}
DELFT = rule("city", "keyword", "is", "Delft")


def about(*rules: object, **members: object) -> dict[str, Any]:
    return {"index": "users", "link": "owner", **group("all", *rules), **members}


def compiled(*rules: object, catalog: Catalog = PRODUCTS, others: dict[str, Catalog] | None = None) -> Tree:
    return compile_segment(segment(*rules), catalog, others or OTHERS, now=NOW, zone=AMSTERDAM)


def faults(*rules: object) -> list[tuple[str, str, str]]:
    with pytest.raises(SegmentError) as caught:
        compiled(*rules)
    return [(fault.pointer, fault.code, fault.detail) for fault in caught.value.faults]


@pytest.mark.parametrize(
    ("asked", "pointer", "code", "words"),
    [
        ({"index": "users", **group("all", DELFT)}, "link", "missing", "a field here"),
        ({"link": "owner", **group("all", DELFT)}, "index", "missing", "the name of an export index"),
        ({"key": "id", "link": "owner", **group("all", DELFT)}, "index", "missing", "the name of an export index"),
        (about(DELFT, index=""), "index", "wrong_type", "the name of an export index"),
        (about(DELFT, link=5), "link", "wrong_type", "a field here"),
        (about(DELFT, key=None), "key", "wrong_type", "a field of the other index"),
        (about(), "rules", "empty", "at least one rule"),
        (about(DELFT, index="user"), "index", "unknown_index", "known are users and cities"),
        (about(DELFT, link="ownr"), "link", "unknown_field", "did you mean owner"),
        (about(DELFT, key="ids"), "key", "unknown_field", "the index users has no field"),
        (about(rule("name", "keyword", "is", "x"), index="cities"), "index", "unknown_field", 'name the key by "key"'),
        (about(DELFT, link="weight"), "link", "not_answerable", "float field"),
        (about(DELFT, link="created"), "link", "not_answerable", "date field"),
        (about(DELFT, link="description"), "link", "not_answerable", "keyword sub-field"),
        (about(DELFT, link="hidden"), "link", "not_answerable", "index: false"),
        (about(DELFT, key="words"), "key", "not_answerable", "keyword sub-field"),
        (about(DELFT, key="unread"), "key", "not_answerable", "doc_values: false"),
        (about(DELFT, key="cards.number"), "key", "not_answerable", "nested documents (cards)"),
        (about(DELFT, key="email"), "link", "not_answerable", "owner is a number field and the key email a keyword"),
        (
            about(DELFT, link="category"),
            "link",
            "not_answerable",
            "category is a keyword field and the key id a number",
        ),
        (about(rule("price", "number", "is", 1)), "rules/0/field_name", "unknown_field", "the index users has no"),
        (about(rule("city", "number", "is", 1)), "rules/0/field_type", "wrong_field_type", "keyword field"),
    ],
)
def test_what_cannot_be_linked_is_refused_where_it_stands(
    asked: dict[str, Any], pointer: str, code: str, words: str
) -> None:
    found = faults(asked)
    assert [(one[0], one[1]) for one in found] == [(f"/rules/0/{pointer}", code)]
    assert words in found[0][2]


def test_a_doubtful_link_is_refused_unless_the_source_counts_doubts() -> None:
    asked = about(DELFT, link="short", key="email")
    assert compiled(asked)
    uncounted = Catalog.from_mapping(HERE)
    with pytest.raises(SegmentError, match="ignore_above"):
        compiled(asked, catalog=uncounted)


def test_groups_inside_count_for_the_depth() -> None:
    deep: dict[str, Any] = DELFT
    for _ in range(3):
        deep = group("all", deep)
    assert compiled(about(deep))
    assert [one[:2] for one in faults(about(group("all", deep)))] == [
        ("/rules/0/rules/0/rules/0/rules/0/rules/0", "too_deep")
    ]


def test_a_lawful_group_is_read_as_pydantic_reads_it() -> None:
    raw = segment(about(DELFT, key="id", negate=True), rule("stock", "number", "is", 1))
    assert read_segment(raw) == Segment.model_validate(raw)


def test_the_rules_of_a_group_speak_of_its_own_index() -> None:
    tree = compiled(about(DELFT, negate=True), about(DELFT, rule("since", "date", "is_set"), join="any"))
    groups = list(linked(tree))
    assert [(one.index, one.link.name, one.key.name) for one in groups] == [("users", "owner", "id")] * 2


def test_groups_inside_groups_are_found_after_them() -> None:
    inner = {"index": "cities", "link": "city", "key": "name", **group("all", rule("size", "number", "is", 1))}
    assert [one.index for one in linked(compiled(about(inner)))] == ["users", "cities"]


def test_a_query_asks_one_index() -> None:
    tree = compiled(about(DELFT))
    for ask in (to_elasticsearch, doubtful):
        with pytest.raises(TypeError):
            ask(tree)


def test_keys_are_asked_for_inner_groups_first_and_in_batches_the_server_takes() -> None:
    inner = {"index": "cities", "link": "city", "key": "name", **group("all", rule("size", "number", "is", 1))}
    asked: list[str] = []

    def keys(one: Linked) -> tuple[int | str, ...]:
        asked.append(one.index)
        assert not any(True for _ in linked(one.part))
        return ("Delft",) if one.index == "cities" else tuple(range(1, 131_074))

    query = to_elasticsearch(with_keys(compiled(about(inner)), keys))
    assert asked == ["cities", "users"]
    batches = query["bool"]["filter"][0]["bool"]["should"]
    assert [len(one["terms"]["owner"]) for one in batches] == [65_536, 65_536, 1]
    assert query["bool"]["filter"][0]["bool"]["minimum_should_match"] == 1


def test_no_key_selects_nothing_and_its_complement_everything() -> None:
    none = {"bool": {"filter": [{"match_none": {}}]}}
    assert to_elasticsearch(with_keys(compiled(about(DELFT)), lambda _group: ())) == none
    everything = {"bool": {"filter": [{"match_all": {}}], "must_not": [{"match_none": {}}]}}
    assert to_elasticsearch(with_keys(compiled(about(DELFT, negate=True)), lambda _group: ())) == everything


def test_keys_of_nested_links_are_asked_of_the_children() -> None:
    tree = compiled(about(DELFT, link="line_items.sku", key="email"))
    query = to_elasticsearch(with_keys(tree, lambda _group: ("a", "b")))
    assert query["bool"]["filter"][0]["nested"]["query"] == {"terms": {"line_items.sku": ["a", "b"]}}


def test_values_stand_in_the_order_of_their_question_marks() -> None:
    sql, parameters = to_sql(
        compiled(
            rule("stock", "number", "is", 1),
            about(rule("city", "keyword", "is", "Delft"), rule("id", "number", "is", 2)),
            rule("stock", "number", "is", 3),
            catalog=TABLES,
            others=OTHER_TABLES,
        )
    )
    assert parameters == [1, "Delft", 2, 3]
    assert sql.count("?") == 4


@pytest.mark.parametrize(
    ("owner", "key", "same"),
    [
        (1, 1, True),
        (1, 1.0, True),
        ([None, [7, 1]], 1, True),
        (2**53 + 1, 2**53 + 1, True),
        (2**53 + 1, 2**53, False),
        (None, None, False),
        (1, 2, False),
        ("1", 1, True),
    ],
)
def test_keys_are_equal_as_a_rule_would_say(owner: object, key: object, same: bool) -> None:  # noqa: FBT001
    tree = compiled(about(DELFT))
    users = [{"id": key, "city": "Delft"}, {"id": 99, "city": "Delft"}]
    assert evaluate(tree, {"owner": owner}, {"users": users}) is same
    assert evaluate(compiled(about(DELFT, negate=True)), {"owner": owner}, {"users": users}) is not same


def test_an_index_whose_documents_are_not_given_is_no_empty_one() -> None:
    with pytest.raises(KeyError):
        evaluate(compiled(about(DELFT)), {"owner": 1})
