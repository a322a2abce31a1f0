"""JSON into the models of ``rules``, with every fault of the grammar at once.

What a member may hold comes from the operator table through ``operands``; nothing here knows a catalogue, a
clock or an engine. A rule whose operands are wrong is kept as a question for its field alone, so that
``check`` can still say what is wrong with the field; such a segment is never handed out. Called by
``read_segment`` and ``compile_segment``.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any, cast

from segments.errors import Fault, SegmentError, escaped, listed, shown
from segments.operands import closest, faults_of, is_text, wanted
from segments.operators import OPERAND_MEMBERS, OPERATORS, TYPE_WORDS, Operator, names_for
from segments.rules import MAX_DEPTH, MAX_FAULTS, MAX_RULES, Group, Rule, Segment

_RULE_MEMBERS = ("field_name", "field_type", "operator", *OPERAND_MEMBERS, "nested", "nesting_path")
_LINK_MEMBERS = {"index": "the name of an export index", "link": "a field here", "key": "a field of the other index"}
_GROUP_MEMBERS = ("join", "rules", "negate", *_LINK_MEMBERS)
_SEGMENT_MEMBERS = ("entity", "index", "join", "chain_id", "rules", "negate")
_RIGHT_TYPES = f"one of {listed(list(TYPE_WORDS))}"
_RULE_SET = frozenset(_RULE_MEMBERS)
_OPERAND_SET = frozenset(OPERAND_MEMBERS)
# Stand in for what could not be read, so that all else keeps its place: a question for the field alone where
# the operands are wrong, else nothing at all.
_PLACEHOLDER = "is_set"
_NOTHING = Group.model_construct(join="all", rules=(), negate=False)


def read_segment(raw: object) -> Segment:
    """The segment that decoded JSON spells.

    Raises:
        SegmentError: with every fault of the grammar; fields and contradictions are judged by ``check``
            and ``parse``.
    """
    segment, faults = read(raw)
    if segment is None or faults:
        raise SegmentError(faults)
    return segment


def read(raw: object) -> tuple[Segment | None, list[Fault]]:
    """The segment as far as it can be read, and every fault of the grammar."""
    reading = _Reading()
    segment = reading.segment(raw)
    return segment, reading.faults


class _Reading:
    """Walks one segment and gathers faults and the number of rules."""

    def __init__(self) -> None:
        self.faults: list[Fault] = []
        self._rules = 0

    def segment(self, raw: object) -> Segment | None:
        members = self._object(raw, "", "a segment")
        if members is None:
            return None
        self._known(members, _SEGMENT_MEMBERS, "")
        if members.get("entity", "people") != "people":
            self._fault("/entity", "unknown_value", f'must be "people", not {shown(members["entity"])}')
        index = self._required(members, "index", "", "the name of an export index")
        if index is not None and (not is_text(index) or not index):
            self._fault("/index", "wrong_type", f"must be the name of an export index, not {shown(index)}")
        chain = self._required(members, "chain_id", "", "the number of the chain")
        if chain is not None and (not isinstance(chain, int) or isinstance(chain, bool)):
            self._fault("/chain_id", "wrong_type", f"must be an integer, not {shown(chain)}")
        join, rules, negate = self._joined(members, "", 1)
        return Segment.model_construct(
            entity="people", index=cast("str", index), join=join, chain_id=cast("int", chain), rules=rules,
            negate=negate,
        )  # fmt: skip

    def _joined(
        self, members: Mapping[str, Any], pointer: str, depth: int
    ) -> tuple[Any, tuple[Rule | Group, ...], bool]:
        """The members every group has, read."""
        join = self._required(members, "join", pointer, '"all" or "any"')
        if join is not None and join not in ("all", "any"):
            self._fault(f"{pointer}/join", "unknown_value", f'must be "all" or "any", not {shown(join)}')
        negate = members.get("negate", False)
        if not isinstance(negate, bool):
            self._fault(f"{pointer}/negate", "wrong_type", f"must be true or false, not {shown(negate)}")
        rules = self._required(members, "rules", pointer, "a list of rules and groups")
        if rules is None:
            return join, (), negate is True
        if not isinstance(rules, list):
            self._fault(f"{pointer}/rules", "wrong_type", f"must be a list, not {shown(rules)}")
            return join, (), negate is True
        items = cast("list[object]", rules)
        if not items and (depth > 1 or join == "any"):
            empty = 'only the segment itself, joined by "all", may be without rules: it selects every row'
            self._fault(f"{pointer}/rules", "empty", f"must hold at least one rule; {empty}")
        read = (self._item(item, f"{pointer}/rules/{at}", depth) for at, item in enumerate(items))
        return join, tuple([item or _NOTHING for item in read]), negate is True

    def _item(self, raw: object, pointer: str, depth: int) -> Rule | Group | None:
        if self._rules > MAX_RULES:
            return None  # said once already
        members = self._object(raw, pointer, "a rule or a group")
        if members is None or not ("rules" in members or "join" in members or "link" in members):
            self._rules += 1
            if self._rules > MAX_RULES:
                self._fault(pointer, "too_many", f"a segment has at most {MAX_RULES} rules")
                return None
            return None if members is None else self._rule(members, pointer)
        if depth == MAX_DEPTH:
            deep = f"groups nest to depth {MAX_DEPTH}, the segment being the first; this one lies deeper"
            self._fault(pointer, "too_deep", deep)
            return None
        self._known(members, _GROUP_MEMBERS, pointer)
        sound = self._link(members, pointer)
        join, rules, negate = self._joined(members, pointer, depth + 1)
        if not sound:
            return None  # nobody knows which index its rules are about
        index, link, key = (members.get(member) for member in _LINK_MEMBERS)
        return Group.model_construct(join=join, rules=rules, negate=negate, index=index, link=link, key=key)

    def _link(self, members: Mapping[str, Any], pointer: str) -> bool:
        """Whether a group about another index says so wholly; one that is about none does."""
        given = {member: members[member] for member in _LINK_MEMBERS if member in members}
        before = len(self.faults)
        for member, value in given.items():
            if not is_text(value) or not value:
                right = f"must be {_LINK_MEMBERS[member]}, not {shown(value)}"
                self._fault(f"{pointer}/{member}", "wrong_type", right)
        for member in ("index", "link"):
            if given and member not in given:
                self._missing(f"{pointer}/{member}", f"a group about another index needs it: {_LINK_MEMBERS[member]}")
        return len(self.faults) == before

    def _rule(self, members: Mapping[str, Any], pointer: str) -> Rule | None:
        before = len(self.faults)
        if not members.keys() <= _RULE_SET:
            self._known(members, _RULE_MEMBERS, pointer)
        name = self._required(members, "field_name", pointer, "the full path of a field")
        if name is not None and (not is_text(name) or not name):
            self._fault(f"{pointer}/field_name", "wrong_type", f"must be the path of a field, not {shown(name)}")
            name = None
        field_type = self._field_type(members, pointer)
        operator = self._operator(members, pointer, field_type)
        if operator is not None:
            self._operands(operator, members, pointer, field_type or "")
        so_far = len(self.faults)
        path = self._nesting(members, pointer)
        if len(self.faults) == before:
            return Rule.model_validate(members)
        if name is None or field_type is None or len(self.faults) > so_far:
            return None
        return Rule.model_construct(
            field_name=name,
            field_type=field_type,
            operator=_PLACEHOLDER,
            nested=path is not None,
            nesting_path=path,
        )

    def _field_type(self, members: Mapping[str, Any], pointer: str) -> str | None:
        word = self._required(members, "field_type", pointer, _RIGHT_TYPES)
        if word is None:
            return None
        if not isinstance(word, str) or word not in TYPE_WORDS:
            near = closest(word, list(TYPE_WORDS))
            detail = f"must be {_RIGHT_TYPES}, not {shown(word)}{near}"
            self._fault(f"{pointer}/field_type", "unknown_field_type", detail)
            return None
        return TYPE_WORDS[word]

    def _operator(self, members: Mapping[str, Any], pointer: str, field_type: str | None) -> Operator | None:
        word = members.get("operator")
        operator = OPERATORS.get(word) if isinstance(word, str) else None
        if operator is not None and (field_type is None or field_type in operator.types):
            return operator
        names = names_for(field_type) if field_type else list(OPERATORS)
        right = f"one of {listed(names)}"
        if self._required(members, "operator", pointer, right) is None:
            return None
        if operator is None:
            near = closest(word, names) or closest(word, list(OPERATORS))
            detail = f"there is no operator {shown(word)}{near}; must be {right}"
            self._fault(f"{pointer}/operator", "unknown_operator", detail)
        else:
            works = f"{operator.name} works on {listed(operator.types, 'and')} fields"
            detail = f"{works}; for {field_type} it must be {right}"
            self._fault(f"{pointer}/operator", "wrong_operator", detail)
        return operator

    def _operands(self, operator: Operator, members: Mapping[str, Any], pointer: str, field_type: str) -> None:
        needed = operator.operands
        given = 0
        for operand in needed:
            if operand.member in members:
                given += 1
                at = f"{pointer}/{operand.member}"
                room = max(MAX_FAULTS - len(self.faults), 0)
                self.faults.extend(islice(faults_of(operand, members[operand.member], field_type, at), room))
            elif operand.required:
                self._missing(f"{pointer}/{operand.member}", f"{operator.name} needs it: {wanted(operand, field_type)}")
        if needed and not given and not any(operand.required for operand in needed):
            names = listed([operand.member for operand in needed])
            self._missing(f"{pointer}/{needed[0].member}", f"{operator.name} needs {names}, or both")
        if len(members) - given > 3:  # noqa: PLR2004 - the three members every rule has
            wants = listed([operand.member for operand in needed], "and") or "no operand"
            for member in members:
                if member in _OPERAND_SET and member not in {operand.member for operand in needed}:
                    self._fault(f"{pointer}/{member}", "unexpected", f"{operator.name} takes {wants}; leave it out")

    def _nesting(self, members: Mapping[str, Any], pointer: str) -> str | None:
        if "nested" not in members and "nesting_path" not in members:
            return None
        nested = members.get("nested", False)
        path = members.get("nesting_path")
        if not isinstance(nested, bool):
            self._fault(f"{pointer}/nested", "wrong_type", f"must be true or false, not {shown(nested)}")
        elif nested and "nesting_path" not in members:
            self._missing(f"{pointer}/nesting_path", "a nested rule names the path of the nested document")
        elif not nested and "nesting_path" in members:
            self._fault(f"{pointer}/nesting_path", "unexpected", 'goes with "nested": true only')
        if "nesting_path" in members and (not is_text(path) or not path):
            right = "must be the path of the nested document the field lies in"
            self._fault(f"{pointer}/nesting_path", "wrong_type", f"{right}, not {shown(path)}")
            return None
        return cast("str | None", path)

    def _object(self, raw: object, pointer: str, what: str) -> Mapping[str, Any] | None:
        if isinstance(raw, dict):
            return cast("Mapping[str, Any]", raw)
        self._fault(pointer, "wrong_type", f"must be {what}, a JSON object, not {shown(raw)}")
        return None

    def _known(self, members: Mapping[str, Any], known: tuple[str, ...], pointer: str) -> None:
        for member in members:
            if member not in known and len(self.faults) < MAX_FAULTS:
                near = closest(member, list(known))
                detail = f"there is no member {shown(member)} here{near}; known are {listed(known, 'and')}"
                self._fault(f"{pointer}/{escaped(member)}", "unknown_member", detail)

    def _required(self, members: Mapping[str, Any], member: str, pointer: str, right: str) -> Any:  # noqa: ANN401 - any JSON value
        """The member's value; None, with a fault, when it is missing or null."""
        value = members.get(member)
        if value is None:
            if member in members:
                self._fault(f"{pointer}/{member}", "wrong_type", f"must be {right}, not null")
            else:
                self._missing(f"{pointer}/{member}", f"must be {right}")
        return value

    def _missing(self, pointer: str, detail: str) -> None:
        self._fault(pointer, "missing", f"is missing: {detail}")

    def _fault(self, pointer: str, code: str, detail: str) -> None:
        if len(self.faults) < MAX_FAULTS:
            self.faults.append(Fault(pointer, code, detail))
