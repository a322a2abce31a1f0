"""The reference page of the language, ``docs/segments.md``, written from the operator table.

``python -m segments.reference`` prints it; a test fails when the page and the table disagree. Nothing else
calls this.
"""

from __future__ import annotations

import sys

from segments.errors import listed
from segments.operands import wanted
from segments.operators import FACTORS, OPERATORS, TYPE_WORDS, Operand, Operator
from segments.rules import DEFAULT_KEY, MAX_DEPTH, MAX_LIST, MAX_RULES, MAX_WORD, MAX_WORDS

_LINKED = """
## Rows by the documents of another index

A group may speak of the documents of another export index. Transactions of registered users:

```json
{"entity": "people", "index": "transactions", "join": "all", "chain_id": 1764,
 "rules": [{"index": "users", "link": "user.id", "join": "all",
            "rules": [{"field_name": "registered", "field_type": "boolean", "operator": "is_true"}]}]}
```

`link` is the field here that holds the key of such a document, inside nested documents too; `key` is the field there
that is the key, `%s` where the group does not say. The group holds where some value of `link` equals, as a rule with
`is` would say, some value of `key` in a document of the same chain that matches the group's rules; its rules name
fields of the other index. `"negate": true` is the exact complement: no such document, so also where `link` is missing.
To count users without something, negate a group inside. Groups of this kind nest like all others, and one may stand
in another.

Keys are keyword fields (or text fields with a keyword sub-field), integers or doubles, both ends of one kind: 1 equals
1.0, but no number equals a string. A link to its own index is lawful. Every index is read as it was at one and the
same moment. One such group may select as many documents as `limits.linked_documents` says (100,000 if it does not);
a preview or a run of one that selects more fails with `link_limit` and the number, and narrower rules help.
"""

_HEAD = f"""\
# Segments

<!-- Written by `python -m segments.reference` from the operator table; edit segments/operators.py. -->

A segment chooses rows of one index:

```json
{{"entity": "people", "index": "products", "join": "all", "chain_id": 1764,
 "rules": [{{"field_name": "category", "field_type": "keyword", "operator": "is", "value": "Electronics"}},
           {{"join": "any", "rules": [
             {{"field_name": "price", "field_type": "number", "operator": "is_less_than", "value": 10}},
             {{"field_name": "is_promotional", "field_type": "boolean", "operator": "is_true"}}]}}]}}
```

`join` is `all` (every rule) or `any` (at least one). Groups nest to depth {MAX_DEPTH}, the segment being the first,
with {MAX_RULES} rules in all; every group, the segment included, may carry `"negate": true`. A segment joined by
`all` without rules selects every row of the chain; any other empty group is refused.

A rule has `field_name` (the full dotted path), `field_type`, `operator` and the operands of its operator, no
others. `field_type` is one of {listed([f"`{word}`" for word in TYPE_WORDS])}, where
integer, long, float and double mean number, and must agree with the field or one of its sub-fields. A field of
nested documents needs `"nested": true` and its `nesting_path`.

## Operators

| operator | field types | operands | a document matches when |
|---|---|---|---|
"""

_TAIL = f"""\

Operands: a scalar is of the field's type; a list of values has at most {MAX_LIST:,}, a list of strings to look for
at most {MAX_WORDS}, each of 1 to {MAX_WORD} characters. `time_factor` is
{listed([f"`{factor}`" for factor in FACTORS])}, plural accepted; `time_amount` is an integer,
0 or more. Dates are ISO 8601: `2026-03-29` is a whole day in the time zone, `2026-03-29T10:00` an instant in the
time zone, `2026-03-29T10:00:00Z` an instant.

## What it means, precisely

**Several values.** A field may hold an array. A positive operator matches if some value does; its negation is the
exact complement, and so matches documents without the field. A range is judged on one value: two one-sided rules
may be met by two values of an array, one between-rule only by one.

**Nested documents.** Positive rules with the same `nesting_path` in one `all` group speak of the same child; each
group is a scope of its own. A negative rule stands alone: no child matches, documents without children included.

**Strings.** Equality is exact. Substrings, prefixes and suffixes fold case by Unicode's simple case folding: k, K and
the Kelvin sign are the same; a sharp s and ss are not, nor i and the dotless i; marks are not normalised.

**Numbers.** Integers are exact to 64 bits and beyond; 1 equals 1.0, 0 equals -0.0. Narrow floats compare as they are
stored; an integer over 2^53 compares as the exact number it is.

**Dates.** Milliseconds; finer operands are cut. A date in a document without offset is UTC. A local time that does not
exist takes the offset before the gap, one that exists twice is the first. `now` is the occurrence of the run and
the zone that of the trigger. A day is the same wall-clock time on another date, months clamp to their last day,
hours and minutes are elapsed time; `relative_exactly` and `in_current` mean whole units of the calendar and the
clock. A shift beyond the years 1 to 9999 leaves that side open.

**Refused.** What an index cannot answer exactly is refused with the reason: equality or substrings on analysed text
without a keyword sub-field; substrings of a keyword whose mapping drops long values (`ignore_above`), unless the
source counts the documents that have such values and finds none; fields that are not indexed, that a normalizer or
`null_value` changes, or of a type rules do not know.
"""


def reference_page() -> str:
    """The Markdown of ``docs/segments.md``."""
    return _HEAD + "".join(_row(row) for row in OPERATORS.values()) + _TAIL + _LINKED % DEFAULT_KEY


def _row(row: Operator) -> str:
    operands = ", ".join(_operand(operand) for operand in row.operands) or "none"
    return f"| `{row.name}` | {', '.join(row.types)} | {operands} | {row.meaning} |\n"


def _operand(operand: Operand) -> str:
    optional = "" if operand.required else " (may be absent)"
    kinds = {"scalar": "a scalar", "list": "a list", "words": "a string or a list", "date": "a date"}
    kinds |= {"factor": "a unit", "amount": "an integer", "number": "a number"}
    return f"`{operand.member}`: {kinds.get(operand.kind) or wanted(operand)}{optional}"


if __name__ == "__main__":
    sys.stdout.write(reference_page())
