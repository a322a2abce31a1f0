"""The storages of the conformance suites, each with what a test needs around it: its links followed, its clock moved.

Used by tests/contract/test_storage.py and tests/chaos/test_uploads.py, so that both adapters are asked the same
questions. What only one of them can do is in tests/integration.
"""

from __future__ import annotations

import base64
import json
import random
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import google_crc32c
import pytest
from flask import Flask, Response

from tasks_service.api.files import blueprint
from tasks_service.config import GcsSettings, LocalSettings
from tasks_service.errors import ServiceError
from tasks_service.storage import Storage, StoredObject
from tasks_service.storage.gcs import GcsStorage
from tasks_service.storage.local import LocalStorage
from tasks_service.storage.patience import Patience
from tests.servers.gcs import Gcs

KEY = b"a key of the tests, long enough."
CHUNK = 256 * 1024
KINDS = ["local", "gcs"]
NAME = "exports/1764/12345/run-7/1.csv"

HASTE = Patience(seconds=0, first=0.001, cap=0.001)
"""One repetition, and no more."""

QUICK = Patience(seconds=20.0, first=0.01, cap=0.05)
"""Patient enough for a slow machine, with pauses nobody notices."""


@dataclass(frozen=True)
class Fetched:
    """An answer to a link."""

    status: int
    body: bytes
    headers: dict[str, str]


@dataclass(frozen=True)
class Place:
    """One storage.

    Attributes:
        storage: the adapter.
        description: how another process opens the same storage (`opened`), as JSON.
        fetch: follows a link.
        advance: moves the clock that judges links, in seconds.
        leftovers: what uploads that ended left in the temporary area.
    """

    storage: Storage
    description: str
    fetch: Callable[[str], Fetched]
    advance: Callable[[float], None]
    leftovers: Callable[[], list[str]]
    closing: ExitStack

    def again(self) -> Storage:
        """The same storage as another process would see it."""
        storage = opened(self.description)
        self.closing.callback(storage.close)
        return storage


def opened(description: str) -> Storage:
    """Open a storage by its description."""
    told: dict[str, Any] = json.loads(description)
    if told.pop("kind") == "local":
        return LocalStorage(
            LocalSettings(directory=Path(told["directory"])), public_url="http://files.test", secret_key=KEY
        )
    return GcsStorage(GcsSettings.model_validate(told), patience=QUICK)


@contextmanager
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Make an empty storage of the kind the fixture's parameter names."""
    is_local = request.param == "local"
    made = local_place(tmp_path / "exports") if is_local else gcs_place(request.getfixturevalue("gcs"))
    with made.closing:
        yield made


def gcs_place(gcs: Gcs) -> Place:
    """Make an empty bucket of the front. Whoever asks closes it by `closing`."""
    description = json.dumps(
        {
            "kind": "gcs",
            "bucket": gcs.bucket(),
            "credentials_file": str(gcs.credentials_file),
            "endpoint": gcs.endpoint,
            "chunk_bytes": CHUNK,
            "timeout_seconds": 60,
        }
    )
    storage = opened(description)
    closing = ExitStack()
    closing.callback(storage.close)
    return Place(storage, description, get, gcs.clock.advance, list, closing)


def local_place(directory: Path) -> Place:
    """Make an empty directory."""
    ahead = [timedelta()]
    storage = LocalStorage(
        LocalSettings(directory=directory),
        public_url="http://files.test/",
        secret_key=KEY,
        now=lambda: datetime.now(UTC) + ahead[0],
    )
    client = web(storage).test_client()

    def fetch(url: str) -> Fetched:
        with client.get(url.removeprefix("http://files.test")) as answer:
            return Fetched(answer.status_code, answer.get_data(), dict(answer.headers))

    def advance(seconds: float) -> None:
        ahead[0] += timedelta(seconds=seconds)

    def leftovers() -> list[str]:
        return [path.name for path in (directory / "uploads").glob("*")]

    description = json.dumps({"kind": "local", "directory": str(directory)})
    return Place(storage, description, fetch, advance, leftovers, ExitStack())


def web(storage: LocalStorage) -> Flask:
    """The route of local links alone, its errors as bare statuses."""
    app = Flask("files of the tests")
    app.register_blueprint(blueprint(storage))

    @app.errorhandler(ServiceError)
    def refuse(error: ServiceError) -> Response:
        return Response(error.detail, status=error.http_status)

    return app


def get(url: str) -> Fetched:
    """Follow a link over HTTP."""
    try:
        with urllib.request.urlopen(url, timeout=60) as answer:  # noqa: S310 -- loopback
            return Fetched(answer.status, answer.read(), dict(answer.headers))
    except urllib.error.HTTPError as error:
        with error:
            return Fetched(error.code, error.read(), dict(error.headers))


def put(
    storage: Storage, content: bytes, name: str = NAME, *, piece: int = 100_000, kind: str = "text/csv"
) -> StoredObject:
    """Write an object in pieces."""
    with storage.upload(name, content_type=kind) as upload:
        for start in range(0, len(content), piece):
            upload.write(content[start : start + piece])
        return upload.commit()


def link(site: Place, stored: StoredObject, *, file_name: str = "Product_Export-1.csv") -> str:
    """Make a link of an hour."""
    return site.storage.sign(stored, file_name=file_name, content_type="text/csv", lifetime=timedelta(hours=1)).url


def checksum(content: bytes) -> str:
    """The crc32c of bytes, as storages write it."""
    return base64.b64encode(google_crc32c.Checksum(content).digest()).decode()


def noise(size: int) -> bytes:
    """So many bytes, the same each time."""
    return random.Random(size).randbytes(size)


def gcs_settings(site: Place, **changes: object) -> GcsSettings:
    """The settings of a bucket, changed."""
    told = json.loads(site.description)
    del told["kind"]
    return GcsSettings.model_validate(told | changes)
