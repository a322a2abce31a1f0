"""What only Elasticsearch has to say of linked groups: one point-in-time, aliases, keys it did not index, many keys."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from segments import compile_segment
from tasks_service.config import ElasticsearchSettings, IndexSettings
from tasks_service.errors import LinkLimitError, SnapshotLostError, SourceError
from tasks_service.sources.elasticsearch import ElasticsearchSource
from tasks_service.sources.elasticsearch_calls import Call, Calls, Pause, T
from tasks_service.sources.links import Links
from tests.contract.test_sources_linked import about_users, call, rule

NOW = datetime(2026, 5, 26, 12, tzinfo=UTC)
CHAIN = 1
EVERYBODY = rule("chain_id", "number", "is_set")
MANY = 70_000  # more than a page of keys, and more than one clause takes
USERS: dict[str, Any] = {
    "id": {"type": "long"},
    "chain_id": {"type": "long"},
    "code": {"type": "keyword", "ignore_above": 8},
    "city": {"type": "keyword"},
}
BASKETS: dict[str, Any] = {
    "number": {"type": "long"},
    "chain_id": {"type": "long"},
    "user_id": {"type": "long"},
    "code": {"type": "keyword"},
}


class Meddling(Calls):
    """Does something right after a point-in-time was opened."""

    def __init__(self, settings: ElasticsearchSettings, meanwhile: Callable[[], object]) -> None:
        super().__init__(settings)
        self._meanwhile = meanwhile

    def send(self, call: Call, read: Callable[[int, bytes], T], pause: Pause) -> T:
        answer = super().send(call, read, pause)
        if call.what == "open":
            self._meanwhile()
        return answer


class Shop:
    """Two indices of a test's own, by random names."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.names = {name: f"links-{name}-{uuid.uuid4().hex[:8]}" for name in ("baskets", "users", "spare")}
        for name, properties in (("baskets", BASKETS), ("users", USERS), ("spare", USERS)):
            settings = {"number_of_shards": 1, "number_of_replicas": 0}
            body = {"settings": settings, "mappings": {"properties": properties}}
            call(url, "PUT", f"/{self.names[name]}", body)

    def add(self, name: str, *documents: dict[str, Any]) -> None:
        for first in range(0, len(documents), 20_000):
            some = documents[first : first + 20_000]
            lines = "".join('{"index":{}}\n' + json.dumps({"chain_id": CHAIN, **one}) + "\n" for one in some)
            assert not call(self.url, "POST", f"/{self.names[name]}/_bulk?refresh=true", lines)["errors"]

    def alias(self, name: str, *, of: str) -> str:
        alias = f"{self.names[name]}-alias"
        actions: list[Any] = [{"remove": {"index": "links-*", "alias": alias, "must_exist": False}}]
        actions.append({"add": {"index": self.names[of], "alias": alias}})
        call(self.url, "POST", "/_aliases", {"actions": actions})
        return alias

    def select(
        self,
        group: dict[str, Any],
        *,
        meanwhile: Callable[[], object] = lambda: None,
        most: int = 100_000,
        **sources: str,
    ) -> list[int]:
        settings = ElasticsearchSettings(urls=[self.url])
        indices = {
            name: IndexSettings(file_prefix="X", source=sources.get(name, self.names[name]))
            for name in ("baskets", "users")
        }
        calls = Meddling(settings, meanwhile)
        source = ElasticsearchSource(settings, 30, links=Links(indices, most), calls=calls)
        segment = {"entity": "people", "index": "baskets", "join": "all", "chain_id": CHAIN, "rules": [group]}
        try:
            catalog = source.catalog(indices["baskets"])
            tree = compile_segment(segment, catalog, source.catalogs(), now=NOW, zone=ZoneInfo("UTC"))
            with source.open(indices["baskets"], tree, chain=CHAIN, limit=None) as snapshot:
                pages = [page for pages in snapshot.partitions(2) for page in pages]
                assert snapshot.total == sum(map(len, pages))
                assert len(json.dumps(snapshot.query)) < 2000  # the record shows where keys come from, not the keys
        finally:
            source.close()
        return sorted(json.loads(one)["number"] for page in pages for one in page)


@pytest.fixture
def shop(elasticsearch_url: str) -> Iterator[Shop]:
    made = Shop(elasticsearch_url)
    yield made
    for name in made.names.values():
        call(elasticsearch_url, "DELETE", f"/{name}")


def test_keys_and_rows_are_read_at_the_same_moment(shop: Shop) -> None:
    shop.add("users", {"id": 1})
    shop.add("baskets", {"number": 1, "user_id": 1}, {"number": 2, "user_id": 2})

    def meanwhile() -> None:
        shop.add("users", {"id": 2})
        shop.add("baskets", {"number": 3, "user_id": 1})

    assert shop.select(about_users("user_id", EVERYBODY), meanwhile=meanwhile) == [1]
    assert shop.select(about_users("user_id", EVERYBODY)) == [1, 2, 3]


def test_an_alias_that_moves_while_the_snapshot_is_opened_starts_the_export_over(shop: Shop) -> None:
    shop.add("users", {"id": 1})
    shop.add("spare", {"id": 2})
    shop.add("baskets", {"number": 1, "user_id": 1}, {"number": 2, "user_id": 2})
    alias = shop.alias("users", of="users")
    group = about_users("user_id", EVERYBODY)
    with pytest.raises(SnapshotLostError, match="alias"):
        shop.select(group, users=alias, meanwhile=lambda: shop.alias("users", of="spare"))
    assert shop.select(group, users=alias) == [2]


def test_two_names_of_the_same_documents_cannot_be_linked(shop: Shop) -> None:
    shop.add("baskets", {"number": 1, "user_id": 1})
    alias = shop.alias("users", of="baskets")
    with pytest.raises(SourceError, match="same documents"):
        shop.select(about_users("user_id", EVERYBODY, key="number"), users=alias)


def test_an_index_may_link_to_itself(shop: Shop) -> None:
    shop.add("baskets", {"number": 1, "user_id": 2}, {"number": 2, "user_id": 5}, {"number": 3, "user_id": 2})
    same = shop.names["baskets"]
    group = about_users("user_id", rule("user_id", "number", "is", 5), key="number")
    assert shop.select(group, users=same) == [1, 3]


def test_a_key_that_was_not_indexed_is_refused_where_it_would_be_missed(shop: Shop) -> None:
    shop.add(
        "users", {"id": 1, "code": "short", "city": "Delft"}, {"id": 2, "code": "much too long", "city": "Utrecht"}
    )
    shop.add("baskets", {"number": 1, "code": "short"}, {"number": 2, "code": "much too long"})
    delft = about_users("code", rule("city", "keyword", "is", "Delft"), key="code")
    assert shop.select(delft) == [1]
    with pytest.raises(SourceError, match="1 documents have a code that Elasticsearch did not index"):
        shop.select(about_users("code", EVERYBODY, key="code"))


def test_values_that_were_not_indexed_are_refused_in_a_linked_group_too(shop: Shop) -> None:
    shop.add("users", {"id": 1, "code": "short"}, {"id": 2, "code": "much too long"})
    shop.add("baskets", {"number": 1, "user_id": 1})
    with pytest.raises(SourceError, match="did not index"):
        shop.select(about_users("user_id", rule("code", "keyword", "contains", "o")))


def test_more_keys_than_a_clause_takes_select_every_row_once(shop: Shop) -> None:
    shop.add("users", *({"id": number} for number in range(MANY)), {"id": MANY, "chain_id": 2})
    shop.add(
        "baskets",
        {"number": 1, "user_id": [0, MANY - 1]},
        {"number": 2, "user_id": MANY - 1},
        {"number": 3, "user_id": 65_536},
        {"number": 4, "user_id": MANY},
        {"number": 5},
    )
    assert shop.select(about_users("user_id", EVERYBODY)) == [1, 2, 3]
    assert shop.select(about_users("user_id", EVERYBODY, negate=True)) == [4, 5]
    with pytest.raises(LinkLimitError, match="selects 70,000 documents, over the limit of 69,999"):
        shop.select(about_users("user_id", EVERYBODY), most=MANY - 1)
