"""XML: `<rows>` of `<row>`s with the elements of each column, well-formed whatever the documents hold.

A value is an element, a list is one for each of its values, and null and absent are an element that is `xsi:nil`, so
that an empty text is another thing. An object, and a text with characters that XML cannot hold, is JSON, and its
element says so: `json="true"`. What lives here is the making of rows; names, types and the schema are xml_schema.py's.
Called by registry.py.
"""

from __future__ import annotations

import json
from collections.abc import Sequence

import msgspec

from tasks_service.errors import UnfitDocumentError
from tasks_service.formats import Encoded, JoiningWriter, Joints
from tasks_service.formats.cells import JSON, Cells
from tasks_service.formats.engine import Engine
from tasks_service.formats.file_columns import AnyColumn
from tasks_service.formats.xml_schema import SPELT, UNLAWFUL, ElementType, element_name
from tasks_service.sources import Documents

_HEADER = b'<?xml version="1.0" encoding="UTF-8"?>\n<rows xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">\n'
_FOOTER = b"</rows>\n"
_SHOWN = 60


class XmlEncoder:
    """Documents to row elements. One encoder a file."""

    extension = "xml"
    content_type = "application/xml; charset=utf-8"
    joints = Joints(header=_HEADER, footer=_FOOTER, empty=_HEADER + _FOOTER)

    def __init__(self, columns: Sequence[AnyColumn], types: Sequence[ElementType]) -> None:
        """Take the columns in order, at least one, and the type of each."""
        self._makers = [_ElementMaker(column.header, kind) for column, kind in zip(columns, types, strict=True)]
        self._cells = Cells(columns, Engine(self.extension), JSON)

    def encode(self, documents: Documents) -> Encoded:
        """Encode one page. Raises UnfitDocumentError where a value is not of its column's type."""
        rows: list[str] = []
        for columns in self._cells.of(documents):
            elements = [maker.column(column.to_pylist()) for maker, column in zip(self._makers, columns, strict=True)]
            rows += [f"<row>{''.join(row)}</row>\n" for row in zip(*elements, strict=True)]
        return Encoded("".join(rows).encode(), len(rows))

    def writer(self) -> JoiningWriter:
        """Join the rows inside one root."""
        return JoiningWriter(self.joints)


class _ElementMaker:
    """Makes the elements of one column."""

    def __init__(self, header: str, kind: ElementType) -> None:
        name = element_name(header)
        self._header = header
        self._kind = kind
        self._start, self._end = f"<{name}>", f"</{name}>"
        self._json = f'<{name} json="true">'
        self._nil = f'<{name} xsi:nil="true"/>'
        self._decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode

    def column(self, values: Sequence[str | None]) -> list[str]:
        """Return the elements of each value, given as compact JSON."""
        # Most columns repeat themselves within a page, and making an element is dearer than finding it.
        made = {raw: self._elements(raw) for raw in set(values)}
        return [made[raw] for raw in values]

    def _elements(self, raw: str | None) -> str:
        if raw is None or raw == "null":
            return self._nil
        if raw[0] == "[":
            return "".join([self._elements(bytes(one).decode()) for one in self._decode_array(raw)])
        is_text = raw[0] == '"'
        text = raw if not is_text else raw[1:-1] if "\\" not in raw else json.loads(raw)
        if self._kind.values is not None:
            if self._kind.values.fullmatch(text) is None:
                raise self._unfit(raw)
        elif raw[0] == "{" or (is_text and UNLAWFUL.search(text)):
            # Outside its strings JSON has no character that XML has not.
            spelt = UNLAWFUL.sub(lambda found: f"\\u{ord(found[0]):04x}", raw)
            return f"{self._json}{spelt.translate(SPELT)}{self._end}"
        return f"{self._start}{text.translate(SPELT)}{self._end}"

    def _unfit(self, raw: str) -> UnfitDocumentError:
        shown = raw if len(raw) <= _SHOWN else raw[:_SHOWN] + "..."
        return UnfitDocumentError(
            f"Column {self._header!r} has the value {shown}, and is to hold {self._kind.wanted} (the index says so). "
            'Correct the document, leave the column out, or choose `"typed": false`, with which every column is text.'
        )
