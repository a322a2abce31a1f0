"""What a column of a file can be: a field of the documents, the same value in every row, or a text around fields.

What lives here are the columns themselves, and the reading of a template's text. Which ones a file has is columns.py's
to say, and how their cells are asked for composition.py's.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TypeAlias

Path: TypeAlias = tuple[str, ...]
"""The members that lead to a value from the root of a document."""

Constant: TypeAlias = str | int | float | bool | None

_PIECE = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|([{}])|([^{}]+)")


class TemplateError(ValueError):
    """A text is not a template; the message says why."""


@dataclass(frozen=True, slots=True)
class FileColumn:
    """A field: the column's header, and the path to its value."""

    header: str
    path: Path

    @property
    def parts(self) -> Path:
        """The path without dots inside a member: documents may spell a dotted field either way."""
        return tuple(part for member in self.path for part in member.split("."))

    @property
    def fields(self) -> tuple[FileColumn, ...]:
        """What is asked of a document for its cells."""
        return (self,)

    def moved(self, move: Callable[[Path], Path]) -> FileColumn:
        """Return the column with its paths as `move` has them."""
        return replace(self, path=move(self.path))


@dataclass(frozen=True, slots=True)
class ConstantColumn:
    """The same value in every row."""

    header: str
    value: Constant

    @property
    def fields(self) -> tuple[FileColumn, ...]:
        """Nothing is asked of a document."""
        return ()

    @property
    def json(self) -> str:
        """The value as JSON."""
        return json.dumps(self.value, ensure_ascii=False)

    @property
    def text(self) -> str | None:
        """The value as the text of a cell; None for null."""
        return self.value if self.value is None or isinstance(self.value, str) else self.json

    def moved(self, _move: Callable[[Path], Path]) -> ConstantColumn:
        """Return the column: it has no paths."""
        return self


@dataclass(frozen=True, slots=True)
class TemplateColumn:
    """A text in which fields stand: as it was written, and its pieces of text and paths of fields."""

    header: str
    template: str
    pieces: tuple[str | Path, ...]

    @property
    def fields(self) -> tuple[FileColumn, ...]:
        """What is asked of a document for its cells."""
        return tuple(FileColumn(".".join(one), one) for one in self.pieces if not isinstance(one, str))

    def moved(self, move: Callable[[Path], Path]) -> TemplateColumn:
        """Return the column with its paths as `move` has them."""
        return replace(self, pieces=tuple(one if isinstance(one, str) else move(one) for one in self.pieces))


AnyColumn: TypeAlias = FileColumn | ConstantColumn | TemplateColumn


def template_pieces(text: str) -> list[tuple[bool, str]]:
    """Return the pieces of a template, each whether it is a field, and its text or name: `"{a} b"` has two.

    Braces that are meant are doubled. Raises TemplateError.
    """
    if not text:
        raise TemplateError("it is empty")
    pieces: list[tuple[bool, str]] = []
    for found in _PIECE.finditer(text):
        name, lone, plain = found.groups()
        if lone is not None:
            place = f"the brace {lone!r} at character {found.start() + 1}"
            raise TemplateError(f"{place} has no partner; double one that is meant")
        if name == "":
            raise TemplateError("`{}` names no field")
        if name is not None:
            pieces.append((True, name))
        elif pieces and not pieces[-1][0]:
            pieces[-1] = (False, pieces[-1][1] + (plain or found[0][0]))
        else:
            pieces.append((False, plain or found[0][0]))
    return pieces
