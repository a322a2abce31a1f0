"""The parts of a workbook around its rows, as xlsxwriter makes them: sheets without rows, styles, lists of contents.

The library writes a workbook of empty sheets in memory; the rows are written between the two halves of each sheet by
xlsx_encoder.py, which calls this. Nothing here depends on the time of day, so that the same rows make the same bytes.
"""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

_ROWS = b"<sheetData/>"
_WRITTEN = datetime(1980, 1, 1, tzinfo=UTC)
"""What the properties say of when: the earliest day a zip archive knows."""

_NUMBER_FORMATS = ("yyyy-mm-dd", "yyyy-mm-dd hh:mm:ss", "yyyy-mm-dd hh:mm:ss.000")
_SHEET = "xl/worksheets/sheet{}.xml"
_LONGEST_NAME = 31
_NOT_IN_NAMES = re.compile(r"[\[\]:*?/\\\x00-\x1f]")


@dataclass(frozen=True, slots=True)
class SheetFrame:
    """What stands before and after the rows of a sheet."""

    before: bytes
    after: bytes


@dataclass(frozen=True, slots=True)
class Workbook:
    """Everything of a workbook but its rows.

    Attributes:
        styles: the numbers of the cells' styles: headers, days, instants in seconds, instants in milliseconds.
        sheets: the frames of its sheets.
        others: name and content of every other member of the archive.
    """

    styles: tuple[int, ...]
    sheets: tuple[SheetFrame, ...]
    others: tuple[tuple[str, bytes], ...]

    @classmethod
    def of(cls, names: Sequence[str]) -> Workbook:
        """Return a workbook of sheets with these names, each with its first row frozen."""
        stream = io.BytesIO()
        _write(stream, names)
        with zipfile.ZipFile(stream) as archive:
            members = {info.filename: archive.read(info) for info in archive.infolist()}
        sheets = [members.pop(_SHEET.format(number + 1)) for number in range(len(names))]
        return cls(_styles(sheets[0]), tuple(map(_frame, sheets)), tuple(members.items()))


def sheet_member(number: int) -> str:
    """Return the archive's member that holds a sheet, counted from 0."""
    return _SHEET.format(number + 1)


def sheet_name(name: str, number: int) -> str:
    """Return the name of a sheet, counted from 0: the first has the name itself, the others a number behind it."""
    suffix = f" {number + 1}" if number else ""
    lawful = _NOT_IN_NAMES.sub("_", name).strip("' ")[: _LONGEST_NAME - len(suffix)].rstrip("' ")
    # History is the name of a sheet that spreadsheets keep for themselves.
    return (f"{lawful}_" if lawful.lower() in ("", "history") else lawful) + suffix


def _write(stream: io.BytesIO, names: Sequence[str]) -> None:
    import xlsxwriter  # pyright: ignore[reportMissingTypeStubs]

    library: Any = xlsxwriter
    workbook = library.Workbook(stream, {"in_memory": True})
    workbook.set_properties({"created": _WRITTEN})
    styles = [workbook.add_format({"bold": True})]
    styles += [workbook.add_format({"num_format": pattern}) for pattern in _NUMBER_FORMATS]
    for number, name in enumerate(names):
        sheet = workbook.add_worksheet(name)
        sheet.freeze_panes(1, 0)
        if not number:
            # Styles that no cell has are left out of the workbook; these cells are taken out again by _frame.
            for column, style in enumerate(styles):
                sheet.write_blank(0, column, None, style)
    workbook.close()


def _styles(sheet: bytes) -> tuple[int, ...]:
    return tuple(int(number) for number in re.findall(rb'<c [^>]*s="(\d+)"', sheet))


def _frame(sheet: bytes) -> SheetFrame:
    # How far the rows reach is not known when a sheet begins, and need not be told.
    told = re.sub(rb"<dimension [^>]*/>", b"", sheet)
    before, after = re.sub(rb"<sheetData>.*</sheetData>", _ROWS, told, flags=re.DOTALL).split(_ROWS)
    return SheetFrame(before + b"<sheetData>", b"</sheetData>" + after)
