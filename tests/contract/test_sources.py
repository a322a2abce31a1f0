"""What every source promises, asked of both adapters over the same sample documents."""

from __future__ import annotations

import csv
import io
import itertools
import json
import threading
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from segments import EVERYTHING, Catalog, Tree, compile_segment, evaluate
from tasks_service.config import ElasticsearchSettings, FilesSettings, IndexSettings
from tasks_service.errors import IncompleteError, SnapshotLostError, SourceError, SourceUnavailableError
from tasks_service.formats.registry import encoder_for
from tasks_service.sample import load_elasticsearch, raw_documents, write_files
from tasks_service.sample.words import CHAINS as DRAWN
from tasks_service.sources import Share, Snapshot, Source
from tasks_service.sources.elasticsearch import ElasticsearchSource
from tasks_service.sources.files import FilesSource

UNTIL = datetime(2026, 5, 26, 12, tzinfo=UTC)
ROWS = 30_000  # more than one page and one slice
CHAINS = tuple(dict.fromkeys(DRAWN))
INDICES = ("products", "transactions")
CHANGING = "vouchers"  # the index that a test writes to while it is read
SIZES = {**dict.fromkeys(INDICES, ROWS), CHANGING: 4000}


@dataclass(frozen=True)
class Site:
    """A source with the sample documents in it, and how to replace an index by other documents."""

    source: Source
    prefix: str
    replace: Callable[[str, int], None]

    def index(self, name: str, **settings: Any) -> IndexSettings:
        return IndexSettings(file_prefix="Sample", source=self.prefix + name, **settings)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("documents")
    write_files(directory, SIZES, until=UNTIL)
    return directory


@pytest.fixture(scope="module")
def loaded(elasticsearch_url: str) -> Iterator[tuple[str, str]]:
    prefix = f"sources-{uuid.uuid4().hex[:8]}-"
    load_elasticsearch(elasticsearch_url, SIZES, until=UNTIL, prefix=prefix)
    yield elasticsearch_url, prefix
    for name in SIZES:
        call(elasticsearch_url, "DELETE", f"/{prefix}{name}")


def call(url: str, method: str, path: str) -> Any:
    with urllib.request.urlopen(urllib.request.Request(url + path, method=method), timeout=60) as answer:  # noqa: S310
        return json.loads(answer.read())


def files_site(directory: Path) -> Site:
    def replace(name: str, rows: int) -> None:
        write_files(directory, {name: rows}, until=UNTIL, seed=1)

    return Site(FilesSource(FilesSettings(directory=directory), 30), "", replace)


def elasticsearch_site(url: str, prefix: str) -> Site:
    def replace(name: str, rows: int) -> None:
        load = urllib.request.Request(  # noqa: S310
            f"{url}/{prefix}{name}/_bulk",
            data=b"".join(b'{"index":{}}\n' + one + b"\n" for one in raw_documents(name, rows, until=UNTIL, seed=1)),
            headers={"content-type": "application/x-ndjson"},
        )
        with urllib.request.urlopen(load, timeout=60) as answer:  # noqa: S310
            assert not json.loads(answer.read())["errors"]

    return Site(ElasticsearchSource(ElasticsearchSettings(urls=[url]), 30), prefix, replace)


@pytest.fixture(params=["files", "elasticsearch"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "files":
        made = files_site(request.getfixturevalue("folder"))
    else:
        made = elasticsearch_site(*request.getfixturevalue("loaded"))
    yield made
    made.source.close()


@cache
def expected(name: str, chain: int) -> list[bytes]:
    return [one for one in raw_documents(name, ROWS, until=UNTIL) if json.loads(one)["chain_id"] == chain]


def read(snapshot: Snapshot, wanted: int = 1, share: Share | None = None) -> list[bytes]:
    """Read every partition in a thread of its own, as exports do."""
    found: list[bytes] = []
    failures: list[BaseException] = []

    def drain(pages: Iterator[list[bytes]]) -> None:
        try:
            for page in pages:
                found.extend(page)
        except BaseException as error:  # noqa: BLE001 -- raised again below
            failures.append(error)

    threads = [threading.Thread(target=drain, args=(pages,)) for pages in snapshot.partitions(wanted, share)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return found


def tree(catalog: Catalog, name: str, *rules: dict[str, Any]) -> Tree:
    segment = {"entity": "people", "index": name, "join": "all", "chain_id": CHAINS[0], "rules": list(rules)}
    return compile_segment(segment, catalog, now=UNTIL, zone=ZoneInfo("UTC"))


# -- rows ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("wanted", [1, 3, 8])
@pytest.mark.parametrize("name", INDICES)
def test_every_document_of_the_chain_comes_once_and_byte_for_byte(site: Site, name: str, wanted: int) -> None:
    with site.source.open(site.index(name), EVERYTHING, chain=CHAINS[0], limit=None) as snapshot:
        found = read(snapshot, wanted)
        assert snapshot.total == len(found)
    assert sorted(found) == sorted(expected(name, CHAINS[0]))


@pytest.mark.parametrize("name", INDICES)
def test_shares_of_a_divided_view_are_the_whole_of_it_wherever_they_are_read(
    site: Site, name: str, request: pytest.FixtureRequest
) -> None:
    found: list[bytes] = []
    with site.source.open(site.index(name), EVERYTHING, chain=CHAINS[0], limit=None) as snapshot:
        division = snapshot.divide(5, 2)
        if division is None:
            assert isinstance(site.source, FilesSource), "only files are read by one process alone"
            with pytest.raises(SnapshotLostError), site.source.resume({}):
                pass
            return
    other = elasticsearch_site(*request.getfixturevalue("loaded")).source
    handle = json.loads(json.dumps(division.handle))
    for share in division.shares:
        with other.resume(handle) as resumed:
            assert (resumed.total, resumed.taken_at, resumed.query) == (
                snapshot.total,
                snapshot.taken_at,
                snapshot.query,
            )
            assert resumed.catalog == snapshot.catalog
            rows = read(resumed, 2, share)
            assert len(rows) == share.documents
            found += rows
    assert 1 < len(division.shares) <= 5
    assert sorted(found) == sorted(expected(name, CHAINS[0]))
    with other.resume(handle) as resumed:
        resumed.renew()
        resumed.release()
    with site.source.resume(handle) as resumed, pytest.raises(SnapshotLostError):
        resumed.renew()
    other.close()


def test_a_share_that_holds_other_than_its_count_is_incomplete(site: Site) -> None:
    with site.source.open(site.index("products"), EVERYTHING, chain=CHAINS[0], limit=None) as snapshot:
        division = snapshot.divide(3, 2)
        if division is None:
            return  # files, see above
        snapshot.release()
        share = division.shares[0]
        with pytest.raises(IncompleteError):
            read(snapshot, 2, replace(share, documents=share.documents + 1))


@pytest.mark.parametrize("chain", CHAINS)
def test_no_row_of_another_chain_comes(site: Site, chain: int) -> None:
    with site.source.open(site.index("products"), EVERYTHING, chain=chain, limit=None) as snapshot:
        found = read(snapshot, 4)
    assert found
    assert {json.loads(one)["chain_id"] for one in found} == {chain}


def test_a_chain_without_rows_has_none(site: Site) -> None:
    with site.source.open(site.index("products"), EVERYTHING, chain=99_999, limit=None) as snapshot:
        assert snapshot.total == 0
        assert read(snapshot, 4) == []


def test_a_segment_chooses_what_it_means(site: Site) -> None:
    index = site.index("transactions")
    catalog = site.source.catalog(index)
    nested = next(field for field in catalog.fields if field.nested and field.type == "number" and not field.refusal)
    rule = {"field_name": nested.name, "field_type": "number", "operator": "is_greater_than", "value": 3}
    chosen = tree(catalog, "transactions", {**rule, "nested": True, "nesting_path": nested.nested})
    meant = [one for one in expected("transactions", CHAINS[0]) if evaluate(chosen, json.loads(one))]
    with site.source.open(index, chosen, chain=CHAINS[0], limit=None) as snapshot:
        found = read(snapshot, 2)
        assert snapshot.total == len(meant)
    assert 0 < len(meant) < len(expected("transactions", CHAINS[0]))
    assert sorted(found) == sorted(meant)


def test_a_segment_cannot_reach_around_the_chain(site: Site) -> None:
    index = site.index("products")
    catalog = site.source.catalog(index)
    rules = [{"field_name": "chain_id", "field_type": "number", "operator": "is", "value": CHAINS[1]}]
    with site.source.open(index, tree(catalog, "products", *rules), chain=CHAINS[0], limit=None) as snapshot:
        assert (snapshot.total, read(snapshot)) == (0, [])


@pytest.mark.parametrize("limit", [1, 7, 12_345, 10_000_000])
def test_a_limit_bounds_the_rows_and_the_total(site: Site, limit: int) -> None:
    every = expected("products", CHAINS[0])
    with site.source.open(site.index("products"), EVERYTHING, chain=CHAINS[0], limit=limit) as snapshot:
        found = read(snapshot, 4)
        assert snapshot.total == len(found) == min(limit, len(every))
    assert len(set(found)) == len(found)
    assert set(found) <= set(every)


def test_documents_that_arrive_later_are_not_in_the_snapshot(site: Site) -> None:
    later = set(raw_documents(CHANGING, 500, until=UNTIL, seed=1))
    with site.source.open(site.index(CHANGING), EVERYTHING, chain=CHAINS[0], limit=None) as snapshot:
        pages = snapshot.partitions(1)[0]
        first = next(pages)
        site.replace(CHANGING, 500)
        found = [*first, *itertools.chain.from_iterable(pages)]
        assert len(found) == snapshot.total
        assert not later & set(found)
    with site.source.open(site.index(CHANGING), EVERYTHING, chain=CHAINS[0], limit=None) as snapshot:
        assert later & set(read(snapshot))


def test_the_snapshot_says_when_it_was_taken_and_what_was_asked(site: Site) -> None:
    before = datetime.now(UTC)
    with site.source.open(site.index("products"), EVERYTHING, chain=CHAINS[0], limit=1) as snapshot:
        assert before <= snapshot.taken_at <= datetime.now(UTC)
        assert str(CHAINS[0]) in json.dumps(snapshot.query)


# -- catalogues, previews, errors ----------------------------------------------------------------------------------


def test_both_sources_have_the_same_columns(site: Site) -> None:
    names = [column.name for column in site.source.catalog(site.index("transactions")).columns]
    documents = [json.loads(one) for one in raw_documents("transactions", 200, until=UNTIL)]
    members = {member for document in documents for member in document}
    assert {name.split(".")[0] for name in names} == members
    assert names == sorted(names)


@pytest.mark.parametrize("name", INDICES)
def test_a_document_has_the_same_csv_bytes_from_every_source(site: Site, name: str) -> None:
    """Both are compared with the same third: the documents as they were made, in the columns of the mapping."""
    index = site.index(name)
    with site.source.open(index, EVERYTHING, chain=CHAINS[0], limit=None) as snapshot:
        encoder = encoder_for({"export_format": "csv"}, snapshot.catalog, index)
        found = b"".join(encoder.encode(page).data for pages in snapshot.partitions(2) for page in pages)
    columns = sorted(encoder.joints.header.decode().strip().split(","))
    same = encoder_for({"export_format": "csv", "columns": columns}, snapshot.catalog, index)
    assert same.joints.header == encoder.joints.header
    assert sorted(found.split(b"\r\n")) == sorted(same.encode(expected(name, CHAINS[0])).data.split(b"\r\n"))


def test_an_exploded_list_has_the_same_rows_from_every_source(site: Site) -> None:
    index, target = site.index("transactions"), {"options": {"nested": "explode", "explode": "line_items"}}
    with site.source.open(index, EVERYTHING, chain=CHAINS[0], limit=None) as snapshot:
        columns = encoder_for(target, snapshot.catalog, index)
        encoder = encoder_for(target | {"columns": ["id", "payment_methods", "line_items"]}, snapshot.catalog, index)
        pages = [encoder.encode(page) for pages in snapshot.partitions(2) for page in pages]
        assert sum(page.documents for page in pages) == snapshot.total
    assert columns.joints is not None
    assert b",line_items.sku," in columns.joints.header
    found = csv.reader(io.StringIO(b"".join(page.data for page in pages).decode(), newline=""))
    documents = [json.loads(one) for one in expected("transactions", CHAINS[0])]
    assert sum(page.rows for page in pages) == sum(max(1, len(one["line_items"])) for one in documents)
    assert sorted((id_, json.dumps(json.loads(item or "null"))) for id_, _, item in found) == sorted(
        (str(one["id"]), json.dumps(item)) for one in documents for item in one["line_items"] or [None]
    )


def test_a_preview_counts_exactly_and_shows_the_first_rows(site: Site) -> None:
    every = expected("products", CHAINS[1])
    sample = site.source.sample(site.index("products"), EVERYTHING, chain=CHAINS[1], rows=10)
    assert sample.count == len(every)
    assert len(sample.documents) == 10
    known = [json.loads(one) for one in every]
    assert all(document in known for document in sample.documents)
    assert json.dumps(sample.query)


def test_an_index_that_is_not_there_is_an_error(site: Site) -> None:
    index = site.index("nothing-of-the-kind")
    with pytest.raises(SourceError):
        site.source.catalog(index)
    with pytest.raises(SourceError), site.source.open(index, EVERYTHING, chain=1, limit=None):
        pass


def test_an_index_without_its_chain_field_is_an_error_and_never_all_chains(site: Site) -> None:
    index = site.index("products", chain_field="no_such_field")
    with pytest.raises(SourceError, match="no_such_field"), site.source.open(index, EVERYTHING, chain=1764, limit=None):
        pass


def test_a_usable_source_passes_its_check(site: Site) -> None:
    site.source.check()


def test_an_unusable_source_does_not_pass_its_check(site: Site, tmp_path: Path) -> None:
    if isinstance(site.source, FilesSource):
        with pytest.raises(SourceError):
            FilesSource(FilesSettings(directory=tmp_path / "none"), 30).check()
    else:
        source = ElasticsearchSource(ElasticsearchSettings(urls=["http://127.0.0.1:1"]), 30)
        with pytest.raises(SourceUnavailableError):
            source.check()
        source.close()


def test_a_reader_that_stops_early_leaves_nothing_open(site: Site) -> None:
    with site.source.open(site.index("products"), EVERYTHING, chain=CHAINS[0], limit=None) as snapshot:
        pages = snapshot.partitions(1)[0]
        next(pages)
    if isinstance(site.source, ElasticsearchSource):
        url, prefix = str(site.source._settings.urls[0]), site.prefix
        stats = call(url, "GET", f"/{prefix}products/_stats/search")
        assert stats["_all"]["total"]["search"]["open_contexts"] == 0
    else:
        descriptors = {path.resolve().name for path in Path("/proc/self/fd").iterdir() if path.exists()}
        assert "part-00000.parquet" not in descriptors
