"""No partial file is ever published: every way an export or its upload can stop leaves nothing, or the whole.

The upload is killed before and after each of its calls; the export above it is stopped in its source, its
encoder, its report and its verification. Requests that fail or whose answer is lost are tried one by one in
tests/integration/test_gcs_storage.py and, call by call, in tests/unit/test_storage_local.py.
"""

from __future__ import annotations

import base64
import dataclasses
import gc
import hashlib
import itertools
import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, closing, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from segments import Catalog, SortKey, Tree
from tasks_service.artifacts.sealing import Exported
from tasks_service.config import IndexSettings
from tasks_service.errors import (
    Cancelled,
    CorruptUploadError,
    IncompleteError,
    Interrupted,
    LeaseLost,
    SnapshotLostError,
    SourceError,
    SourceUnavailableError,
)
from tasks_service.export import run_export
from tasks_service.formats.json_encoder import JsonLinesEncoder
from tasks_service.sources import Documents, Snapshot
from tasks_service.storage import StoredObject, Upload
from tests.chaos.uploader import content
from tests.orders import order_of
from tests.storages import CHUNK, KINDS, Place, place

ROOT = Path(__file__).parents[2]


@pytest.fixture(params=KINDS, name="site")
def _site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with place(request, tmp_path) as site:
        yield site


# -- killed ----------------------------------------------------------------------------------------------------------


class Uploaders:
    """The process that has uploads killed."""

    def __init__(self, site: Place) -> None:
        command = [sys.executable, "-m", "tests.chaos.uploader", site.description]
        self._process = subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def upload(self, name: str, size: int, *, die_at: int | None) -> dict[str, Any]:
        assert self._process.stdin
        assert self._process.stdout
        order = {"name": name, "size": size, "piece": 100_000, "die_at": die_at}
        self._process.stdin.write(json.dumps(order) + "\n")
        self._process.stdin.flush()
        return json.loads(self._process.stdout.readline())

    def close(self) -> None:
        assert self._process.stdin
        assert self._process.stdout
        self._process.stdin.close()
        self._process.wait(60)
        self._process.stdout.close()


SIZE = 2 * CHUNK + 17


def test_an_upload_killed_at_every_step_leaves_nothing_or_the_whole(site: Place) -> None:
    """Also the steps of the commit: there the storage may have the whole, and nobody who knows."""
    crc32c = base64.b64encode(google_crc32c.Checksum(content(SIZE)).digest()).decode()
    ends: list[str] = []
    with closing(Uploaders(site)) as uploaders:
        for step in itertools.count():
            name = f"exports/{step}.csv"
            ended = uploaders.upload(name, SIZE, die_at=step)
            if ended["status"] == 0:  # it came to its end before that step
                break
            assert ended == {"status": -9, "steps": None}
            found = site.storage.stat(name)
            ends.append("nothing" if found is None else "whole")
            assert found is None or (found.size, found.crc32c) == (SIZE, crc32c)
    assert (ends[0], ends[-1]) == ("nothing", "whole")
    assert ends.count("nothing") > 20
    assert all((stored.size, stored.crc32c) == (SIZE, crc32c) for stored in site.storage.list(""))
    site.again().check()  # the next process that uses the storage clears away what the dead left
    assert site.leftovers() == []


def test_the_next_attempt_after_a_kill_writes_the_whole(site: Place) -> None:
    with closing(Uploaders(site)) as uploaders:
        steps = uploaders.upload("whole.csv", SIZE, die_at=None)["steps"]
        assert uploaders.upload("attempt-1.csv", SIZE, die_at=steps // 2)["status"] == -9
        assert uploaders.upload("attempt-2.csv", SIZE, die_at=None)["status"] == 0
    assert site.storage.stat("attempt-1.csv") is None
    found = site.storage.stat("attempt-2.csv")
    assert found is not None
    assert found.size == SIZE


# -- the export above it ---------------------------------------------------------------------------------------------

PAGES = 6
ROWS = 50
NAME = order_of({}).object_name
MANIFEST = f"{NAME}.manifest.json"


def document(number: int) -> bytes:
    return json.dumps(
        {"id": number, "chain_id": 1764, "name": hashlib.sha256(str(number).encode()).hexdigest() * 30}
    ).encode()


@dataclass
class Pages:
    """A source of `PAGES` pages that does `at(page)` before it gives each, and says it holds `total` documents."""

    total: int = PAGES * ROWS
    at: Callable[[int], object] = lambda _: None
    taken_at: datetime = dataclasses.field(default_factory=lambda: datetime.now(UTC))
    query: dict[str, Any] = dataclasses.field(default_factory=dict)

    def catalog(self, _index: IndexSettings) -> Catalog:
        return Catalog(())

    def catalogs(self) -> dict[str, Catalog]:
        return {}

    @contextmanager
    def open(
        self, _index: IndexSettings, _tree: Tree, *, chain: int, limit: int | None, sort: Sequence[SortKey] = ()
    ) -> Iterator[Snapshot]:
        assert (chain, limit) == (1764, None)
        yield View(self)


class View:
    def __init__(self, pages: Pages) -> None:
        self._pages = pages
        self.total, self.taken_at, self.query = pages.total, pages.taken_at, pages.query
        self.catalog = Catalog(())

    def partitions(self, _wanted: int) -> Sequence[Iterator[Documents]]:
        return [self._read()]

    def _read(self) -> Iterator[Documents]:
        for page in range(PAGES):
            self._pages.at(page)
            yield [document(number) for number in range(page * ROWS, (page + 1) * ROWS)]
        self._pages.at(PAGES)


EXPECTED = b"".join(document(number) + b"\n" for number in range(PAGES * ROWS))


def export(site: Place, source: Pages, report: Callable[[Any], None] = lambda _: None, **changes: Any) -> Exported:
    return run_export(order_of(changes), source, site.storage, report)  # type: ignore[arg-type]


def assert_nothing_then_whole(site: Place) -> None:
    """The storage is as if nothing had been tried, and the next attempt under the same name succeeds."""
    assert site.storage.stat(NAME) is None
    assert list(site.storage.list("")) == []
    assert site.leftovers() == []
    exported = export(site, Pages())
    assert exported.artifact is not None
    assert exported.artifact["sha256"] == hashlib.sha256(EXPECTED).hexdigest()
    assert (exported.artifact["rows"], exported.artifact["bytes"]) == (PAGES * ROWS, len(EXPECTED))
    found = site.storage.stat(NAME)
    assert exported.objects == (found, site.storage.stat(MANIFEST))
    assert clear(site) == 2


def clear(site: Place) -> int:
    """Delete everything; return how many objects there were."""
    return sum(site.storage.delete(one.name, generation=one.generation) for one in list(site.storage.list("")))


def failing(page: int, error: BaseException) -> Callable[[int], None]:
    def at(reached: int) -> None:
        if reached == page:
            raise error

    return at


@pytest.mark.parametrize("compression", ["none", "gzip"])
@pytest.mark.parametrize("page", range(PAGES + 1))
def test_a_source_that_fails_in_mid_read(site: Place, page: int, compression: str) -> None:
    for error in (
        SourceUnavailableError(),
        SnapshotLostError(),
        SourceError(),
        RuntimeError(),
        MemoryError(),
        SystemExit(),
    ):
        with pytest.raises(type(error)):
            export(site, Pages(at=failing(page, error)), compression=compression)
    assert_nothing_then_whole(site)


@pytest.mark.parametrize("total", [1, PAGES * ROWS - 1, PAGES * ROWS + 1])
def test_a_source_that_gives_fewer_or_more_rows_than_it_said(site: Place, total: int) -> None:
    with pytest.raises(IncompleteError):
        export(site, Pages(total=total))
    assert_nothing_then_whole(site)


@pytest.mark.parametrize("stop", [Cancelled, LeaseLost, Interrupted, KeyboardInterrupt, SystemExit, MemoryError])
def test_an_export_stopped_at_every_report(site: Place, stop: type[BaseException]) -> None:
    def stopped_at(number: int) -> bool:
        calls: list[object] = []

        def report(progress: object) -> None:
            calls.append(progress)
            if len(calls) == number:
                raise stop

        try:
            export(site, Pages(), report)
        except stop:
            return True
        assert clear(site) == 2
        return False

    number = 1
    while stopped_at(number):
        number += 1
        assert list(site.storage.list("")) == []
    assert number > PAGES
    assert_nothing_then_whole(site)


@pytest.mark.parametrize("page", range(PAGES))
def test_an_encoder_that_fails(site: Place, page: int, monkeypatch: pytest.MonkeyPatch) -> None:
    encode = JsonLinesEncoder.encode
    seen: list[int] = []

    def fail(self: JsonLinesEncoder, documents: Documents) -> Any:
        seen.append(len(documents))
        if len(seen) == page + 1:
            raise ValueError("no such value")
        return encode(self, documents)

    with monkeypatch.context() as patch:
        patch.setattr(JsonLinesEncoder, "encode", fail)
        with pytest.raises(ValueError, match="no such value"):
            export(site, Pages())
    assert_nothing_then_whole(site)


@pytest.mark.parametrize(("member", "value"), [("crc32c", "AAAAAA=="), ("size", 7)])
def test_a_storage_that_reports_another_file(
    site: Place, member: str, value: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    upload = site.storage.upload
    reported: list[StoredObject] = []

    class Misreported:
        def __init__(self, real: Upload) -> None:
            self.write = real.write
            self._commit = real.commit

        def commit(self) -> StoredObject:
            reported.append(dataclasses.replace(self._commit(), **{member: value}))
            assert site.storage.stat(NAME) is not None
            return reported[0]

    @contextmanager
    def misreporting(name: str, *, content_type: str) -> Iterator[Misreported]:
        with upload(name, content_type=content_type) as real:
            yield Misreported(real)

    with monkeypatch.context() as patch:
        patch.setattr(site.storage, "upload", misreporting)
        with pytest.raises(CorruptUploadError):
            export(site, Pages())
    assert len(reported) == 1
    assert_nothing_then_whole(site)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the sockets that are collected too
def test_writers_dropped_at_every_chunk(site: Place) -> None:
    """Nobody ends them: what the collector finds must not be finished by it."""

    def drop(chunks: int) -> None:
        opened: AbstractContextManager[Upload] = site.storage.upload(NAME, content_type="text/csv")
        upload = opened.__enter__()
        for _ in range(chunks):
            upload.write(b"x" * (CHUNK + 1))
        knot: list[object] = [opened, upload]
        knot.append(knot)

    for chunks in range(4):
        drop(chunks)
        gc.collect()
        assert site.storage.stat(NAME) is None
    assert_nothing_then_whole(site)
