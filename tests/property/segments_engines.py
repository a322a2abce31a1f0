"""The two engines of the differential tests, holding the documents of the generated world."""

from __future__ import annotations

import json
import urllib.request
import uuid
from typing import Any

import duckdb
import pytest

from segments import Catalog, SegmentError, Tree, compile_segment, doubts, evaluate, to_elasticsearch, to_sql
from tests.property.segments_world import PINS, Maker, columns, mapping

DOCUMENTS = 200

MAPPED = Catalog.from_mapping(mapping(), doubts_counted=True)
TABLED = Catalog.from_columns(columns(), types=PINS)


class World:
    """A few hundred documents as JSON text, as JSON decoded and as rows."""

    def __init__(self, seed: int) -> None:
        maker = Maker(seed)
        made = [maker.document() for _ in range(DOCUMENTS)]
        self.texts = [text for text, _ in made]
        self.rows = [row for _, row in made]
        self.documents = [json.loads(text) for text in self.texts]

    def meant(self, tree: Tree) -> set[int]:
        return {number for number, document in enumerate(self.documents) if evaluate(tree, document)}

    def agrees(self, question: dict[str, Any], tree: Tree, found: set[int], query: object) -> None:
        """Fail with one document and one segment where the engine is of another mind."""
        wrong = sorted(self.meant(tree) ^ found)
        if wrong:
            verdict = "selected" if wrong[0] in found else "left out"
            pytest.fail(f"{verdict} wrongly: {self.documents[wrong[0]]!r}\nby {question!r}\nas {query!r}")


class Table:
    """A world in DuckDB."""

    def __init__(self, world: World) -> None:
        self._duckdb = duckdb.connect()
        typed = columns()
        names = ", ".join(f'"{name}" {printed}' for name, printed in typed)
        self._duckdb.execute(f"CREATE TABLE world (number BIGINT, {names})")
        marks = ", ".join(f"CAST(? AS {printed})" for _, printed in typed)
        for number, row in enumerate(world.rows):
            self._duckdb.execute(f"INSERT INTO world SELECT ?, {marks}", [number, *row])

    def select(self, tree: Tree) -> set[int]:
        sql, parameters = to_sql(tree)
        whole = f"SELECT number, {sql} FROM world"  # noqa: S608 - what is tested
        rows = self._duckdb.execute(whole, parameters).fetchall()
        assert all(verdict is not None for _, verdict in rows), sql
        return {number for number, verdict in rows if verdict}

    def close(self) -> None:
        self._duckdb.close()


class Index:
    """A world in Elasticsearch, over plain HTTP."""

    def __init__(self, url: str, world: World) -> None:
        self._url = url
        self._name = f"segments-{uuid.uuid4().hex}"
        settings = {"number_of_replicas": 0, "number_of_shards": 1}
        mappings = {"dynamic": False, "properties": mapping()}
        self._call("PUT", f"/{self._name}", [{"settings": settings, "mappings": mappings}])
        lines: list[Any] = []
        for number, text in enumerate(world.texts):
            lines += [{"index": {"_index": self._name, "_id": str(number)}}, text]
        answer = self._call("POST", "/_bulk?refresh=true", lines)
        refused = [item["index"]["error"] for item in answer["items"] if "error" in item["index"]]
        assert not refused, refused[0]

    def select(self, trees: list[Tree]) -> list[set[int]]:
        return self._ask([to_elasticsearch(tree) for tree in trees])

    def doubted(self, trees: list[Tree]) -> list[bool]:
        """Which trees the mapping cannot judge on these documents."""
        return [bool(found) for found in self._ask([doubts(tree) or {"match_none": {}} for tree in trees])]

    def close(self) -> None:
        self._call("DELETE", f"/{self._name}", [])

    def _ask(self, queries: list[dict[str, Any]]) -> list[set[int]]:
        lines: list[Any] = []
        for query in queries:
            lines += [{"index": self._name}, {"query": query, "size": DOCUMENTS, "_source": False}]
        found: list[set[int]] = []
        for query, answer in zip(queries, self._call("POST", "/_msearch", lines)["responses"], strict=True):
            assert "hits" in answer, (query, answer)
            assert answer["_shards"]["failed"] == 0, answer
            found.append({int(hit["_id"]) for hit in answer["hits"]["hits"]})
        return found

    def _call(self, method: str, path: str, lines: list[Any]) -> dict[str, Any]:
        body = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        request = urllib.request.Request(self._url + path, method=method, data=body.encode())  # noqa: S310 - loopback
        request.add_header("Content-Type", "application/x-ndjson" if len(lines) > 1 else "application/json")
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return json.loads(answer.read())


def compiled(question: dict[str, Any], catalog: Catalog) -> Tree | None:
    """The tree, or None where the segment asks fields this engine does not have."""
    try:
        return compile_segment(question["segment"], catalog, now=question["now"], zone=question["zone"])
    except SegmentError as error:
        if {fault.code for fault in error.faults} <= {"unknown_field", "out_of_order"}:
            return None
        raise
