"""An explanation is of one mind with the meaning: at the root, in every group and for every rule."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segments import OPERATORS, Catalog, GroupExplained, RuleExplained, evaluate, explain
from segments.explain import MAX_VALUES
from tests.property.segments_engines import MAPPED, TABLED, compiled
from tests.property.segments_world import OTHERS, Maker, questions

MAKER = Maker(7)
DOCUMENTS = [json.loads(MAKER.document()[0]) for _ in range(100)]
LINKED = {OTHERS: [json.loads(MAKER.document()[0]) for _ in range(20)]}


def _rule(field: str, operator: str, value: Any) -> dict[str, Any]:
    kind = "keyword" if field == "sku" else "number"
    nested = {"nested": True, "nesting_path": "items"}
    return {"field_name": f"items.{field}", "field_type": kind, "operator": operator, "value": value, **nested}


# Few values and few children: rules that hold one by one, but not of the same child, must come up often.
_children = st.lists(
    st.fixed_dictionaries({}, optional={"sku": st.sampled_from("ab"), "quantity": st.integers(0, 2)}), max_size=3
)
_skus = st.builds(_rule, st.just("sku"), st.sampled_from(["is", "is", "is_not"]), st.sampled_from("ab"))
_quantities = st.builds(
    _rule, st.just("quantity"), st.sampled_from(["is", "is_less_than", "is_not"]), st.integers(0, 2)
)
_items = st.recursive(
    _skus | _quantities,
    lambda inner: st.fixed_dictionaries(
        {
            "join": st.sampled_from(["all", "any"]),
            "rules": st.lists(inner, min_size=1, max_size=4),
            "negate": st.booleans(),
        }
    ),
    max_leaves=6,
)


def _explained(
    segment: dict[str, Any], catalog: Catalog, document: dict[str, Any], now: datetime, zone: ZoneInfo
) -> GroupExplained:
    return explain(
        segment,
        catalog,
        {OTHERS: catalog},
        document=document,
        now=now,
        zone=zone,
        selects=lambda link: evaluate(link, document, LINKED),
    )


def _holds_together(found: GroupExplained) -> None:
    """A group's verdict follows from those of its parts, as its join, its negation and its nested rules say."""
    if found.rules:
        bundled = {pointer for one in found.together for pointer in one.pointers}
        parts = [one.matched for one in found.rules if one.pointer not in bundled]
        parts += [one.matched for one in found.together]
        holds = all(parts) if found.join == "all" else any(parts)
        assert found.matched is (holds != found.negate), found
        for one in found.together:
            singly = all(part.matched for part in found.rules if part.pointer in one.pointers)
            assert singly or not one.matched, found
    for part in found.rules:
        if isinstance(part, RuleExplained):
            _fits(part)
        else:
            _holds_together(part)


def _fits(found: RuleExplained) -> None:
    positive = OPERATORS[found.operator].negates is None
    if found.count <= MAX_VALUES:
        assert found.matched is (bool(found.fitting) is positive), found
    assert found.why


_cases = settings(
    max_examples=200, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck)
)


@_cases
@given(question=questions(linked=True), numbers=st.lists(st.integers(0, len(DOCUMENTS) - 1), min_size=1, max_size=5))
def test_an_explanation_agrees_with_evaluate(question: dict[str, Any], numbers: list[int]) -> None:
    for catalog in (MAPPED, TABLED):
        tree = compiled(question, catalog)
        if tree is None:
            continue
        for number in numbers:
            document = DOCUMENTS[number]
            found = _explained(question["segment"], catalog, document, question["now"], question["zone"])
            assert found.matched is evaluate(tree, document, LINKED), (question, document)
            _holds_together(found)


@_cases
@given(rules=st.lists(_items, min_size=1, max_size=4), join=st.sampled_from(["all", "any"]), children=_children)
def test_it_agrees_where_rules_speak_of_the_same_nested_document(
    rules: list[dict[str, Any]], join: str, children: list[dict[str, Any]]
) -> None:
    segment = {"entity": "people", "index": "world", "chain_id": 1, "join": join, "rules": rules}
    question = {"segment": segment, "now": datetime(2026, 3, 29, tzinfo=UTC), "zone": ZoneInfo("UTC")}
    tree, document = compiled(question, MAPPED), {"items": children}
    assert tree is not None
    found = _explained(segment, MAPPED, document, question["now"], question["zone"])
    assert found.matched is evaluate(tree, document), (segment, document)
    _holds_together(found)
