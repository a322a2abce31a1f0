"""Why a segment selects one document, or leaves it out: every group and every rule with its verdict and the reason.

Each verdict is ``evaluate``'s own, asked of the part of the segment it belongs to, compiled as the whole is: so that an
explanation cannot disagree with the meaning. What lives here is taking a segment apart, finding the values a rule has
seen, and the words. Called by the service where somebody asks about a document; it does no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from typing import Any
from zoneinfo import ZoneInfo

from segments.catalog import Catalog
from segments.check import NO_OTHERS, check_all
from segments.errors import SegmentError, listed, shown
from segments.evaluate import children_at, evaluate, values_at
from segments.fields import Level
from segments.links import substituted
from segments.operators import OPERATORS
from segments.parse import parse_all
from segments.phrases import phrase
from segments.reading import read_segment
from segments.rules import DEFAULT_KEY, Group, Join, Rule, Segment
from segments.times import Clock
from segments.tree import EVERYTHING, And, Leaf, Linked, Nested, Not, Or, Tree, checked

MAX_VALUES = 20
_LONGEST = 200
_NOTHING = Or(())


@dataclass(frozen=True, slots=True)
class RuleExplained:
    """A rule's verdict on a document.

    Attributes:
        pointer: JSON pointer from the segment to the rule.
        field_name: as the rule has it.
        operator: as the rule has it.
        matched: whether the rule, by itself, selects the document.
        values: the first values of the field, at most MAX_VALUES; long strings are cut.
        fitting: those of ``values`` that are what the operator, or the one it negates, asks for.
        count: how many values there are.
        why: a sentence for people.
    """

    pointer: str
    field_name: str
    operator: str
    matched: bool
    values: tuple[Any, ...]
    fitting: tuple[Any, ...]
    count: int
    why: str


@dataclass(frozen=True, slots=True)
class TogetherExplained:
    """The verdict on rules of one group that speak of the same nested document."""

    pointers: tuple[str, ...]
    nesting_path: str
    matched: bool
    why: str


@dataclass(frozen=True, slots=True)
class GroupExplained:
    """A group's verdict on a document, and those of what it is made of.

    Attributes:
        pointer: JSON pointer from the segment to the group; empty for the segment itself.
        join: as the group has it.
        negate: as the group has it.
        index: the other index its rules are about; those are not taken apart.
        matched: whether the group, by itself, selects the document.
        why: a sentence for people.
        rules: its rules and groups, in order.
        together: its rules about the same nested document, where there are several.
    """

    pointer: str
    join: Join
    negate: bool
    index: str | None
    matched: bool
    why: str
    rules: tuple[RuleExplained | GroupExplained, ...]
    together: tuple[TogetherExplained, ...]


def explain(
    raw: object,
    catalog: Catalog,
    others: Mapping[str, Catalog] = NO_OTHERS,
    *,
    document: Mapping[str, Any],
    now: datetime,
    zone: ZoneInfo,
    selects: Callable[[Linked], bool] | None = None,
) -> GroupExplained:
    """The verdict of a segment on a document, and of everything it is made of.

    Args:
        raw: the segment as ``json.loads`` gave it.
        catalog: the fields of its index.
        others: the export indices that groups may be about, by name.
        document: as ``json.loads`` gives it.
        now: what relative operators are resolved against.
        zone: where bare dates and operands without offset are read.
        selects: whether a group about another index selects the document; only the source can know.

    Raises:
        SegmentError: the segment is refused; ``compile_segment`` tells the same.
        TypeError: a group is about another index, and nobody was given to ask.
    """
    segment = read_segment(raw)
    explaining = _Explaining(segment, catalog, others, document, Clock.at(now, zone), selects or _unknown)
    return explaining.group(segment, "")


def _unknown(link: Linked) -> bool:
    raise TypeError(f"whether a group about {link.index} selects a document is for its source to say")


class _Explaining:
    def __init__(
        self,
        segment: Segment,
        catalog: Catalog,
        others: Mapping[str, Catalog],
        document: Mapping[str, Any],
        clock: Clock,
        selects: Callable[[Linked], bool],
    ) -> None:
        self._segment = segment
        self._catalog, self._others = catalog, others
        self._document = document
        self._clock = clock
        self._selects = selects
        self._answers: dict[Linked, bool] = {}

    def group(self, group: Segment | Group, pointer: str) -> GroupExplained:
        whole = self._holds([group], "all")
        index = group.index if isinstance(group, Group) else None
        parts: tuple[RuleExplained | GroupExplained, ...] = ()
        together: tuple[TogetherExplained, ...] = ()
        if index is None:
            parts = tuple(self._part(item, f"{pointer}/rules/{at}") for at, item in enumerate(group.rules))
            together = tuple(self._together(group, parts))
        holds = whole != group.negate
        why = (
            _linked(group, holds) if isinstance(group, Group) and index else _joined(group.join, holds, parts, together)
        )
        if group.negate:
            why += f" The group is negated, so it {'matches' if whole else 'does not match'}."
        return GroupExplained(pointer, group.join, group.negate, index, whole, why, parts, together)

    def _part(self, item: Rule | Group, pointer: str) -> RuleExplained | GroupExplained:
        return self._rule(item, pointer) if isinstance(item, Rule) else self.group(item, pointer)

    def _rule(self, rule: Rule, pointer: str) -> RuleExplained:
        leaf, levels = _leaf_of(self._compiled([rule], "all"))
        parts = checked(leaf.field).parts
        values = [value for child in children_at(self._document, levels) for value in values_at(child, parts)]
        seen = values[:MAX_VALUES]
        fitting = [value for value in seen if evaluate(leaf, _only(parts, value))]
        matched = self._holds([rule], "all")
        positive = OPERATORS[rule.operator].negates is None
        found = _found(len(values), seen, fitting, beyond=matched == positive and not fitting)
        asked = f"{'some' if positive else 'no'} value of {rule.field_name} that {phrase(leaf)}"
        return RuleExplained(
            pointer,
            rule.field_name,
            rule.operator,
            matched,
            tuple(_cut(value) for value in seen),
            tuple(_cut(value) for value in fitting),
            len(values),
            f"The rule asks for {asked}; {found}.",
        )

    def _together(
        self, group: Segment | Group, parts: Sequence[RuleExplained | GroupExplained]
    ) -> Iterable[TogetherExplained]:
        """Rules that do not hold one by one but on the same nested document: positive ones, joined by ``all``."""
        if group.join != "all":
            return
        same: dict[str, list[tuple[Rule, RuleExplained]]] = {}
        for item, part in zip(group.rules, parts, strict=True):
            if not isinstance(item, Rule) or not isinstance(part, RuleExplained) or item.nesting_path is None:
                continue
            if OPERATORS[item.operator].negates is None:
                same.setdefault(item.nesting_path, []).append((item, part))
        for path, several in same.items():
            if len(several) > 1:
                matched = self._holds([rule for rule, _ in several], "all")
                singly = all(part.matched for _, part in several)
                why = f"No document of {path} meets all of these rules."
                if matched:
                    why = f"One and the same document of {path} meets all of these rules."
                elif singly:
                    why = f"Each of these rules is met by some document of {path}, but no single one meets them all."
                yield TogetherExplained(tuple(part.pointer for _, part in several), path, matched, why)

    def _holds(self, items: Sequence[Segment | Group | Rule], join: Join) -> bool:
        return evaluate(self._compiled(items, join), self._document)

    def _compiled(self, items: Sequence[Segment | Group | Rule], join: Join) -> Tree:
        """A part of the segment as the segment it would be alone, with what the source says of other indices."""
        segment = items[0] if isinstance(items[0], Segment) else self._alone(items, join)
        tree, contradictions = parse_all(segment, self._clock)
        found, unanswerable = check_all(tree, self._catalog, self._others)
        if contradictions or unanswerable:
            raise SegmentError([*contradictions, *unanswerable])
        return substituted(found, lambda link: EVERYTHING if self._answer(link) else _NOTHING)

    def _alone(self, items: Sequence[Segment | Group | Rule], join: Join) -> Segment:
        whole = self._segment
        return Segment.model_construct(
            entity="people", index=whole.index, join=join, chain_id=whole.chain_id, rules=tuple(items), negate=False
        )  # fmt: skip

    def _answer(self, link: Linked) -> bool:
        if link not in self._answers:
            self._answers[link] = self._selects(link)
        return self._answers[link]


def _leaf_of(tree: Tree) -> tuple[Leaf, tuple[Level, ...]]:
    """The leaf a single rule has become, and the way to the nested documents it speaks of."""
    part = tree.part if isinstance(tree, Not) else tree
    levels = part.levels if isinstance(part, Nested) else ()
    leaf = part.part if isinstance(part, Nested) else part
    if isinstance(leaf, And | Or | Not | Nested | Linked):
        raise TypeError("a rule is a leaf, its negation, or one of nested documents")
    return leaf, levels


def _only(parts: tuple[str, ...], value: object) -> dict[str, Any]:
    """A document that holds one value and nothing else."""
    document: Any = value
    for part in reversed(parts):
        document = {part: document}
    return document


def _found(count: int, seen: Sequence[object], fitting: Sequence[object], *, beyond: bool) -> str:
    if count == 0:
        return "the document has no value there"
    if beyond and count > len(seen):
        return f"one of its {count} values, after the first {len(seen)}, is one"
    if count == 1:
        return f"its value {shown(_cut(seen[0]))} is {'one' if fitting else 'not one'}"
    if not fitting:
        return f"none of its {count} values is one"
    told = listed([shown(_cut(value)) for value in islice(fitting, 3)], "and")
    return f"of its {count} values {told} {'is' if len(fitting) == 1 else 'are'}"


def _joined(
    join: Join,
    holds: bool,  # noqa: FBT001 - the verdict
    parts: Sequence[RuleExplained | GroupExplained],
    together: Sequence[TogetherExplained],
) -> str:
    if not parts:
        return "There are no rules: every document matches."
    met = [part.pointer for part in parts if part.matched]
    unmet = [part.pointer for part in parts if not part.matched]
    if join == "any":
        return f"At least one part is asked for; {_named(met)} matches." if met else "None of its parts matches."
    if holds:
        return "All of its parts match."
    if unmet:
        return f"All of its parts are asked for; not so {_named(unmet)}."
    apart = listed([f"{_named(one.pointers)}" for one in together if not one.matched], "and")
    return f"Each of its parts matches, but {apart} not on the same nested document."


def _linked(group: Group, holds: bool) -> str:  # noqa: FBT001 - the verdict
    some = "A" if holds else "No"
    key = group.key or DEFAULT_KEY
    return f"{some} document of {group.index} whose {key} is in {group.link} matches the rules of this group."


def _named(pointers: Sequence[str]) -> str:
    more = len(pointers) - 5
    return listed([*pointers[:5], *([f"{more} more"] if more > 0 else [])], "and")


def _cut(value: object) -> object:
    """A value as an explanation shows it."""
    if isinstance(value, dict):
        return "an object"
    if isinstance(value, str) and len(value) > _LONGEST:
        return value[: _LONGEST - 1] + "…"
    return value
