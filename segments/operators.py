"""The one table of operators: for each its field types, operands, meaning and how it is built.

Reading (which members a rule must have), parsing (which node it becomes), checking (which fields it may
ask), the texts of faults, ``operators_for`` and the generated page ``docs/segments.md`` all read this table,
so that none can disagree with another. Adding an operator is adding a row; a new ``build`` word needs its
function in ``parse``.
"""

from __future__ import annotations

from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal, TypeAlias

from segments.fields import FieldType

OperandKind: TypeAlias = Literal["scalar", "list", "words", "number", "date", "factor", "amount"]
Build: TypeAlias = Literal[
    "equals", "one_of", "text", "exists", "compare", "range", "day", "after", "before", "period",
    "window", "unit",
]  # fmt: skip

TYPE_WORDS: MappingProxyType[str, FieldType] = MappingProxyType(
    {
        "keyword": "keyword",
        "text": "text",
        "number": "number",
        "integer": "number",
        "long": "number",
        "float": "number",
        "double": "number",
        "date": "date",
        "boolean": "boolean",
    }
)
FACTORS = ("minute", "hour", "day", "week", "month", "quarter", "year")


@dataclass(frozen=True, slots=True)
class Operand:
    """A member a rule carries for its operator.

    Attributes:
        member: its name in the rule.
        kind: what its value must be; ``reading`` has one check per kind.
        required: absent is a fault. Of several optional operands at least one must be there.
    """

    member: str
    kind: OperandKind
    required: bool = True


@dataclass(frozen=True, slots=True)
class Operator:
    """One row of the table.

    Attributes:
        name: as rules write it.
        types: the field types it works on.
        operands: what it needs, in the order the reference lists them.
        build: which node ``parse`` makes of it, with ``how`` as the variant.
        meaning: completes "a document matches when ...".
        negates: the positive operator this one is the exact complement of.
    """

    name: str
    types: tuple[FieldType, ...]
    operands: tuple[Operand, ...]
    build: Build
    how: str
    meaning: str
    negates: str | None = None


_VALUE = (Operand("value", "scalar"),)
_LIST = (Operand("value", "list"),)
_WORDS = (Operand("value", "words"),)
_NUMBER = (Operand("value", "number"),)
_SPAN = (Operand("min", "number", required=False), Operand("max", "number", required=False))
_DATE = (Operand("value", "date"),)
_START = (Operand("start_date", "date"),)
_END = (Operand("end_date", "date"),)
_BOTH = (*_START, *_END)
_FACTOR = (Operand("time_factor", "factor"),)
_RELATIVE = (*_FACTOR, Operand("time_amount", "amount"))

_EXACT: tuple[FieldType, ...] = ("keyword", "number", "boolean", "text")
_LISTED: tuple[FieldType, ...] = ("keyword", "number")
_STRINGS: tuple[FieldType, ...] = ("keyword", "text")
_ALL: tuple[FieldType, ...] = ("keyword", "text", "number", "date", "boolean")
_N: tuple[FieldType, ...] = ("number",)
_D: tuple[FieldType, ...] = ("date",)
_B: tuple[FieldType, ...] = ("boolean",)


def _negative(name: str, of: Operator) -> Operator:
    meaning = f"`{of.name}` does not: no value matches, or the field is missing"
    return Operator(name, of.types, of.operands, of.build, of.how, meaning, of.name)


_IS = Operator("is", _EXACT, _VALUE, "equals", "", "some value equals `value`")
_ANY_OF = Operator("is_any_of", _LISTED, _LIST, "one_of", "", "some value is in the list `value`")
_SUBSTRING = "`value`, or one of the list, as a {}, case folded"
_CONTAINS = Operator(
    "contains", _STRINGS, _WORDS, "text", "contains", f"some value has {_SUBSTRING.format('substring')}"
)
_SET = "the field has at least one value that is not null; the empty string is a value"
_IS_SET = Operator("is_set", _ALL, (), "exists", "", _SET)
_BETWEEN = "some single value v has `min` <= v <= `max`; one of the two may be absent"
_BETWEEN_NUMBER = Operator("is_between_number", _N, _SPAN, "range", "", _BETWEEN)
_DAY = "some instant lies on that calendar day in the time zone"
_IS_DATE = Operator("is_date", _D, _DATE, "day", "", _DAY)
_PERIOD = "some instant t has `start_date` <= t <= `end_date`; bare dates are whole days, the end day counts"
_BETWEEN_DATE = Operator("is_between_date", _D, _BOTH, "period", "", _PERIOD)
_AGO = "some instant lies on the calendar unit n units ago (day 1 is yesterday)"
_AFTER = "some instant is strictly after `start_date`; a bare date means its whole day"
_BEFORE = "some instant is strictly before `end_date`; a bare date means its whole day"

_TABLE = (
    _IS,
    _negative("is_not", _IS),
    _ANY_OF,
    _negative("is_none_of", _ANY_OF),
    _CONTAINS,
    _negative("does_not_contain", _CONTAINS),
    Operator("starts_with", _STRINGS, _WORDS, "text", "starts_with", f"some value has {_SUBSTRING.format('prefix')}"),
    Operator("ends_with", _STRINGS, _WORDS, "text", "ends_with", f"some value has {_SUBSTRING.format('suffix')}"),
    _IS_SET,
    _negative("is_not_set", _IS_SET),
    Operator("is_true", _B, (), "equals", "true", "some value is true"),
    Operator("is_false", _B, (), "equals", "false", "some value is false"),
    Operator("is_greater_than", _N, _NUMBER, "compare", "gt", "some value is greater than `value`"),
    Operator("is_greater_or_equal", _N, _NUMBER, "compare", "ge", "some value is `value` or greater"),
    Operator("is_less_than", _N, _NUMBER, "compare", "lt", "some value is less than `value`"),
    Operator("is_less_or_equal", _N, _NUMBER, "compare", "le", "some value is `value` or less"),
    _BETWEEN_NUMBER,
    _negative("is_not_between_number", _BETWEEN_NUMBER),
    _IS_DATE,
    _negative("is_not_date", _IS_DATE),
    Operator("is_after_date", _D, _START, "after", "", _AFTER),
    Operator("is_before_date", _D, _END, "before", "", _BEFORE),
    _BETWEEN_DATE,
    _negative("is_not_between_date", _BETWEEN_DATE),
    Operator("relative_less_than", _D, _RELATIVE, "window", "less", "some t has now - n units <= t < now"),
    Operator("relative_more_than", _D, _RELATIVE, "window", "more", "some t has t < now - n units"),
    Operator("relative_within_next", _D, _RELATIVE, "window", "next", "some t has now <= t < now + n units"),
    Operator("relative_beyond_next", _D, _RELATIVE, "window", "beyond", "some t has t >= now + n units"),
    Operator("relative_exactly", _D, _RELATIVE, "unit", "ago", _AGO),
    Operator("in_current", _D, _FACTOR, "unit", "current", "some instant lies in the current calendar unit"),
)

OPERATORS: MappingProxyType[str, Operator] = MappingProxyType({row.name: row for row in _TABLE})
OPERAND_MEMBERS: tuple[str, ...] = tuple(
    dict.fromkeys(operand.member for row in OPERATORS.values() for operand in row.operands)
)


def is_relative_operator(operator: Operator) -> bool:
    """Whether its meaning moves with the clock, so that each occurrence of a task selects another window."""
    return operator.build in {"window", "unit"}


def names_for(field_type: str) -> list[str]:
    """The operators that work on a field type, in the order of the table."""
    return [row.name for row in OPERATORS.values() if field_type in row.types]
