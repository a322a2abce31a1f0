"""How number fields store numbers, and which stored values a condition selects.

``stored`` is what a mapping or column makes of a number in a document; ``operand`` what it makes of a
number in a rule. For the engines every condition becomes a closed interval of stored values, so that no engine's own
rounding, casting or zero (Elasticsearch sorts -0.0 below 0.0) has a say. ``evaluate`` compares exactly and
does not use the intervals.
"""

from __future__ import annotations

import math
import re
import struct
from dataclasses import dataclass
from decimal import ROUND_CEILING, ROUND_FLOOR, ROUND_HALF_UP, Context, Decimal
from types import MappingProxyType
from typing import TypeAlias

from segments.tree import Compare, OneOf, Range

Number: TypeAlias = int | float | Decimal

INTEGERS: MappingProxyType[str, tuple[int, int]] = MappingProxyType(
    {
        "byte": (-(2**7), 2**7 - 1),
        "short": (-(2**15), 2**15 - 1),
        "integer": (-(2**31), 2**31 - 1),
        "long": (-(2**63), 2**63 - 1),
        "huge": (-(2**127), 2**127 - 1),
        "unsigned_byte": (0, 2**8 - 1),
        "unsigned_short": (0, 2**16 - 1),
        "unsigned_integer": (0, 2**32 - 1),
        "unsigned_long": (0, 2**64 - 1),
    }
)
_FLOATS = MappingProxyType({"double": (">d", ">q"), "float": (">f", ">i"), "half_float": (">e", ">h")})
_EXACT_INTEGERS = 2**53
_DECIMAL = re.compile(r"decimal\((\d+),(\d+)\)")
_NUMERIC = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?", re.ASCII)
_WIDE = Context(prec=800)


@dataclass(frozen=True, slots=True)
class Interval:
    """The stored values v with low <= v <= high; None leaves a side open."""

    low: Number | None
    high: Number | None


def stored(value: object, storage: str) -> Number | None:
    """What a field of that storage holds of a value in a document; None if it holds nothing."""
    if isinstance(value, str):
        # Elasticsearch coerces numeric strings; a typed column never shows one.
        if not _NUMERIC.fullmatch(value) or not math.isfinite(float(value)):
            return None
        value = int(value) if re.fullmatch(r"[+-]?[0-9]{1,4000}", value) else float(value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    if storage in INTEGERS:
        return math.trunc(value) if math.isfinite(value) else None
    if storage in _FLOATS:
        return _nearest(value, storage)
    scale = _scale(storage)
    return _exactly(value).quantize(Decimal(1).scaleb(-scale), ROUND_HALF_UP, _WIDE)


def operand(value: float, storage: str) -> Number:
    """What a field of that storage compares with for a number in a rule.

    Narrow floats take it as they would store it; an integer beyond 2^53, and a number too big for the
    field, stays the exact number it is.
    """
    if _scale(storage) >= 0:
        return _exactly(value)
    if storage in _FLOATS and not (isinstance(value, int) and abs(value) > _EXACT_INTEGERS):
        near = _nearest(value, storage)
        return value if math.isinf(near) else near
    return value


def intervals(leaf: Compare | OneOf | Range, storage: str) -> list[Interval]:
    """The closed intervals of stored values that a numeric leaf selects; none when it selects nothing."""
    match leaf:
        case Compare(op="eq", value=value):
            found = [_points(value, storage)]
        case Compare(op=op, value=value):
            bound = operand(_number(value), storage)
            above = op in {"gt", "ge"}
            edge = _edge(bound, storage, up=above, strict=op in {"gt", "lt"})
            found = [_interval(edge, None) if above else _interval(None, edge)]
        case OneOf(values=values):
            found = [_points(value, storage) for value in values]
        case Range(low=low, high=high):
            lowest = None if low is None else _edge(operand(low, storage), storage, up=True)
            highest = None if high is None else _edge(operand(high, storage), storage, up=False)
            found = [_interval(lowest, highest)]
    return [one for one in found if one is not None]


def _number(value: object) -> int | float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError("not a number")
    return value


def _points(value: object, storage: str) -> Interval | None:
    bound = operand(_number(value), storage)
    low, high = _edge(bound, storage, up=True), _edge(bound, storage, up=False)
    return _interval(low, high)


def _interval(low: Number | _Beyond | None, high: Number | _Beyond | None) -> Interval | None:
    """The interval between two edges, if it holds anything."""
    if isinstance(low, _Beyond):
        if low.above:
            return None
        low = None
    if isinstance(high, _Beyond):
        if not high.above:
            return None
        high = None
    if low is not None and high is not None and low > high:
        return None
    return Interval(low, high)


@dataclass(frozen=True, slots=True)
class _Beyond:
    """An edge outside everything the storage can hold."""

    above: bool


def _edge(bound: Number, storage: str, *, up: bool, strict: bool = False) -> Number | _Beyond:
    """The stored value nearest to ``bound`` on its upper or lower side, itself included unless strict."""
    if storage in INTEGERS:
        return _integer_edge(bound, INTEGERS[storage], up=up, strict=strict)
    if storage in _FLOATS:
        return _float_edge(bound, storage, up=up, strict=strict)
    return _decimal_edge(bound, storage, up=up, strict=strict)


def _integer_edge(bound: Number, limits: tuple[int, int], *, up: bool, strict: bool) -> Number | _Beyond:
    edge = math.ceil(bound) if up else math.floor(bound)
    if strict and edge == bound:
        edge += 1 if up else -1
    if edge < limits[0]:
        return _Beyond(above=False)
    return _Beyond(above=True) if edge > limits[1] else edge


def _float_edge(bound: Number, storage: str, *, up: bool, strict: bool) -> Number | _Beyond:
    edge = _nearest(bound, storage)
    while (edge < bound if up else edge > bound) or (strict and edge == bound):
        edge = _neighbour(edge, storage, up=up)
    if math.isinf(edge):
        return _Beyond(above=edge > 0)
    return edge


def _decimal_edge(bound: Number, storage: str, *, up: bool, strict: bool) -> Number | _Beyond:
    exact = bound if isinstance(bound, Decimal) else _exactly(bound)
    found = _DECIMAL.fullmatch(storage)
    limit = Decimal(10) ** (int(found[1]) - int(found[2])) if found else Decimal(0)
    if abs(exact) >= limit:
        return _Beyond(above=exact > 0)
    step = Decimal(1).scaleb(-_scale(storage))
    edge = exact.quantize(step, ROUND_CEILING if up else ROUND_FLOOR, _WIDE)
    if strict and edge == exact:
        edge = _WIDE.add(edge, step if up else -step)
    return _Beyond(above=edge > 0) if abs(edge) >= limit else edge


def _scale(storage: str) -> int:
    found = _DECIMAL.fullmatch(storage)
    return int(found[2]) if found else -1


def _exactly(value: Number) -> Decimal:
    """The decimal number a JSON text of ``value`` spells."""
    return Decimal(repr(value)) if isinstance(value, float) else Decimal(value)


def _nearest(value: Number, storage: str) -> float:
    """``value`` as the nearest float of the storage, infinite when too big for it."""
    try:
        near = float(value)
    except OverflowError:
        return math.inf if value > 0 else -math.inf
    for narrower in ("float", "half_float"):
        if storage in {narrower, "half_float"} and math.isfinite(near):
            code = _FLOATS[narrower][0]
            try:
                near = struct.unpack(code, struct.pack(code, near))[0]
            except OverflowError:
                near = math.copysign(math.inf, near)
    return near


def _neighbour(value: float, storage: str, *, up: bool) -> float:
    """The next float of the storage above or below ``value``."""
    code, bits = _FLOATS[storage]
    if value == 0:
        smallest = struct.unpack(code, struct.pack(bits, 1))[0]
        return smallest if up else -smallest
    number = struct.unpack(bits, struct.pack(code, value))[0]
    number += 1 if (value > 0) == up else -1
    return struct.unpack(code, struct.pack(bits, number))[0]
