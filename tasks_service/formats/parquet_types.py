"""The type of each column of a Parquet file, from the catalogue, and the making of typed columns out of texts.

A value goes into a typed column exactly, or not at all: 1.5 is no integer, an integer beyond 2**53 may be no double.
Lists, documents, and dates in a format of their own are text. What lives here is types and casts; texts come from
cells.py. Called by registry.py and parquet_encoder.py.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

from segments import Field
from tasks_service.errors import UnfitDocumentError

Library: TypeAlias = Any
"""pyarrow, which has no types; imported where a file is made."""

Array: TypeAlias = Any
"""An array of the library, or a type of it."""

_INTEGER = "^-?[0-9]+$"
_NUMBER = "^-?[0-9]+([.][0-9]+)?([eE][+-]?[0-9]+)?$"
_LONG = "[1-9][.]?([0-9][.]?){15,}"
_MILLISECONDS = "^-?([0-9]{1,3}|[0-9]{5,})$"
_ISO_FORMS = (
    ("^([0-9]{4})$", r"\1-01"),
    ("^([0-9]{4}-[0-9]{2})$", r"\1-01"),
    ("^([0-9]{4}-[0-9]{2}-[0-9]{2})T?$", r"\1T00:00:00"),
    ("^([^,]+),([0-9]+)", r"\1.\2"),
    ("^([0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9:]+([.][0-9]+)?)$", r"\1Z"),
    ("([.][0-9]{6})0+(Z|[+-])", r"\1\2"),
)
"""What is made of dates, one after the other: as in Elasticsearch, no time is midnight and no offset is UTC."""

_DECIMAL = re.compile(r"decimal\(([0-9]+),([0-9]+)\)")
_MOST_DIGITS = 38
_SHOWN = 60

_USUAL_DATES = frozenset({"", "strict_date_optional_time||epoch_millis", "strict_date_optional_time"})
_SIGNED = frozenset({"byte", "short", "integer", "long"})
_UNSIGNED = frozenset({"unsigned_byte", "unsigned_short", "unsigned_integer", "unsigned_long"})
_FLOATING = frozenset({"half_float", "float", "double", "scaled_float"})


@dataclass(frozen=True, slots=True)
class ColumnType:
    """One column's type.

    Attributes:
        wanted: what its values are, for the error that says which one is not.
        arrow: library -> its type.
        cast: (library, texts, type) -> the typed column; raises ValueError where a text does not fit.
    """

    wanted: str
    arrow: Callable[[Library], Array]
    cast: Callable[[Library, Array, Array], Array]


def column_type(field: Field | None, exploded: tuple[str, ...] | None = None) -> ColumnType:
    """Return the type of a column that holds that field; None is an object, or nested documents, named whole.

    `exploded` is the path of the list whose elements have a row each: their fields have one value a row.
    """
    if field is None or field.lists or (field.levels and [level.keys for level in field.levels] != [exploded]):
        return TEXT
    if field.type == "boolean":
        return ColumnType("true or false", lambda arrow: arrow.bool_(), _matching("^(true|false)$"))
    if field.type == "date":
        return _date(field)
    return _number(field.storage) if field.type == "number" else TEXT


def _number(storage: str) -> ColumnType:
    if storage in _SIGNED:
        return ColumnType("an integer of 64 bits", lambda arrow: arrow.int64(), _integers)
    if storage in _UNSIGNED:
        return ColumnType("an unsigned integer of 64 bits", lambda arrow: arrow.uint64(), _integers)
    if storage in _FLOATING:
        return ColumnType("a number that a double holds", lambda arrow: arrow.float64(), _doubles)
    digits = _DECIMAL.fullmatch("decimal(38,0)" if storage == "huge" else storage)
    if digits is None or int(digits[1]) > _MOST_DIGITS:
        return TEXT
    precision, scale = int(digits[1]), int(digits[2])
    wanted = f"a number of at most {precision} digits, {scale} of them decimals, and of 15 where it has decimals"
    return ColumnType(wanted, lambda arrow: arrow.decimal128(precision, scale), _decimals)


def _date(field: Field) -> ColumnType:
    unit = "ns" if field.storage == "date_nanos" or field.column_type == "TIMESTAMP_NS" else "us"
    cast = _instants
    if field.date_format == "epoch_millis" or field.column_type == "BIGINT":
        cast = _milliseconds
    elif field.date_format not in _USUAL_DATES:
        return TEXT
    wanted = f"a date in ISO 8601 or milliseconds that a timestamp in {unit} holds"
    return ColumnType(wanted, lambda arrow: arrow.timestamp(unit, "UTC"), cast)


def typed(arrow: Library, texts: Array, header: str, kind: ColumnType) -> Array:
    """Return the column with its type. Raises UnfitDocumentError where a value of it does not fit."""
    wanted = kind.arrow(arrow)
    try:
        return kind.cast(arrow, texts, wanted)
    except ValueError as exc:
        found = next((text for text in texts.to_pylist() if not _fits(arrow, text, kind)), "")
        raise UnfitDocumentError(
            f"Column {header!r} has the value {found[:_SHOWN]!r}, which is not {kind.wanted}, the type of the field in "
            'the index. With `"options": {"typed": false}` every column is text, as in csv; jsonl holds any value.'
        ) from exc


def _fits(arrow: Library, text: str | None, kind: ColumnType) -> bool:
    try:
        kind.cast(arrow, arrow.array([text], arrow.string()), kind.arrow(arrow))
    except ValueError:
        return False
    return True


def _matching(pattern: str) -> Callable[[Library, Array, Array], Array]:
    """The library's own reading is wider than JSON's: 0x10, nan, and 1 as true."""

    def cast(arrow: Library, texts: Array, wanted: Array) -> Array:
        compute = arrow.compute
        if compute.all(compute.match_substring_regex(texts, pattern)).as_py() is False:
            raise ValueError(pattern)
        return compute.cast(texts, wanted)

    return cast


def _integers(arrow: Library, texts: Array, wanted: Array) -> Array:
    """5.0 is the integer 5; of more than 15 digits the text of such a number is its double's, perhaps rounded."""
    whole = arrow.compute.replace_substring_regex(texts, "^(-?[0-9]{1,15})[.]0+$", r"\1")
    return _matching(_INTEGER)(arrow, whole, wanted)


def _doubles(arrow: Library, texts: Array, wanted: Array) -> Array:
    compute = arrow.compute
    found = _matching(_NUMBER)(arrow, texts, wanted)
    if compute.all(compute.is_finite(found)).as_py() is False:
        raise ValueError("infinite")
    large = _where(arrow, texts, "^-?[0-9]{16,}$")
    if any(int(float(text)) != int(text) for text in texts.filter(large).to_pylist()):
        raise ValueError("rounded")
    return found


def _decimals(arrow: Library, texts: Array, wanted: Array) -> Array:
    """Texts of numbers with decimals are those of doubles, of which only 15 digits are sure to be the document's."""
    fractions = arrow.compute.match_substring_regex(texts, "[.eE]")
    long = arrow.compute.match_substring_regex(texts, _LONG)
    if arrow.compute.any(arrow.compute.and_(fractions, long)).as_py():
        raise ValueError("rounded")
    return _matching(_NUMBER)(arrow, texts, wanted)


def _instants(arrow: Library, texts: Array, wanted: Array) -> Array:
    compute = arrow.compute
    numeric = _where(arrow, texts, _MILLISECONDS)
    nothing = arrow.nulls(len(texts), texts.type)
    iso = compute.if_else(numeric, nothing, texts)
    for form, becomes in _ISO_FORMS:
        iso = compute.replace_substring_regex(iso, form, becomes)
    milliseconds = _milliseconds(arrow, compute.if_else(numeric, texts, nothing), wanted)
    return compute.coalesce(compute.cast(iso, wanted), milliseconds)


def _milliseconds(arrow: Library, texts: Array, wanted: Array) -> Array:
    numbers = _integers(arrow, texts, arrow.int64())
    return arrow.compute.cast(arrow.compute.cast(numbers, arrow.timestamp("ms", "UTC")), wanted)


def _where(arrow: Library, texts: Array, pattern: str) -> Array:
    return arrow.compute.fill_null(arrow.compute.match_substring_regex(texts, pattern), fill_value=False)


def _as_it_is(_arrow: Library, texts: Array, _wanted: Array) -> Array:
    return texts


TEXT: Final = ColumnType("a text", lambda arrow: arrow.string(), _as_it_is)
