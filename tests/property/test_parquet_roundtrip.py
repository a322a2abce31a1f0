"""What pyarrow and DuckDB read back of a Parquet file equals the documents, whatever is in them (promise 5)."""

from __future__ import annotations

import io
import json
import tempfile
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta, timezone
from decimal import Decimal
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq
from hypothesis import example, given, settings
from hypothesis import strategies as st

from segments import Catalog
from tasks_service.config import IndexSettings
from tasks_service.errors import UnfitDocumentError
from tasks_service.formats import Encoder
from tasks_service.formats.parquet_encoder import ParquetEncoder
from tasks_service.formats.parquet_types import TEXT
from tasks_service.formats.registry import encoder_for
from tests.property.test_formats_roundtrip import COLUMNS, INDENTS, NAMES, documents, raw, same, values

CATALOG = Catalog.from_mapping(
    {
        "amount": {"type": "double"},
        "at": {"type": "date"},
        "count": {"type": "long"},
        "mark": {"type": "unsigned_long"},
        "sold": {"type": "boolean"},
    }
)
INDEX = IndexSettings(file_prefix="Product", source="products", columns=[])
TYPED = encoder_for({"export_format": "parquet"}, CATALOG, INDEX)
TEXTS = ParquetEncoder(COLUMNS, [TEXT] * len(COLUMNS))
READER = duckdb.connect(config={"threads": 1})
INSTANTS = st.datetimes(
    datetime(1, 1, 2),  # noqa: DTZ001 -- the zones are drawn beside it
    datetime(9999, 12, 30),  # noqa: DTZ001
    timezones=st.integers(-14 * 60, 14 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes))),
)
ROWS = st.fixed_dictionaries(
    {},
    optional={
        "amount": st.none() | st.floats(allow_nan=False, allow_infinity=False) | st.integers(-(2**53), 2**53),
        "at": st.none() | INSTANTS,
        "count": st.none() | st.integers(-(2**63), 2**63 - 1),
        "mark": st.none() | st.integers(0, 2**64 - 1),
        "sold": st.none() | st.booleans(),
    },
)


def written(encoder: Encoder, rows: Sequence[bytes], page: int) -> bytes:
    writer = encoder.writer()
    pages = [list(rows[start : start + page]) for start in range(0, len(rows), page)]
    return b"".join([*[writer.add(encoder.encode(one)) for one in pages], writer.finish()])


def read_by_both(data: bytes) -> list[dict[str, Any]]:
    """The rows by pyarrow, after DuckDB was seen to read the same."""
    table = pq.read_table(io.BytesIO(data))
    with tempfile.TemporaryDirectory() as folder, READER.cursor() as connection:
        path = Path(folder) / "file.parquet"
        path.write_bytes(data)
        names = ", ".join(
            f"epoch_us({quoted})" if str(kind).startswith("timestamp") else quoted
            for quoted, kind in zip(map(_quoted, table.column_names), table.schema.types, strict=True)
        )
        by_duckdb = connection.execute(f"SELECT {names} FROM read_parquet(?)", [str(path)]).fetchall()  # noqa: S608
    rows: list[dict[str, Any]] = table.to_pylist()
    assert [tuple(map(_plain, row.values())) for row in rows] == by_duckdb
    return rows


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def _plain(value: Any) -> Any:
    if isinstance(value, datetime):
        return (value - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    return value


@settings(deadline=None, max_examples=50)
@given(st.lists(st.tuples(documents(), INDENTS), max_size=5), st.integers(1, 5))
def test_texts_come_back_as_they_went(found: list[tuple[dict[str, Any], int | None]], page: int) -> None:
    data = written(TEXTS, [raw(*one) for one in found], page)
    rows = read_by_both(data)
    assert tuple(pq.read_schema(io.BytesIO(data)).names) == NAMES
    assert len(rows) == len(found)
    for (document, _), row in zip(found, rows, strict=True):
        for name in NAMES:
            there = values(document, name.split("."))
            assert same(row[name], there[0] if there else None), (name, row[name], there)


@settings(deadline=None, max_examples=50)
@given(st.lists(ROWS, max_size=5), st.integers(1, 5))
def test_typed_values_come_back_as_they_went(found: list[dict[str, Any]], page: int) -> None:
    pages = [json.dumps(row, default=datetime.isoformat).encode() for row in found]
    rows = read_by_both(written(TYPED, pages, page))
    names = [column.name for column in CATALOG.columns]
    assert rows == [{name: row.get(name) for name in names} for row in found]


@settings(deadline=None, max_examples=100)
@example("count", {"a": 24319070901277450.0})
@given(st.sampled_from(["amount", "at", "count", "mark", "sold"]), documents())
def test_what_a_column_does_not_hold_ends_the_export_and_nothing_else_gets_in(name: str, drawn: dict[str, Any]) -> None:
    value = next(iter(drawn.values()), None)
    try:
        [row] = read_by_both(written(TYPED, [json.dumps({name: value}).encode()], 1))
    except UnfitDocumentError:
        assert value is not None
        assert not isinstance(value, bool) or name != "sold"
        assert name != "count" or not isinstance(value, int) or isinstance(value, bool) or not -(2**63) <= value < 2**63
        return
    held = row[name]
    if value is None:
        assert held is None
    elif name == "at":
        assert held is not None
    elif name == "sold":
        assert json.dumps(held) == (value if isinstance(value, str) else json.dumps(value))
    else:
        assert Decimal(held) == Decimal(value)
