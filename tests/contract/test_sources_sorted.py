"""Rows in the order that is asked for, from both sources: over the whole result, across pages."""

from __future__ import annotations

import csv
import itertools
import json
import os
import random
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb
import pytest

from segments import EVERYTHING, read_sort
from tasks_service.config import ElasticsearchSettings, FilesSettings, IndexSettings, LocalSettings
from tasks_service.errors import SourceError
from tasks_service.export import run_export
from tasks_service.sources import Source
from tasks_service.sources.elasticsearch import ElasticsearchSource
from tasks_service.sources.files import FilesSource
from tasks_service.sources.files_sorting import sorting_folder
from tasks_service.storage.local import LocalStorage
from tests.contract.test_sources_linked import call
from tests.orders import order_of

CHAIN = 1
ROWS = 5000  # several pages: the first ones hold 8, 128 and 2048
MAPPING = {
    "chain_id": {"type": "long"},
    "number": {"type": "integer"},
    "name": {"type": "keyword"},
    "code": {"type": "keyword", "ignore_above": 5},
    "title": {"type": "text"},
    "amount": {"type": "double"},
    "count": {"type": "integer"},
    "created": {"type": "date"},
    "active": {"type": "boolean"},
    "tags": {"type": "keyword"},
    "lines": {"type": "nested", "properties": {"n": {"type": "long"}}},
}
EXTREMES = [2**31 - 1, -(2**31), 0, 7]


def drawn() -> list[dict[str, Any]]:
    """Documents whose sort values are scarce, so that ties and later keys matter; some have no value."""
    draw = random.Random(7)
    documents = [
        {
            "chain_id": 1 if number % 10 else 2,
            "number": number,
            "name": draw.choice(["b", "B", "é", "z", "", "😀", "\uffee", None]),
            "amount": draw.choice([1.5, -2.25, 0.0, 1e300, None]),
            "count": draw.choice(EXTREMES),
            "created": f"2026-01-{draw.randint(1, 28):02}T10:00:00.{draw.randint(0, 9)}Z",
            "active": draw.choice([True, False, None]),
            "tags": draw.sample(["a", "b", "c", "d"], draw.randint(0, 3)),
            "code": "short",
            "lines": [{"n": number}],
            "title": "words",
        }
        for number in range(ROWS)
    ]
    for document in documents:
        for name in ("created", "count"):
            if draw.random() < 0.1:
                del document[name]
    draw.shuffle(documents)
    return documents


DOCUMENTS = drawn()
OWN = [one for one in DOCUMENTS if one["chain_id"] == CHAIN]


def meant(*keys: tuple[str, bool]) -> list[int]:
    """The numbers of the chain's documents in order, by sorting them once a key, the last key first."""
    rows = list(OWN)
    for name, descending in reversed(keys):
        ends = max if descending else min

        def value(row: dict[str, Any], name: str = name, ends: Any = ends) -> Any:
            found = row.get(name)
            return ends(found, default=None) if isinstance(found, list) else found

        some = [row for row in rows if value(row) is not None]
        rows = sorted(some, key=value, reverse=descending) + [row for row in rows if value(row) is None]
    return [row["number"] for row in rows]


@dataclass(frozen=True)
class Site:
    source: Source
    index: IndexSettings

    def read(self, *wanted: object, limit: int | None = None, readers: int = 4) -> list[int]:
        sort = read_sort(list(wanted), self.source.catalog(self.index))
        with self.source.open(self.index, EVERYTHING, chain=CHAIN, limit=limit, sort=sort) as snapshot:
            assert snapshot.divide(4, 2) is None
            [pages] = snapshot.partitions(readers)
            found = [json.loads(one)["number"] for one in itertools.chain.from_iterable(pages)]
            assert len(found) == snapshot.total
        return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("sorted")
    (directory / "rows").mkdir()
    (directory / "rows" / "part.jsonl").write_text("".join(json.dumps(one) + "\n" for one in DOCUMENTS))
    return directory


@pytest.fixture(scope="module")
def loaded(elasticsearch_url: str) -> Iterator[tuple[str, str]]:
    """An alias of two indices, of which the second has no document, and not every field."""
    name = f"sorted-{uuid.uuid4().hex[:8]}"
    lacking = {"chain_id": MAPPING["chain_id"]}
    for concrete, properties in ((f"{name}-a", MAPPING), (f"{name}-b", lacking)):
        settings = {"number_of_shards": 3, "number_of_replicas": 0}
        body = {"settings": settings, "mappings": {"properties": properties}, "aliases": {name: {}}}
        call(elasticsearch_url, "PUT", f"/{concrete}", body)
    lines = "".join('{"index":{}}\n' + json.dumps(one) + "\n" for one in DOCUMENTS)
    assert not call(elasticsearch_url, "POST", f"/{name}-a/_bulk?refresh=true", lines)["errors"]
    yield elasticsearch_url, name
    for concrete in (f"{name}-a", f"{name}-b"):
        call(elasticsearch_url, "DELETE", f"/{concrete}")


@pytest.fixture(params=["files", "elasticsearch"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    source: Source
    if request.param == "files":
        source, name = FilesSource(FilesSettings(directory=request.getfixturevalue("folder")), 30), "rows"
    else:
        url, name = request.getfixturevalue("loaded")
        source = ElasticsearchSource(ElasticsearchSettings(urls=[url], page_bytes=64 * 1024), 30)
    yield Site(source, IndexSettings(file_prefix="Sorted", source=name))
    source.close()


@pytest.mark.parametrize("descending", [False, True])
@pytest.mark.parametrize("name", ["name", "amount", "count", "created", "active", "tags"])
def test_rows_stand_in_order_and_equal_ones_in_that_of_the_next_key(site: Site, name: str, descending: bool) -> None:  # noqa: FBT001
    order = "desc" if descending else "asc"
    found = site.read({"field": name, "order": order}, {"field": "number", "order": "desc"})
    assert found == meant((name, descending), ("number", True))


def test_many_keys_are_one_order(site: Site) -> None:
    keys = [("active", True), ("count", False), ("tags", True), ("name", False), ("number", False)]
    wanted = [{"field": name, "order": "desc" if down else "asc"} for name, down in keys]
    assert site.read(*wanted) == meant(*keys)


def test_a_limit_takes_the_first_rows_of_the_order(site: Site) -> None:
    assert site.read("name", "number", limit=777) == meant(("name", False), ("number", False))[:777]


def test_rows_that_are_equal_in_every_key_all_come_and_alike_each_time(site: Site) -> None:
    found = site.read("active")
    assert sorted(found) == sorted(meant(("active", False)))
    assert site.read("active") == found
    if isinstance(site.source, FilesSource):
        assert found == meant(("active", False))  # as the files have them


def test_a_value_that_was_not_indexed_refuses_the_order(site: Site, request: pytest.FixtureRequest) -> None:
    if isinstance(site.source, FilesSource):
        assert len(site.read("code")) == len(OWN)
        return
    url, name = request.getfixturevalue("loaded")
    assert len(site.read("code")) == len(OWN)
    late = json.dumps({"chain_id": CHAIN, "number": -1, "code": "too long"})
    call(url, "PUT", f"/{name}-a/_doc/late?refresh=true", json.loads(late))
    try:
        with pytest.raises(SourceError, match=r"1 documents have a code that Elasticsearch did not index"):
            site.read("code")
    finally:
        call(url, "DELETE", f"/{name}-a/_doc/late?refresh=true")


@pytest.mark.parametrize("export_format", ["csv", "jsonl"])
def test_a_file_has_its_rows_in_order(site: Site, tmp_path: Path, export_format: str) -> None:
    storage = LocalStorage(LocalSettings(directory=tmp_path), public_url="http://x", secret_key=b"x" * 32)
    target: dict[str, Any] = {"export_index": "rows", "export_format": export_format}
    target["sort"] = [{"field": "created", "order": "desc"}, "number"]
    order = order_of(target, chain=CHAIN, index=site.index, readers=4, part_rows=1000)
    exported = run_export(order, site.source, storage, lambda _progress: None)
    assert exported.artifact is not None
    assert exported.artifact["rows"] == len(OWN)
    written = next(path for path in tmp_path.rglob("*") if path.is_file() and path.stat().st_size > 100_000)
    with written.open(newline="") as file:
        rows = csv.DictReader(file) if export_format == "csv" else map(json.loads, file)
        assert [int(row["number"]) for row in rows] == meant(("created", True), ("number", False))


def test_files_are_sorted_beyond_what_memory_holds_and_leave_nothing(tmp_path: Path) -> None:
    rows = 100_000
    (tmp_path / "documents" / "big").mkdir(parents=True)
    columns = f"{CHAIN} AS chain_id, i * 7919 % {rows} AS number, lpad(i::VARCHAR, 1500, 'x') AS pad"
    file = tmp_path / "documents" / "big" / "part.parquet"
    query = f"SELECT {columns} FROM range({rows}) t(i)"  # noqa: S608 -- numbers
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{file}' (FORMAT parquet, ROW_GROUP_SIZE 2048)")
    temporary = tmp_path / "temporary"
    settings = FilesSettings(directory=tmp_path / "documents", temp_directory=temporary)
    source = FilesSource(settings, 30)
    site = Site(source, IndexSettings(file_prefix="Big", source="big"))
    assert site.read("number") == list(range(rows))
    assert list(temporary.iterdir()) == []


def test_a_folder_of_a_process_that_was_killed_goes_with_the_next_sort(tmp_path: Path) -> None:
    left, young = tmp_path / "tasks-service-sort-left", tmp_path / "tasks-service-sort-young"
    for folder in (left, young):
        folder.mkdir()
        (folder / "spilled").write_text("rows")
    os.utime(left, (0, 0))
    with sorting_folder(tmp_path) as held:
        os.utime(held, (0, 0))
        assert held.stat().st_mode & 0o777 == 0o700
        with sorting_folder(tmp_path) as other:
            assert {path.name for path in tmp_path.iterdir()} == {held.name, other.name, young.name}
    assert [path.name for path in tmp_path.iterdir()] == [young.name]
