"""What JSON lines hold: the type of every member at every depth, found by looking at every document.

DuckDB tells the structure of one document; what lives here is to put those together line by line, in memory that
neither the number of files nor of documents matters to (its own detection keeps 32 MB a file until the last is read),
and to prove over all documents what a structure leaves open: which texts are dates, which integers need more than 64
bits. Called by files_lines.py.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TypeAlias

from tasks_service.errors import SourceError

ISO_DATE = "[0-9]{4}-[0-9]{2}-[0-9]{2}(T[0-9]{2}:[0-9]{2}(:[0-9]{2})?([.,][0-9]{1,9})?(Z|[+-][0-9]{2}:?([0-9]{2})?)?)?"
"""What Elasticsearch, too, takes for a date by itself, as a regular expression."""


@dataclass(frozen=True, slots=True)
class Question:
    """What may be asked of every value in a place; null passes every test.

    Attributes:
        function: DuckDB's, over the document and a JSONPath.
        test: of what that returns, which stands in it as VALUE.
    """

    function: str
    test: str


IS_DATE = Question("json_extract_string", f"regexp_full_match(VALUE, '{ISO_DATE}')")
_FITS = Question("json_extract_string", "(TRY_CAST(VALUE AS HUGEINT) <= 9223372036854775807)")
_IS_OBJECT = Question("json_type", "(VALUE IN ('OBJECT', 'NULL'))")
_WIDTHS = ("UBIGINT", "BIGINT", "DOUBLE")
_SEEN = 50_000
"""So many texts of structures are remembered at most; documents of one kind have few."""

Found: TypeAlias = "str | list[Found] | dict[str, Found]"
"""What json_structure() says of a value: a word, a list with the structure of its elements, or members by name."""


@dataclass(slots=True)
class Structure:
    """What the values in one place of all documents are.

    Attributes:
        kinds: DuckDB's words for scalar values: VARCHAR, BOOLEAN, UBIGINT, BIGINT, DOUBLE; and JSON for elements of
            lists that are of several kinds, or objects without members.
        members: of objects, by name; None where no value is one.
        elements: of lists; None where no value is one.
        date: whether every text is an ISO 8601 date.
        wide: whether some integer is beyond 64 bits with a sign.
    """

    kinds: set[str] = field(default_factory=set[str])
    members: dict[str, Structure] | None = None
    elements: Structure | None = None
    date: bool = False
    wide: bool = False

    def add(self, found: Found, *, element: bool = False) -> None:
        """Take in what json_structure() says of one value."""
        if isinstance(found, list):
            self.elements = self.elements or Structure()
            self.elements.add(found[0], element=True)
        elif isinstance(found, dict) or (found == "JSON" and not element):  # of one value only {} is called JSON
            self.members = self.members if self.members is not None else {}
            for name, inner in found.items() if isinstance(found, dict) else ():
                self.members.setdefault(name, Structure()).add(inner)
        elif found != "NULL":
            self.kinds.add(found)

    def shape(self) -> object:
        """Return what from_json() is to make of the values: JSON where they are of several kinds."""
        numbers = self.kinds.intersection(_WIDTHS)
        several = bool(numbers) + len(self.kinds - numbers) + (self.members is not None) + (self.elements is not None)
        if several != 1:
            return "JSON"
        if self.members:
            return {name: inner.shape() for name, inner in self.members.items()}
        if self.elements:
            return [self.elements.shape()]
        if numbers:
            return "DOUBLE" if "DOUBLE" in numbers else "HUGEINT" if self.wide else "BIGINT"
        return "JSON" if self.members is not None else next(iter(self.kinds))

    def places(self, at: str = "$", path: tuple[str, ...] = ()) -> Iterator[tuple[str, str, Structure]]:
        """Yield (dotted path, JSONPath, structure) of every place below, outer ones first."""
        for name, inner in (self.members or {}).items():
            below = f"{at}.{_step(name)}"
            yield ".".join((*path, name)), below, inner
            yield from inner.places(below, (*path, name))
        if self.elements is not None:
            yield ".".join(path), f"{at}[*]", self.elements
            yield from self.elements.places(f"{at}[*]", path)


def _step(name: str) -> str:
    return '"' + name.replace("\\", "\\\\").replace('"', '\\"') + '"'


def merged(structures: Iterable[str]) -> Structure:
    """Return the structure of documents, given that of each as json_structure() prints it.

    Raises SourceError where one is no object, or has members that DuckDB cannot tell apart.
    """
    whole = Structure(members={})
    seen: set[str] = set()
    for text in structures:
        if text in seen:
            continue
        if len(seen) >= _SEEN:
            seen.clear()
        seen.add(text)
        found: Found = json.loads(text)
        if not isinstance(found, dict) and found != "JSON":
            raise SourceError("Some line of the index's files is not a JSON object; each line must be one.")
        whole.add(found)
    _refuse_alike(whole)
    if not whole.members:
        raise SourceError("The documents of the index have no members, so their fields are unknown.")
    return whole


def _refuse_alike(whole: Structure) -> None:
    """Raise SourceError where two members of an object differ only in case."""
    for _, _, one in (("", "$", whole), *whole.places()):
        folded: dict[str, str] = {}
        for name in one.members or {}:
            other = folded.setdefault(name.lower(), name)
            if other != name:
                raise SourceError(
                    f"The documents have members that differ only in case, {other!r} and {name!r}; rename one."
                )


Holding = Callable[[Sequence[tuple[str, Question]]], Sequence[bool]]
"""Takes questions, each with its JSONPath, and tells of each whether every value that is there passes."""


def prove(whole: Structure, holding: Holding, dates: Callable[[str], bool], *, wide: bool) -> None:
    """Settle by the documents what their structures leave open.

    Args:
        whole: the structure of all documents; what is found out is written into it.
        holding: asks the documents.
        dates: whether a dotted path may be a date.
        wide: whether an integer may be beyond 64 bits anywhere.
    """
    asked: list[tuple[Structure, str, Question]] = []
    for path, at, one in whole.places():
        if one.kinds == {"VARCHAR"} and one.members is None and one.elements is None and dates(path):
            asked.append((one, at, IS_DATE))
        elif wide and "UBIGINT" in one.kinds:
            asked.append((one, at, _FITS))
        elif one.kinds == {"JSON"} and one.members and one.elements is None:
            asked.append((one, at, _IS_OBJECT))
    answers = holding([(at, question) for _, at, question in asked])
    for (one, _, question), holds in zip(asked, answers, strict=True):
        if question is IS_DATE:
            one.date = holds
        elif question is _FITS:
            one.wide = not holds
        elif holds:
            one.kinds.clear()


def dates_of(whole: Structure) -> tuple[tuple[str, str], ...]:
    """Return (dotted path, "date") of every place whose texts are dates."""
    return tuple((path, "date") for path, _, one in whole.places() if one.date)
