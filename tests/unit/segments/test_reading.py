from __future__ import annotations

import math
from typing import Any

import pytest

from segments import OPERATORS, SegmentError, compile_segment, read_segment
from segments.rules import MAX_FAULTS, Segment
from tests.unit.segments.shop import AMSTERDAM, MAPPED, NOW, faults, group, item, rule, segment

IS = rule("category", "keyword", "is", "Electronics")


def _nested(depth: int) -> dict[str, Any]:
    return IS if depth == 0 else group("any", _nested(depth - 1))


@pytest.mark.parametrize(
    ("raw", "expected"),
    [
        (5, [("", "wrong_type")]),
        ([], [("", "wrong_type")]),
        ({}, [("/index", "missing"), ("/chain_id", "missing"), ("/join", "missing"), ("/rules", "missing")]),
        (segment(IS, entity="users"), [("/entity", "unknown_value")]),
        (segment(IS, index=""), [("/index", "wrong_type")]),
        (segment(IS, chain_id="1764"), [("/chain_id", "wrong_type")]),
        (segment(IS, chain_id=True), [("/chain_id", "wrong_type")]),
        (segment(IS, join="none"), [("/join", "unknown_value")]),
        (segment(IS, join=["all"]), [("/join", "unknown_value")]),
        (segment(IS, join=None), [("/join", "wrong_type")]),
        (segment(IS, negate="yes"), [("/negate", "wrong_type")]),
        (segment(IS, rules={}), [("/rules", "wrong_type")]),
        (segment(IS, **{"a/b~c": 1}), [("/a~1b~0c", "unknown_member")]),
        (segment(join="any"), [("/rules", "empty")]),
        (segment(group("all")), [("/rules/0/rules", "empty")]),
        (segment(IS, "x"), [("/rules/1", "wrong_type")]),
        (segment(IS, {"join": "all"}), [("/rules/1/rules", "missing")]),
        (segment(group("all", IS, index="users")), [("/rules/0/link", "missing")]),
        (segment(_nested(4)), []),
        (segment(_nested(5)), [("/rules/0/rules/0/rules/0/rules/0/rules/0", "too_deep")]),
        (segment(*[IS] * 200), []),
        (segment(*[IS] * 201), [("/rules/200", "too_many")]),
        (segment(*[group("any", *[IS] * 100)] * 3), [("/rules/2/rules/0", "too_many")]),
    ],
)
def test_segments_and_groups(raw: object, expected: list[tuple[str, str]]) -> None:
    assert faults(raw) == expected


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({}, [("/field_name", "missing"), ("/field_type", "missing"), ("/operator", "missing")]),
        ({**IS, "field_name": None}, [("/field_name", "wrong_type")]),
        ({**IS, "field_name": ""}, [("/field_name", "wrong_type")]),
        ({**IS, "field_type": "keywrod"}, [("/field_type", "unknown_field_type")]),
        ({**IS, "field_type": ["keyword"]}, [("/field_type", "unknown_field_type")]),
        ({**IS, "operator": "equals"}, [("/operator", "unknown_operator")]),
        ({**IS, "operator": {"$ne": 1}}, [("/operator", "unknown_operator")]),
        ({**IS, "operator": "is_greater_than", "value": 5}, [("/operator", "wrong_operator")]),
        ({**IS, "values": []}, [("/values", "unknown_member")]),
        ({**IS, "min": 1}, [("/min", "unexpected")]),
        (rule("category", "keyword", "is_set", "x"), [("/value", "unexpected")]),
        (rule("category", "keyword", "is_set", value=None), [("/value", "unexpected")]),
        (rule("category", "keyword", "is"), [("/value", "missing")]),
        (rule("category", "keyword", "is", None), [("/value", "wrong_type")]),
        (rule("category", "keyword", "is", 5), [("/value", "wrong_type")]),
        (rule("category", "keyword", "is", ["x"]), [("/value", "wrong_type")]),
        (rule("category", "keyword", "is", {"value": "x", "boost": 2}), [("/value", "wrong_type")]),
        (rule("category", "keyword", "is", "\ud800"), [("/value", "wrong_type")]),
        (rule("category", "keyword", "is", ""), []),
        (rule("category", "keyword", "is_any_of", []), [("/value", "empty")]),
        (rule("category", "keyword", "is_any_of", "x"), [("/value", "wrong_type")]),
        (rule("category", "keyword", "is_any_of", {"index": "i", "id": "1", "path": "p"}), [("/value", "wrong_type")]),
        (
            rule("category", "keyword", "is_any_of", ["x", 5, ["y"]]),
            [("/value/1", "wrong_type"), ("/value/2", "wrong_type")],
        ),
        (rule("category", "keyword", "is_any_of", ["x"] * 10_000), []),
        (rule("category", "keyword", "is_any_of", ["x"] * 10_001), [("/value", "too_many")]),
        (rule("category", "keyword", "contains", ""), [("/value", "empty")]),
        (rule("category", "keyword", "contains", []), [("/value", "empty")]),
        (
            rule("category", "keyword", "contains", ["a", "", "b" * 129]),
            [("/value/1", "empty"), ("/value/2", "too_long")],
        ),
        (rule("category", "keyword", "contains", ["a"] * 100), []),
        (rule("category", "keyword", "contains", ["a"] * 101), [("/value", "too_many")]),
        (rule("category", "keyword", "contains", "b" * 128), []),
        (rule("price", "number", "is", True), [("/value", "wrong_type")]),
        (rule("price", "number", "is", "5"), [("/value", "wrong_type")]),
        (rule("price", "number", "is", math.nan), [("/value", "wrong_type")]),
        (rule("price", "number", "is", math.inf), [("/value", "wrong_type")]),
        (rule("price", "double", "is", 10**5000), []),
        (rule("price", "number", "is_any_of", [1, 2.5, "3"]), [("/value/2", "wrong_type")]),
        (rule("price", "number", "is_between_number"), [("/min", "missing")]),
        (rule("price", "number", "is_between_number", max=1), []),
        (rule("price", "number", "is_between_number", min=2, max=1), [("", "out_of_order")]),
        (rule("price", "number", "is_between_number", min=1, max=None), [("/max", "wrong_type")]),
        (rule("active", "boolean", "is", "true"), [("/value", "wrong_type")]),
        (rule("active", "boolean", "is", 1), [("/value", "wrong_type")]),
        (rule("created", "date", "is_date", 1767225600000), [("/value", "wrong_type")]),
        (rule("created", "date", "is_date", "2026-02-30"), [("/value", "wrong_type")]),
        (rule("created", "date", "is_date", "now-1d/d"), [("/value", "wrong_type")]),
        (rule("created", "date", "is_date", "2026-03-29||/M"), [("/value", "wrong_type")]),
        (rule("created", "date", "is_date", "٢٠٢٦-03-29"), [("/value", "wrong_type")]),
        (rule("created", "date", "is_date", "20260329"), [("/value", "wrong_type")]),
        (rule("created", "date", "is_date", "2026-03-29T25:00"), [("/value", "wrong_type")]),
        (
            rule("created", "date", "is_after_date", end_date="2026-01-01"),
            [("/start_date", "missing"), ("/end_date", "unexpected")],
        ),
        (
            rule("created", "date", "is_between_date", start_date="2026-01-02", end_date="2026-01-01"),
            [("", "out_of_order")],
        ),
        (rule("created", "date", "is_between_date", start_date="2026-01-01", end_date="2026-01-01"), []),
        (rule("created", "date", "is", "2026-01-01"), [("/operator", "wrong_operator")]),
        (rule("created", "date", "in_current", time_factor="fortnight"), [("/time_factor", "unknown_value")]),
        (rule("created", "date", "in_current", time_factor="weeks"), []),
        (rule("created", "date", "in_current", time_factor="weekss"), [("/time_factor", "unknown_value")]),
        (rule("created", "date", "in_current", time_factor="day", time_amount=1), [("/time_amount", "unexpected")]),
        (
            rule("created", "date", "relative_exactly", time_factor="day", time_amount=-1),
            [("/time_amount", "out_of_range")],
        ),
        (
            rule("created", "date", "relative_exactly", time_factor="day", time_amount=1.0),
            [("/time_amount", "wrong_type")],
        ),
        (rule("created", "date", "relative_exactly", time_factor="day", time_amount=0), []),
        ({**IS, "nested": True}, [("/nesting_path", "missing")]),
        ({**IS, "nested": 1, "nesting_path": "line_items"}, [("/nested", "wrong_type")]),
        ({**IS, "nested": False}, []),
        ({**IS, "nesting_path": "line_items"}, [("/nesting_path", "unexpected")]),
        (item("sku", "keyword", "is", "x"), []),
    ],
)
def test_rules(wrong: dict[str, Any], expected: list[tuple[str, str]]) -> None:
    found = faults(segment(IS, wrong))
    assert found == [(f"/rules/1{pointer}", code) for pointer, code in expected]


def test_every_fault_of_every_layer_is_told_at_once_in_the_order_of_the_rules() -> None:
    raw = segment(
        rule("categry", "keyword", "is", 5),
        rule("created", "date", "is_between_date", start_date="2026-02-01", end_date="2026-01-01"),
        "rubbish",
        rule("stock", "keyword", "contains", ""),
        bogus=1,
    )
    assert faults(raw) == [
        ("/bogus", "unknown_member"),
        ("/rules/0/value", "wrong_type"),
        ("/rules/0/field_name", "unknown_field"),
        ("/rules/1", "out_of_order"),
        ("/rules/2", "wrong_type"),
        ("/rules/3/value", "empty"),
        ("/rules/3/field_type", "wrong_field_type"),
    ]


def test_faults_say_what_would_be_right() -> None:
    raw = segment(
        rule("categry", "keyword", "is_greater_thn", "x"),
        rule("price", "number", "contains", "x"),
        rule("description", "text", "is", "x"),
        rule("line_items.sku", "keyword", "is", "x"),
        valeu=1,
    )
    with pytest.raises(SegmentError) as caught:
        compile_segment(raw, MAPPED, now=NOW, zone=AMSTERDAM)
    details = {fault.pointer: fault.detail for fault in caught.value.faults}
    assert "did you mean category?" in details["/rules/0/field_name"]
    assert "must be one of is, is_not, is_any_of" in details["/rules/0/operator"]
    assert "contains works on keyword and text fields; for number it must be" in details["/rules/1/operator"]
    assert "keyword sub-field" in details["/rules/2/operator"]
    assert '"nesting_path": "line_items"' in details["/rules/3/nested"]
    assert all(detail for detail in details.values())


def test_a_flood_of_faults_is_cut() -> None:
    raw = segment(*[rule("category", "keyword", "is_any_of", [5] * 9_000)] * 3, **{f"m{n}": 1 for n in range(500)})
    with pytest.raises(SegmentError) as caught:
        read_segment(raw)
    assert len(caught.value.faults) == MAX_FAULTS


def test_depth_beyond_the_limit_costs_no_recursion() -> None:
    raw: dict[str, Any] = segment()
    for _ in range(50_000):
        raw = {"join": "all", "rules": [raw]}
    with pytest.raises(SegmentError):
        read_segment(segment(raw))


def test_a_lawful_segment_becomes_its_model() -> None:
    raw = segment(IS, group("any", rule("price", "number", "is_between_number", min=1), IS, negate=True), negate=True)
    assert read_segment(raw) == Segment.model_validate(raw)


def test_every_operator_has_a_rule_that_compiles() -> None:
    operands: dict[str, Any] = {
        "words": "x",
        "number": 5,
        "date": "2026-01-01",
        "factor": "day",
        "amount": 1,
    }
    scalars = {"keyword": "x", "text": "x", "number": 5, "boolean": True, "date": None}
    fields = {"keyword": "category", "text": "name", "number": "price", "boolean": "active", "date": "created"}
    for row in OPERATORS.values():
        for kind in row.types:
            given = {
                operand.member: {"scalar": scalars[kind], "list": [scalars[kind]]}.get(operand.kind)
                or operands[operand.kind]
                for operand in row.operands
            }
            assert faults(segment(rule(fields[kind], kind, row.name, **given))) == [], (row.name, kind)
