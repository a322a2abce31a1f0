"""XLSX: worksheets of at most 1,048,576 rows, each with the header on top, written as a stream in constant memory.

Pages become rows in the threads that read; the writer numbers them, begins a sheet whenever the last one is full, and
deflates them into the archive, whose lists of contents come last: no temporary file, and nothing kept of a row once it
is written. What lives here is the file; cells are xlsx_cells.py's, what stands around the rows is xlsx_workbook.py's.
Called by registry.py.
"""

from __future__ import annotations

import zipfile
from collections.abc import Iterator, Sequence
from datetime import UTC
from typing import Any, Final, cast

from tasks_service.errors import Fault, UnfitDocumentError
from tasks_service.formats import Encoded
from tasks_service.formats.cells import JSON, Cells
from tasks_service.formats.engine import Engine
from tasks_service.formats.file_columns import AnyColumn
from tasks_service.formats.local_times import LocalTimes
from tasks_service.formats.sink import Sink
from tasks_service.formats.xlsx_cells import LONGEST, ROW, CellMaker, TooLongError, escaped
from tasks_service.formats.xlsx_workbook import SheetFrame, Workbook, sheet_member, sheet_name
from tasks_service.sources import Documents

MOST_COLUMNS: Final = 16_384
SHEET_ROWS: Final = 1_048_576
SHEET_BYTES: Final = 2**31 - 2**20
FILE_BYTES: Final = 2**31 - 2**20
"""Spreadsheets do not read what goes beyond: archives and members of 2 GiB and more are of another kind (zip64)."""

_LEVEL = 1  # of zlib: what higher ones gain is a few per cent
_ROW_END = b"</row>"
_MARK = ROW.encode()
_SHOWN = 60


def sheet_faults(columns: Sequence[AnyColumn]) -> list[Fault]:
    """Return what is wrong with the columns of a worksheet, each fault with its pointer under /target/columns."""
    if len(columns) > MOST_COLUMNS:
        detail = f"A worksheet has at most {MOST_COLUMNS} columns, and there are {len(columns)}; name fewer."
        return [Fault("/target/columns", "too_many", detail)]
    return [
        Fault(f"/target/columns/{position}", "too_long", f"A header is at most {LONGEST} characters long in xlsx.")
        for position, column in enumerate(columns)
        if _is_too_long(column.header)
    ]


def _is_too_long(text: str) -> bool:
    try:
        escaped(text)
    except TooLongError:
        return True
    return False


class XlsxEncoder:
    """Documents to rows of a worksheet. One encoder a file."""

    extension = "xlsx"
    content_type = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"
    joints = None

    def __init__(
        self,
        columns: Sequence[AnyColumn],
        name: str,
        *,
        dates: Sequence[bool] = (),
        null: str = "",
        local: LocalTimes | None = None,
    ) -> None:
        """Take the columns in order, without a fault, and the first sheet's name.

        `dates` tells which columns hold dates that become a spreadsheet's; `null` is the text where there is no value;
        `local` is how instants are written where not as they are.
        """
        self._headers = [column.header for column in columns]
        self._name = name
        # The first sheet is the one that is shown; all others are like the second.
        workbook = Workbook.of([sheet_name(name, number) for number in range(2)])
        self._frames = workbook.sheets
        zone = UTC if local is None else local.zone
        are_dates = dates or [False] * len(columns)
        self._makers = [
            CellMaker(position, workbook.styles, dates=date, null=null, zone=zone)
            for position, date in enumerate(are_dates)
        ]
        self._cells = Cells(columns, Engine(self.extension), JSON, local)

    def encode(self, documents: Documents) -> Encoded:
        """Encode one page. Raises UnfitDocumentError where a text is longer than a cell may be."""
        rows: list[str] = []
        for columns in self._cells.of(documents):
            texts: list[list[str | None]] = [column.to_pylist() for column in columns]
            cells = [self._column(position, texts) for position in range(len(texts))]
            rows += [f'<row r="{ROW}">{"".join(row)}</row>' for row in zip(*cells, strict=True)]
        return Encoded("".join(rows).encode(), len(rows))

    def writer(self) -> XlsxWriter:
        """Write the rows into sheets."""
        header = "".join(maker.header(text) for maker, text in zip(self._makers, self._headers, strict=True))
        return XlsxWriter(self._name, self._frames, f'<row r="{ROW}">{header}</row>'.encode())

    def _column(self, position: int, texts: Sequence[Sequence[str | None]]) -> list[str]:
        values, cell = texts[position], self._makers[position].cell
        try:
            # Most columns repeat themselves within a page, and making a cell is dearer than finding it.
            made = {raw: cell(raw) for raw in set(values)}
            return [made[raw] for raw in values]
        except TooLongError:
            raise self._unfit(position, texts) from None

    def _unfit(self, position: int, texts: Sequence[Sequence[str | None]]) -> UnfitDocumentError:
        """Name the first cell of a column that is too long, and its row by a value of it."""
        for row, raw in enumerate(texts[position]):
            try:
                self._makers[position].cell(raw)
            except TooLongError as error:
                beside = next((at for at, column in enumerate(texts) if at != position and column[row]), None)
                place = "" if beside is None else f" in the row whose {self._headers[beside]!r} is "
                known = "" if beside is None else str(texts[beside][row])[:_SHOWN]
                return UnfitDocumentError(
                    f"Column {self._headers[position]!r} has a text of {error.args[0]} characters{place}{known}; a "
                    f"cell of xlsx holds {LONGEST}. Leave the column out, or choose csv, which holds any text."
                )
        raise AssertionError("no text of the column is too long")


class _Archive(zipfile.ZipFile):
    """A zip file that is whole or nothing: one that is given up while a sheet is open has no end to write."""

    def __del__(self) -> None:
        """Do nothing, where the library would end the file, and complain of the open sheet."""


class XlsxWriter:
    """Writes rows into sheets, and at the end what makes a workbook of them."""

    def __init__(self, name: str, frames: Sequence[SheetFrame], header: bytes) -> None:
        self._name = name
        self._frames = frames
        self._header = header
        self._sink = Sink()
        # Without zip64, whose members spreadsheets report as damaged.
        self._zip = _Archive(cast("Any", self._sink), "w", zipfile.ZIP_DEFLATED, compresslevel=_LEVEL, allowZip64=False)
        self._sheet: Any = None
        self._sheets = 0
        self._row = 0
        self._bytes = 0

    def add(self, page: Encoded) -> bytes:
        """Take a page of rows. Raises UnfitDocumentError where the file becomes larger than a spreadsheet reads."""
        for rows in self._numbered(page.data):
            self._sheet.write(rows)
        return self._taken()

    def finish(self) -> bytes:
        """Return the end of the last sheet, and of the file."""
        if not self._sheets:
            self._begin_sheet()
        self._end_sheet()
        workbook = Workbook.of([sheet_name(self._name, number) for number in range(self._sheets)])
        for name, content in workbook.others:
            self._zip.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
        self._zip.close()
        return self._taken()

    def _numbered(self, data: bytes) -> Iterator[bytes]:
        """Yield rows with their numbers, as many at a time as belong on the sheet that is open then."""
        ready: list[bytes] = []
        for row in data.split(_ROW_END)[:-1]:
            size = len(row) + len(_ROW_END) + row.count(_MARK) * len(str(SHEET_ROWS))
            if not self._sheets or self._row == SHEET_ROWS or self._bytes + size > SHEET_BYTES:
                if ready:
                    yield b"".join(ready)
                    ready = []
                self._begin_sheet()
            self._row += 1
            self._bytes += size
            ready += (row.replace(_MARK, b"%d" % self._row), _ROW_END)
        yield b"".join(ready)

    def _begin_sheet(self) -> None:
        self._end_sheet()
        self._sheet = self._zip.open(sheet_member(self._sheets), "w")
        before = self._frames[min(self._sheets, 1)].before
        self._sheet.write(before + self._header.replace(_MARK, b"1"))
        self._sheets += 1
        self._row = 1
        self._bytes = len(before) + 2 * len(self._header) + len(self._frames[0].after)

    def _end_sheet(self) -> None:
        if self._sheet is not None:
            self._sheet.write(self._frames[0].after)
            self._sheet.close()
            self._sheet = None

    def _taken(self) -> bytes:
        if self._sink.tell() > FILE_BYTES:
            raise UnfitDocumentError(
                "The file would be larger than the 2 GiB a spreadsheet reads; let `target.split` make several, or "
                "choose csv."
            )
        return self._sink.taken()
