"""Documents and segments for the differential test: the same data as JSON, as an index and as a table.

A field is one row of ``FIELDS``: its mapping, its column type and the values it may take, each value as JSON
spells it and as a typed column holds it, so that nothing here depends on how ``evaluate`` reads documents.
Values and operands come from the same pools of edges, else almost nothing would ever match.
"""

from __future__ import annotations

import json
import random
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from hypothesis import strategies as st

from segments import OPERATORS

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
LAST_NANOS = datetime.fromisoformat("2262-04-11T23:47:16.854775")

# The characters that look alike on purpose are spelt by their numbers, so that nobody mistakes them.
WORDS = [
    "", "a", "A", "k", "K", "\u212a", "s", "S", "\u017f", "ß", "ẞ", "ss", "i", "I", "İ", "\u0131", "i\u0307",
    "\u03c3", "ς", "Σ", "θ", "ϑ", "ϴ", "Θ", "Ω", "\u2126", "ω", "å", "Å", "\u212b", "µ", "μ", "\u039c", "ǅ", "ǆ",
    "Ǆ", "ﬅ", "ﬆ", "ΐ", "\u1fd3", "ა", "Ა", "\u13a0", "\uab70", "😀", "𐐀", "𐐨", "e\u0301", "é", "É", ".", "*", "?",
    "\\", '"', "'", "[a]", "(", ")", "{1}", "|", "^", "$", "#", "@", "&", "<1-9>", "~", "-", "/", "\n", "\0",
    "\u2028", " ", "%", "_", "čeněk", "ČENĚK", "x.y", "true", "1",
]  # fmt: skip
INTEGERS = [0, 1, -1, 2, 5, 100, 127, -128]
LONGS = [*INTEGERS, 2**31, 2**53 - 1, 2**53, 2**53 + 1, 2**63 - 1, -(2**63), -(2**63) + 1]
DOUBLES = [0.0, -0.0, 1.0, 1.5, -1.5, 0.1, 0.30000000000000004, 5e-324, -5e-324, 1e308, 2.0**53, 2.0**63, 100.0]
FLOATS = [0.0, -0.0, 0.1, 1.5, 16777217, 16777216, 1e-46, 3.4e38, -1.5, 0.2, 2.0**60]
HALVES = [0.0, -0.0, 0.1, 2049, 2048, 65504, 65519, -1.5, 1e-8, 5.960464477539063e-08, 1000.5]
CENTS = ["0.00", "1.10", "-1.10", "1.50", "99999999.99", "0.01", "100.00"]
OPERANDS = [*LONGS, *DOUBLES, *FLOATS, *HALVES, 1.1, -1.1, 0.005, 99999999.99, 2**53 + 2, 2**60 + 1]
OPERANDS += [2**63, -(2**63) - 1]
OPERANDS += [2**64, 10**30, -(10**30), 1e300, -1e300, 65505, 70000, 1e39, 0.1000000001, 1e-50, 127.5, 128, -129]
OTHERS = "others"  # the index that linked groups are about, of documents of the same fields
ZONES = [
    "UTC", "Europe/Amsterdam", "America/New_York", "Australia/Lord_Howe", "Asia/Kathmandu", "Africa/Cairo",
    "America/Havana", "America/Sao_Paulo", "Pacific/Apia", "Pacific/Kiritimati", "Africa/Monrovia", "Asia/Tehran",
    "America/St_Johns", "Europe/Dublin", "Antarctica/Troll", "America/Nuuk", "Africa/Casablanca", "Asia/Gaza",
    "Pacific/Chatham", "Etc/GMT+12",
]  # fmt: skip
_ANCHORS = [
    "2026-03-29T01:00:00", "2026-03-29T00:00:00", "2026-03-28T23:00:00", "2026-10-25T01:00:00",
    "2026-10-25T00:00:00", "2024-02-29T00:00:00", "2024-02-28T23:59:59.999", "2023-03-01T00:00:00",
    "2025-12-31T23:00:00", "2026-01-01T00:00:00", "2011-12-30T10:00:00", "2026-04-24T22:00:00",
    "2026-11-01T04:00:00", "2026-04-04T15:00:00", "1969-12-31T23:59:59.999999", "1970-01-01T00:00:00",
    "2262-04-11T23:47:16.854", "0001-01-01T00:00:00", "9999-12-31T23:59:59.999", "2018-11-04T03:00:00",
    "2026-06-30T12:30:45.678",
]  # fmt: skip
_NUDGES = [timedelta(0), timedelta(milliseconds=1), timedelta(milliseconds=-1), timedelta(microseconds=999)]
_NUDGES += [timedelta(hours=hours) for hours in (1, -1, 5, -9, 24, -24, 24 * 7, -24 * 31)]
MOMENTS = sorted(
    {
        datetime.fromisoformat(anchor).replace(tzinfo=UTC) + nudge
        for anchor in _ANCHORS
        for nudge in _NUDGES
        if not (anchor.startswith("0001") and nudge < timedelta(0))
        and not (anchor.startswith("9999") and nudge > timedelta(0))
    }
)
RECENT = [moment for moment in MOMENTS if 2000 < moment.year < 2100]
# date_nanos holds 1970 to 2262-04-11T23:47:16.854775807.
NANOS = [moment for moment in MOMENTS if moment >= EPOCH and moment.replace(tzinfo=None) < LAST_NANOS]


@dataclass(frozen=True)
class Spec:
    """A field of the generated world.

    Attributes:
        type: as rules call it.
        mapping: for Elasticsearch; None where the field is in the table only.
        column: DuckDB type of one value; None where the field is in the index only.
        pool: what it takes: words, a list of numbers, moments, cents or booleans.
        lists: how many lists deep the column is.
        path: the nested path it lies in.
    """

    type: str
    mapping: dict[str, Any] | None
    column: str | None
    pool: Any
    lists: int = 1
    path: str | None = None


_KEYWORD = {"type": "keyword"}
_PARENT = {"type": "text", "fields": {"raw": {"type": "keyword", "ignore_above": 6}}}
FIELDS: dict[str, Spec] = {
    "chain": Spec("number", {"type": "long"}, "BIGINT", [1, 2], lists=0),
    "word": Spec("keyword", _KEYWORD, "VARCHAR", "words"),
    "single": Spec("keyword", _KEYWORD, "VARCHAR", "words", lists=0),
    "deep": Spec("keyword", _KEYWORD, "VARCHAR", "words", lists=2),
    "title": Spec("text", {**_PARENT, "fields": {"raw": _KEYWORD}}, "VARCHAR", "words", lists=0),
    "short_title": Spec("text", _PARENT, None, "words"),
    "short_word": Spec("keyword", {"type": "keyword", "ignore_above": 3}, None, "words"),
    "long": Spec("number", {"type": "long"}, "BIGINT", LONGS),
    "whole": Spec("number", {"type": "long"}, "BIGINT", LONGS, lists=0),
    "byte": Spec("number", {"type": "byte"}, "TINYINT", INTEGERS),
    "double": Spec("number", {"type": "double"}, "DOUBLE", DOUBLES),
    "price": Spec("number", {"type": "double"}, "DOUBLE", DOUBLES, lists=0),
    "float": Spec("number", {"type": "float"}, "FLOAT", FLOATS),
    "half": Spec("number", {"type": "half_float"}, None, HALVES),
    "cents": Spec("number", None, "DECIMAL(10,2)", "cents"),
    "huge": Spec("number", None, "HUGEINT", LONGS, lists=0),
    "coerced": Spec("number", {"type": "long"}, None, [5.7, "5.7", "12", -5.7, "1e2", "", 9007199254740993, 1e15]),
    "flag": Spec("boolean", {"type": "boolean"}, "BOOLEAN", "booleans"),
    "day": Spec("date", {"type": "date"}, "TIMESTAMP", "moments"),
    "when": Spec("date", {"type": "date"}, "TIMESTAMP WITH TIME ZONE", "moments", lists=0),
    "at": Spec("date", {"type": "date"}, "TIMESTAMP", "moments", lists=0),
    "spelt": Spec("date", {"type": "date"}, "VARCHAR", "spelt", lists=0),
    "nanos": Spec("date", {"type": "date_nanos"}, "TIMESTAMP_NS", "nanos", lists=0),
    "millis": Spec("date", {"type": "date"}, "BIGINT", "millis", lists=0),
    "object.word": Spec("keyword", _KEYWORD, "VARCHAR", "words"),
    "object.inner.n": Spec("number", {"type": "integer"}, "INTEGER", INTEGERS, lists=0),
    "items.sku": Spec("keyword", _KEYWORD, "VARCHAR", "words", lists=0, path="items"),
    "items.quantity": Spec("number", {"type": "integer"}, "INTEGER", INTEGERS, lists=0, path="items"),
    "items.price": Spec("number", {"type": "double"}, "DOUBLE", DOUBLES, path="items"),
    "items.at": Spec("date", {"type": "date"}, "TIMESTAMP", "moments", lists=0, path="items"),
    "items.meta.tags": Spec("keyword", _KEYWORD, "VARCHAR", "words", path="items"),
    "items.lines.code": Spec("keyword", _KEYWORD, "VARCHAR", "words", lists=0, path="items.lines"),
    "items.lines.n": Spec("number", {"type": "long"}, "BIGINT", LONGS, path="items.lines"),
}
NESTED = {"items": "items", "items.lines": "items.lines"}
PINS = {"title": "text", "spelt": "date", "millis": "date"}


def mapping() -> dict[str, Any]:
    """``mappings.properties`` of the world's index."""
    properties: dict[str, Any] = {}
    for name, spec in FIELDS.items():
        if spec.mapping is None:
            continue
        *parents, last = name.split(".")
        here = properties
        for depth, parent in enumerate(parents, 1):
            kind = {"type": "nested"} if ".".join(parents[:depth]) in NESTED else {}
            here = here.setdefault(parent, {**kind, "properties": {}})["properties"]
        here[last] = spec.mapping
    return properties


def columns() -> list[tuple[str, str]]:
    """Name and type of every column of the world's table."""
    tree: dict[str, Any] = {}
    for name, spec in FIELDS.items():
        if spec.column is not None:
            *parents, last = name.split(".")
            here = tree
            for parent in parents:
                here = here.setdefault(parent, {})
            here[last] = spec.column + "[]" * spec.lists
    return [(name, _printed(shape, name)) for name, shape in tree.items()]


def _printed(shape: Any, path: str) -> str:
    if isinstance(shape, str):
        return shape
    members = ", ".join(f'"{name}" {_printed(inner, f"{path}.{name}")}' for name, inner in shape.items())
    return f"STRUCT({members})" + ("[]" if path in NESTED else "")


class Maker:
    """Documents from a seed: each as JSON text and as a row of the table."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def document(self) -> tuple[str, list[Any]]:
        body, row = self._object("", None)
        typed = [row.get(name.split(".")[0]) for name, _ in columns()]
        return json.dumps(body), typed

    def _object(self, prefix: str, path: str | None) -> tuple[dict[str, Any], dict[str, Any]]:
        """The members below ``prefix`` that belong to one (nested) document."""
        body: dict[str, Any] = {}
        row: dict[str, Any] = {}
        children: set[str] = set()
        for name, spec in FIELDS.items():
            if spec.path != path:
                nested = next(
                    (p for p in NESTED if name.startswith(p + ".") and p.rpartition(".")[0] == (path or "")), None
                )
                if nested and name.startswith(prefix):
                    children.add(nested)
                continue
            values = [self._value(spec) for _ in range(self._count(spec))]
            keys = name[len(prefix) :].split(".")
            _put(row, keys, _column([typed for _, typed in values], spec.lists), always=True)
            found, present = self._shape([spelt for spelt, _ in values])
            if present:
                _put(body, keys if self._random.random() < 0.7 else [".".join(keys)], found)
        for nested in sorted(children):
            key = nested[len(prefix) :]
            made = [self._object(nested + ".", nested) for _ in range(self._random.choice([0, 0, 1, 2, 3]))]
            row[key] = [typed for _, typed in made] if made or self._random.random() < 0.5 else None
            found, present = self._shape([child for child, _ in made])
            if present:
                body[key] = found
        return body, row

    def _count(self, spec: Spec) -> int:
        return self._random.choice([0, 1, 1]) if spec.lists == 0 else self._random.choice([0, 1, 1, 2, 3])

    def _shape(self, values: list[Any]) -> tuple[Any, bool]:
        """A JSON spelling of these values: missing, null, scalar, array, array of arrays, with nulls."""
        chance = self._random.random()
        if not values:
            return (
                (None, False) if chance < 0.4 else (self._random.choice([None, [], [None], [[]], [[None], []]]), True)
            )
        if len(values) == 1 and chance < 0.6:
            return values[0], True
        if chance < 0.8:
            return values, True
        return [None, [values[0]], [values[1:]]], True

    def _value(self, spec: Spec) -> tuple[Any, Any]:
        pool = spec.pool
        if pool == "words":
            word = "".join(self._random.choices(WORDS, k=self._random.choice([1, 1, 1, 2, 3])))
            return word, word
        if pool == "booleans":
            value = self._random.random() < 0.5
            return value, value
        if pool == "cents":
            cents = self._random.choice(CENTS)
            return float(cents), Decimal(cents)
        if isinstance(pool, list):
            value = self._random.choice(pool)
            return value, float(value) if spec.column in {"DOUBLE", "FLOAT"} else value
        moment = self._random.choice(NANOS if pool == "nanos" else MOMENTS)
        if pool == "millis":
            millis = (moment - EPOCH) // timedelta(milliseconds=1)
            millis += 100_000 if abs(millis) < 10_000 else 0  # four digits spell a year
            return millis, millis
        text = self._spelling(moment)
        return (
            text,
            text
            if pool == "spelt"
            else moment
            if spec.column == "TIMESTAMP WITH TIME ZONE"
            else moment.replace(tzinfo=None),
        )

    def _spelling(self, moment: datetime) -> str:
        """One of the ways ISO 8601 spells a moment."""
        hours = self._random.choice([0, 0, 2, -5]) if 1 < moment.year < 9999 else 0
        minutes = self._random.choice([0, 30]) if hours else 0
        local = (moment + timedelta(hours=hours, minutes=minutes)).replace(tzinfo=None)
        if not hours and local.time() == datetime.min.time() and self._random.random() < 0.5:
            return local.date().isoformat()
        if not hours:
            return local.isoformat() + self._random.choice(["", "Z", "+00:00"])
        sign, ahead = ("+", hours * 60 + minutes) if hours > 0 else ("-", -hours * 60 - minutes)
        return local.isoformat() + f"{sign}{ahead // 60:02}:{ahead % 60:02}"


def _put(target: dict[str, Any], keys: list[str], value: Any, *, always: bool = False) -> None:
    *parents, last = keys
    for parent in parents:
        target = target.setdefault(parent, {})
    if always or last not in target:
        target[last] = value


def _column(values: list[Any], lists: int) -> Any:
    if lists == 0:
        return values[0] if values else None
    if lists == 2:
        return [values[:1], None, values[1:]] if values else None
    return [*values, None] if values else None


# --- segments -------------------------------------------------------------------------------------------------

_words = st.lists(st.sampled_from(WORDS), min_size=1, max_size=3).map("".join)
_needles = _words.filter(bool)
_dates = st.one_of(
    st.sampled_from(MOMENTS).map(lambda moment: moment.date().isoformat()),
    st.sampled_from(MOMENTS).map(lambda moment: moment.isoformat()),
    st.sampled_from(MOMENTS).map(lambda moment: moment.replace(tzinfo=None).isoformat()),
)
_KINDS: dict[str, Any] = {
    "words": st.one_of(_needles, st.lists(_needles, min_size=1, max_size=4)),
    "number": st.sampled_from(OPERANDS),
    "date": _dates,
    "factor": st.sampled_from(["minute", "hours", "day", "days", "week", "month", "quarter", "year"]),
    "amount": st.sampled_from([0, 1, 1, 2, 3, 12, 24, 31, 366, 10**6]),
}


def _scalars(kind: str) -> st.SearchStrategy[Any]:
    return {"number": st.sampled_from(OPERANDS), "boolean": st.booleans()}.get(kind, _words)


@st.composite
def rules(draw: st.DrawFn, names: list[str]) -> dict[str, Any]:
    """A lawful rule on one of these fields."""
    name = draw(st.sampled_from(names))
    spec = FIELDS[name]
    kind = spec.type
    operator = draw(st.sampled_from([row for row in OPERATORS.values() if kind in row.types]))
    rule: dict[str, Any] = {"field_name": name, "field_type": kind, "operator": operator.name}
    for operand in operator.operands:
        if not operand.required and operand.member == "min" and draw(st.booleans()):
            continue
        if operand.kind == "scalar":
            rule[operand.member] = draw(_scalars(kind))
        elif operand.kind == "list":
            rule[operand.member] = draw(st.lists(_scalars(kind), min_size=1, max_size=5))
        else:
            rule[operand.member] = draw(_KINDS[operand.kind])
    if "min" in rule and rule["min"] > rule["max"]:
        rule["min"], rule["max"] = rule["max"], rule["min"]
    if spec.path is not None:
        rule |= {"nested": True, "nesting_path": spec.path}
    return rule


# Floats and decimals cannot be linked; what of a nested document cannot be the key of the whole one.
_LINKABLE = {name: spec for name, spec in FIELDS.items() if name not in {"float", "half", "cents"}}
_LINKABLE = {name: spec for name, spec in _LINKABLE.items() if spec.type in {"keyword", "text", "number"}}
_KIND = {"text": "keyword"}


@st.composite
def links(draw: st.DrawFn, names: list[str]) -> dict[str, Any]:
    """What makes a group one about the documents of ``OTHERS``."""
    link = draw(st.sampled_from([name for name in names if name in _LINKABLE]))
    kind = _KIND.get(FIELDS[link].type, FIELDS[link].type)
    ends = [name for name in names if name in _LINKABLE and FIELDS[name].path is None]
    key = draw(st.sampled_from([name for name in ends if _KIND.get(FIELDS[name].type, FIELDS[name].type) == kind]))
    return {"index": OTHERS, "link": link, "key": key}


@st.composite
def groups(draw: st.DrawFn, names: list[str], depth: int = 1, *, linked: bool = False) -> dict[str, Any]:
    """A lawful group: rules, and groups to depth 5, some of them about other documents where ``linked`` says so."""
    inner = groups(names, depth + 1, linked=linked)
    item = rules(names) if depth == 5 else st.one_of(rules(names), rules(names), rules(names), inner)
    group: dict[str, Any] = {"join": draw(st.sampled_from(["all", "any"]))}
    if linked and depth > 1 and draw(st.integers(0, 3)):
        group |= draw(links(names))
    group["rules"] = draw(st.lists(item, min_size=1, max_size=4 if depth == 1 else 3))
    if linked and depth == 1:
        group["rules"].append(draw(inner))
    if draw(st.integers(0, 4)) == 0:
        group["negate"] = draw(st.booleans())
    return group


@st.composite
def questions(draw: st.DrawFn, *, linked: bool = False) -> dict[str, Any]:
    """A segment with its moment and zone, about fields of the index, of the table or of both."""
    mapped = [name for name, spec in FIELDS.items() if spec.mapping is not None]
    tabled = [name for name, spec in FIELDS.items() if spec.column is not None]
    names = draw(st.sampled_from([mapped, tabled, [name for name in mapped if name in tabled]]))
    segment = {"entity": "people", "index": "world", "chain_id": 1, **draw(groups(names, linked=linked))}
    return {"segment": segment, "now": draw(st.sampled_from(RECENT)), "zone": ZoneInfo(draw(st.sampled_from(ZONES)))}


def every_operator(seed: int, times: int) -> list[dict[str, Any]]:
    """Each operator on each field it works on, ``times`` over, each a segment of one rule."""
    chance = random.Random(seed)
    pools: dict[str, Any] = {
        "words": WORDS[1:],
        "number": OPERANDS,
        "date": [moment.isoformat() for moment in MOMENTS] + [moment.date().isoformat() for moment in MOMENTS],
        "factor": ["minute", "hour", "day", "week", "month", "quarter", "year"],
        "amount": [0, 1, 2, 31, 10**6],
    }
    scalars: dict[str, Any] = {"number": OPERANDS, "boolean": [True, False]}
    made: list[dict[str, Any]] = []
    for name, spec in FIELDS.items():
        pool = scalars.get(spec.type, WORDS)
        for row in (row for row in OPERATORS.values() if spec.type in row.types):
            for _ in range(times):
                rule: dict[str, Any] = {"field_name": name, "field_type": spec.type, "operator": row.name}
                for operand in row.operands:
                    value = chance.choice(pools.get(operand.kind, pool))
                    rule[operand.member] = chance.sample(pool, 3) if operand.kind == "list" else value
                if spec.path is not None:
                    rule |= {"nested": True, "nesting_path": spec.path}
                segment = {"entity": "people", "index": "world", "chain_id": 1, "join": "all", "rules": [rule]}
                zone = ZoneInfo(chance.choice(ZONES))
                made.append({"segment": segment, "now": chance.choice(RECENT), "zone": zone})
    return made
