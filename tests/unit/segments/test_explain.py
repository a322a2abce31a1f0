"""Why a document is selected or left out: pointers, values and words."""

from __future__ import annotations

from typing import Any
from zoneinfo import ZoneInfo

import pytest

from segments import Catalog, GroupExplained, RuleExplained, SegmentError, explain
from tests.unit.segments.shop import AMSTERDAM, MAPPED, NOW, group, item, rule, segment

USERS = Catalog.from_mapping({"id": {"type": "long"}, "email": {"type": "keyword"}})


def explained(document: dict[str, Any], *rules: object, **members: object) -> GroupExplained:
    return explain(segment(*rules, **members), MAPPED, document=document, now=NOW, zone=AMSTERDAM)


def only(document: dict[str, Any], asked: dict[str, Any]) -> RuleExplained:
    [found] = explained(document, asked).rules
    assert isinstance(found, RuleExplained)
    return found


CATEGORY = rule("category", "keyword", "is", "Electronics")
WHY: list[tuple[dict[str, Any], dict[str, Any], bool, str]] = [
    (CATEGORY, {"category": "Electronics"}, True,
     'some value of category that equals "Electronics"; its value "Electronics" is one.'),
    (CATEGORY, {"category": "Toys"}, False,
     'some value of category that equals "Electronics"; its value "Toys" is not one.'),
    (CATEGORY, {}, False, 'some value of category that equals "Electronics"; the document has no value there.'),
    (CATEGORY, {"category": [None, "a", ["b"]]}, False, "none of its 2 values is one."),
    (rule("category", "keyword", "is_not", "x"), {"category": ["x", "y"]}, False,
     'no value of category that equals "x"; of its 2 values "x" is.'),
    (rule("category", "keyword", "is_not", "x"), {}, True,
     'no value of category that equals "x"; the document has no value there.'),
    (rule("category", "keyword", "is_any_of", list("abcdefgh")), {"category": ["a", "h", "z"]}, True,
     'is one of "a", "b", "c", "d", "e" or 3 more; of its 3 values "a" and "h" are.'),
    (rule("category", "keyword", "contains", "TRO"), {"category": "Electronics"}, True, 'contains "TRO", case folded;'),
    (rule("category", "keyword", "starts_with", ["x", "y"]), {"category": "a"}, False,
     'starts with one of "x" or "y", case folded;'),
    (rule("category", "keyword", "is_not_set"), {"category": None}, True,
     "no value of category that is not null; the document has no value there."),
    (rule("price", "number", "is_between_number", min=5, max=10), {"price": [1, 7]}, True,
     "lies from 5 to 10; of its 2 values 7 is."),
    (rule("price", "number", "is_between_number", min=5), {"price": 1}, False,
     "is 5 or greater; its value 1 is not one."),
    (rule("price", "number", "is_less_than", 5), {"price": "nonsense"}, False,
     'is less than 5; its value "nonsense" is not one.'),
    (rule("active", "boolean", "is_true"), {"active": False}, False, "equals true; its value false is not one."),
    (rule("created", "date", "is_date", "2026-03-29"), {"created": "2026-03-28T23:00:00Z"}, True,
     "lies from 2026-03-28T23:00:00Z to before 2026-03-29T22:00:00Z; its value "),
    (rule("created", "date", "relative_less_than", time_factor="hour", time_amount=2), {}, False,
     "lies from 2026-03-31T08:00:00Z to before 2026-03-31T10:00:00Z; the document has no value there."),
    (rule("created", "date", "is_after_date", start_date="2026-03-29T10:00:00.500Z"), {"created": "2027-01-01"}, True,
     "is 2026-03-29T10:00:00.501Z or later; its value "),
    (rule("created", "date", "is_before_date", end_date="2026-03-29T10:00:00Z"), {"created": "2027-01-01"}, False,
     "is before 2026-03-29T10:00:00Z; its value "),
    (rule("created", "date", "relative_less_than", time_factor="day", time_amount=0), {"created": "2026-03-31"}, False,
     "lies in a window that is empty; its value "),
    (item("sku", "keyword", "is", "A"), {"line_items": [{"sku": "B"}, {"sku": ["A", "C"]}]}, True,
     'some value of line_items.sku that equals "A"; of its 3 values "A" is.'),
    (item("sku", "keyword", "is_not", "A"), {"line_items": [{"sku": "A"}]}, False,
     'no value of line_items.sku that equals "A"; its value "A" is one.'),
]  # fmt: skip


@pytest.mark.parametrize(("asked", "document", "matched", "why"), WHY)
def test_a_rule_says_what_it_asks_and_what_there_is(
    asked: dict[str, Any], document: dict[str, Any], *, matched: bool, why: str
) -> None:
    found = only(document, asked)
    assert found.matched is matched
    assert found.why.startswith("The rule asks for ")
    assert why in found.why


def test_every_group_and_rule_has_its_pointer_and_its_verdict() -> None:
    found = explained(
        {"category": "Electronics", "price": 3},
        CATEGORY,
        group("any", rule("price", "number", "is", 1), group("all", rule("price", "number", "is", 3)), negate=True),
    )
    inner = found.rules[1]
    assert isinstance(inner, GroupExplained)
    innermost = inner.rules[1]
    assert isinstance(innermost, GroupExplained)
    assert [(one.pointer, one.matched) for one in (found, *found.rules, *inner.rules, *innermost.rules)] == [
        ("", False), ("/rules/0", True), ("/rules/1", False),
        ("/rules/1/rules/0", False), ("/rules/1/rules/1", True), ("/rules/1/rules/1/rules/0", True),
    ]  # fmt: skip
    assert found.why == "All of its parts are asked for; not so /rules/1."
    assert inner.why == (
        "At least one part is asked for; /rules/1/rules/1 matches. The group is negated, so it does not match."
    )
    assert innermost.why == "All of its parts match."


def test_rules_of_one_nested_document_are_judged_together() -> None:
    asked = [item("sku", "keyword", "is", "A"), item("quantity", "number", "is", 2), item("sku", "keyword", "is_set")]
    apart = explained({"line_items": [{"sku": "A", "quantity": 1}, {"sku": "B", "quantity": 2}]}, *asked)
    assert (apart.matched, [one.matched for one in apart.rules]) == (False, [True, True, True])
    [together] = apart.together
    assert (together.pointers, together.nesting_path, together.matched) == (
        ("/rules/0", "/rules/1", "/rules/2"), "line_items", False,
    )  # fmt: skip
    assert "no single one meets them all" in together.why
    assert apart.why == (
        "Each of its parts matches, but /rules/0, /rules/1 and /rules/2 not on the same nested document."
    )
    one = explained({"line_items": {"sku": "A", "quantity": 2}}, *asked)
    assert (one.matched, one.together[0].matched) == (True, True)
    none = explained({"line_items": [{"sku": "A", "quantity": 1}]}, *asked)
    assert (none.together[0].matched, none.together[0].why) == (
        False, "No document of line_items meets all of these rules.",
    )  # fmt: skip


def test_nested_rules_joined_by_any_or_negative_stand_alone() -> None:
    asked = [item("sku", "keyword", "is", "A"), item("quantity", "number", "is", 2)]
    assert explained({}, *asked, join="any").together == ()
    assert explained({}, asked[0], item("quantity", "number", "is_not_between_number", min=1)).together == ()


def test_a_segment_without_rules_matches_everything() -> None:
    assert explained({}).why == "There are no rules: every document matches."
    assert explained({}).matched is True


def test_many_and_long_values_are_shown_in_part() -> None:
    found = only({"category": [f"v{number}" for number in range(30)]}, rule("category", "keyword", "is", "v29"))
    assert (found.matched, found.count, len(found.values), found.fitting) == (True, 30, 20, ())
    assert found.why.endswith("one of its 30 values, after the first 20, is one.")
    found = only({"category": "x" * 500}, rule("category", "keyword", "is", "v29"))
    assert len(found.values[0]) == 200
    assert only({"category": {"a": 1}}, rule("category", "keyword", "is_set")).values == ("an object",)


def test_what_is_wrong_with_the_segment_is_told_as_ever() -> None:
    for asked in (
        rule("catgory", "keyword", "is", "x"),
        rule("price", "number", "is_between_number", min=2, max=1),
        rule("x", "y", "z"),
    ):
        with pytest.raises(SegmentError):
            explained({}, asked)


def test_what_other_indices_say_is_asked_of_the_source_once() -> None:
    users = group("all", rule("email", "keyword", "is_set"), index="users", link="stock")
    asked: list[str] = []

    def says(verdict: bool) -> GroupExplained:  # noqa: FBT001 -- the verdict
        def selects(link: Any) -> bool:
            asked.append(link.index)
            return verdict

        whole = segment(users, group("any", CATEGORY, {**users, "negate": True}))
        return explain(
            whole, MAPPED, {"users": USERS}, document={}, now=NOW, zone=ZoneInfo("UTC"), selects=selects
        )  # fmt: skip

    yes, no = says(True), says(False)
    assert asked == ["users", "users"]
    assert [one.matched for one in yes.rules] == [True, False]
    assert [one.matched for one in no.rules] == [False, True]
    first, second = yes.rules[0], no.rules[0]
    assert isinstance(first, GroupExplained)
    assert (first.index, first.rules) == ("users", ())
    assert first.why == "A document of users whose id is in stock matches the rules of this group."
    assert second.why == "No document of users whose id is in stock matches the rules of this group."
    with pytest.raises(TypeError, match="users"):
        explain(segment(users), MAPPED, {"users": USERS}, document={}, now=NOW, zone=ZoneInfo("UTC"))
