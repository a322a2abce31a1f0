"""Indices made for a test in a real Elasticsearch, asked through the source and compared with what segments mean."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any
from zoneinfo import ZoneInfo

from segments import Catalog, Tree, all_of, compile_segment, equals, evaluate, to_elasticsearch
from tasks_service.config import ElasticsearchSettings, IndexSettings
from tasks_service.sources.elasticsearch import ElasticsearchSource

NOW = datetime(2026, 3, 31, 10, tzinfo=UTC)
CHAIN = 1


@dataclass
class Cluster:
    """A real Elasticsearch, and the indices a test made in it."""

    url: str
    prefix: str
    source: ElasticsearchSource
    made: list[str] = field(default_factory=list)

    def call(self, method: str, path: str, body: Any = None) -> Any:
        lines = isinstance(body, list)
        text = (
            "".join(json.dumps(line) + "\n" for line in body) if lines else json.dumps(body) if body is not None else ""
        )
        request = urllib.request.Request(self.url + path, method=method, data=text.encode() or None)  # noqa: S310 -- loopback
        request.add_header("Content-Type", "application/x-ndjson" if lines else "application/json")
        with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
            return json.loads(answer.read())

    def make(self, name: str, documents: list[dict[str, Any]] = [], **body: Any) -> IndexSettings:  # noqa: B006 -- read
        index = self.prefix + name
        settings = {"number_of_replicas": 0, "number_of_shards": 1, **body.pop("settings", {})}
        self.call("PUT", f"/{index}", {"settings": settings, **body})
        self.made.append(index)
        self.add(name, documents)
        return self.named(name)

    def add(self, name: str, documents: list[dict[str, Any]]) -> None:
        if documents:
            lines: list[Any] = []
            for document in documents:
                lines += [{"index": {}}, {"chain_id": CHAIN, **document}]
            answer = self.call("POST", f"/{self.prefix}{name}/_bulk?refresh=true", lines)
            assert not answer["errors"], answer["items"][0]

    def named(self, name: str) -> IndexSettings:
        return IndexSettings(file_prefix="Any", source=self.prefix + name)

    def mapped(self, properties: dict[str, Any], documents: list[dict[str, Any]], **body: Any) -> IndexSettings:
        """An index of a name of its own."""
        mappings = {"properties": {"chain_id": {"type": "long"}, **properties}, **body.pop("mappings", {})}
        return self.make(uuid.uuid4().hex[:8], documents, mappings=mappings, **body)

    def select(self, index: IndexSettings, trees: list[Tree]) -> list[list[dict[str, Any]]]:
        """The documents that the compiled queries select, all asked at once."""
        own = equals(self.source.catalog(index), "chain_id", CHAIN)
        lines: list[Any] = []
        for tree in trees:
            lines += [{"index": index.source}, {"size": 100, "query": to_elasticsearch(all_of(own, tree))}]
        answers = self.call("POST", "/_msearch", lines)["responses"]
        assert all("hits" in answer for answer in answers), next(one for one in answers if "hits" not in one)
        return [[hit["_source"] for hit in answer["hits"]["hits"]] for answer in answers]

    def exact(self, index: IndexSettings, rule: dict[str, Any], documents: list[dict[str, Any]]) -> int:
        """Ask, and compare with the meaning; the number of documents found."""
        tree = compiled(rule, self.source.catalog(index))
        chained = [{"chain_id": CHAIN, **document} for document in documents]
        meant = [document for document in chained if document["chain_id"] == CHAIN and evaluate(tree, document)]
        sample = self.source.sample(index, tree, chain=CHAIN, rows=100)
        with self.source.open(index, tree, chain=CHAIN, limit=None) as snapshot:
            read = [json.loads(one) for pages in snapshot.partitions(1) for page in pages for one in page]
            assert snapshot.total == sample.count == len(meant), (rule, sample.query)
        for found in (read, sample.documents):
            assert texts(found) == texts(meant), (rule, sample.query)
        return len(meant)


def compiled(rule: dict[str, Any], catalog: Catalog) -> Tree:
    segment = {"entity": "people", "index": "any", "join": "all", "chain_id": CHAIN, "rules": [rule]}
    return compile_segment(segment, catalog, now=NOW, zone=ZoneInfo("UTC"))


def rule(name: str, kind: str, operator: str, value: Any = None, **members: Any) -> dict[str, Any]:
    given = {} if value is None else {"value": value}
    return {"field_name": name, "field_type": kind, "operator": operator, **given, **members}


def texts(documents: list[dict[str, Any]]) -> list[str]:
    return sorted(json.dumps(one, sort_keys=True) for one in documents)


@contextmanager
def cluster_at(url: str) -> Iterator[Cluster]:
    """A cluster whose catalogues are read anew each time; its indices are deleted in the end."""
    source = ElasticsearchSource(ElasticsearchSettings(urls=[url]), 0)
    cluster = Cluster(url, f"mappings-{uuid.uuid4().hex[:8]}-", source)
    try:
        yield cluster
    finally:
        source.close()
        for name in cluster.made:
            cluster.call("DELETE", f"/{name}")
