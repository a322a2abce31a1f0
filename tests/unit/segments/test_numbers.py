from __future__ import annotations

import math
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from segments import Catalog, evaluate
from segments.numbers import INTEGERS, intervals, operand, stored
from segments.tree import Compare, Comparison, OneOf, Range, Tree
from tests.unit.segments.shop import compiled, rule

BIG = 2**53


def _field(storage: str) -> Catalog:
    mapped = {"type": storage}
    return (
        Catalog.from_columns([("n", storage.upper())])
        if storage.startswith("decimal")
        else Catalog.from_mapping({"n": mapped})
    )


def _selects(storage: str, operator: str, value: object, document: object) -> bool:
    tree = compiled(rule("n", "number", operator, value), catalog=_field(storage))
    return evaluate(tree, {"n": document})


@pytest.mark.parametrize(
    ("storage", "operator", "value", "document", "expected"),
    [
        ("long", "is", 1.0, 1, True),
        ("long", "is", 1.5, 1, False),
        ("long", "is", BIG + 1, BIG + 1, True),
        ("long", "is", BIG + 1, BIG, False),
        ("long", "is", float(BIG), BIG + 1, False),
        ("long", "is", 2**63, 2**63 - 1, False),
        ("long", "is_less_than", 2**63, 2**63 - 1, True),
        ("long", "is_greater_than", -(10**30), -(2**63), True),
        ("long", "is_greater_than", 1.5, 2, True),
        ("long", "is_less_or_equal", 1.5, 1, True),
        ("long", "is", 5, "5.7", True),
        ("long", "is", -5, -5.7, True),
        ("double", "is", 0, -0.0, True),
        ("double", "is", -0.0, 0, True),
        ("double", "is_less_than", 0, -0.0, False),
        ("double", "is_less_than", 0, -5e-324, True),
        ("double", "is_greater_or_equal", 0, -0.0, True),
        ("double", "is", BIG + 1, BIG + 1, False),  # the field holds 2^53, the rule asks for one more
        ("double", "is", BIG, BIG + 1, True),
        ("double", "is_less_than", BIG + 1, BIG, True),
        ("double", "is_greater_or_equal", BIG + 1, BIG, False),
        ("double", "is", 0.1, 0.1, True),
        ("double", "is_less_than", 10**400, 1e308, True),
        ("float", "is", 0.1, 0.1, True),
        ("float", "is_greater_than", 0.1, 0.1, False),
        ("float", "is", 16777217, 16777216, True),
        ("float", "is", 16777217, 16777217, True),
        ("float", "is", 2**60 + 1, 2**60, False),
        ("float", "is", 2**60, 2**60 + 1, True),
        ("float", "is_less_than", 1e300, 3e38, True),
        ("float", "is", 1e300, 3e38, False),
        ("half_float", "is", 0.1, 0.1, True),
        ("half_float", "is", 2049, 2048, True),
        ("half_float", "is_less_or_equal", 70000, 65504, True),
        ("half_float", "is_greater_than", 65504, 65504, False),
        ("decimal(10,2)", "is", 1.1, 1.10, True),
        ("decimal(10,2)", "is", 1.105, 1.1, False),
        ("decimal(10,2)", "is_greater_than", 1.105, 1.11, True),
        ("decimal(10,2)", "is_less_than", 10**4000, 99999999.99, True),
    ],
)
def test_comparisons_are_exact_on_what_the_field_stores(
    storage: str, operator: str, value: object, document: object, *, expected: bool
) -> None:
    assert _selects(storage, operator, value, document) is expected


@pytest.mark.parametrize(
    ("value", "storage", "held"),
    [
        ("1e2", "long", 100),
        ("9007199254740993", "long", 9007199254740993),
        ("", "long", None),
        ("x", "double", None),
        ("1e999", "double", None),
        (True, "long", None),
        (None, "long", None),
        ({}, "long", None),
        (0.1, "float", struct.unpack(">f", struct.pack(">f", 0.1))[0]),
        (65519, "half_float", 65504.0),
        (-3e-8, "half_float", -5.960464477539063e-08),
    ],
)
def test_stored(value: object, storage: str, held: object) -> None:
    assert stored(value, storage) == held


STORAGES = ["byte", "short", "integer", "long", "half_float", "float", "double"]
numbers = st.one_of(st.integers(-(2**70), 2**70), st.floats(allow_nan=False, allow_infinity=False), st.integers(-5, 5))
OPS: list[Comparison] = ["eq", "gt", "ge", "lt", "le"]


@given(
    storage=st.sampled_from(STORAGES),
    op=st.sampled_from(OPS),
    bound=numbers,
    low=numbers,
    value=numbers,
    near=st.booleans(),
)
def test_intervals_hold_exactly_the_stored_values_that_compare_so(
    storage: str, op: Comparison, bound: float, low: float, value: float, *, near: bool
) -> None:
    field = _field(storage).by_name["n"]
    held = stored(bound if near else value, storage)
    if held is None or (storage in INTEGERS and not INTEGERS[storage][0] <= held <= INTEGERS[storage][1]):
        return
    if isinstance(held, float) and math.isinf(held):
        return  # no field takes it
    leaves: list[Compare | OneOf | Range] = [
        Compare(field, op, bound),
        OneOf(field, (low, bound)),
        Range(field, min(low, bound), max(low, bound)),
        Range(field, None, bound),
    ]
    for leaf in leaves:
        inside = any(
            (one.low is None or one.low <= held) and (one.high is None or held <= one.high)
            for one in intervals(leaf, storage)
        )
        assert inside is _meant(leaf, bound if near else value), (leaf, held)


def _meant(leaf: Tree, document: float) -> bool:
    return evaluate(leaf, {"n": document})


def test_operands_of_narrow_fields_are_taken_as_they_would_be_stored() -> None:
    assert operand(16777217, "float") == 16777216
    assert operand(BIG + 1, "float") == BIG + 1
    assert operand(1e300, "float") == 1e300
    assert operand(5, "long") == 5
