"""A row for each element of one nested list: documents become one document an element, before they are encoded.

A document without an element (no list, null, an empty one) becomes one without the list, so that no document goes
missing: its row has nothing in the columns of elements. An element that is null has such a row too. Elements are found
wherever Elasticsearch finds them: under either spelling of a dotted path, in lists of lists, as a single object, and
through lists of objects on the way. What is made of a document holds no more than the columns need, so that a long
list costs what its rows take. The encoder inside knows nothing of it. Called by registry.py.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from tasks_service.errors import SourceError, UnfitDocumentError
from tasks_service.formats import Encoded, Encoder, Writer
from tasks_service.formats.file_columns import AnyColumn
from tasks_service.sources import Documents
from tasks_service.sources.surrogates import without_lone_surrogates

_ARRAY = b"["
_OBJECT = b"{"
_NULL = b"null"
_SPACE = b" \t\r\n"

_PORTION_BYTES = 16 * 1024 * 1024
"""What the documents of one encoded page may become at most, but for a single document that becomes more."""

_LARGEST = 256 * 1024 * 1024
"""What a single document may become at most: it is in memory several times while it is encoded."""


class Exploder:
    """Makes documents of elements.

    Attributes:
        columns: the columns as the encoder of the elements' documents is to have them.
    """

    def __init__(self, path: tuple[str, ...], columns: Sequence[AnyColumn]) -> None:
        """Take the path of the list, and the columns of the file; none of them an object around the list."""
        self._parts = tuple(part for member in path for part in member.split("."))
        fields = [field for column in columns for field in column.fields if field.path[: len(path)] != path]
        self._kept = frozenset(field.parts[0] for field in fields)
        name = "element"
        while name in self._kept:
            name += "_"
        self.columns = tuple(
            column.moved(lambda one: (name, *one[len(path) :]) if one[: len(path)] == path else one)
            for column in columns
        )
        self._before_element = b'"' + name.encode() + b'":'
        self._decode_object = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
        self._decode_array = msgspec.json.Decoder(list[msgspec.Raw]).decode

    def exploded(self, document: bytes) -> Documents:
        """Return the document of each element, at least one.

        Raises SourceError where it is not a JSON object, UnfitDocumentError where they would be too large together.
        """
        try:
            return self._exploded(document)
        except (msgspec.DecodeError, UnicodeDecodeError):
            # Half a character, escaped, is lawful JSON to Elasticsearch; the encoders replace it too.
            try:
                return self._exploded(without_lone_surrogates(document))
            except (msgspec.DecodeError, UnicodeDecodeError) as exc:
                raise SourceError("A document of the index is not valid JSON.") from exc

    def _exploded(self, document: bytes) -> Documents:
        members = self._decode_object(document)
        elements: list[bytes] = []
        self._cut(members, self._parts, elements)
        kept = {name: raw for name, raw in members.items() if name.partition(".")[0] in self._kept}
        rest = msgspec.json.encode(kept)
        if not elements:
            return [rest]
        grown = sum(map(len, elements)) + len(elements) * len(rest)
        if grown > _LARGEST:
            raise UnfitDocumentError(
                f"A document of {len(document)} bytes would become {grown} bytes of {len(elements)} rows, since each "
                "repeats the other columns. Leave out columns of long texts, or keep the list a cell (`nested: json`)."
            )
        start = (rest[:-1] + b"," if kept else rest[:-1]) + self._before_element
        return [start + element + b"}" for element in elements]

    def _cut(self, members: dict[str, Any], parts: tuple[str, ...], found: list[bytes]) -> None:
        """Take every element of the list at that dotted path out of an object."""
        for depth in range(1, len(parts) + 1):
            name = parts[0] if depth == 1 else ".".join(parts[:depth])
            raw = members.get(name)
            if raw is None:
                continue
            if depth == len(parts):
                del members[name]
                self._spread(bytes(raw).strip(_SPACE), found, outermost=True)
            else:
                members[name] = msgspec.Raw(self._without(bytes(raw).strip(_SPACE), parts[depth:], found))

    def _without(self, raw: bytes, parts: tuple[str, ...], found: list[bytes]) -> bytes:
        """Return what lies on the way to the list, without the list."""
        if raw.startswith(_OBJECT):
            members = self._decode_object(raw)
            self._cut(members, parts, found)
            return msgspec.json.encode(members)
        if raw.startswith(_ARRAY):
            within = (bytes(one).strip(_SPACE) for one in self._decode_array(raw))
            return _ARRAY + b",".join([self._without(one, parts, found) for one in within]) + b"]"
        return raw

    def _spread(self, raw: bytes, found: list[bytes], *, outermost: bool = False) -> None:
        if raw.startswith(_ARRAY):
            for one in self._decode_array(raw):
                self._spread(bytes(one).strip(_SPACE), found)
        elif not (outermost and raw == _NULL):
            found.append(raw)


class ExplodingEncoder:
    """An encoder of elements. A document's rows follow one another, and are never on two pages."""

    def __init__(self, encoder: Encoder, exploder: Exploder) -> None:
        """Take the encoder of `exploder.columns`."""
        self._encoder = encoder
        self._exploder = exploder
        self.extension, self.content_type, self.joints = encoder.extension, encoder.content_type, encoder.joints

    def portions(self, documents: Documents) -> Iterator[Documents]:
        """Divide a page by what it may become: every object in a document may be an element that repeats the rest."""
        portion: Documents = []
        size = 0
        for document in documents:
            grown = len(document) * max(1, document.count(_OBJECT) - 1)
            if portion and size + grown > _PORTION_BYTES:
                yield portion
                portion, size = [], 0
            portion.append(document)
            size += grown
        if portion:
            yield portion

    def encode(self, documents: Documents) -> Encoded:
        """Encode the elements of one page."""
        page = self._encoder.encode([one for document in documents for one in self._exploder.exploded(document)])
        page.documents = len(documents)
        return page

    def writer(self) -> Writer:
        """Return what joins the pages of one file."""
        return self._encoder.writer()


def exploding(
    path: tuple[str, ...] | None, columns: Sequence[AnyColumn], encoder_of: Callable[[Sequence[AnyColumn]], Encoder]
) -> Encoder:
    """Return the encoder of these columns, with a row for each element of the list at a path where there is one."""
    if path is None:
        return encoder_of(columns)
    exploder = Exploder(path, columns)
    return ExplodingEncoder(encoder_of(exploder.columns), exploder)
