"""What one field of an index is: the type rules call it by, where documents hold it, what each engine needs.

Only descriptions live here; ``mapping`` and ``columns`` make them from an Elasticsearch mapping and from
DuckDB columns, ``catalog`` holds them together, and the rest of the package reads them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

FieldType: TypeAlias = Literal["keyword", "text", "number", "date", "boolean", "other"]


@dataclass(frozen=True, slots=True)
class Level:
    """One step down into nested documents.

    Attributes:
        keys: the members from the level above (or the root) to the list of children, as the source has them.
        parts: the same without dots inside a member; ``{"a.b": 1}`` and ``{"a": {"b": 1}}`` say the same.
        lists: how many lists deep the children lie in a DuckDB column; 0 is a single struct.
    """

    keys: tuple[str, ...]
    parts: tuple[str, ...]
    lists: int = 1


@dataclass(frozen=True, slots=True)
class Field:
    """A field a rule may name.

    Attributes:
        name: the full dotted path.
        type: the type ``/export_indices`` shows.
        storage: how values are stored: ``long``, ``half_float``, ``keyword``, ``date``, ``decimal(18,2)`` ...
        types: every field type a rule may call it by (a text field with a keyword sub-field has two).
        path: the members from the root of a document.
        keys: the members from the innermost nested document (or the root) as the source has them.
        parts: the same without dots inside a member.
        nested: the path of the innermost nested document it lies in.
        levels: the way down to that nested document.
        refusal: why no rule on it can be answered exactly, with what would help; empty when rules can be.
        query_name: Elasticsearch: the name that ranges and ``exists`` use.
        exact: Elasticsearch: the keyword field that answers equality and substrings; None if there is none.
        exact_refusal: why there is none, with what would help.
        ignore_above: characters beyond which ``exact`` does not index a value.
        readable: Elasticsearch: its values can be read back by column (``doc_values``), as a key's must be.
        malformed: Elasticsearch drops values of the wrong type instead of refusing the document.
        date_format: Elasticsearch: the mapping's ``format``.
        column_type: DuckDB: the type of one value; empty for a field of a mapping.
        lists: DuckDB: how many lists deep the values lie.
    """

    name: str
    type: FieldType
    storage: str
    types: tuple[FieldType, ...]
    path: tuple[str, ...]
    keys: tuple[str, ...]
    parts: tuple[str, ...]
    nested: str | None = None
    levels: tuple[Level, ...] = ()
    refusal: str = ""
    query_name: str = ""
    exact: str | None = None
    exact_refusal: str = ""
    ignore_above: int | None = None
    readable: bool = True
    malformed: bool = False
    date_format: str = ""
    column_type: str = ""
    lists: int = 0


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a CSV export: a leaf field outside nested documents, or a whole top-level nested path.

    Attributes:
        name: the header, a dotted path.
        path: the members from the root of a document.
    """

    name: str
    path: tuple[str, ...]


def undotted(keys: tuple[str, ...]) -> tuple[str, ...]:
    """``("a.b", "c")`` -> ``("a", "b", "c")``."""
    return tuple(part for key in keys for part in key.split("."))
