"""Irregular documents: those whose columns do not simply lie at their paths.

A document may spell a field `{"a.b": 1}` or `{"a": {"b": 1}}`, and may hold an array where the catalogue has an
object (`{"a": [{"b": 1}, {"b": 2}]}`). Elasticsearch reads all of these as the field a.b. Here such a document becomes
a flat one, an array of the raw values of the columns: a single value is itself, none is null, values found in several
places or through an array are an array. Raw values are copied, never re-encoded. Called by csv_encoder.py
and cells.py.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

import msgspec

from tasks_service.errors import SourceError
from tasks_service.formats.csv_query import Watch
from tasks_service.formats.file_columns import FileColumn

_ARRAY = b"["
_OBJECT = b"{"
_SPACE = b" \t\r\n"
_ESCAPED_ASCII = re.compile(rb"\\u00[2-7]")


class Spellings:
    """What shows, cheaply, that some document of a chunk may spell one of the columns in another way."""

    def __init__(self, columns: Sequence[FileColumn]) -> None:
        keys: set[str] = set()
        arrays: set[tuple[str, ...]] = set()
        objects: set[tuple[str, ...]] = set()
        for column in columns:
            parts = column.parts
            arrays.update(column.path[:depth] for depth in range(1, len(column.path)))
            if parts != column.path:
                objects.update(_undotted_prefixes(column.path))
            keys.update(
                ".".join(parts[start:end])
                for start in range(len(parts))
                for end in range(start + 2, len(parts) + 1)
                if ".".join(parts[start:end]) not in column.path
            )
        self.watched = (
            *(Watch(path, objects=False) for path in sorted(arrays - objects)),
            *(Watch(path, objects=True) for path in sorted(objects)),
        )
        written = {json.dumps(key, ensure_ascii=ascii_only).encode() for key in keys for ascii_only in (True, False)}
        self._needles = tuple(sorted(written))
        # Few and first: fields of one object share the start, and most chunks hold none.
        self._starts = tuple(sorted({needle[: needle.index(b".") + 1] for needle in written}))

    def seen_in(self, chunk: bytes) -> bool:
        """Tell whether a dotted member occurs (sometimes it is only a string that looks like one)."""
        if not self._needles:
            return False
        if any(start in chunk for start in self._starts) and any(needle in chunk for needle in self._needles):
            return True
        return b"\\u00" in chunk and _ESCAPED_ASCII.search(chunk) is not None


def _undotted_prefixes(path: tuple[str, ...]) -> set[tuple[str, ...]]:
    """Return the objects in which a column with dots inside its members may lie instead."""
    found: set[tuple[str, ...]] = set()
    for at, member in enumerate(path):
        inner = member.split(".")
        found.update((*path[:at], ".".join(inner[:depth])) for depth in range(1, len(inner)))
    return found


class Flattener:
    """Makes flat documents of irregular ones."""

    def __init__(self, columns: Sequence[FileColumn]) -> None:
        self._parts = [column.parts for column in columns]
        self._decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        self._decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode

    def flat(self, document: bytes) -> bytes:
        """Return the flat document. Raises SourceError where it is not a JSON object."""
        try:
            root = self._decode_object(document)
            values = [self._value(root, parts) for parts in self._parts]
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            raise SourceError("A document of the index is not valid JSON.") from exc
        return b"[" + b",".join(values) + b"]"

    def _value(self, root: dict[str, msgspec.Raw], parts: tuple[str, ...]) -> bytes:
        found: list[bytes] = []
        through_array = self._collect(root, parts, found)
        if not found:
            return b"null"
        if len(found) == 1 and not through_array:
            return found[0]
        return b"[" + b",".join(self._spread(found)) + b"]"

    def _collect(self, members: dict[str, Any], parts: tuple[str, ...], found: list[bytes]) -> bool:
        """Add every value at that dotted path; tell whether an array was gone through."""
        through_array = False
        for depth in range(1, len(parts) + 1):
            raw = members.get(parts[0] if depth == 1 else ".".join(parts[:depth]))
            if raw is not None:
                through_array |= self._below(bytes(raw).strip(_SPACE), parts[depth:], found)
        return through_array

    def _below(self, raw: bytes, parts: tuple[str, ...], found: list[bytes]) -> bool:
        if not parts:
            found.append(raw)
            return False
        if raw.startswith(_ARRAY):
            for element in self._decode_array(raw):
                self._below(bytes(element).strip(_SPACE), parts, found)
            return True
        if raw.startswith(_OBJECT):
            return self._collect(self._decode_object(raw), parts, found)
        return False

    def _spread(self, found: list[bytes]) -> list[bytes]:
        """Values that are arrays themselves give their elements: a field has values, not arrays of arrays."""
        spread: list[bytes] = []
        for raw in found:
            if raw.startswith(_ARRAY):
                spread.extend(bytes(element).strip(_SPACE) for element in self._decode_array(raw))
            else:
                spread.append(raw)
        return spread
