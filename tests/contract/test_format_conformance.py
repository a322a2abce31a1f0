"""What every format promises, asked of each with both sources over the same awkward documents.

A file is read back by a reader that is not ours and held, cell for cell, against one plain account of what its columns
mean (`meant`). A new format is a line in tests/contract/format_readers.py.
"""

from __future__ import annotations

import gzip
import json
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest
import zstandard

from tasks_service.config import ElasticsearchSettings, FilesSettings, IndexSettings, LocalSettings
from tasks_service.export import run_export
from tasks_service.formats.registry import COLUMN_FORMATS, COMPRESSED_FORMATS, FORMATS
from tasks_service.sources import Source
from tasks_service.sources.elasticsearch import ElasticsearchSource
from tasks_service.sources.files import FilesSource
from tasks_service.sources.files_kinds import RAW
from tasks_service.storage.local import LocalStorage
from tests.contract.format_readers import READERS, text_of
from tests.contract.test_sources_linked import call
from tests.dry_documents import dry
from tests.orders import order_of

CHAIN, ALONE, EMPTY = 1, 2, 3
"""Chains of several documents, of one, and of none."""

MAPPING = {
    "at": {"type": "date"},
    "big": {"type": "long"},
    "chain_id": {"type": "long"},
    "id": {"type": "long"},
    "lines": {"type": "nested", "properties": {"n": {"type": "long"}, "sku": {"type": "keyword"}}},
    "name": {"type": "keyword"},
    "note": {"type": "text"},
    "price": {"type": "double"},
    "shop": {"properties": {"city": {"type": "keyword"}}},
    "sold": {"type": "boolean"},
    "tags": {"type": "keyword"},
}
COLUMNS = {
    "at": "VARCHAR",
    "big": "BIGINT",
    "chain_id": "BIGINT",
    "id": "BIGINT",
    "lines": [{"n": "BIGINT", "sku": "VARCHAR"}],
    "name": "VARCHAR",
    "note": "VARCHAR",
    "price": "DOUBLE",
    "shop": {"city": "VARCHAR"},
    "sold": "BOOLEAN",
    "tags": ["VARCHAR"],
}
"""The same fields as columns of document files, which have the document itself beside them."""

DOCUMENTS: list[dict[str, Any]] = [
    {
        "id": 1,
        "name": "Ada",
        "note": "plain",
        "price": 9.5,
        "big": 2**63 - 1,
        "sold": True,
        "at": "2026-05-26T12:00:00.123Z",
        "shop": {"city": "Köln"},
        "lines": [{"sku": "a", "n": 1}, {"sku": 'b"', "n": 2}],
        "tags": ["x", "y,z", '"', ""],
    },
    {
        "id": 2,
        "name": "",
        "note": 'a,"b"\r\nc;d\t<x> &amp; 😀 \u2028 é\r',
        "price": -0.25,
        "big": -(2**63),
        "sold": False,
        "at": "2026-01-01T00:00:00+02:00",
        "shop": {"city": " "},
        "lines": [{"sku": None, "n": None}, {"n": 7}],
        "tags": [],
    },
    {"id": 3},
    {
        "id": 4,
        "name": None,
        "note": None,
        "price": None,
        "big": None,
        "sold": None,
        "at": None,
        "shop": None,
        "lines": None,
        "tags": None,
    },
    {
        "id": 5,
        "name": "null",
        "note": "\ufeff'\u0001 _x0041_ \x7f\ufffe ]]> {} \\ ",
        "price": 1e300,
        "big": 10**15,
        "at": "2026-05-26",
        "shop": {},
        "lines": [],
        "tags": ["only"],
    },
    {"id": 6, "name": "=1+1", "note": "x" * 30_000, "price": 0.1, "big": 0, "lines": [{"sku": "ü", "n": -1}]},
]
OTHERS = [{"chain_id": ALONE, "id": 100, "name": "alone", "tags": ["1"]}]
LINES = [json.dumps({"chain_id": CHAIN} | one, ensure_ascii=False) for one in DOCUMENTS]
LINES += [json.dumps(one) for one in OTHERS]
OWN = [json.loads(line) for line in LINES[: len(DOCUMENTS)]]

ALL = [*(name for name in MAPPING if name not in {"lines", "shop"}), "lines", "shop.city"]
WANTED: list[Any] = [
    {"field": "note", "header": 'Note, "é" <&> _x0041_'},
    {"constant": "NL;\n", "header": "Country"},
    "id",
    {"template": "{name}/{id} {{{tags}}}", "header": "both"},
    {"field": "lines", "header": "Order lines"},
    {"constant": 7.5, "header": "rate"},
    "shop.city",
    {"constant": None, "header": "none"},
    "big",
]


def found(document: Any, path: list[str]) -> tuple[list[Any], bool]:
    """The values at a path, and whether a list was gone through to them."""
    if isinstance(document, list):
        inside = [found(one, path)[0] for one in document]
        return [one for values in inside for one in values], True
    if not path:
        return [document], False
    return found(document[path[0]], path[1:]) if isinstance(document, dict) and path[0] in document else ([], False)


def value_at(document: dict[str, Any], name: str) -> Any:
    *objects, last = name.split(".")
    holders, through = found(document, objects) if objects else ([document], False)
    values = [one[last] for one in holders if isinstance(one, dict) and last in one]
    if through:
        spread = [one for value in values for one in (value if isinstance(value, list) else [value])]
        return spread if values else None
    return values[0] if values else None


def meant(document: dict[str, Any], column: Any) -> Any:
    """The value of a column in the row of a document."""
    if isinstance(column, str):
        return value_at(document, column)
    if "constant" in column:
        return column["constant"]
    if "field" in column:
        return value_at(document, column["field"])
    names = {name: value_at(document, name) for name in ("name", "id", "tags")}
    texts = {name: "" if value is None else text_of(value).replace(", ", ",") for name, value in names.items()}
    return str(column["template"]).format_map(texts)


def header_of(column: Any) -> str:
    return column if isinstance(column, str) else column.get("header") or column["field"]


def elements(document: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """A document for each line, at least one."""
    for line in document.get("lines") or [None]:
        yield {name: value for name, value in document.items() if name != "lines"} | ({"lines": line} if line else {})


@dataclass
class Site:
    source: Source
    index: IndexSettings
    folder: Path
    runs: int = 0

    def files(self, export_format: str, *, chain: int = CHAIN, **target: Any) -> list[bytes]:
        """Export, and return the files as they are downloaded."""
        self.runs += 1
        directory = self.folder / str(self.runs)
        storage = LocalStorage(LocalSettings(directory=directory), public_url="http://x", secret_key=b"x" * 32)
        target = {"export_format": export_format, "sort": ["id"]} | target
        order = order_of(target, chain=chain, index=self.index, file_name=f"Any_Export-1.{export_format}")
        artifact = run_export(order, self.source, storage, lambda _progress: None).artifact
        assert artifact is not None
        contents: list[bytes] = []
        for file in artifact["files"]:
            name = file.get("object") or artifact["object"]
            [path] = [one for one in directory.rglob("*") if one.is_file() and f"/{name}@/" in one.as_posix()]
            contents.append(path.read_bytes())
        return contents

    def file(self, export_format: str, **target: Any) -> bytes:
        [content] = self.files(export_format, **target)
        return content


def files_site(folder: Path) -> Site:
    (folder / "awkward").mkdir()
    shape = json.dumps(COLUMNS)
    file = folder / "awkward" / "part.parquet"
    with duckdb.connect() as connection:
        connection.execute("CREATE TABLE documents AS SELECT unnest(?::VARCHAR[]) AS document", [LINES])
        typed = f"SELECT document AS {RAW}, unnest(from_json(document, '{shape}')) FROM documents"  # noqa: S608
        connection.execute(f"COPY ({typed}) TO '{file}' (FORMAT parquet)")
    types: Any = {"at": "date", "note": "text"}
    index = IndexSettings(file_prefix="Any", source="awkward", types=types)
    return Site(FilesSource(FilesSettings(directory=folder), 30), index, folder / "results")


@pytest.fixture(scope="module")
def by_files(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    site = files_site(tmp_path_factory.mktemp("conformance"))
    yield site
    site.source.close()


@pytest.fixture(scope="module")
def by_elasticsearch(elasticsearch_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    name = f"conformance-{uuid.uuid4().hex[:8]}"
    settings = {"number_of_shards": 2, "number_of_replicas": 0}
    call(elasticsearch_url, "PUT", f"/{name}", {"settings": settings, "mappings": {"properties": MAPPING}})
    lines = "".join('{"index":{}}\n' + line + "\n" for line in LINES)
    assert not call(elasticsearch_url, "POST", f"/{name}/_bulk?refresh=true", lines)["errors"]
    source = ElasticsearchSource(ElasticsearchSettings(urls=[elasticsearch_url]), 30)
    yield Site(source, IndexSettings(file_prefix="Any", source=name), tmp_path_factory.mktemp("results"))
    source.close()
    call(elasticsearch_url, "DELETE", f"/{name}")


@pytest.fixture(params=["files", "elasticsearch"])
def site(request: pytest.FixtureRequest) -> Site:
    found: Site = request.getfixturevalue(f"by_{request.param}")
    return found


def test_every_format_takes_part() -> None:
    assert set(READERS) >= set(FORMATS), "a new format: give it a line in READERS"


def holds(export_format: str, data: bytes, documents: list[dict[str, Any]], columns: list[Any]) -> None:
    """Fail where a file is not these documents; of a format of whole ones, whatever the columns."""
    reader = READERS[export_format]
    header, rows = reader.read(data)
    if export_format not in COLUMN_FORMATS:
        columns = [None]
    elif rows or reader.headers_without_rows:
        assert header == [header_of(column) for column in columns]
    assert len(rows) == len(documents)
    for document, row in zip(documents, rows, strict=True):
        for column, cell in zip(columns, row, strict=True):
            value = document if column is None else meant(document, column)
            assert reader.says(cell, value), (column, cell, value)


@pytest.mark.parametrize("export_format", FORMATS)
def test_every_field_comes_back_as_it_went(site: Site, export_format: str) -> None:
    holds(export_format, site.file(export_format), OWN, sorted(ALL))


@pytest.mark.parametrize("export_format", COLUMN_FORMATS)
def test_columns_stand_in_order_under_their_headers(site: Site, export_format: str) -> None:
    holds(export_format, site.file(export_format, columns=WANTED), OWN, WANTED)


@pytest.mark.parametrize("export_format", COLUMN_FORMATS)
def test_each_element_of_an_exploded_list_has_a_row(site: Site, export_format: str) -> None:
    columns = [
        "id",
        "lines.n",
        {"field": "lines.sku", "header": "sku"},
        "tags",
        "lines",
        {"constant": 1, "header": "1"},
    ]
    data = site.file(export_format, columns=columns, options={"nested": "explode"})
    rows = [element for document in OWN for element in elements(document)]
    assert len(rows) == len(OWN) + 2
    holds(export_format, data, rows, columns)


@pytest.mark.parametrize("export_format", COLUMN_FORMATS)
def test_fields_of_a_flattened_list_are_lists(site: Site, export_format: str) -> None:
    columns = [name for name in ALL if name != "lines"] + ["lines.n", "lines.sku"]
    data = site.file(export_format, options={"nested": "flatten"})
    holds(export_format, data, OWN, sorted(columns))


@pytest.mark.parametrize("export_format", FORMATS)
def test_dry_data_is_the_rest(site: Site, export_format: str) -> None:
    bare = [{name: value for name, value in one.items() if name not in {"id", "chain_id"}} for one in OWN]
    documents = bare if export_format in COLUMN_FORMATS else [dry(one) for one in bare]
    data = site.file(export_format, dry_data=True)
    holds(export_format, data, documents, sorted(set(ALL) - {"id", "chain_id"}))


@pytest.mark.parametrize("export_format", ["csv", "xlsx"])
def test_instants_are_as_the_clock_of_a_zone_shows_them(site: Site, export_format: str) -> None:
    shown = {
        "2026-05-26T12:00:00.123Z": "2026-05-26T17:45:00.123+05:45",
        "2026-01-01T00:00:00+02:00": "2026-01-01T03:45:00+05:45",
    }
    documents = [one | {"at": shown.get(str(one.get("at")), one.get("at"))} for one in OWN]
    holds(export_format, site.file(export_format, options={"timezone": "Asia/Kathmandu"}), documents, sorted(ALL))


@pytest.mark.parametrize("export_format", ["csv", "xlsx"])
def test_null_is_the_text_that_is_asked_for(site: Site, export_format: str) -> None:
    columns = ["id", "lines", "name", "price", "shop.city", "sold"]
    documents = [{"id": one["id"]} for one in OWN]
    for own, document in zip(OWN, documents, strict=True):
        for name in columns:
            value = value_at(own, name)
            outer, _, inner = name.partition(".")
            document[outer] = {inner: "-" if value is None else value} if inner else "-" if value is None else value
    assert {str(one["shop"]) for one in documents} == {"{'city': 'Köln'}", "{'city': ' '}", "{'city': '-'}"}
    holds(export_format, site.file(export_format, columns=columns, options={"null": "-"}), documents, columns)


@pytest.mark.parametrize("export_format", FORMATS)
def test_a_result_without_rows_is_a_whole_file(site: Site, export_format: str) -> None:
    holds(export_format, site.file(export_format, chain=EMPTY), [], sorted(ALL))


@pytest.mark.parametrize("export_format", FORMATS)
def test_a_result_of_one_row_has_it(site: Site, export_format: str) -> None:
    holds(export_format, site.file(export_format, chain=ALONE), OTHERS, sorted(ALL))


@pytest.mark.parametrize("export_format", FORMATS)
def test_every_file_of_a_split_result_is_whole(site: Site, export_format: str) -> None:
    parts = site.files(export_format, split={"rows": 4})
    assert len(parts) == 2
    for data, documents in zip(parts, (OWN[:4], OWN[4:]), strict=True):
        holds(export_format, data, documents, sorted(ALL))


@pytest.mark.parametrize("export_format", [name for name in FORMATS if name not in COMPRESSED_FORMATS])
def test_compression_changes_nothing_inside(by_files: Site, export_format: str) -> None:
    plain = by_files.file(export_format)
    assert gzip.decompress(by_files.file(export_format, compression="gzip")) == plain
    zipped = by_files.file(export_format, compression="zstd")
    assert zstandard.ZstdDecompressor().decompressobj().decompress(zipped) == plain


@pytest.mark.parametrize("export_format", FORMATS)
def test_both_sources_make_the_same_bytes(by_files: Site, by_elasticsearch: Site, export_format: str) -> None:
    target: dict[str, Any] = {"columns": WANTED} if export_format in COLUMN_FORMATS else {}
    assert by_files.file(export_format, **target) == by_elasticsearch.file(export_format, **target)
