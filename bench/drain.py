"""The limit an Elasticsearch sets: the pages an export reads, read by plain HTTP and thrown away undecoded.

Four connections take slices of one point-in-time from a queue, in pages of the size the service asks for; of each page
only the tail is looked at, where the next one starts. Called by bench/one.py.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import queue
import threading
from typing import Any
from urllib.parse import urlsplit

from tasks_service.config import ElasticsearchSettings

SEARCH = "/_search?allow_partial_search_results=false"
SLICES = 16
FIRST, MOST = 500, 10_000


class Node:
    """One connection."""

    def __init__(self, url: str) -> None:
        place = urlsplit(url)
        self._connection = http.client.HTTPConnection(str(place.hostname), place.port, timeout=120)

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> bytes:
        self._connection.request(method, path, json.dumps(body or {}), {"content-type": "application/json"})
        answer = self._connection.getresponse()
        read = answer.read()
        if answer.status != http.client.OK:
            raise SystemExit(f"{method} {path}: {answer.status} {read[:300]!r}")
        return read

    def close(self) -> None:
        self._connection.close()


def drain(url: str, index: str, query: dict[str, Any], *, readers: int) -> int:
    """Read every page of every slice; return how many documents there are."""
    with contextlib.closing(Node(url)) as node:
        pit = json.loads(node.ask("POST", f"/{index}/_pit?keep_alive=5m"))["id"]
        question = {"query": query, "pit": {"id": pit, "keep_alive": "5m"}}
        counted = json.loads(node.ask("POST", SEARCH, {**question, "size": 0, "track_total_hits": True}))
        slices: queue.SimpleQueue[int] = queue.SimpleQueue()
        for number in range(SLICES):
            slices.put(number)
        threads = [threading.Thread(target=_read, args=(url, question, slices)) for _ in range(readers)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        node.ask("DELETE", "/_pit", {"id": pit})
    return int(counted["hits"]["total"]["value"])


def _read(url: str, question: dict[str, Any], slices: queue.SimpleQueue[int]) -> None:
    wanted = ElasticsearchSettings.model_validate({}).page_bytes
    size = FIRST
    with contextlib.closing(Node(url)) as node, contextlib.suppress(queue.Empty):
        while True:
            part = {"id": slices.get_nowait(), "max": SLICES}
            asked = {**question, "sort": ["_doc"], "track_total_hits": False, "slice": part}
            while True:
                page = node.ask("POST", SEARCH, {**asked, "size": size})
                end = page.rfind(b'"sort":[')
                if end < 0:
                    break
                asked["search_after"] = json.loads(page[end + len(b'"sort":') : page.index(b"]", end) + 1])
                size = min(MOST, size * wanted // len(page) + 1)
