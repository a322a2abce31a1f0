"""The Parquet files: typed columns beside the raw document, and both say the same."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import duckdb
import pytest

from tasks_service.indices.fields import Field
from tasks_service.sample import INDICES, raw_documents, structure, write_files

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
ROWS = 300


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("documents") / "not there yet"
    assert write_files(made, ROWS, until=UNTIL) == dict.fromkeys(INDICES, ROWS)
    return made


def _read(path: Path) -> tuple[list[tuple[str, str]], list[dict[str, Any]]]:
    with duckdb.connect() as connection:
        found = connection.execute("SELECT * FROM read_parquet($path)", {"path": str(path)})
        columns = [(entry[0], str(entry[1])) for entry in found.description or []]
        names = [name for name, _ in columns]
        return columns, [dict(zip(names, row, strict=True)) for row in found.fetchall()]


def _typed(value: Any, field: Field) -> Any:
    """A decoded JSON value as its typed column gives it back: missing and null are one there."""
    if value is None:
        return None
    if isinstance(value, list):
        return [_typed(item, field) for item in value]
    if field.fields is not None:
        return {name: _typed(value.get(name), inner) for name, inner in field.fields.items()}
    if field.kind == "date":
        return datetime.fromisoformat(value).replace(tzinfo=None)
    return value


@pytest.mark.parametrize("index", INDICES)
def test_typed_columns_and_raw_document_agree(directory: Path, index: str) -> None:
    columns, rows = _read(directory / index / "part-00000.parquet")
    assert [name for name, _ in columns] == [*INDICES[index], "_raw"]
    assert [row["_raw"].encode() for row in rows] == list(raw_documents(index, ROWS, until=UNTIL))
    for row in rows:
        document = json.loads(row.pop("_raw"))
        assert row == {name: _typed(document.get(name), field) for name, field in INDICES[index].items()}


def test_columns_have_the_types_of_the_fields(directory: Path) -> None:
    columns = dict(_read(directory / "products" / "part-00000.parquet")[0])
    assert {columns[name] for name in ("id", "chain_id", "stock")} == {"BIGINT"}
    assert {columns[name] for name in ("price", "cost_price")} == {"DOUBLE"}
    assert columns["is_promotional"] == "BOOLEAN"
    assert columns["created_date"] == "TIMESTAMP"
    assert columns["tags"] == "VARCHAR[]"
    assert columns["_raw"] == "VARCHAR"
    nested = dict(_read(directory / "product-variants" / "part-00000.parquet")[0])
    assert nested["barcodes"] == "STRUCT(id BIGINT, barcode VARCHAR, created_date TIMESTAMP, deleted BOOLEAN)[]"


def test_nothing_but_the_files_is_left(directory: Path) -> None:
    left = {path.relative_to(directory).as_posix() for path in directory.rglob("*") if path.is_file()}
    assert left == {f"{index}/part-00000.parquet" for index in INDICES}
    assert {path.name for path in directory.rglob("*") if path.is_dir()} == set(INDICES)


def test_only_the_named_indices_are_written_and_none_may_be_empty(tmp_path: Path) -> None:
    assert write_files(tmp_path, {"users": 0, "vouchers": 7}, until=UNTIL) == {"users": 0, "vouchers": 7}
    assert {path.name for path in tmp_path.iterdir()} == {"users", "vouchers"}
    columns, rows = _read(tmp_path / "users" / "part-00000.parquet")
    assert rows == []
    assert len(columns) == len(structure("users")) + 1


def test_a_new_version_replaces_the_old_in_one_step(tmp_path: Path) -> None:
    write_files(tmp_path, {"vouchers": 3}, until=UNTIL)
    path = tmp_path / "vouchers" / "part-00000.parquet"
    with path.open("rb") as opened:
        write_files(tmp_path, {"vouchers": 5}, until=UNTIL)
        assert opened.read(4) == b"PAR1"  # who had the old one open reads on
    assert len(_read(path)[1]) == 5


def test_progress_counts_up_to_the_last_row(tmp_path: Path) -> None:
    told: list[tuple[str, int]] = []
    write_files(tmp_path, {"vouchers": 5001}, until=UNTIL, progress=lambda index, rows: told.append((index, rows)))
    assert told == [("vouchers", 5000), ("vouchers", 5001)]


def test_an_unknown_index_is_named(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match="receipts"):
        write_files(tmp_path, {"receipts": 1}, until=UNTIL)
