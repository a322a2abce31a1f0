"""Groups about another index, asked of both sources: users and baskets of two chains that share their numbers."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from segments import SegmentError, Tree, compile_segment, evaluate
from tasks_service.config import ElasticsearchSettings, FilesSettings, IndexSettings, LocalSettings
from tasks_service.errors import LinkLimitError, SourceError
from tasks_service.export import run_export
from tasks_service.sources import Source
from tasks_service.sources.elasticsearch import ElasticsearchSource
from tasks_service.sources.files import FilesSource
from tasks_service.sources.links import Links
from tasks_service.storage.local import LocalStorage
from tests.orders import order_of

NOW = datetime(2026, 5, 26, 12, tzinfo=UTC)
CHAIN, OTHER = 1, 2
USERS = [
    {"id": 1, "chain_id": 1, "code": "a", "city": "Utrecht", "friends": [2, 3]},
    {"id": 2, "chain_id": 1, "code": "b", "city": "Delft", "friends": [2**53 + 1]},
    {"id": 3, "chain_id": 1, "code": "c", "city": "Utrecht"},
    {"id": 3, "chain_id": 1, "code": "C", "city": "Utrecht", "friends": [1]},
    {"id": 2**53 + 1, "chain_id": 1, "code": "big", "city": "Utrecht"},
    {"chain_id": 1, "code": None, "city": "Utrecht"},
    # The other chain's user 2 lives where ours does not, and its user 4 we have not at all.
    {"id": 2, "chain_id": 2, "code": "b", "city": "Utrecht"},
    {"id": 4, "chain_id": 2, "code": "d", "city": "Utrecht"},
    {"id": 1, "chain_id": 2, "code": "a", "city": "Delft"},
]
LINKS: list[dict[str, Any]] = [
    {"user_id": 1, "score": 1.0, "codes": ["a"], "lines": [{"by": 1}]},
    {"user_id": 2, "score": 2.0, "codes": ["b", "C"], "lines": [{"by": 2}, {"by": 3}]},
    {"user_id": 3, "score": 1.5, "codes": ["A"], "lines": []},
    {"user_id": 4, "score": 4.0, "codes": ["d", "nobody"], "lines": [{"by": 4}]},
    {"user_id": 2**53 + 1, "score": 2.0**53, "codes": ["big"], "lines": [{"by": None}]},
    {"user_id": 2**53, "codes": [None, "c"], "lines": [{"by": 2}]},
    {"user_id": None, "codes": []},
    {},
]
BASKETS = [
    {"number": number, "chain_id": chain, **basket}
    for number, (chain, basket) in enumerate((chain, basket) for chain in (CHAIN, OTHER) for basket in LINKS)
]
DOCUMENTS = {"baskets": BASKETS, "users": USERS}
MAPPINGS: dict[str, Any] = {
    "baskets": {
        "number": {"type": "long"},
        "chain_id": {"type": "long"},
        "user_id": {"type": "long"},
        "score": {"type": "double"},
        "codes": {"type": "keyword"},
        "lines": {"type": "nested", "properties": {"by": {"type": "long"}}},
    },
    "users": {
        "id": {"type": "long"},
        "chain_id": {"type": "long"},
        "code": {"type": "text", "fields": {"keyword": {"type": "keyword", "ignore_above": 256}}},
        "city": {"type": "keyword"},
        "friends": {"type": "long"},
    },
}


@dataclass(frozen=True)
class Site:
    """A source that holds the documents, and how to make another one with other limits."""

    source: Source
    make: Callable[..., Source]
    indices: dict[str, IndexSettings]

    def tree(self, *rules: dict[str, Any]) -> Tree:
        segment = {"entity": "people", "index": "baskets", "join": "all", "chain_id": CHAIN, "rules": list(rules)}
        catalog = self.source.catalog(self.indices["baskets"])
        return compile_segment(segment, catalog, self.source.catalogs(), now=NOW, zone=ZoneInfo("UTC"))

    def select(self, *rules: dict[str, Any], source: Source | None = None) -> list[int]:
        index = self.indices["baskets"]
        with (source or self.source).open(index, self.tree(*rules), chain=CHAIN, limit=None) as snapshot:
            pages = [page for pages in snapshot.partitions(2) for page in pages]
            found = sorted(json.loads(one)["number"] for page in pages for one in page)
            assert snapshot.total == len(found)
        return found


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    directory = tmp_path_factory.mktemp("linked")
    for name, documents in DOCUMENTS.items():
        (directory / name).mkdir()
        (directory / name / "part.jsonl").write_text("".join(json.dumps(one) + "\n" for one in documents))
    return directory


@pytest.fixture(scope="module")
def loaded(elasticsearch_url: str) -> Iterator[tuple[str, dict[str, str]]]:
    names = {name: f"linked-{name}-{uuid.uuid4().hex[:8]}" for name in DOCUMENTS}
    for name, concrete in names.items():
        settings = {"number_of_shards": 2, "number_of_replicas": 0}
        mappings = {"properties": MAPPINGS[name]}
        call(elasticsearch_url, "PUT", f"/{concrete}", {"settings": settings, "mappings": mappings})
        lines = "".join('{"index":{}}\n' + json.dumps(one) + "\n" for one in DOCUMENTS[name])
        assert not call(elasticsearch_url, "POST", f"/{concrete}/_bulk?refresh=true", lines)["errors"]
        call(elasticsearch_url, "PUT", f"/{concrete}/_alias/{concrete}-alias")
    yield elasticsearch_url, names
    for concrete in names.values():
        call(elasticsearch_url, "DELETE", f"/{concrete}")


def call(url: str, method: str, path: str, body: Any = None) -> Any:
    data = None if body is None else (body if isinstance(body, str) else json.dumps(body)).encode()
    kind = "application/x-ndjson" if isinstance(body, str) else "application/json"
    request = urllib.request.Request(url + path, data=data, method=method, headers={"content-type": kind})  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.loads(answer.read())


@pytest.fixture(params=["files", "elasticsearch", "aliases"])
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    if request.param == "files":
        directory = request.getfixturevalue("folder")
        names = {name: name for name in DOCUMENTS}

        def make(**members: Any) -> Source:
            return FilesSource(FilesSettings(directory=directory), 30, links=Links(indices, **members))
    else:
        url, concrete = request.getfixturevalue("loaded")
        names = {name: one + ("-alias" if request.param == "aliases" else "") for name, one in concrete.items()}

        def make(**members: Any) -> Source:
            return ElasticsearchSource(ElasticsearchSettings(urls=[url]), 30, links=Links(indices, **members))

    indices = {name: IndexSettings(file_prefix="Linked", source=source) for name, source in names.items()}
    made = make()
    yield Site(made, make, indices)
    made.close()


def rule(field_name: str, field_type: str, operator: str, value: Any = ...) -> dict[str, Any]:
    given = {} if value is ... else {"value": value}
    return {"field_name": field_name, "field_type": field_type, "operator": operator, **given}


def about_users(link: str, *rules: dict[str, Any], **members: Any) -> dict[str, Any]:
    return {"index": "users", "link": link, "join": "all", "rules": list(rules), **members}


UTRECHT = rule("city", "keyword", "is", "Utrecht")
HAS_ID = rule("id", "number", "is_set")
QUESTIONS: dict[str, tuple[dict[str, Any], list[int]]] = {
    "a number": (about_users("user_id", UTRECHT), [0, 2, 4]),
    "an alternative and its own rule": (
        {"join": "any", "rules": [about_users("user_id", UTRECHT), rule("user_id", "number", "is", 4)]},
        [0, 2, 3, 4],
    ),
    "the complement": (about_users("user_id", UTRECHT, negate=True), [1, 3, 5, 6, 7]),
    "a double": (about_users("score", HAS_ID), [0, 1]),
    "strings in an array": (about_users("codes", UTRECHT, key="code"), [0, 1, 4, 5]),
    "none of an array": (about_users("codes", UTRECHT, key="code", negate=True), [2, 3, 6, 7]),
    "nested documents": (about_users("lines.by", UTRECHT), [0, 1]),
    "no nested document": (about_users("lines.by", UTRECHT, negate=True), [2, 3, 4, 5, 6, 7]),
    "an array of keys": (about_users("user_id", HAS_ID, key="friends"), [0, 1, 2, 4]),
    "nobody": (about_users("user_id", rule("city", "keyword", "is", "Rome")), []),
    "not nobody": (
        about_users("user_id", rule("city", "keyword", "is", "Rome"), negate=True),
        [0, 1, 2, 3, 4, 5, 6, 7],
    ),
    "groups inside": (
        about_users("user_id", {"join": "any", "negate": True, "rules": [UTRECHT, rule("code", "text", "is", "a")]}),
        [1],
    ),
    "two hops": (about_users("user_id", about_users("friends", rule("city", "keyword", "is", "Delft"))), [0]),
}


@pytest.mark.parametrize("name", QUESTIONS)
def test_a_group_about_another_index_selects_what_it_means(site: Site, name: str) -> None:
    asked, numbers = QUESTIONS[name]
    tree = site.tree(asked)
    own = {name: [one for one in documents if one["chain_id"] == CHAIN] for name, documents in DOCUMENTS.items()}
    assert [one["number"] for one in own["baskets"] if evaluate(tree, one, own)] == numbers
    assert site.select(asked) == numbers


def test_users_of_another_chain_never_count(site: Site) -> None:
    asked = about_users("user_id", rule("chain_id", "number", "is", OTHER))
    assert site.select(asked) == []
    assert site.select({"join": "any", "rules": [asked, asked]}) == []


def test_a_preview_counts_and_shows_linked_rows(site: Site) -> None:
    index = site.indices["baskets"]
    sample = site.source.sample(index, site.tree(about_users("user_id", UTRECHT)), chain=CHAIN, rows=2)
    assert sample.count == 3
    assert {one["number"] for one in sample.documents} <= {0, 2, 4}
    assert len(sample.documents) == 2
    assert "Utrecht" in json.dumps(sample.query)


def test_a_group_that_selects_too_many_documents_is_refused_with_their_number(site: Site) -> None:
    source = site.make(most=4)
    asked = about_users("user_id", UTRECHT)
    with pytest.raises(LinkLimitError, match=r"`users` selects 5 documents, over the limit of 4 "):
        site.select(asked, source=source)
    source.close()
    enough = site.make(most=5)
    assert site.select(asked, source=enough) == [0, 2, 4]
    enough.close()


def test_an_index_that_is_configured_no_more_is_an_error(site: Site) -> None:
    tree = site.tree(about_users("user_id", UTRECHT))
    del site.indices["users"]
    with (
        pytest.raises(SourceError, match="users"),
        site.source.open(site.indices["baskets"], tree, chain=1, limit=None),
    ):
        pass


def test_keys_of_another_kind_are_refused(site: Site) -> None:
    with pytest.raises(SegmentError) as caught:
        site.tree(about_users("user_id", UTRECHT, key="code"))
    assert [(fault.pointer, fault.code) for fault in caught.value.faults] == [("/rules/0/link", "not_answerable")]


def test_an_export_holds_exactly_the_linked_rows(site: Site, tmp_path: Path) -> None:
    storage = LocalStorage(LocalSettings(directory=tmp_path), public_url="http://x", secret_key=b"x" * 32)
    asked = about_users("codes", UTRECHT, key="code")
    segment = {"entity": "people", "index": "baskets", "join": "all", "chain_id": CHAIN, "rules": [asked]}
    target = {"export_index": "baskets"}
    order = order_of(target, chain=CHAIN, index=site.indices["baskets"], segment=segment, now=NOW, readers=2)
    exported = run_export(order, site.source, storage, lambda _progress: None)
    assert exported.artifact is not None
    assert exported.artifact["rows"] == 4
    written = next(path for path in tmp_path.rglob("*") if path.is_file() and b'"number"' in path.read_bytes())
    lines = [json.loads(line) for line in written.read_text().splitlines()]
    assert sorted(line["number"] for line in lines) == [0, 1, 4, 5]
