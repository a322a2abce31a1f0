"""Files that are more than joined rows are written in constant memory: three times the rows need no more of it."""

from __future__ import annotations

import subprocess
import sys

import pytest

_CODE = """
import resource, sys
from segments import Catalog
from tasks_service.config import IndexSettings
from tasks_service.formats.registry import encoder_for

kinds = {"id": "long", "name": "keyword", "price": "double", "note": "text"}
catalog = Catalog.from_mapping({name: {"type": kind} for name, kind in kinds.items()})
index = IndexSettings(file_prefix="Product", source="products", columns=[])
encoder = encoder_for({"export_format": sys.argv[1], "export_index": "products"}, catalog, index)
writer, size, rows = encoder.writer(), 0, 0
for start in range(0, int(sys.argv[2]), 5000):
    numbers = range(start, start + 5000)
    chunk = encoder.encode([b'{"id":%d,"name":"Lamp %d","price":%d.5,"note":"x x x"}' % (n, n, n) for n in numbers])
    rows += chunk.rows
    size += len(writer.add(chunk))
size += len(writer.finish())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, rows, size)
"""


def peak_kilobytes(export_format: str, rows: int) -> int:
    told = subprocess.run(
        [sys.executable, "-c", _CODE, export_format, str(rows)], check=True, capture_output=True, text=True, timeout=120
    ).stdout.split()
    assert int(told[1]) == rows
    assert int(told[2]) > rows * 5
    return int(told[0])


@pytest.mark.parametrize("export_format", ["parquet", "xlsx"])
def test_more_rows_need_no_more_memory(export_format: str) -> None:
    few, many = (peak_kilobytes(export_format, rows) for rows in (110_000, 330_000))
    assert many - few < 12 * 1024, (few, many)
