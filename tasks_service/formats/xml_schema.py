"""What the elements of an XML file are called and hold, and the XML Schema (XSD 1.0) that says so.

Headers become element names by the rule of SQL/XML (ISO/IEC 9075-14): a character that a name cannot have is its number
between `_x` and `_`, and so is an underscore that would begin such a number, so that two headers never share a name.
Types come from the catalogue; dates are texts, as documents have them. Called by xml_encoder.py and registry.py.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from segments import Catalog
from tasks_service.formats.file_columns import AnyColumn, Constant, ConstantColumn, FileColumn

# Letters that are letters of names in every edition of XML 1.0: schema processors know the fourth, parsers the fifth.
_LETTERS = (
    "A-Za-z\u00c0-\u00d6\u00d8-\u00f6\u00f8-\u0131\u0134-\u013e\u0141-\u0148\u014a-\u017e\u0391-\u03a1\u03a3-\u03ce"
    "\u0401-\u040c\u040e-\u044f\u0451-\u045c\u05d0-\u05ea\u0621-\u063a\u0641-\u064a\u3041-\u3094\u30a1-\u30fa"
    "\u4e00-\u9fa5\uac00-\ud7a3"
)
_NOT_FIRST = re.compile(f"[^_{_LETTERS}]|_(?=x)|[xX](?=[mM][lL])")
_NOT_IN_NAME = re.compile(f"[^_.0-9{_LETTERS}-]|_(?=x)")
_FOUR_DIGITS = 0xFFFF

UNLAWFUL: Final = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
"""The characters that XML 1.0 cannot hold, not even as references."""

SPELT: Final = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
"""How texts are written; a carriage return that is not a reference would be read as a line feed."""

_INTEGERS = {f"{sign}{size}" for sign in ("", "unsigned_") for size in ("byte", "short", "integer", "long")} | {"huge"}
_DOUBLES = {"half_float", "float", "double", "scaled_float"}

_BEFORE = """\
<?xml version="1.0" encoding="UTF-8"?>
<xs:schema xmlns:xs="http://www.w3.org/2001/XMLSchema" elementFormDefault="qualified">
<xs:complexType name="text"><xs:annotation><xs:documentation>A text; or JSON, where it says so: an object, or a string \
with characters that XML cannot hold.</xs:documentation></xs:annotation><xs:simpleContent>\
<xs:extension base="xs:string"><xs:attribute name="json" type="xs:boolean" default="false"/></xs:extension>\
</xs:simpleContent></xs:complexType>
<xs:element name="rows"><xs:complexType><xs:sequence>
<xs:element name="row" minOccurs="0" maxOccurs="unbounded"><xs:complexType><xs:sequence>
"""
_AFTER = """\
</xs:sequence></xs:complexType></xs:element>
</xs:sequence></xs:complexType></xs:element>
</xs:schema>
"""


@dataclass(frozen=True, slots=True)
class ElementType:
    """What a column's elements hold.

    Attributes:
        name: of the type in the schema.
        wanted: what its values are, for the error that says which one is not.
        values: the values it has; None where it has every one.
        single: whether there is exactly one in a row; else there may be several, or none for an empty list.
    """

    name: str
    wanted: str = ""
    values: re.Pattern[str] | None = None
    single: bool = False


TEXT: Final = ElementType("text")
_BOOLEAN = ElementType("xs:boolean", "true or false", re.compile("true|false"))
_INTEGER = ElementType("xs:integer", "an integer", re.compile("[+-]?[0-9]+"))
_DECIMAL = ElementType("xs:decimal", "a decimal number", re.compile(r"[+-]?[0-9]+(\.[0-9]+)?"))
_DOUBLE = ElementType("xs:double", "a number", re.compile(r"[+-]?[0-9]+(\.[0-9]+)?([eE][+-]?[0-9]+)?"))


def element_type(column: AnyColumn, catalog: Catalog, *, typed: bool) -> ElementType:
    """Return the type of a column's elements; without `typed` every one is a text."""
    if not isinstance(column, FileColumn):
        kind = _type_of(column.value) if typed and isinstance(column, ConstantColumn) else TEXT
        return replace(kind, single=True)
    field = catalog.get(".".join(column.path))
    # What indices behind one name disagree on has a refusal.
    if not typed or field is None or field.refusal:
        return TEXT
    if field.type == "boolean":
        return _BOOLEAN
    if field.type != "number":
        return TEXT
    if field.storage in _INTEGERS:
        return _INTEGER
    return _DOUBLE if field.storage in _DOUBLES else _DECIMAL if field.storage.startswith("decimal") else TEXT


def _type_of(value: Constant) -> ElementType:
    match value:
        case bool():
            return _BOOLEAN
        case int():
            return _INTEGER
        case float():
            return _DOUBLE
        case _:
            return TEXT


def element_name(header: str) -> str:
    """Return the name of the element that holds a column's values."""
    first = _spelt(header[0]) if _NOT_FIRST.match(header) else header[0]
    return first + _NOT_IN_NAME.sub(lambda found: _spelt(found[0]), header[1:])


def _spelt(character: str) -> str:
    number = ord(character)
    return f"_x{number:04X}_" if number <= _FOUR_DIGITS else f"_x{number:08X}_"


def schema(columns: Sequence[AnyColumn], types: Sequence[ElementType]) -> str:
    """Return the schema of a file with these columns, as a document of its own."""
    return _BEFORE + "".join(map(_declared, columns, types)) + _AFTER


def _declared(column: AnyColumn, kind: ElementType) -> str:
    times = "" if kind.single else ' minOccurs="0" maxOccurs="unbounded"'
    told = UNLAWFUL.sub(lambda found: f"\\u{ord(found[0]):04x}", column.header).translate(SPELT)
    return (
        f'<xs:element name="{element_name(column.header)}" type="{kind.name}" nillable="true"{times}>'
        f"<xs:annotation><xs:documentation>{told}</xs:documentation></xs:annotation></xs:element>\n"
    )
