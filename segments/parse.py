"""Rules into a tree, with ``now`` and the zone resolved to absolute instants, once.

One function per ``build`` word of the operator table makes the node of a positive operator; a negative one is
``Not`` of the operator it negates. Here too is decided what speaks of the same nested document, and here
contradictions between operands are found. Fields are names still: ``check`` looks them up.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from types import MappingProxyType
from typing import cast
from zoneinfo import ZoneInfo

from segments.errors import Fault, SegmentError
from segments.operators import OPERATORS, TYPE_WORDS, Build, is_relative_operator
from segments.rules import DEFAULT_KEY, Group, Rule, Segment
from segments.times import Clock, bounds, day_around, read_date, read_factor, shifted, unit
from segments.tree import (
    And,
    Asked,
    Compare,
    Comparison,
    Exists,
    Leaf,
    Linked,
    Nested,
    Not,
    OneOf,
    Or,
    Period,
    Placing,
    Range,
    Text,
    Tree,
)


def parse(segment: Segment, *, now: datetime, zone: ZoneInfo) -> Tree:
    """The unchecked tree of a segment.

    Args:
        segment: from ``read_segment``.
        now: the occurrence of the run, aware.
        zone: where bare dates and operands without an offset are read.

    Raises:
        SegmentError: operands that contradict each other.
    """
    tree, faults = parse_all(segment, Clock.at(now, zone))
    if faults:
        raise SegmentError(faults)
    return tree


def parse_all(segment: Segment, clock: Clock) -> tuple[Tree, list[Fault]]:
    """The tree and every contradiction between operands."""
    parsing = _Parsing(clock)
    return parsing.group(segment, ""), parsing.faults


def is_relative(segment: Segment) -> bool:
    """Whether any rule moves with the clock."""
    return _moves(segment)


def _moves(group: Segment | Group) -> bool:
    return any(
        is_relative_operator(OPERATORS[item.operator]) if isinstance(item, Rule) else _moves(item)
        for item in group.rules
    )


class _Parsing:
    def __init__(self, clock: Clock) -> None:
        self.faults: list[Fault] = []
        self._clock = clock

    def group(self, group: Segment | Group, pointer: str) -> Tree:
        parts: list[Tree] = []
        same: dict[str, list[Tree]] = {}  # nesting path -> positive rules about the same child
        for at, item in enumerate(group.rules):
            below = f"{pointer}/rules/{at}"
            if not isinstance(item, Rule):
                parts.append(self.group(item, below))
                continue
            leaf, negative = self._rule(item, below)
            path = item.nesting_path
            if path is None:
                parts.append(Not(leaf) if negative else leaf)
            elif negative:
                parts.append(Not(Nested(path, leaf)))
            elif group.join == "any":
                parts.append(Nested(path, leaf))
            else:
                same.setdefault(path, []).append(leaf)
        for path, leaves in same.items():
            parts.append(Nested(path, leaves[0] if len(leaves) == 1 else And(tuple(leaves))))
        tree = _joined(parts, join=group.join)
        if isinstance(group, Group) and group.index is not None:
            tree = _linked(group, tree, pointer)
        if not group.negate:
            return tree
        return tree.part if isinstance(tree, Not) else Not(tree)

    def _rule(self, rule: Rule, pointer: str) -> tuple[Leaf, bool]:
        operator = OPERATORS[rule.operator]
        kind = TYPE_WORDS[rule.field_type]
        field = Asked(pointer, rule.field_name, kind, rule.nesting_path, operator.name)
        leaf = _BUILD[operator.build](rule, field, operator.how, self._clock)
        if isinstance(leaf, Range) and leaf.low is not None and leaf.high is not None and leaf.low > leaf.high:
            self.faults.append(Fault(pointer, "out_of_order", "min must not be greater than max"))
        if operator.build == "period" and cast("int", _period(leaf)[0]) >= cast("int", _period(leaf)[1]):
            self.faults.append(Fault(pointer, "out_of_order", "start_date must not be after end_date"))
        return leaf, operator.negates is not None


def _joined(parts: list[Tree], *, join: str) -> Tree:
    if len(parts) == 1:
        return parts[0]
    return And(tuple(parts)) if join == "all" else Or(tuple(parts))


def _linked(group: Group, part: Tree, pointer: str) -> Linked:
    # The place of a key that is not written is the index it belongs to.
    at = f"{pointer}/key" if group.key is not None else f"{pointer}/index"
    link = Asked(f"{pointer}/link", group.link or "", "", None, "link")
    return Linked(group.index or "", link, Asked(at, group.key or DEFAULT_KEY, "", None, "key"), part)


def _period(leaf: Leaf) -> tuple[int | None, int | None]:
    period = cast("Period", leaf)
    return period.start, period.end


def _equals(rule: Rule, field: Asked, how: str, _clock: Clock) -> Leaf:
    return Compare(field, "eq", how == "true" if how else rule.value)


def _one_of(rule: Rule, field: Asked, _how: str, _clock: Clock) -> Leaf:
    return OneOf(field, tuple(rule.value))


def _text(rule: Rule, field: Asked, how: str, _clock: Clock) -> Leaf:
    needles = (rule.value,) if isinstance(rule.value, str) else tuple(dict.fromkeys(rule.value))
    return Text(field, cast("Placing", how), needles)


def _exists(_rule: Rule, field: Asked, _how: str, _clock: Clock) -> Leaf:
    return Exists(field)


def _compare(rule: Rule, field: Asked, how: str, _clock: Clock) -> Leaf:
    return Compare(field, cast("Comparison", how), rule.value)


def _range(rule: Rule, field: Asked, _how: str, _clock: Clock) -> Leaf:
    return Range(field, rule.min, rule.max)


def _span(text: object, clock: Clock) -> tuple[int, int]:
    read = read_date(text)
    if read is None:
        raise ValueError("the rule has not been through read_segment")
    return bounds(read, clock)


def _day(rule: Rule, field: Asked, _how: str, clock: Clock) -> Leaf:
    read = read_date(rule.value)
    if read is None:
        raise ValueError("the rule has not been through read_segment")
    return Period(field, *day_around(read, clock))


def _after(rule: Rule, field: Asked, _how: str, clock: Clock) -> Leaf:
    return Period(field, _span(rule.start_date, clock)[1], None)


def _before(rule: Rule, field: Asked, _how: str, clock: Clock) -> Leaf:
    return Period(field, None, _span(rule.end_date, clock)[0])


def _between(rule: Rule, field: Asked, _how: str, clock: Clock) -> Leaf:
    return Period(field, _span(rule.start_date, clock)[0], _span(rule.end_date, clock)[1])


def _window(rule: Rule, field: Asked, how: str, clock: Clock) -> Leaf:
    factor = read_factor(rule.time_factor) or ""
    amount = rule.time_amount or 0
    there = shifted(clock, factor, amount if how in {"next", "beyond"} else -amount)
    if how == "less":
        return Period(field, there, clock.now)
    if how == "more":
        return Period(field, None, there)
    if how == "next":
        return Period(field, clock.now, there)
    return Period(field, there, None)


def _unit(rule: Rule, field: Asked, _how: str, clock: Clock) -> Leaf:
    span = unit(clock, read_factor(rule.time_factor) or "", -(rule.time_amount or 0))
    # No unit of the calendar lies there, so no instant lies on it.
    return Period(field, *(span or (clock.now, clock.now)))


_BUILD: MappingProxyType[Build, Callable[[Rule, Asked, str, Clock], Leaf]] = MappingProxyType(
    {
        "equals": _equals,
        "one_of": _one_of,
        "text": _text,
        "exists": _exists,
        "compare": _compare,
        "range": _range,
        "day": _day,
        "after": _after,
        "before": _before,
        "period": _between,
        "window": _window,
        "unit": _unit,
    }
)
