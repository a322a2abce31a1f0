"""The sample data in a real cluster: every document taken, byte for byte, under the mapping it needs."""

from __future__ import annotations

import json
import uuid
from datetime import UTC, datetime
from typing import Any

import pytest
import urllib3

from tasks_service.errors import SourceError, SourceUnavailableError
from tasks_service.sample import INDICES, documents, load_elasticsearch, raw_documents
from tests.servers.processes import free_port

UNTIL = datetime(2026, 11, 1, tzinfo=UTC)
ROWS = 200


@pytest.fixture(scope="module")
def prefix() -> str:
    return f"sample-{uuid.uuid4().hex[:8]}-"


@pytest.fixture(scope="module")
def loaded(elasticsearch_url: str, prefix: str) -> str:
    assert load_elasticsearch(elasticsearch_url, ROWS, until=UNTIL, prefix=prefix, shards=2)["users"] == ROWS
    return elasticsearch_url


def _search(url: str, index: str, body: dict[str, Any]) -> bytes:
    with urllib3.PoolManager() as pool:
        answer = pool.request("POST", f"{url}/{index}/_search", json=body)
        assert answer.status == 200, answer.data
        return answer.data


@pytest.mark.parametrize("index", INDICES)
def test_every_document_is_there_byte_for_byte(loaded: str, prefix: str, index: str) -> None:
    body = {"size": ROWS + 1, "sort": ["id"], "track_total_hits": True}
    answer = _search(loaded, prefix + index, body)
    found = json.loads(answer)["hits"]
    assert found["total"]["value"] == ROWS
    at = 0
    for raw in raw_documents(index, ROWS, until=UNTIL):
        at = answer.index(b'"_source":' + raw, at) + 1


@pytest.mark.parametrize(
    ("index", "query", "keep"),
    [
        ("products", {"term": {"category": "Electronics"}}, lambda d: d.get("category") == "Electronics"),
        ("products", {"term": {"description.keyword": ""}}, lambda d: d.get("description") == ""),
        (
            "transactions",
            {
                "nested": {
                    "path": "line_items",
                    "query": {
                        "bool": {
                            "filter": [
                                {"term": {"line_items.category": "Toys"}},
                                {"range": {"line_items.sale_price": {"lt": 100}}},
                            ]
                        }
                    },
                }
            },
            lambda d: any(item["category"] == "Toys" and item["sale_price"] < 100 for item in d["line_items"]),
        ),
        ("users", {"term": {"auxiliary_identifier": 2**53 + 7}}, lambda d: d["auxiliary_identifier"] == 2**53 + 7),
        ("vouchers", {"exists": {"field": "date_time_redeemed"}}, lambda d: d["date_time_redeemed"] is not None),
        ("wallet-ledger", {"range": {"amount": {"lt": 0}}}, lambda d: d["amount"] < 0),
    ],
)
def test_the_mapping_answers_exactly(loaded: str, prefix: str, index: str, query: Any, keep: Any) -> None:
    answer = json.loads(_search(loaded, prefix + index, {"size": ROWS, "query": query, "_source": ["id"]}))
    found = {hit["_source"]["id"] for hit in answer["hits"]["hits"]}
    assert found == {d["id"] for d in documents(index, ROWS, until=UNTIL) if keep(d)} != set()


def test_loading_again_replaces(elasticsearch_url: str) -> None:
    prefix = f"again-{uuid.uuid4().hex[:8]}-"
    for rows in (30, 10):
        load_elasticsearch(elasticsearch_url, {"vouchers": rows}, until=UNTIL, prefix=prefix)
    found = json.loads(_search(elasticsearch_url, f"{prefix}vouchers", {"track_total_hits": True}))
    assert found["hits"]["total"]["value"] == 10


def test_what_the_cluster_refuses_is_said(elasticsearch_url: str) -> None:
    with pytest.raises(SourceError, match="invalid_index_name"):
        load_elasticsearch(elasticsearch_url, {"vouchers": 1}, prefix="UPPER-")


def test_a_cluster_that_is_not_there_is_said() -> None:
    with pytest.raises(SourceUnavailableError, match="does not answer"):
        load_elasticsearch(f"http://127.0.0.1:{free_port()}", {"vouchers": 1})


def test_an_address_without_a_scheme_is_refused() -> None:
    with pytest.raises(SourceError, match="http://host:port"):
        load_elasticsearch("localhost:9200", {"vouchers": 1})
