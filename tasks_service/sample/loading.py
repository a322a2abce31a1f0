"""Sample documents into Elasticsearch: an index with its mapping, filled by ``_bulk``, refreshed at the end.

Plain HTTP of the standard library, no client: two requests are under way while the next one is being made. Not a
part of the service, which only reads.
"""

from __future__ import annotations

import http
import http.client
import json
import threading
from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import datetime
from typing import Any, Self
from urllib.parse import quote, urlsplit

from tasks_service.errors import SourceError, SourceUnavailableError
from tasks_service.indices.mappings import mapping
from tasks_service.sample.documents import raw_documents, this_hour
from tasks_service.sample.files import Progress, rows_by_index

REQUEST_BYTES = 4 * 1024 * 1024
UNDER_WAY = 2
TIMEOUT_SECONDS = 120.0


def load_elasticsearch(
    url: str,
    rows: int | Mapping[str, int],
    *,
    seed: int = 0,
    until: datetime | None = None,
    prefix: str = "",
    shards: int = 4,
    authorization: str | None = None,
    progress: Progress | None = None,
) -> dict[str, int]:
    """Load sample documents into a cluster; an index of the same name is replaced.

    Args:
        url: of a node, ``http://host:port``.
        rows: of each index, or by index.
        seed: see ``documents``.
        until: see ``documents``; one instant for all indices.
        prefix: put before the names of the indices, so that several sets may live side by side.
        shards: of each index.
        authorization: the whole header, such as ``ApiKey ...``; none by default.
        progress: called now and then; the index without its prefix.

    Returns:
        The rows of each index.

    Raises:
        KeyError: no such sample index.
        SourceError: the cluster refuses something; the message says what.
        SourceUnavailableError: it cannot be reached.
    """
    wanted = rows_by_index(rows)
    until = until or this_hour()
    with _Node(url, authorization) as node, ThreadPoolExecutor(UNDER_WAY, thread_name_prefix="sample") as pool:
        for index, count in wanted.items():
            path = f"/{quote(prefix + index, safe='')}"
            settings = {"number_of_shards": shards, "number_of_replicas": 0, "refresh_interval": "-1"}
            node.ask("DELETE", f"{path}?ignore_unavailable=true")
            node.ask("PUT", path, {"settings": settings, "mappings": mapping(index)})
            sent = 0
            under_way: deque[Future[None]] = deque()
            for size, body in _requests(raw_documents(index, count, seed=seed, until=until)):
                if len(under_way) == UNDER_WAY:
                    under_way.popleft().result()
                under_way.append(pool.submit(node.bulk, f"{path}/_bulk", body))
                sent += size
                if progress:
                    progress(index, sent)
            for future in under_way:
                future.result()
            node.ask("PUT", f"{path}/_settings", {"refresh_interval": None})
            node.ask("POST", f"{path}/_refresh")
    return wanted


def _requests(documents: Iterator[bytes]) -> Iterator[tuple[int, bytes]]:
    """Bodies of bulk requests with the number of documents in each; the document's number is its ``_id``."""
    lines: list[bytes] = []
    size = 0
    for number, raw in enumerate(documents, start=1):
        lines += (b'{"index":{"_id":"%d"}}' % number, raw)
        size += len(raw) + 30
        if size >= REQUEST_BYTES:
            yield len(lines) // 2, b"\n".join(lines) + b"\n"
            lines, size = [], 0
    if lines:
        yield len(lines) // 2, b"\n".join(lines) + b"\n"


class _Node:
    """One node of a cluster, over one connection a thread."""

    def __init__(self, url: str, authorization: str | None) -> None:
        parts = urlsplit(url)
        if parts.scheme not in {"http", "https"} or not parts.hostname:
            raise SourceError(f"an Elasticsearch address is http://host:port or https://host:port, not {url!r}")
        self._encrypted = parts.scheme == "https"
        self._address = parts.netloc.rpartition("@")[2]
        self._path = parts.path.rstrip("/")
        self._headers = {"Authorization": authorization} if authorization else {}
        self._own = threading.local()
        self._open: list[http.client.HTTPConnection] = []

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for connection in self._open:
            connection.close()

    def ask(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """Send JSON, return the decoded answer."""
        encoded = None if body is None else json.dumps(body).encode()
        return self._send(method, path, encoded, "application/json")

    def bulk(self, path: str, body: bytes) -> None:
        """Send one bulk request; every document must be taken."""
        answer = self._send("POST", path, body, "application/x-ndjson")
        if answer["errors"]:
            refused = next(item["index"] for item in answer["items"] if "error" in item["index"])
            raise SourceError(f"Elasticsearch refused document {refused['_id']}: {refused['error']}")

    def _send(self, method: str, path: str, body: bytes | None, content_type: str) -> dict[str, Any]:
        connection = self._connect()
        try:
            headers = {"Content-Type": content_type, **self._headers}
            connection.request(method, self._path + path, body, headers)
            answer = connection.getresponse()
            said = answer.read()
        except (OSError, http.client.HTTPException) as error:
            connection.close()
            raise SourceUnavailableError(f"Elasticsearch at {self._address} does not answer: {error}") from error
        if answer.status != http.HTTPStatus.OK:
            raise SourceError(f"Elasticsearch answered {answer.status} to {method} {path}: {said[:500].decode()}")
        return json.loads(said)

    def _connect(self) -> http.client.HTTPConnection:
        connection: http.client.HTTPConnection | None = getattr(self._own, "connection", None)
        if connection is None:
            kind = http.client.HTTPSConnection if self._encrypted else http.client.HTTPConnection
            connection = self._own.connection = kind(self._address, timeout=TIMEOUT_SECONDS)
            self._open.append(connection)
        return connection
