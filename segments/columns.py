"""DuckDB columns read as fields: the type language that ``DESCRIBE`` prints, parsed and walked.

Scalars, lists, structs and lists of structs (nested documents) become fields; what DuckDB has and JSON
documents have not (blobs, maps, unions, intervals) is kept as a column with the reason why no rule asks it.
Called by ``Catalog.from_columns`` only; DuckDB itself is never imported here.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TypeAlias

from segments.fields import Column, Field, FieldType, Level, undotted

_TOKEN = re.compile(r"""\s*("(?:[^"]|"")*"|'(?:[^']|'')*'|[(),]|\[\d*\]|[^\s"'(),\[\]]+)""")
_STORAGE: dict[str, tuple[FieldType, str]] = {
    "BOOLEAN": ("boolean", "boolean"),
    "TINYINT": ("number", "byte"),
    "SMALLINT": ("number", "short"),
    "INTEGER": ("number", "integer"),
    "BIGINT": ("number", "long"),
    "HUGEINT": ("number", "huge"),
    "UTINYINT": ("number", "unsigned_byte"),
    "USMALLINT": ("number", "unsigned_short"),
    "UINTEGER": ("number", "unsigned_integer"),
    "UBIGINT": ("number", "unsigned_long"),
    "FLOAT": ("number", "float"),
    "DOUBLE": ("number", "double"),
    "VARCHAR": ("keyword", "keyword"),
    "UUID": ("keyword", "keyword"),
    "ENUM": ("keyword", "keyword"),
    "DATE": ("date", "date"),
    "TIMESTAMP": ("date", "date"),
    "TIMESTAMP_S": ("date", "date"),
    "TIMESTAMP_MS": ("date", "date"),
    "TIMESTAMP_NS": ("date", "date"),
    "TIMESTAMP WITH TIME ZONE": ("date", "date"),
}
_PINS: dict[str, dict[str, FieldType]] = {
    "VARCHAR": {"keyword": "keyword", "text": "text", "date": "date"},
    "BIGINT": {"date": "date"},
}


@dataclass(frozen=True, slots=True)
class _Scalar:
    type: str


@dataclass(frozen=True, slots=True)
class _List:
    of: _Shape


@dataclass(frozen=True, slots=True)
class _Struct:
    members: tuple[tuple[str, _Shape], ...]


_Shape: TypeAlias = _Scalar | _List | _Struct


class _Reader:
    """A cursor over the tokens of one printed type."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._tokens: list[str] = []
        at, text = 0, text.rstrip()
        while at < len(text):
            found = _TOKEN.match(text, at)
            if found is None:
                raise ValueError(f"not a DuckDB type: {text}")
            self._tokens.append(found[1])
            at = found.end()
        self._at = 0

    def whole(self) -> _Shape:
        shape = self._shape()
        if self._peek():
            raise ValueError(f"not a DuckDB type: {self._text}")
        return shape

    def _peek(self) -> str:
        return self._tokens[self._at] if self._at < len(self._tokens) else ""

    def _next(self) -> str:
        token = self._peek()
        if not token:
            raise ValueError(f"not a DuckDB type: {self._text}")
        self._at += 1
        return token

    def _shape(self) -> _Shape:
        word = self._next().upper()
        shape: _Shape = self._struct() if word == "STRUCT" and self._peek() == "(" else self._scalar(word)
        while self._peek().startswith("["):
            size = self._next()
            shape = _List(shape) if size == "[]" else _Scalar(f"ARRAY{size}")
        return shape

    def _struct(self) -> _Struct:
        members: list[tuple[str, _Shape]] = []
        while self._next() in {"(", ","}:
            name = self._next()
            members.append((name[1:-1].replace('""', '"') if name.startswith('"') else name, self._shape()))
        return _Struct(tuple(members))

    def _scalar(self, word: str) -> _Scalar:
        words = [word]
        while re.fullmatch(r"[A-Za-z_]+", self._peek()):
            words.append(self._next().upper())
        if self._peek() != "(":
            return _Scalar(" ".join(words))
        depth, inside = 0, ""
        while True:
            token = self._next()
            inside += token
            depth += {"(": 1, ")": -1}.get(token, 0)
            if depth == 0:
                return _Scalar(word + inside if word == "DECIMAL" else word)


@dataclass(frozen=True, slots=True)
class _Place:
    path: tuple[str, ...]
    keys: tuple[str, ...]
    nested: str | None = None
    levels: tuple[Level, ...] = ()

    @property
    def name(self) -> str:
        return ".".join(self.path)

    def down(self, key: str) -> _Place:
        return replace(self, path=(*self.path, key), keys=(*self.keys, key))

    def into(self, lists: int) -> _Place:
        level = Level(self.keys, undotted(self.keys), lists)
        return replace(self, keys=(), nested=self.name, levels=(*self.levels, level))


def read_columns(columns: Sequence[tuple[str, str]], types: Mapping[str, str]) -> tuple[list[Field], list[Column]]:
    """The fields and columns of a relation; see ``Catalog.from_columns``."""
    fields: list[Field] = []
    found: list[Column] = []
    unused = dict(types)
    for name, printed in columns:
        for one in _walk(_Reader(printed).whole(), _Place((name,), (name,)), unused):
            if isinstance(one, Column):
                found.append(one)
            else:
                fields.append(one)
    if unused:
        raise ValueError(f"these pins fit no column: {', '.join(sorted(unused))}")
    counts = [one.name for one in fields]
    twice = {name for name in counts if counts.count(name) > 1} if len(set(counts)) < len(counts) else set[str]()
    reason = "two columns spell this name, one with a dot and one as a struct"
    return [replace(one, refusal=reason) if one.name in twice else one for one in fields], found


def _walk(shape: _Shape, place: _Place, pins: dict[str, str]) -> Iterator[Field | Column]:
    lists = 0
    while isinstance(shape, _List):
        lists, shape = lists + 1, shape.of
    if isinstance(shape, _Struct):
        if lists or pins.get(place.name) == "nested":
            pins.pop(place.name, None)
            if place.nested is None:
                yield Column(place.name, place.path)
            place = place.into(lists)
        for key, inner in shape.members:
            yield from _walk(inner, place.down(key), pins)
        return
    if place.nested is None:
        yield Column(place.name, place.path)
    yield _leaf(shape.type, lists, place, pins.pop(place.name, None))


def _leaf(printed: str, lists: int, place: _Place, pin: str | None) -> Field:
    if printed.startswith("DECIMAL("):
        kind, storage = "number", printed.lower()
    else:
        kind, storage = _STORAGE.get(printed, ("other", printed.lower()))
    types: tuple[FieldType, ...] = ("keyword", "text") if printed == "VARCHAR" else (kind,)
    if pin is not None and pin != kind:
        kind = _PINS.get(printed, {}).get(pin)
        if kind is None:
            raise ValueError(f"{place.name} is a {printed} column and cannot be pinned as {pin}")
        storage = {"date": "date"}.get(pin, "keyword")
    if pin is not None:
        types = ("text", "keyword") if pin == "text" else (kind,)
    return Field(
        name=place.name,
        type=kind,
        storage=storage,
        types=types,
        path=place.path,
        keys=place.keys,
        parts=undotted(place.keys),
        nested=place.nested,
        levels=place.levels,
        refusal="" if kind != "other" else f"rules cannot ask columns of the type {printed}",
        query_name=place.name,
        exact=place.name if kind in {"keyword", "text"} else None,
        column_type=printed,
        lists=lists,
    )
