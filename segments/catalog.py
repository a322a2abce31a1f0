"""The catalogue of an index: its fields by name and its columns, in a stable order, pure data.

Read from an Elasticsearch mapping (``mapping``) or from the columns DuckDB describes (``columns``); the same
data gives the same columns in the same order either way. ``check`` looks fields up here, the service lists
them in ``/export_indices`` and takes the columns of a CSV file from here. No I/O: a source brings the mapping
or the column types.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

from segments.columns import read_columns
from segments.fields import Column, Field, FieldType, Level
from segments.mapping import read_mapping

__all__ = ["Catalog", "Column", "Field", "FieldType", "Level"]


@dataclass(frozen=True)
class Catalog:
    """The fields and columns of one index.

    Attributes:
        fields: sorted by name; a multi-field of a mapping (``category.keyword``) is one too.
        columns: the columns of an export, sorted by name.
        doubts_counted: the source promises to count ``doubts(tree)`` on its snapshot before it trusts a query
            and to fail when there are any. Without that promise ``check`` refuses a rule whose answer depends
            on values Elasticsearch did not index (``ignore_above``, ``ignore_malformed``).
    """

    fields: tuple[Field, ...]
    columns: tuple[Column, ...] = field(default=())
    doubts_counted: bool = False

    @classmethod
    def from_mapping(cls, properties: Mapping[str, Any], *, doubts_counted: bool = False) -> Catalog:
        """The catalogue of ``mappings.properties`` of an Elasticsearch index.

        What cannot be answered exactly stays in the catalogue, with the reason, and is refused by ``check``.
        """
        fields, columns = read_mapping(properties)
        return cls._sorted(fields, columns, doubts_counted=doubts_counted)

    @classmethod
    def from_columns(cls, columns: Sequence[tuple[str, str]], *, types: Mapping[str, str] | None = None) -> Catalog:
        """The catalogue of a DuckDB relation.

        Args:
            columns: (name, type) of every column, the type as ``DESCRIBE`` prints it.
            types: dotted path -> what it is, where the column type does not say: ``keyword`` or ``text`` for
                strings, ``date`` for strings in ISO 8601 or integers of milliseconds, ``nested`` for a struct.

        Raises:
            ValueError: a type DuckDB does not print, or a pin that fits no column.
        """
        fields, found = read_columns(columns, types or {})
        return cls._sorted(fields, found)

    @classmethod
    def merged(cls, catalogs: Sequence[Catalog]) -> Catalog:
        """One catalogue for several indices read together; fields they define differently are refused."""
        fields: dict[str, Field] = {}
        for catalog in catalogs:
            for one in catalog.fields:
                fields[one.name] = _agreed(fields.get(one.name, one), one)
        objects = {".".join(one.path[:depth]) for one in fields.values() for depth in range(1, len(one.path))}
        for name in objects & fields.keys():
            fields[name] = replace(fields[name], refusal=f"indices behind it disagree: {name} has members in one")
        columns = dict.fromkeys(column for catalog in catalogs for column in catalog.columns)
        counted = all(catalog.doubts_counted for catalog in catalogs)
        return cls._sorted(list(fields.values()), list(columns), doubts_counted=counted)

    @classmethod
    def _sorted(cls, fields: list[Field], columns: list[Column], *, doubts_counted: bool = False) -> Catalog:
        return cls(
            tuple(sorted(fields, key=lambda one: one.name)),
            tuple(sorted(columns, key=lambda one: (one.name, one.path))),
            doubts_counted,
        )

    @cached_property
    def by_name(self) -> dict[str, Field]:
        """The fields by their full dotted path."""
        return {one.name: one for one in self.fields}

    def get(self, name: str) -> Field | None:
        """The field of that name, or None."""
        return self.by_name.get(name)

    def sub_field(self, field: Field, field_type: str) -> Field | None:
        """The multi-field of ``field`` that indexes the same values as another type, by name; None without one."""
        inside = f"{field.name}."
        of_type = (one for one in self.fields if one.type == field_type and one.name.startswith(inside))
        return next((one for one in of_type if one.path == field.path and not one.refusal), None)

    @cached_property
    def fingerprint(self) -> str:
        """A hash of everything in the catalogue: equal fingerprints mean that the same segments are lawful."""
        return hashlib.sha256(repr((self.fields, self.columns, self.doubts_counted)).encode()).hexdigest()


def _agreed(known: Field, other: Field) -> Field:
    """One field for two indices: what either leaves unindexed is in doubt, any other difference is refused."""
    if known == other or known.refusal:
        return known
    limits = [limit for limit in (known.ignore_above, other.ignore_above) if limit is not None]
    least = min(limits, default=None)
    agreed = replace(known, ignore_above=least, malformed=known.malformed or other.malformed)
    if agreed == replace(other, ignore_above=least, malformed=agreed.malformed):
        return agreed
    difference = f"{known.storage} in one, {other.storage} in another"
    if known.storage == other.storage:
        difference = f"{known.storage} with other parameters in one than in another"
    return replace(known, refusal=f"indices behind it disagree: {difference}")
