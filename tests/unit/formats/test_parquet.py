"""Parquet: types of the catalogue, every value exact or an error, the same bytes for the same rows."""

from __future__ import annotations

import gc
import io
import json
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from segments import Catalog
from tasks_service.config import IndexSettings
from tasks_service.errors import UnfitDocumentError
from tasks_service.formats import Encoder, parquet_encoder
from tasks_service.formats.registry import check_options, encoder_for

CATALOG = Catalog.from_mapping(
    {
        "amount": {"type": "double"},
        "count": {"type": "long"},
        "day": {"type": "date"},
        "fine": {"type": "date_nanos"},
        "items": {"type": "nested", "properties": {"sku": {"type": "keyword"}}},
        "late": {"type": "date", "format": "dd/MM/yyyy"},
        "mark": {"type": "unsigned_long"},
        "name": {"type": "text"},
        "sold": {"type": "boolean"},
    }
)
INDEX = IndexSettings(file_prefix="Product", source="products", columns=[])


def table(*documents: dict[str, Any], catalog: Catalog = CATALOG, **target: Any) -> Any:
    made = encoder_for({"export_format": "parquet", **target}, catalog, INDEX)
    writer = made.writer()
    pages = [writer.add(made.encode([json.dumps(one).encode()])) for one in documents]
    return pq.read_table(io.BytesIO(b"".join([*pages, writer.finish()])))


def test_columns_have_the_types_of_the_catalogue() -> None:
    schema = table().schema
    assert dict(zip(schema.names, schema.types, strict=True)) == {
        "amount": pa.float64(),
        "count": pa.int64(),
        "day": pa.timestamp("us", "UTC"),
        "fine": pa.timestamp("ns", "UTC"),
        "items": pa.string(),
        "late": pa.string(),
        "mark": pa.uint64(),
        "name": pa.string(),
        "sold": pa.bool_(),
    }


def test_decimals_and_huge_integers_of_files_are_exact() -> None:
    catalog = Catalog.from_columns([("price", "DECIMAL(18,2)"), ("huge", "HUGEINT"), ("list", "BIGINT[]")])
    found = table({"price": 12.5, "huge": 10**37 + 1, "list": [1, 2]}, catalog=catalog)
    assert found.to_pylist() == [{"huge": Decimal(10**37 + 1), "list": "[1,2]", "price": Decimal("12.50")}]


@pytest.mark.parametrize(
    ("field", "value", "held"),
    [
        ("count", -(2**63), -(2**63)),
        ("count", "12", 12),
        ("count", None, None),
        ("mark", 2**64 - 1, 2**64 - 1),
        ("amount", 0.1, 0.1),
        ("amount", 2**53, float(2**53)),
        ("amount", 1e300, 1e300),
        ("sold", True, True),
        ("name", "", ""),
        ("name", "null", "null"),
        ("items", [{"sku": "a"}], '[{"sku":"a"}]'),
        ("late", "26/05/2026", "26/05/2026"),
        ("count", 5.0, 5),
        ("count", 10**15, 10**15),
        ("amount", -0.0, -0.0),
        ("amount", 1e15 + 0.5, 1e15 + 0.5),
        ("day", "2026", datetime(2026, 1, 1, tzinfo=UTC)),
        ("day", 2026, datetime(2026, 1, 1, tzinfo=UTC)),
        ("day", 999, datetime(1970, 1, 1, 0, 0, 0, 999000, tzinfo=UTC)),
        ("day", -86400000, datetime(1969, 12, 31, tzinfo=UTC)),
        ("day", "2026-05", datetime(2026, 5, 1, tzinfo=UTC)),
        ("day", "2026-05-26T", datetime(2026, 5, 26, tzinfo=UTC)),
        ("day", "2026-05-26T12", datetime(2026, 5, 26, 12, tzinfo=UTC)),
        ("day", "2026-05-26T12:30+0230", datetime(2026, 5, 26, 10, tzinfo=UTC)),
        ("day", "2026-05-26T12:00:00,5Z", datetime(2026, 5, 26, 12, 0, 0, 500000, tzinfo=UTC)),
        ("day", "0001-01-01", datetime(1, 1, 1, tzinfo=UTC)),
        ("day", "2026-05-26", datetime(2026, 5, 26, tzinfo=UTC)),
        ("day", "9999-12-31", datetime(9999, 12, 31, tzinfo=UTC)),
        ("day", "2026-05-26T12:00:00", datetime(2026, 5, 26, 12, tzinfo=UTC)),
        ("day", "2026-05-26T12:00:00.123456000+02:00", datetime(2026, 5, 26, 10, 0, 0, 123456, tzinfo=UTC)),
        ("day", 1767312000123, datetime(2026, 1, 2, 0, 0, 0, 123000, tzinfo=UTC)),
    ],
)
def test_values_are_held_exactly(field: str, value: object, held: object) -> None:
    assert table({field: value})[field].to_pylist() == [held]


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("count", 1.5),
        ("count", "0x10"),
        ("count", ""),
        ("count", 2**63),
        ("count", [1]),
        ("mark", -1),
        ("amount", 2**53 + 1),
        ("amount", "nan"),
        ("amount", "1e999"),
        ("sold", 1),
        ("sold", "yes"),
        ("count", True),
        ("count", {"a": 1}),
        ("sold", ""),
        ("amount", "Infinity"),
        ("day", "today"),
        ("day", "2026-02-30"),
        ("day", "2026-05-26T24:00:00Z"),
        ("day", ["2026-05-26", "2026-05-27"]),
        ("day", "-2026-01-01"),
        ("day", 10**17),
        ("day", "2026-05-26T12:00:00.1234567Z"),
        ("day", 10**20),
        ("fine", "9999-12-31"),
    ],
)
def test_a_value_that_would_not_be_held_exactly_ends_the_export(field: str, value: object) -> None:
    with pytest.raises(UnfitDocumentError, match=f"'{field}'.*typed"):
        table({"name": "fits"}, {field: value})
    text = table({field: value}, options={"typed": False})[field].to_pylist()[0]
    assert text == (value if isinstance(value, str) else json.dumps(value, separators=(",", ":")))


def test_headers_and_order_are_the_tasks() -> None:
    found = table({"count": 1, "name": "x"}, columns=[{"field": "name", "header": "Name, full"}, "count"])
    assert found.to_pylist() == [{"Name, full": "x", "count": 1}]


def test_a_file_without_rows_has_its_columns() -> None:
    found = table(columns=["name"])
    assert (found.num_rows, found.column_names) == (0, ["name"])


@pytest.mark.parametrize("raw", [b'{"count":24319070901277448.0}', b'{"count":1e16}', b'{"mark":1234567890123456.0}'])
def test_an_integer_of_many_digits_that_is_written_as_a_fraction_is_not_rounded(raw: bytes) -> None:
    with pytest.raises(UnfitDocumentError, match="integer of 64 bits"):
        encoder_for({"export_format": "parquet"}, CATALOG, INDEX).encode([raw])


def test_the_error_names_the_value_and_what_fits() -> None:
    with pytest.raises(UnfitDocumentError, match=r"Column 'Pieces' has the value '2,5'.*integer of 64 bits"):
        table({"count": 7}, {"count": "2,5"}, columns=[{"field": "count", "header": "Pieces"}])


@pytest.mark.parametrize(
    ("raw", "held"),
    [
        (b'{"price":9999999999999.25}', Decimal("9999999999999.25")),
        (b'{"price":99999999999999.25}', None),
        (b'{"price":0.125}', None),
        (b'{"price":1e20}', None),
        (b'{"price":"-12.5"}', Decimal("-12.50")),
        (b'{"price":9999999999999999}', Decimal(9999999999999999)),
    ],
)
def test_a_decimal_of_more_digits_than_are_sure_ends_the_export(raw: bytes, held: Decimal | None) -> None:
    catalog = Catalog.from_columns([("price", "DECIMAL(18,2)")])
    made = encoder_for({"export_format": "parquet"}, catalog, INDEX)
    if held is None:
        with pytest.raises(UnfitDocumentError, match="price"):
            made.encode([raw])
    else:
        assert pages_of(made, [raw])["price"].to_pylist() == [held]


def pages_of(made: Encoder, *pages: list[bytes]) -> Any:
    return pq.read_table(io.BytesIO(written(made, *pages)))


def written(made: Encoder, *pages: list[bytes]) -> bytes:
    writer = made.writer()
    return b"".join([*[writer.add(made.encode(page)) for page in pages], writer.finish()])


def test_constants_and_templates_are_texts_beside_typed_fields() -> None:
    columns = [
        {"constant": 7, "header": "Seven"},
        "count",
        {"template": "{name}/{count}", "header": "Both"},
        {"constant": None, "header": "None"},
    ]
    found = table({"count": 1, "name": "x"}, columns=columns)
    assert found.to_pylist() == [{"Seven": "7", "count": 1, "Both": "x/1", "None": None}]
    assert [kind for kind in found.schema.types if kind != pa.string()] == [pa.int64()]


def test_elements_of_an_exploded_list_are_typed_and_other_lists_are_texts() -> None:
    inner = {"sku": {"type": "keyword"}, "n": {"type": "long"}}
    kinds = {"lines": {"type": "nested", "properties": inner}, "tags": {"type": "nested", "properties": inner}}
    catalog = Catalog.from_mapping({"id": {"type": "long"}, **kinds})
    columns = ["id", "lines.n", "lines.sku", "tags.n"]
    documents = [{"id": 1, "lines": [{"sku": "a", "n": 1}, {"n": 2}], "tags": [{"n": 5}, {"n": 6}]}, {"id": 2}]
    exploded = {"options": {"nested": "explode", "explode": "lines"}, "columns": columns}
    found = table(*documents, catalog=catalog, **exploded)
    assert [str(kind) for kind in found.schema.types] == ["int64", "int64", "string", "string"]
    assert [tuple(row.values()) for row in found.to_pylist()] == [
        (1, 1, "a", "[5,6]"),
        (1, 2, None, "[5,6]"),
        (2, None, None, None),
    ]
    flat = table(*documents, catalog=catalog, options={"nested": "flatten"}, columns=columns)
    assert flat["lines.n"].to_pylist() == ["[1,2]", None]


ROWS = [json.dumps({"count": number, "name": "x" * (number % 7)}).encode() for number in range(20)]


@pytest.mark.parametrize("page", [1, 3, 7, 20])
def test_row_groups_end_by_rows_and_the_bytes_do_not_depend_on_pages(
    page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(parquet_encoder, "GROUP_ROWS", 6)
    made = encoder_for({"export_format": "parquet"}, CATALOG, INDEX)
    data = written(made, *[ROWS[start : start + page] for start in range(0, 20, page)])
    assert groups(data) == [6, 6, 6, 2]
    assert data == written(made, ROWS)
    assert pq.read_table(io.BytesIO(data))["count"].to_pylist() == list(range(20))


@pytest.mark.parametrize("page", [1, 2, 5])
def test_row_groups_end_by_bytes_and_a_larger_row_has_one_to_itself(page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    catalog = Catalog.from_mapping({"name": {"type": "text"}})
    monkeypatch.setattr(parquet_encoder, "GROUP_BYTES", 100)
    made = encoder_for({"export_format": "parquet"}, catalog, INDEX)
    # A row takes 8 bytes and its text.
    rows = [json.dumps({"name": "x" * (length - 8)}).encode() for length in (50, 50, 60, 300, 20, 20, 60)]
    data = written(made, *[rows[start : start + page] for start in range(0, len(rows), page)])
    assert groups(data) == [2, 1, 1, 3]
    assert data == written(made, rows)


def groups(data: bytes) -> list[int]:
    metadata = pq.ParquetFile(io.BytesIO(data)).metadata
    return [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)]


def test_row_groups_leave_while_the_file_grows(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parquet_encoder, "GROUP_ROWS", 2)
    made = encoder_for({"export_format": "parquet"}, CATALOG, INDEX)
    writer = made.writer()
    page = made.encode(ROWS[:2])
    assert (page.rows, page.size > 0, page.data) == (2, True, b"")
    assert [bool(writer.add(page)) for _ in range(3)] == [True, True, True]
    assert writer.finish()


def test_a_writer_left_in_the_middle_ends_quietly() -> None:
    made = encoder_for({"export_format": "parquet"}, CATALOG, INDEX)
    writer = made.writer()
    writer.add(made.encode(ROWS))
    del writer
    gc.collect()


def test_many_columns_are_held_too() -> None:
    names = [f"c{number:03}" for number in range(200)]
    catalog = Catalog.from_mapping({name: {"type": "long"} for name in names})
    document = {name: number for number, name in enumerate(names)}
    assert table(document, {}, catalog=catalog).to_pylist() == [document, dict.fromkeys(names)]


def test_every_wrong_option_is_named_at_once() -> None:
    assert check_options("parquet", {"typed": False, "nested": "flatten"}) == []
    faults = check_options("parquet", {"typed": "no", "bom": True, "nested": "deep"})
    assert [fault.pointer.rpartition("/")[2] for fault in faults] == ["bom", "typed", "nested"]
