"""A workbook is written in constant memory: ten times the rows need no more of it."""

from __future__ import annotations

import subprocess
import sys

_CODE = """
import resource, sys
from tasks_service.formats.columns import FileColumn
from tasks_service.formats.xlsx_encoder import XlsxEncoder

encoder = XlsxEncoder([FileColumn(name, (name,)) for name in ("id", "name", "price", "note")], "products")
writer, size, rows = encoder.writer(), 0, 0
for start in range(0, int(sys.argv[1]), 5000):
    numbers = range(start, start + 5000)
    chunk = encoder.encode([b'{"id":%d,"name":"Lamp %d","price":%d.5,"note":"x x x"}' % (n, n, n) for n in numbers])
    rows += chunk.rows
    size += len(writer.add(chunk))
size += len(writer.finish())
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, rows, size)
"""


def peak_kilobytes(rows: int) -> int:
    told = subprocess.run(
        [sys.executable, "-c", _CODE, str(rows)], check=True, capture_output=True, text=True, timeout=120
    ).stdout.split()
    assert int(told[1]) == rows
    assert int(told[2]) > rows * 10
    return int(told[0])


def test_ten_times_the_rows_need_no_more_memory() -> None:
    assert peak_kilobytes(250_000) - peak_kilobytes(25_000) < 12 * 1024
