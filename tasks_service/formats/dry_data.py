"""`dry_data`: rows to feed to another system, without what is only this one's: ids, time stamps and empty values.

What lives here is what is left out. Of formats with columns these are columns; of whole documents members, and every
member that is empty, at any depth: null, "", [] and {}, also where it is by what was left out. Elements of lists stay,
whatever they are: their number and places mean something. What is kept keeps its text, as numbers of any length do.
Which fields are only this system's, the index's configuration says. Called by columns.py, json_encoder.py and
registry.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec

from tasks_service.config import IndexSettings
from tasks_service.errors import SourceError
from tasks_service.formats.file_columns import AnyColumn, FileColumn
from tasks_service.sources import Documents

_MAY_BE_EMPTY: Final = re.compile(rb'null|""|\[[ \t\r\n]*\]|\{[ \t\r\n]*\}').search
"""What an empty value looks like, in texts too: it only saves looking closer."""

_EMPTY: Final = frozenset({b"null", b'""', b"[]", b"{}"})
_OPENS, _OBJECT = b"{[", ord("{")
_as_members = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_as_elements = msgspec.json.Decoder(list[msgspec.Raw]).decode
_written = msgspec.json.Encoder().encode


def dry_data_of(target: dict[str, Any], index: IndexSettings) -> DryData | None:
    """Return what a target leaves out of the documents of its index; None: nothing."""
    return DryData(index) if target.get("dry_data") else None


class DryData:
    """What is left out of the documents of an index."""

    def __init__(self, index: IndexSettings) -> None:
        """Take the index's configuration: names of fields, dotted where they lie in objects or lists."""
        self._names = frozenset({index.chain_field, *index.dry_without})
        self._above = frozenset(name[:dot] for name in self._names for dot in range(len(name)) if name[dot] == ".")

    def columns(self, columns: Sequence[AnyColumn]) -> tuple[AnyColumn, ...]:
        """Return the columns without those of fields that are left out, or that lie in them."""
        return tuple(one for one in columns if not isinstance(one, FileColumn) or not self._left_out(one.path))

    def documents(self, documents: Documents) -> Documents:
        """Return documents without what is left out. Raises SourceError where one is not a JSON object."""
        try:
            return [self._object(document, "") for document in documents]
        except (msgspec.DecodeError, RecursionError):
            raise SourceError("A document of the index is not a JSON object, or is one too deep to be read.") from None

    def _left_out(self, path: Sequence[str]) -> bool:
        return any(".".join(path[: length + 1]) in self._names for length in range(len(path)))

    def _object(self, document: bytes, prefix: str) -> bytes:
        members: dict[str, Any] = _as_members(document)
        look_closer = _MAY_BE_EMPTY(document) is not None
        for name, raw in list(members.items()):
            path = prefix + name
            if path in self._names:
                del members[name]
            elif look_closer or path in self._above:
                value = bytes(raw)
                if value[0] in _OPENS:
                    value = self._inner(value, path)
                    members[name] = msgspec.Raw(value)
                if value in _EMPTY:
                    del members[name]
        return _written(members)

    def _inner(self, value: bytes, path: str) -> bytes:
        """Return an object or a list without what is left out in it."""
        if path not in self._above and _MAY_BE_EMPTY(value) is None:
            return value
        if value[0] == _OBJECT:
            return self._object(value, path + ".")
        elements = map(bytes, _as_elements(value))
        return b"[" + b",".join([self._inner(one, path) if one[0] in _OPENS else one for one in elements]) + b"]"
