"""The engines of the differential tests, holding the documents of the generated world and those linked to them."""

from __future__ import annotations

import json
import urllib.request
import uuid
from collections.abc import Iterator
from typing import Any

import duckdb
import pytest

from segments import (
    Catalog,
    Field,
    Linked,
    Scalar,
    SegmentError,
    Tree,
    all_of,
    compile_segment,
    doubts,
    equals,
    evaluate,
    resolved,
    to_elasticsearch,
    to_sql,
    with_keys,
    with_parts,
)
from tests.property.segments_world import OTHERS, PINS, Maker, columns, mapping

DOCUMENTS = 200
LINKED_DOCUMENTS = 60
CHAIN = 1
Query = dict[str, Any]

MAPPED = Catalog.from_mapping(mapping(), doubts_counted=True)
TABLED = Catalog.from_columns(columns(), types=PINS)


class Documents:
    """Some documents as JSON text, as JSON decoded and as rows."""

    def __init__(self, maker: Maker, count: int) -> None:
        made = [maker.document() for _ in range(count)]
        self.texts = [text for text, _ in made]
        self.rows = [row for _, row in made]
        self.decoded = [json.loads(text) for text in self.texts]


class World:
    """A few hundred documents, and those of two chains that groups may link to."""

    def __init__(self, seed: int) -> None:
        maker = Maker(seed)
        self.own = Documents(maker, DOCUMENTS)
        self.others = Documents(maker, LINKED_DOCUMENTS)
        self._linked = {OTHERS: [one for one in self.others.decoded if CHAIN in _scalars(one.get("chain"))]}

    def meant(self, tree: Tree) -> set[int]:
        plain = resolved(tree, self._linked)
        return {number for number, document in enumerate(self.own.decoded) if evaluate(plain, document)}

    def agrees(self, question: dict[str, Any], meant: set[int], found: set[int], query: object) -> None:
        """Fail with one document and one segment where the engine is of another mind."""
        wrong = sorted(meant ^ found)
        if wrong:
            verdict = "selected" if wrong[0] in found else "left out"
            pytest.fail(f"{verdict} wrongly: {self.own.decoded[wrong[0]]!r}\nby {question!r}\nas {query!r}")


def _scalars(value: Any) -> Iterator[Any]:
    if isinstance(value, list):
        for one in value:
            yield from _scalars(one)
    else:
        yield value


def of_one_chain(tree: Tree, catalog: Catalog) -> Tree:
    """The tree with linked documents of other chains left out, as the sources leave them out."""
    return with_parts(tree, lambda group: all_of(equals(catalog, "chain", CHAIN), group.part))


class Table:
    """A world in DuckDB."""

    def __init__(self, world: World) -> None:
        self._duckdb = duckdb.connect()
        typed = columns()
        names = ", ".join(f'"{name}" {printed}' for name, printed in typed)
        marks = ", ".join(f"CAST(? AS {printed})" for _, printed in typed)
        for table, documents in (("world", world.own), (OTHERS, world.others)):
            self._duckdb.execute(f"CREATE TABLE {table} (number BIGINT, {names})")
            for number, row in enumerate(documents.rows):
                self._duckdb.execute(f"INSERT INTO {table} SELECT ?, {marks}", [number, *row])

    def select(self, tree: Tree) -> set[int]:
        sql, parameters = to_sql(of_one_chain(tree, TABLED))
        whole = f"SELECT number, {sql} FROM world"  # noqa: S608 - what is tested
        rows = self._duckdb.execute(whole, parameters).fetchall()
        assert all(verdict is not None for _, verdict in rows), sql
        return {number for number, verdict in rows if verdict}

    def sort(self, order: str) -> list[set[int]]:
        """The documents in order, those together that are equal in it."""
        whole = f"SELECT list(number), rank FROM (SELECT number, rank() OVER (ORDER BY {order}) AS rank FROM world) "  # noqa: S608
        rows = self._duckdb.execute(whole + "GROUP BY rank ORDER BY rank").fetchall()
        return [set(numbers) for numbers, _ in rows]

    def close(self) -> None:
        self._duckdb.close()


class Index:
    """A world in Elasticsearch, over plain HTTP."""

    def __init__(self, url: str, world: World) -> None:
        self._url = url
        name = f"segments-{uuid.uuid4().hex}"
        self._name, self._others = f"{name}-world", f"{name}-others"
        settings = {"number_of_replicas": 0, "number_of_shards": 1}
        mappings = {"dynamic": False, "properties": mapping()}
        for index, documents in ((self._name, world.own), (self._others, world.others)):
            self._call("PUT", f"/{index}", [{"settings": settings, "mappings": mappings}])
            lines: list[Any] = []
            for number, text in enumerate(documents.texts):
                lines += [{"index": {"_index": index, "_id": str(number)}}, text]
            answer = self._call("POST", "/_bulk?refresh=true", lines)
            refused = [item["index"]["error"] for item in answer["items"] if "error" in item["index"]]
            assert not refused, refused[0]

    def select(self, trees: list[Tree]) -> list[set[int] | None]:
        """What each tree selects; None where the mapping cannot judge it on these documents."""
        known: dict[Linked, tuple[Scalar, ...] | None] = {}
        wanted: dict[Linked, None] = {}

        def keys(group: Linked) -> tuple[Scalar, ...]:
            if group not in known:
                wanted[group] = None
            return known.get(group) or ()

        whole = [of_one_chain(tree, MAPPED) for tree in trees]
        plain = [with_keys(tree, keys) for tree in whole]
        while wanted:  # inner groups first, those of all trees together
            known |= self._keys(list(wanted))
            wanted.clear()
            plain = [with_keys(tree, keys) for tree in whole]
        unjudged = [self._unjudged(tree, known) for tree in whole]
        doubted = self._ask(self._name, [doubts(tree) or {"match_none": {}} for tree in plain])
        found = self._ask(self._name, [to_elasticsearch(tree) for tree in plain])
        return [
            None if doubt or vague else {int(hit["_id"]) for hit in hits}
            for hits, doubt, vague in zip(found, doubted, unjudged, strict=True)
        ]

    def _unjudged(self, tree: Tree, known: dict[Linked, tuple[Scalar, ...] | None]) -> bool:
        vague: list[bool] = []

        def keys(group: Linked) -> tuple[Scalar, ...]:
            vague.append(known[group] is None)
            return known[group] or ()

        with_keys(tree, keys)
        return any(vague)

    def _keys(self, groups: list[Linked]) -> dict[Linked, tuple[Scalar, ...] | None]:
        """What each group selects, as the source asks for it; None where the mapping cannot judge it."""
        fields = [group.key for group in groups if isinstance(group.key, Field)]
        names = [field.exact or field.query_name for field in fields]
        queries = [to_elasticsearch(group.part) for group in groups]
        ignored: list[Query] = [
            {"bool": {"filter": [query, {"term": {"_ignored": {"value": name}}}]}}
            for query, name in zip(queries, names, strict=True)
        ]
        doubted = [doubts(group.part) or {"match_none": {}} for group in groups]
        vague = self._ask(self._others, [*ignored, *doubted])
        found = self._ask(self._others, queries, names)
        return {
            group: None
            if vague[at] or vague[len(groups) + at]
            else tuple(dict.fromkeys(key for hit in found[at] for key in hit.get("fields", {}).get(names[at], [])))
            for at, group in enumerate(groups)
        }

    def sort(self, clauses: list[dict[str, Any]]) -> list[set[int]]:
        """The documents in order, those together that are equal in it."""
        body = {"size": DOCUMENTS, "sort": clauses, "_source": False}
        groups: list[tuple[str, set[int]]] = []
        for hit in self._call("POST", f"/{self._name}/_search", [body])["hits"]["hits"]:
            values = json.dumps(hit["sort"])
            if not groups or groups[-1][0] != values:
                groups.append((values, set()))
            groups[-1][1].add(int(hit["_id"]))
        return [group for _, group in groups]

    def close(self) -> None:
        for index in (self._name, self._others):
            self._call("DELETE", f"/{index}", [])

    def _ask(self, index: str, queries: list[Query], fields: list[str] | None = None) -> list[list[Query]]:
        lines: list[Any] = []
        for at, query in enumerate(queries):
            body = {"query": query, "size": DOCUMENTS, "_source": False}
            lines += [{"index": index}, body | ({"docvalue_fields": [fields[at]]} if fields else {})]
        found: list[list[Query]] = []
        for query, answer in zip(queries, self._call("POST", "/_msearch", lines)["responses"], strict=True):
            assert "hits" in answer, (query, answer)
            assert answer["_shards"]["failed"] == 0, answer
            found.append(answer["hits"]["hits"])
        return found

    def _call(self, method: str, path: str, lines: list[Any]) -> dict[str, Any]:
        body = "".join((line if isinstance(line, str) else json.dumps(line)) + "\n" for line in lines)
        request = urllib.request.Request(self._url + path, method=method, data=body.encode())  # noqa: S310 - loopback
        request.add_header("Content-Type", "application/x-ndjson" if len(lines) > 1 else "application/json")
        with urllib.request.urlopen(request) as answer:  # noqa: S310
            return json.loads(answer.read())


def compiled(question: dict[str, Any], catalog: Catalog) -> Tree | None:
    """The tree, or None where the segment asks fields this engine does not have."""
    others = {OTHERS: catalog}
    try:
        return compile_segment(question["segment"], catalog, others, now=question["now"], zone=question["zone"])
    except SegmentError as error:
        if {fault.code for fault in error.faults} <= {"unknown_field", "out_of_order"}:
            return None
        raise
