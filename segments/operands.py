"""What an operand may be: one check per kind of the operator table, each saying what would be right.

Only shapes are judged here (a string, a list of at most so many, a date that exists); whether two operands
contradict each other is for ``parse``, whether the field can answer for ``check``. Called by ``reading``.
"""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Iterator
from types import MappingProxyType
from typing import cast

from segments.errors import Fault, listed, shown
from segments.operators import FACTORS, Operand, OperandKind
from segments.rules import MAX_LIST, MAX_WORD, MAX_WORDS
from segments.times import read_date, read_factor

_SCALARS = MappingProxyType(
    {
        "keyword": "a string",
        "text": "a string",
        "number": "a finite number",
        "boolean": "true or false",
        "date": "a date",
    }
)

_LONGEST_WORD = 100  # finding what is near a word takes time in proportion to its length
_Check = Callable[[str, object, str], Iterator[Fault]]


def faults_of(operand: Operand, value: object, field_type: str, pointer: str) -> Iterator[Fault]:
    """Everything wrong with the value of one operand of a rule on a field of that type."""
    yield from _CHECKS[operand.kind](pointer, value, field_type)


def wanted(operand: Operand, field_type: str | None = None) -> str:
    """What the operand must be, in words for a fault or the reference page."""
    scalar = _SCALARS.get(field_type or "", "a value of the field's type")
    words: dict[OperandKind, str] = {
        "scalar": scalar,
        "list": f"a list of 1 to {MAX_LIST:,} values, each {scalar}",
        "words": f"a string of 1 to {MAX_WORD} characters, or a list of 1 to {MAX_WORDS} such strings",
        "number": "a finite number",
        "date": "an ISO 8601 date (2026-03-29) or date-time (2026-03-29T10:00:00Z)",
        "factor": f"one of {listed(FACTORS)}",
        "amount": "an integer, 0 or more",
    }
    return words[operand.kind]


def is_text(value: object) -> bool:
    """Whether ``value`` is a string that UTF-8 can carry (JSON can spell half a surrogate pair)."""
    if not isinstance(value, str):
        return False
    return value.isascii() or not any("\ud800" <= character <= "\udfff" for character in value)


def is_number(value: object) -> bool:
    """Whether ``value`` is a finite JSON number; true and false are none."""
    if isinstance(value, float):
        return math.isfinite(value)
    return isinstance(value, int) and not isinstance(value, bool)


def closest(word: object, known: list[str]) -> str:
    """``; did you mean x?`` where something near ``word`` is known."""
    if not isinstance(word, str) or len(word) > _LONGEST_WORD:
        return ""
    near = difflib.get_close_matches(word, known, n=1)
    return f"; did you mean {near[0]}?" if near else ""


def _is_scalar(value: object, field_type: str) -> bool:
    if field_type == "number":
        return is_number(value)
    if field_type == "boolean":
        return isinstance(value, bool)
    return is_text(value)


def _wrong(pointer: str, kind: OperandKind, value: object, field_type: str = "") -> Fault:
    right = wanted(Operand("", kind), field_type)
    return Fault(pointer, "wrong_type", f"must be {right}, not {shown(value)}")


def _scalar(pointer: str, value: object, field_type: str) -> Iterator[Fault]:
    if not _is_scalar(value, field_type):
        yield _wrong(pointer, "scalar", value, field_type)


def _list(pointer: str, value: object, field_type: str) -> Iterator[Fault]:
    if not isinstance(value, list):
        yield _wrong(pointer, "list", value, field_type)
        return
    items = cast("list[object]", value)
    if not items:
        yield Fault(pointer, "empty", "must hold at least one value")
    if len(items) > MAX_LIST:
        yield Fault(pointer, "too_many", f"holds {len(items):,} values; at most {MAX_LIST:,} are allowed")
        return
    for index, item in enumerate(items):
        if not _is_scalar(item, field_type):
            yield _wrong(f"{pointer}/{index}", "scalar", item, field_type)


def _words(pointer: str, value: object, _field_type: str) -> Iterator[Fault]:
    if not isinstance(value, list):
        yield from _word(pointer, value)
        return
    items = cast("list[object]", value)
    if not items:
        yield Fault(pointer, "empty", "must hold at least one string")
    if len(items) > MAX_WORDS:
        yield Fault(pointer, "too_many", f"holds {len(items):,} strings; at most {MAX_WORDS} are allowed")
        return
    for index, item in enumerate(items):
        yield from _word(f"{pointer}/{index}", item)


def _word(pointer: str, value: object) -> Iterator[Fault]:
    if not is_text(value):
        yield _wrong(pointer, "words", value)
    elif not value:
        yield Fault(pointer, "empty", "must have at least one character; is_set asks whether there is a value")
    elif len(cast("str", value)) > MAX_WORD:
        length = len(cast("str", value))
        yield Fault(pointer, "too_long", f"has {length:,} characters; at most {MAX_WORD} are allowed")


def _number(pointer: str, value: object, _field_type: str) -> Iterator[Fault]:
    if not is_number(value):
        yield _wrong(pointer, "number", value)


def _date(pointer: str, value: object, _field_type: str) -> Iterator[Fault]:
    if read_date(value) is None:
        yield _wrong(pointer, "date", value)


def _factor(pointer: str, value: object, _field_type: str) -> Iterator[Fault]:
    if read_factor(value) is None:
        near = closest(value, list(FACTORS))
        yield Fault(pointer, "unknown_value", f"must be {wanted(Operand('', 'factor'))}, not {shown(value)}{near}")


def _amount(pointer: str, value: object, _field_type: str) -> Iterator[Fault]:
    if not isinstance(value, int) or isinstance(value, bool):
        yield _wrong(pointer, "amount", value)
    elif value < 0:
        yield Fault(pointer, "out_of_range", f"must be 0 or more, not {shown(value)}")


_CHECKS: dict[OperandKind, _Check] = {
    "scalar": _scalar,
    "list": _list,
    "words": _words,
    "number": _number,
    "date": _date,
    "factor": _factor,
    "amount": _amount,
}
