"""Lists of substrings packed into few patterns, and how many conditions a tree asks.

Elasticsearch limits the length of a regular expression (1,000 by default), the work of making an automaton of
it, and the clauses of a query; so alternatives share a pattern as long as they are short together. The worst
pattern is then no worse than that of one operand of the longest lawful length. Called by ``check`` for the
limit and by the two compilers.
"""

from __future__ import annotations

from collections.abc import Callable

from segments.folding import alike
from segments.rules import MAX_WORD
from segments.tree import And, Linked, Nested, Not, Or, Text, Tree

MAX_CLAUSES = 1000


def packs(needles: tuple[str, ...]) -> list[list[str]]:
    """The needles in groups of at most ``MAX_WORD`` characters together, in order."""
    groups: list[list[str]] = []
    room = 0
    for needle in needles:
        if len(needle) > room:
            groups.append([])
            room = MAX_WORD
        groups[-1].append(needle)
        room -= len(needle)
    return groups


def pattern(pack: list[str], escape: Callable[[str], str]) -> str:
    """A regular expression of the pack's literals: a class of all alike characters at each position."""
    literals = ["".join(_position(character, escape) for character in needle) for needle in pack]
    return literals[0] if len(literals) == 1 else f"({'|'.join(literals)})"


def clauses(tree: Tree) -> int:
    """How many leaf conditions a compiled query of the tree holds."""
    match tree:
        case And(parts) | Or(parts):
            return sum(clauses(part) for part in parts)
        case Not(part) | Nested(part=part):
            return clauses(part)
        case Linked(part=part):
            return 1 + clauses(part)
        case Text(needles=needles):
            return len(packs(needles))
        case _:
            return 1


def _position(character: str, escape: Callable[[str], str]) -> str:
    family = alike(character)
    return f"[{family}]" if len(family) > 1 else escape(character)
