"""Whatever JSON comes in: a model or a SegmentError, nothing else, and pydantic agrees with what is accepted."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import example, given, settings
from hypothesis import strategies as st

from segments import OPERATORS, Catalog, Fault, SegmentError, compile_segment, read_segment, to_elasticsearch, to_sql
from segments.operators import OPERAND_MEMBERS, TYPE_WORDS
from segments.rules import Segment
from tests.property.segments_engines import MAPPED, TABLED
from tests.property.segments_world import FIELDS, OTHERS, questions

NOW = datetime(2026, 3, 29, 10, tzinfo=UTC)

scalars = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["2026-01-01", "day", ""]),
)


def _objects(inner: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    return st.dictionaries(st.text(max_size=5), inner, max_size=3)


anything = st.recursive(
    scalars,
    lambda inner: st.lists(inner, max_size=3) | _objects(inner),
    max_leaves=5,
)
rules = st.fixed_dictionaries(
    {},
    optional={
        "field_name": st.sampled_from(list(FIELDS)) | anything,
        "field_type": st.sampled_from(list(TYPE_WORDS)) | anything,
        "operator": st.sampled_from(list(OPERATORS)) | anything,
        **dict.fromkeys(OPERAND_MEMBERS, anything),
        "nested": st.booleans() | anything,
        "nesting_path": st.sampled_from(["items", "items.lines"]) | anything,
        "other": anything,
    },
)
items = st.recursive(
    rules | anything,
    lambda inner: st.fixed_dictionaries(
        {},
        optional={
            "join": st.sampled_from(["all", "any"]) | anything,
            "rules": st.lists(inner, max_size=3) | anything,
            "negate": st.booleans() | anything,
            "index": st.just(OTHERS) | anything,
            "link": st.sampled_from(list(FIELDS)) | anything,
            "key": st.sampled_from(list(FIELDS)) | anything,
        },
    ),
    max_leaves=8,
)
segments = st.fixed_dictionaries(
    {},
    optional={
        "entity": st.just("people") | anything,
        "index": st.just("world") | anything,
        "chain_id": st.integers(0, 9) | anything,
        "join": st.sampled_from(["all", "any"]) | anything,
        "rules": st.lists(items, max_size=4) | anything,
        "negate": st.booleans() | anything,
    },
)


@settings(max_examples=500, deadline=None)
@given(raw=segments | anything)
@example(raw={"entity": "people", "index": "x", "chain_id": 1, "join": "all", "rules": [{"\ud800": 1}]})
@example(raw={"\u00b2": None, "9" * 5000: None})
def test_any_json_is_read_or_refused_with_pointers_that_lead_somewhere(raw: Any) -> None:
    for catalog in (MAPPED, TABLED):
        faults = _faults(raw, catalog)
        if faults is None:
            assert read_segment(raw) == Segment.model_validate(raw)
            continue
        assert faults
        for fault in faults:
            _follow(raw, fault.pointer, missing=fault.code == "missing")
            assert fault.detail.encode()
            assert fault.code


def _faults(raw: Any, catalog: Catalog) -> tuple[Fault, ...] | None:
    try:
        compile_segment(raw, catalog, {OTHERS: catalog}, now=NOW, zone=ZoneInfo("Europe/Amsterdam"))
    except SegmentError as error:
        return error.faults
    return None


def _follow(raw: Any, pointer: str, *, missing: bool) -> None:
    """The pointer leads to a value; of a missing member, to where it should be."""
    here = raw
    tokens = [token.replace("~1", "/").replace("~0", "~") for token in pointer.split("/")[1:]]
    for number, token in enumerate(tokens):
        if isinstance(here, list):
            here = here[int(token)]
        elif token in here or number != len(tokens) - 1:
            here = here[token]
        else:
            assert missing or token in {"nested", "nesting_path"}, pointer


@settings(max_examples=300, deadline=None)
@given(question=questions())
def test_lawful_segments_survive_json_and_compile_the_same(question: dict[str, Any]) -> None:
    raw = question["segment"]
    again = json.loads(json.dumps(raw))
    assert read_segment(again) == Segment.model_validate(raw)
    for catalog, compile_ in ((MAPPED, to_elasticsearch), (TABLED, to_sql)):
        try:
            tree = compile_segment(raw, catalog, now=question["now"], zone=question["zone"])
        except SegmentError:
            continue
        assert tree == compile_segment(again, catalog, now=question["now"], zone=question["zone"])
        json.dumps(compile_(tree), allow_nan=False)
