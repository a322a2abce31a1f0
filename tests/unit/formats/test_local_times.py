"""Instants in the zone a task names, in CSV and in workbooks."""

from __future__ import annotations

import io
from datetime import datetime
from typing import Any

import openpyxl
import pytest

from segments import Catalog
from tasks_service.config import IndexSettings
from tasks_service.formats.registry import check_options, encoder_for

INDEX = IndexSettings(file_prefix="Product", source="products", columns=[])
CATALOG = Catalog.from_mapping(
    {
        "at": {"type": "date"},
        "day": {"type": "date", "format": "dd/MM/yyyy||epoch_second"},
        "id": {"type": "long"},
        "lines": {"type": "nested", "properties": {"at": {"type": "date"}, "n": {"type": "long"}}},
        "name": {"type": "keyword"},
        "shop": {"properties": {"open": {"type": "date_nanos"}}},
    }
)


def written(target: dict[str, Any], *documents: bytes) -> bytes:
    assert check_options(target["export_format"], target["options"]) == []
    encoder = encoder_for(target, CATALOG, INDEX)
    writer = encoder.writer()
    return writer.add(encoder.encode(list(documents))) + writer.finish()


def rows(columns: list[Any], *documents: bytes, zone: str = "Europe/Amsterdam", **options: Any) -> list[str]:
    target = {"export_format": "csv", "columns": columns, "options": {"timezone": zone, "header": False} | options}
    return written(target, *documents).decode().removesuffix("\r\n").split("\r\n")


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        ('"2026-05-26T12:00:00Z"', "2026-05-26T14:00:00+02:00"),
        ('"2026-01-26T12:00:00"', "2026-01-26T13:00:00+01:00"),
        ('"2026-05-26T12:00+05:30"', "2026-05-26T08:30:00+02:00"),
        ('"2026-05-26T12:00:00-0330"', "2026-05-26T17:30:00+02:00"),
        ('"2026-05-26 23:00:00+00"', "2026-05-27T01:00:00+02:00"),
        ('"2026-12-31T23:59:59.1234567890123Z"', "2027-01-01T00:59:59.1234567890123+01:00"),
        ('"2026-05-26T12:00:00.500Z"', "2026-05-26T14:00:00.500+02:00"),
        ('"2026-05-26T12:00:00,5Z"', '"2026-05-26T14:00:00,5+02:00"'),
        ("1779796807001", "2026-05-26T14:00:07.001+02:00"),
        ('"1779796807000"', "2026-05-26T14:00:07+02:00"),
        ("0", "1970-01-01T01:00:00+01:00"),
        ("-1", "1970-01-01T00:59:59.999+01:00"),
        ('"9999-12-31T22:59:59Z"', "9999-12-31T23:59:59+01:00"),
        # Both ends of summer time, to the second.
        ('"2026-03-29T00:59:59Z"', "2026-03-29T01:59:59+01:00"),
        ('"2026-03-29T01:00:00Z"', "2026-03-29T03:00:00+02:00"),
        ('"2026-10-25T00:59:59Z"', "2026-10-25T02:59:59+02:00"),
        ('"2026-10-25T01:00:00Z"', "2026-10-25T02:00:00+01:00"),
    ],
)
def test_an_instant_is_what_the_clock_of_the_zone_shows(value: str, cell: str) -> None:
    document = b'{"at":%s}' % value.encode()
    assert rows(["at"], document) == [cell]
    # Documents that spell some field otherwise go another way, to the same cells.
    assert rows(["at", "shop.open"], document, b'{"shop.open":%s}' % value.encode()) == [f"{cell},", f",{cell}"]


@pytest.mark.parametrize(
    "value",
    [
        '"2026-05-26"',
        '"2026-05"',
        "2026",
        '"soon"',
        '""',
        "null",
        '"2026-02-30T12:00:00Z"',
        '"2026-05-26T12:00:00+24:00"',
        '"2026-05-26T25:00:00Z"',
        '"9999-12-31T23:00:00Z"',
        '"0001-01-01T00:00:00+01:00"',
        "12.5",
        "true",
        "12345678901234567890",
        '["2026-05-26T12:00:00Z"]',
        '{"at":"2026-05-26T12:00:00Z"}',
    ],
)
def test_whatever_is_no_instant_of_these_years_stays_as_it_is(value: str) -> None:
    document = b'{"at":%s}' % value.encode()
    assert rows(["at"], document) == rows(["name"], document.replace(b'{"at":', b'{"name":', 1))


def test_only_dates_that_are_iso_8601_in_the_index_are_moved() -> None:
    text = "2026-05-26T12:00:00Z"
    document = b'{"id":0,"day":0,"name":"%s","at":"%s"}' % (text.encode(), text.encode())
    assert rows(["id", "day", "name", "at"], document) == [f"0,0,{text},2026-05-26T14:00:00+02:00"]


def test_templates_have_the_zone_and_constants_are_what_they_are() -> None:
    columns = [
        {"constant": "2026-05-26T12:00:00Z", "header": "c"},
        {"template": "{id} at {at}", "header": "t"},
        "shop.open",
        "id",
    ]
    document = b'{"id":1,"at":"2026-05-26T12:00:00Z","shop":{"open":"2026-05-26T12:00:00.000000001Z"}}'
    assert rows(columns, document, zone="America/New_York", null="-") == [
        "2026-05-26T12:00:00Z,1 at 2026-05-26T08:00:00-04:00,2026-05-26T08:00:00.000000001-04:00,1"
    ]


def test_dates_of_exploded_elements_and_of_many_columns_have_the_zone() -> None:
    lines = b'{"id":1,"lines":[{"at":"2026-05-26T12:00:00Z"},{"n":2}]}'
    assert rows(["id", "lines.at", "lines.n"], lines, nested="explode") == ["1,2026-05-26T14:00:00+02:00,", "1,,2"]
    wide = [{"field": "at" if number % 3 else "id", "header": str(number)} for number in range(300)]
    [row] = rows(wide, lines.replace(b'"lines"', b'"at":"2026-05-26T12:00:00Z","lines"'))
    assert row == ",".join("2026-05-26T14:00:00+02:00" if number % 3 else "1" for number in range(300))


def test_a_file_without_dates_has_nothing_to_move() -> None:
    assert rows(["id"], b'{"id":0}') == ["0"]


def sheet(*documents: bytes, **options: Any) -> list[tuple[Any, ...]]:
    """Return the rows; a date of a spreadsheet is its text behind an equals sign."""
    columns = ["at", {"template": "{at}", "header": "t"}, "name"]
    target = {"export_format": "xlsx", "columns": columns, "options": options}
    [found] = openpyxl.load_workbook(io.BytesIO(written(target, *documents))).worksheets
    rows = found.iter_rows(values_only=True, min_row=2)
    return [tuple(f"={one.isoformat()}" if isinstance(one, datetime) else one for one in row) for row in rows]


@pytest.mark.parametrize(
    ("value", "text", "date"),
    [
        ('"2026-10-25T00:30:00.25Z"', "2026-10-25T02:30:00.25+02:00", "=2026-10-25T02:30:00.250000"),
        ('"2026-10-25T01:30:00Z"', "2026-10-25T02:30:00+01:00", "=2026-10-25T02:30:00"),
        ("1779796807000", "2026-05-26T14:00:07+02:00", "=2026-05-26T14:00:07"),
        ('"2026-05-26"', "2026-05-26", "=2026-05-26T00:00:00"),
        ('"2026-05-26T12:00:00.0001Z"', "2026-05-26T14:00:00.0001+02:00", "2026-05-26T14:00:00.0001+02:00"),
        ('"9999-12-31T23:00:00Z"', "9999-12-31T23:00:00Z", "9999-12-31T23:00:00Z"),
        ('"a\\"b"', 'a"b', 'a"b'),
    ],
)
def test_a_workbook_has_local_texts_or_the_local_wall_time(value: str, text: str, date: str) -> None:
    document = b'{"at":%s,"name":"2026-05-26T12:00:00Z"}' % value.encode()
    zone = "Europe/Amsterdam"
    assert sheet(document, timezone=zone) == [(text, text, "2026-05-26T12:00:00Z")]
    assert sheet(document, timezone=zone, dates="excel") == [(date, text, "2026-05-26T12:00:00Z")]


@pytest.mark.parametrize("export_format", ["csv", "xlsx"])
@pytest.mark.parametrize("name", ["Europe/Amsterdm", "", "localtime", "../UTC", None, 1, ["UTC"]])
def test_a_zone_that_is_none_is_refused(export_format: str, name: object) -> None:
    [fault] = check_options(export_format, {"timezone": name})
    assert (fault.pointer, fault.code) == ("/target/options/timezone", "unknown_zone")
    assert name != "Europe/Amsterdm" or "did you mean Europe/Amsterdam?" in fault.detail


@pytest.mark.parametrize("export_format", ["parquet", "json", "jsonl", "xml"])
def test_other_formats_have_no_zone(export_format: str) -> None:
    [fault] = check_options(export_format, {"timezone": "UTC"})
    assert (fault.pointer, fault.code) == ("/target/options/timezone", "unknown_option")
