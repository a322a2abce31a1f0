"""An explanation is of one mind with the meaning: at the root, in every group and for every rule."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from segments import OPERATORS, GroupExplained, RuleExplained, evaluate, explain
from segments.explain import MAX_VALUES
from tests.property.segments_engines import MAPPED, TABLED, compiled
from tests.property.segments_world import OTHERS, Maker, questions

MAKER = Maker(7)
DOCUMENTS = [json.loads(MAKER.document()[0]) for _ in range(100)]
LINKED = {OTHERS: [json.loads(MAKER.document()[0]) for _ in range(20)]}


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


@settings(max_examples=300, deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
@given(question=questions(linked=True), numbers=st.lists(st.integers(0, len(DOCUMENTS) - 1), min_size=1, max_size=5))
def test_an_explanation_agrees_with_evaluate(question: dict[str, Any], numbers: list[int]) -> None:
    for catalog in (MAPPED, TABLED):
        tree = compiled(question, catalog)
        if tree is None:
            continue
        for number in numbers:
            document = DOCUMENTS[number]
            found = explain(
                question["segment"],
                catalog,
                {OTHERS: catalog},
                document=document,
                now=question["now"],
                zone=question["zone"],
                selects=lambda link, document=document: evaluate(link, document, LINKED),
            )
            assert found.matched is evaluate(tree, document, LINKED), (question, document)
            _holds_together(found)
