"""Numbered files and archives: every row once and in order, no file over its bound, all of it or nothing."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import openpyxl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from lxml import etree

from tasks_service.artifacts import Result, file_links, is_split, objects_of
from tasks_service.artifacts.archive import ZipArchive
from tasks_service.artifacts.sealing import seal
from tasks_service.artifacts.splitting import KeepingEncoder, Layout, TooManyFilesError, result_writer
from tasks_service.artifacts.writing import Committed, taking_back
from tasks_service.config import LocalSettings
from tasks_service.formats import Encoder
from tasks_service.formats.columns import FileColumn
from tasks_service.formats.csv_encoder import CsvEncoder
from tasks_service.formats.csv_options import CsvOptions
from tasks_service.formats.explode import exploding
from tasks_service.formats.json_encoder import JsonEncoder, JsonLinesEncoder
from tasks_service.formats.xlsx_encoder import XlsxEncoder
from tasks_service.formats.xml_encoder import XmlEncoder
from tasks_service.formats.xml_schema import TEXT
from tasks_service.order import ExportOrder
from tasks_service.storage import StoredObject
from tasks_service.storage.local import LocalStorage
from tests.orders import order_of
from tests.unit.artifacts.views import View

ENCODERS: dict[str, Callable[[], Encoder]] = {
    "csv": lambda: CsvEncoder([FileColumn("id", ("id",))], CsvOptions()),
    "json": JsonEncoder,
    "jsonl": JsonLinesEncoder,
    "xml": lambda: XmlEncoder([FileColumn("id", ("id",))], [TEXT]),
}


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(LocalSettings(directory=tmp_path), public_url="http://x", secret_key=b"x" * 32)


def document(number: int, width: int = 0) -> bytes:
    return json.dumps({"id": number, "x": "y" * width}).encode()


def order(export_format: str = "jsonl", **target: Any) -> ExportOrder:
    name = f"Product_Export-1.{export_format}" + (".gz" if target.get("compression") == "gzip" else "")
    return order_of({"export_format": export_format} | target, file_name=name, most_files=1000)


def write(storage: LocalStorage, wanted: ExportOrder, pages: list[list[bytes]]) -> Result:
    encoder = ENCODERS[wanted.target["export_format"]]()
    keeping = KeepingEncoder(encoder)
    with taking_back(storage) as committed, result_writer(Layout.of(wanted), encoder, committed) as writer:
        for page in pages:
            writer.add(keeping.encode(page))
        return writer.finish()


def read(tmp_path: Path, stored: StoredObject) -> bytes:
    """The bytes of an object, past the storage: a folder of its name, in it a file of its generation."""
    [path] = [path for path in tmp_path.rglob("*") if path.is_file() and f"/{stored.name}@/" in path.as_posix()]
    return path.read_bytes()


def contents(tmp_path: Path, result: Result) -> list[bytes]:
    return [read(tmp_path, file.stored) for file in result.files if file.stored is not None]


def ids(export_format: str, content: bytes) -> list[int]:
    if export_format == "csv":
        header, *lines = content.decode().split("\r\n")[:-1]
        assert header == "id"
        return [int(line) for line in lines]
    if export_format == "xml":
        return [int(found.text or "") for found in etree.fromstring(content).iter("id")]
    rows = json.loads(content) if export_format == "json" else map(json.loads, content.splitlines())
    return [row["id"] for row in rows]


@pytest.mark.parametrize("export_format", ENCODERS)
@pytest.mark.parametrize("most", [1, 3, 7, 10, 100])
def test_files_have_as_many_rows_as_they_may_and_only_the_last_fewer(
    storage: LocalStorage, tmp_path: Path, export_format: str, most: int
) -> None:
    pages = [[document(number) for number in range(start, start + 10)] for start in range(0, 50, 10)]
    result = write(storage, order(export_format, split={"rows": most}), pages)
    files = [ids(export_format, content) for content in contents(tmp_path, result)]
    assert [len(file) for file in files] == [most] * (50 // most) + ([50 % most] if 50 % most else [])
    assert [number for file in files for number in file] == list(range(50))
    assert [file.rows for file in result.files] == [len(file) for file in files]
    assert [file.name for file in result.files][:2] == [f"Product_Export-1-000{n}.{export_format}" for n in (1, 2)][
        : len(files)
    ]


@settings(deadline=None, max_examples=60)
@given(
    export_format=st.sampled_from(sorted(ENCODERS)),
    widths=st.lists(st.lists(st.integers(0, 60), min_size=1, max_size=12), max_size=8),
    most=st.integers(20, 300),
)
def test_a_file_ends_before_it_would_be_too_large(
    tmp_path_factory: pytest.TempPathFactory, export_format: str, widths: list[list[int]], most: int
) -> None:
    directory = tmp_path_factory.mktemp("split")
    storage = LocalStorage(LocalSettings(directory=directory), public_url="http://x", secret_key=b"x" * 32)
    numbers = iter(range(1000))
    pages = [[document(next(numbers), width) for width in page] for page in widths]
    result = write(storage, order(export_format, split={"bytes": most}), pages)
    files = contents(directory, result)
    rows = [ids(export_format, content) for content in files]
    assert [number for file in rows for number in file] == list(range(next(numbers)))
    everything = [one for page in pages for one in page]
    encoder = ENCODERS[export_format]()
    for number, (content, held) in enumerate(zip(files, rows, strict=True)):
        assert len(content) <= most or len(held) <= 1
        if number + 1 < len(files):  # one row more would not have fitted
            alone = encoder.encode(everything[held[0] : held[-1] + 2])
            writer = encoder.writer()
            assert len(writer.add(alone) + writer.finish()) > most


def test_workbooks_end_after_so_many_rows(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(ENCODERS, "xlsx", lambda: XlsxEncoder([FileColumn("id", ("id",))], "products"))
    result = write(storage, order("xlsx", split={"rows": 4}), [[document(number) for number in range(10)]])
    sheets = [openpyxl.load_workbook(io.BytesIO(content))["products"] for content in contents(tmp_path, result)]
    assert [[row[0].value for row in sheet] for sheet in sheets] == [
        ["id", 0, 1, 2, 3],
        ["id", 4, 5, 6, 7],
        ["id", 8, 9],
    ]
    assert [file.rows for file in result.files] == [4, 4, 2]
    archived = write(storage_beside(tmp_path), order("xlsx", archive="zip"), [[document(1)]])
    assert archived.archive is not None
    with zipfile.ZipFile(io.BytesIO(read(tmp_path / "again", archived.archive.stored))) as archive:
        assert [info.compress_type for info in archive.infolist()] == [zipfile.ZIP_STORED]


def test_rows_of_one_exploded_document_are_in_one_file(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    columns = [FileColumn("id", ("id",)), FileColumn("n", ("items", "n"))]
    encoder = exploding(("items",), columns, lambda columns: CsvEncoder(columns, CsvOptions()))
    monkeypatch.setitem(ENCODERS, "csv", lambda: encoder)
    elements = [2, 1, 0, 3, 5, 1, 1]
    page = [
        json.dumps({"id": id_, "items": [{"n": n} for n in range(most)]}).encode() for id_, most in enumerate(elements)
    ]
    result = write(storage, order("csv", split={"rows": 4}), [page])
    held = [
        sorted({line.split(b",")[0] for line in content.split(b"\r\n")[1:-1]}) for content in contents(tmp_path, result)
    ]
    assert held == [[b"0", b"1", b"2"], [b"3"], [b"4"], [b"5", b"6"]], (
        "one with more rows than a file may have is alone"
    )
    assert [(file.rows, file.documents) for file in result.files] == [(4, 3), (3, 1), (5, 1), (2, 2)]
    assert (result.rows, result.documents) == (14, 7)


def test_a_result_without_a_row_is_one_numbered_file(storage: LocalStorage, tmp_path: Path) -> None:
    result = write(storage, order("csv", split={"rows": 10}), [])
    assert [(file.name, file.rows) for file in result.files] == [("Product_Export-1-0001.csv", 0)]
    assert contents(tmp_path, result) == [b"id\r\n"]


def test_more_files_than_a_run_may_have_are_refused_before_and_while_writing(
    storage: LocalStorage,
) -> None:
    few = order_of({"split": {"rows": 2}}, most_files=3)
    encoder = JsonLinesEncoder()
    with taking_back(storage) as committed, result_writer(Layout.of(few), encoder, committed) as writer:
        writer.expect(6)
        with pytest.raises(TooManyFilesError, match="7 rows at 2 a file would be 4 files"):
            writer.expect(7)
    with pytest.raises(TooManyFilesError, match="more than the 3 files"):
        write(storage, order_of({"split": {"rows": 2}}, most_files=3), [[document(number) for number in range(7)]])
    assert list(storage.list("")) == []


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("split", [None, {"rows": 4}])
def test_an_archive_holds_the_files(
    storage: LocalStorage, tmp_path: Path, compression: str, split: dict[str, int] | None
) -> None:
    wanted = order("csv", split=split, archive="zip", compression=compression)
    result = write(storage, wanted, [[document(number) for number in range(10)]])
    assert result.archive is not None
    assert result.archive.name == "Product_Export-1.zip"
    assert [one.name for one in storage.list("")] == [f"{wanted.folder}/Product_Export-1.zip"]
    data = read(tmp_path, result.archive.stored)
    written = result.archive.written
    assert (written.bytes, written.sha256) == (len(data), hashlib.sha256(data).hexdigest())
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        assert archive.testzip() is None
        members = [archive.read(name) for name in archive.namelist()]
        kinds = {info.compress_type for info in archive.infolist()}
    assert archive.namelist() == [file.name for file in result.files]
    assert [hashlib.sha256(member).hexdigest() for member in members] == [f.written.sha256 for f in result.files]
    assert kinds == {zipfile.ZIP_DEFLATED if compression == "none" else zipfile.ZIP_STORED}
    plain = [gzip.decompress(member) if compression == "gzip" else member for member in members]
    assert [number for member in plain for number in ids("csv", member)] == list(range(10))
    again = write(storage_beside(tmp_path), wanted, [[document(number) for number in range(10)]])
    assert again.archive is not None
    assert again.archive.written == written, "the same rows make the same bytes"


def storage_beside(tmp_path: Path) -> LocalStorage:
    return LocalStorage(LocalSettings(directory=tmp_path / "again"), public_url="http://x", secret_key=b"x" * 32)


@pytest.mark.parametrize("archive", [None, "zip"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("at", range(4))
def test_whatever_stops_it_leaves_nothing(
    storage: LocalStorage, archive: str | None, error: type[BaseException], at: int
) -> None:
    wanted = order("jsonl", split={"rows": 3}, archive=archive)
    encoder = JsonLinesEncoder()

    def stopped() -> None:
        with taking_back(storage) as committed, result_writer(Layout.of(wanted), encoder, committed) as writer:
            for page in range(3):
                if page == at:
                    raise error
                writer.add(KeepingEncoder(encoder).encode([document(page * 5 + number) for number in range(5)]))
            writer.finish()
            raise error  # written, but not published

    with pytest.raises(error):
        stopped()
    assert list(storage.list("")) == []


def test_members_may_be_larger_than_four_gigabytes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Zip64 throughout: a member's size is not known when it begins."""
    monkeypatch.setattr(zipfile, "ZIP64_LIMIT", 1000)
    out = io.BytesIO()
    archive = ZipArchive(out.write, deflate=False)
    with archive.member("large.csv") as member:
        for _ in range(50):
            member(b"x" * 100)
    archive.finish()
    with zipfile.ZipFile(out) as read_back:
        assert read_back.read("large.csv") == b"x" * 5000


def test_an_abandoned_archive_says_nothing_more() -> None:
    out = io.BytesIO()
    archive = ZipArchive(out.write, deflate=True)
    with archive.member("a.csv") as member:
        member(b"x" * 100)
    said = out.getvalue()
    archive.abandon()
    archive.finish()
    assert out.getvalue() == said


def test_a_record_names_every_object_and_what_is_downloaded(storage: LocalStorage) -> None:
    for target, downloads in (
        ({}, ["Product_Export-1.jsonl"]),
        ({"split": {"rows": 2}}, ["Product_Export-1-0001.jsonl", "Product_Export-1-0002.jsonl"]),
        ({"split": {"rows": 2}, "archive": "zip"}, ["Product_Export-1.zip"]),
    ):
        wanted = order("jsonl", **target)
        encoder = JsonLinesEncoder()
        committed = Committed(storage)
        with result_writer(Layout.of(wanted), encoder, committed) as writer:
            writer.add(KeepingEncoder(encoder).encode([document(number) for number in range(3)]))
            result = writer.finish()
        artifact = seal(wanted, View(), result, committed).artifact
        assert artifact is not None
        assert [link.file_name for link in file_links(artifact)] == downloads
        assert is_split(artifact) == ("split" in target)
        assert objects_of(artifact) == [(one.name, one.generation) for one in committed.objects]
        committed.take_back()
        assert list(storage.list("")) == []
