"""Divided exports on the real Elasticsearch: the same rows as one reader's file, whoever dies in between."""

from __future__ import annotations

import csv
import dataclasses
import gzip
import io
import json
import shutil
import threading
import urllib.request
import uuid
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
import zstandard
from sqlmodel import Session

from tasks_service import sweeper
from tasks_service.app import Services
from tasks_service.config import LocalSettings, Settings
from tasks_service.database import clients, parts, runs, tasks
from tasks_service.database.clients import Principal
from tasks_service.database.engine import Database
from tasks_service.database.models import Run
from tasks_service.errors import LeaseLost, StorageUnavailableError
from tasks_service.executors.table import TableExecutor
from tasks_service.runner import Worker
from tasks_service.sources.elasticsearch import ElasticsearchSource
from tasks_service.sources.elasticsearch_calls import Calls
from tasks_service.storage import StoredObject, Upload
from tasks_service.storage.local import LocalStorage
from tests.zone_files import compiled, host, write

CHAIN = 1764
ROWS = 3000
OURS = [row for row in range(ROWS) if row % 3]
KEY = b"x" * 32
TOWN = "Test/Town"


class KilledError(BaseException):
    """The worker is gone at this very point, as far as the database can tell."""


@dataclass
class Watched:
    """A storage that calls a test before and after what it does: `before(what, name)`, `after(what, name)`."""

    real: LocalStorage
    before: Callable[[str, str], None] = lambda _what, _name: None
    after: Callable[[str, str], None] = lambda _what, _name: None
    uploads: list[str] = field(default_factory=list)

    def upload(self, name: str, *, content_type: str) -> AbstractContextManager[Upload]:
        self.before("upload", name)
        self.uploads.append(name)
        return self.real.upload(name, content_type=content_type)

    def compose(self, name: str, sources: Sequence[StoredObject], *, content_type: str) -> StoredObject:
        self.before("compose", name)
        stored = self.real.compose(name, sources, content_type=content_type)
        self.after("compose", name)
        return stored

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


@dataclass
class Plant:
    services: Services
    storage: Watched
    index: str
    url: str

    def worker(self, name: str = "worker") -> Worker:
        return Worker(self.services, name=name)

    def run(self, **target: Any) -> int:
        database = self.services.database
        with database.write() as session:
            now = database.now(session)
            client = clients.create_client(session, now=now, name=uuid.uuid4().hex, chain=CHAIN, scopes=["tasks:write"])
            task = tasks.create_task(
                session,
                now=now,
                principal=Principal(client.id, client.name, CHAIN, frozenset(), "client"),
                chain=CHAIN,
                desc=None,
                target={"action": "export", "export_index": "products", "export_format": "jsonl", **target},
                trigger={"once": "2026-01-01T00:00:00Z"},
                next_run_at=None,
            )
            run = runs.create_run(session, task, kind="schedule", occurrence=now, now=now)
            assert run is not None
            assert run.id is not None
            return run.id

    def read(self, run_id: int) -> Run:
        with self.services.database.read() as session:
            return session.get_one(Run, run_id)

    def write(self, do: Callable[[Session], Any]) -> Any:
        with self.services.database.write() as session:
            return do(session)

    def later(self) -> None:
        self.services.database.clock_offset += timedelta(seconds=61)

    def content(self, run_id: int, key: str | None = None) -> bytes:
        artifact = self.read(run_id).artifact
        assert artifact is not None
        told = artifact[key] if key else artifact
        stored = self.storage.stat(told["object"])
        assert (stored.generation, stored.size) == (told["generation"], told["bytes"])
        return b"".join(self.storage.read(stored))

    def manifest(self, run_id: int) -> Any:
        return json.loads(self.content(run_id, "manifest"))

    def part_uploads(self) -> list[str]:
        return [name.rpartition("/")[2] for name in self.storage.uploads if "/parts-" in name]

    def whole_once(self, run_id: int) -> None:
        run = self.read(run_id)
        assert (run.state, run.rows, run.total) == ("done", len(OURS), len(OURS)), (run.reason, run.detail)
        assert sorted(json.loads(line)["id"] for line in self.content(run_id).splitlines()) == OURS
        self.services.database.clock_offset += timedelta(hours=2)
        sweeper.sweep(self.services.database, self.storage)  # type: ignore[arg-type]
        assert len(list(self.storage.list(""))) == 2, "the file, its manifest, and nothing else"
        assert self.write(lambda s: parts.sweepable_plans(s, now=self.services.database.now(s), limit=9)) == []


def call(url: str, method: str, path: str, body: bytes | None = None) -> Any:
    kind = {"content-type": "application/x-ndjson" if path.endswith("refresh=true") else "application/json"}
    request = urllib.request.Request(url + path, data=body, method=method, headers=kind)  # noqa: S310
    with urllib.request.urlopen(request, timeout=60) as answer:  # noqa: S310
        return json.loads(answer.read())


@pytest.fixture(scope="module")
def index(elasticsearch_url: str) -> Iterator[str]:
    name = f"parts-{uuid.uuid4().hex[:8]}"
    mapping = {
        "settings": {"number_of_shards": 2, "number_of_replicas": 0},
        "mappings": {
            "properties": {
                "id": {"type": "long"},
                "chain_id": {"type": "long"},
                "n": {"type": "keyword"},
                "at": {"type": "date"},
                "items": {"type": "nested", "properties": {"sku": {"type": "keyword"}}},
            }
        },
    }
    items = [json.dumps([{"sku": f"s{sku}"} for sku in range(count)]).encode() for count in range(4)]
    call(elasticsearch_url, "PUT", f"/{name}", json.dumps(mapping).encode())
    lines = [
        b'{"index":{}}\n{"id":%d,"chain_id":%d,"n":"=%d, \\"x\\"","at":"2031-01-05T12:00:00Z","items":%b}\n'
        % (row, CHAIN if row % 3 else 1, row, items[row % 4])
        for row in range(ROWS)
    ]
    assert not call(elasticsearch_url, "POST", f"/{name}/_bulk?refresh=true", b"".join(lines))["errors"]
    yield name
    call(elasticsearch_url, "DELETE", f"/{name}")


@pytest.fixture
def plant(tmp_path: Path, elasticsearch_url: str, index: str, migrated_sqlite: Path) -> Iterator[Plant]:
    with planted(tmp_path, elasticsearch_url, index, migrated_sqlite) as made:
        yield made


@contextmanager
def planted(tmp_path: Path, elasticsearch_url: str, index: str, migrated: Path) -> Generator[Plant]:
    settings = Settings.model_validate(
        {
            "database": {"url": f"sqlite:///{tmp_path}/tasks.db"},
            "service": {"state_directory": tmp_path},
            "source": {"kind": "elasticsearch"},
            "elasticsearch": {"urls": [elasticsearch_url], "slices": 2},
            "worker": {"part_rows": 500, "retry_base_seconds": 1e-6},
            "indices": {"products": {"file_prefix": "Product", "source": index}},
        }
    )
    shutil.copy(migrated, tmp_path / "tasks.db")
    database = Database(settings.database)
    storage = Watched(
        LocalStorage(LocalSettings(directory=tmp_path / "exports"), public_url="http://127.0.0.1", secret_key=KEY)
    )
    calls = Calls(settings.elasticsearch, jitter=lambda: 0.0)  # what is asked again is asked at once
    source = ElasticsearchSource(settings.elasticsearch, 30, calls=calls)
    services = Services(settings, database, source, storage, TableExecutor(), KEY)  # type: ignore[arg-type]
    try:
        yield Plant(services, storage, index, elasticsearch_url)
    finally:
        services.close()


def once(do: Callable[[], None]) -> Callable[[], None]:
    """Do it the first time only."""
    left = [do]
    return lambda: left.pop()() if left else None


UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda data: data,
    "gzip": gzip.decompress,
    "zstd": lambda data: zstandard.ZstdDecompressor().stream_reader(io.BytesIO(data), read_across_frames=True).read(),
}


@pytest.mark.parametrize("compression", UNPACK)
@pytest.mark.parametrize("kind", ["csv", "json", "jsonl", "xml"])
def test_a_file_of_parts_has_the_rows_of_one_readers_file(plant: Plant, kind: str, compression: str) -> None:
    whole, divided = (plant.run(export_format=kind, compression=compression) for _ in range(2))
    plant.services.settings.worker.__dict__["part_rows"] = 0
    assert plant.worker().work_once()
    assert plant.part_uploads() == []
    plant.services.settings.worker.__dict__["part_rows"] = 500
    assert plant.worker().work_once()
    assert len(plant.part_uploads()) == 4, "2000 documents by 500"
    one, many = (UNPACK[compression](plant.content(run)) for run in (whole, divided))
    if kind == "csv":
        rows = [list(csv.reader(io.StringIO(text.decode(), newline=""))) for text in (one, many)]
        assert rows[0][0] == rows[1][0]
        assert sorted(rows[0][1:]) == sorted(rows[1][1:])
    if kind == "json":
        assert [sorted(row["id"] for row in json.loads(text)) for text in (one, many)] == [OURS, OURS]
    ends = lambda text: (len(text), text[:2], text[-2:])  # noqa: E731
    assert ends(one) == ends(many)
    assert sorted(line.rstrip(b",") for line in one.split(b"\n")) == sorted(
        line.rstrip(b",") for line in many.split(b"\n")
    )
    told = plant.manifest(divided)
    [file] = told["files"]
    assert sum(part["bytes"] for part in file["parts"]) == file["bytes"]
    assert sum(part["rows"] for part in file["parts"]) == file["rows"] == len(OURS)
    assert told["suspicious_cells"] == plant.manifest(whole)["suspicious_cells"]


def test_parts_of_exploded_lists_hold_every_element_and_every_document(plant: Plant) -> None:
    options = {"nested": "explode"}
    run = plant.run(export_format="csv", columns=["id", "items.sku"], options=options)
    assert plant.worker().work_once()
    assert len(plant.part_uploads()) == 4
    rows = [tuple(row) for row in csv.reader(io.StringIO(plant.content(run).decode(), newline=""))]
    expected = [(str(row), f"s{sku}" if row % 4 else "") for row in OURS for sku in range(max(1, row % 4))]
    assert rows[0] == ("id", "items.sku")
    assert sorted(rows[1:]) == sorted(expected)
    told = plant.manifest(run)
    assert (told["rows"], told["documents"]) == (len(expected), len(OURS))
    assert sum(part["rows"] for part in told["files"][0]["parts"]) == len(expected)
    found = plant.read(run)
    assert (found.state, found.rows, found.total) == ("done", len(OURS), len(OURS))


@pytest.mark.parametrize(
    "target",
    [{"split": {"rows": 600}}, {"limit": 1900}, {"archive": "zip"}, {"export_format": "xlsx"}],
    ids=["split", "limit", "archive", "xlsx"],
)
def test_what_one_worker_alone_can_write_is_not_divided(plant: Plant, target: dict[str, Any]) -> None:
    run = plant.run(**target)
    plant.worker().work_once()
    assert plant.read(run).state == "done"
    assert plant.part_uploads() == []


def test_a_worker_without_a_run_helps(plant: Plant) -> None:
    run, helper = plant.run(), plant.worker("helper")
    helped: list[bool] = []

    def help_out() -> None:
        helped.extend([helper.work_once(), helper.work_once()])

    first = once(help_out)
    plant.storage.before = lambda what, name: first() if what == "upload" and "/parts-" in name else None
    assert plant.worker().work_once()
    assert helped == [True, True]
    assert len(plant.part_uploads()) == 4
    assert not helper.work_once()
    plant.whole_once(run)


def test_a_worker_that_helps_says_whom(plant: Plant) -> None:
    run, owner, helper = plant.run(), plant.worker("owner"), plant.worker("helper")
    said: list[tuple[Any, Any]] = []
    help_out = once(helper.work_once)

    def look(what: str, name: str) -> None:
        if what == "upload" and "/parts-" in name:
            said.append((owner.doing(), helper.doing()))
            help_out()

    plant.storage.before = look
    assert owner.work_once()
    working, helping, idle = ("working", run), ("helping", run), ("idle", None)
    assert said == [(working, idle), (working, helping), (working, idle), (working, idle)]
    assert (owner.doing(), helper.doing()) == (idle, idle)


def help_once(plant: Plant, helper: Worker, directory: Path) -> list[str]:
    """Let a host with that zone data take one part, while the owner is at another; return what it wrote."""
    written: list[str] = []

    def help_out() -> None:
        before = len(plant.part_uploads())
        with host(directory):
            assert helper.work_once()
        written.extend(plant.part_uploads()[before:])

    first = once(help_out)
    plant.storage.before = lambda what, name: first() if what == "upload" and "/parts-" in name else None
    return written


@pytest.mark.parametrize("helper_has", ["none", "older", "newer"])
def test_parts_show_the_same_clock_whatever_zone_data_their_workers_have(
    plant: Plant, tmp_path: Path, helper_has: str
) -> None:
    older = write(tmp_path / "older", "2031a", {TOWN: compiled(1)})
    newer = write(tmp_path / "newer", "2031b", {TOWN: compiled(3)})
    nothing = write(tmp_path / "none", "2030a", {"Test/Other": compiled(1)})
    own = older if helper_has == "newer" else newer
    clock = "13:00:00+01:00" if own is older else "15:00:00+03:00"
    run = plant.run(
        export_format="csv", columns=["at", "id"], options={"timezone": TOWN, "nested": "json", "header": False}
    )
    with host(own):
        written = help_once(
            plant, plant.worker("helper"), {"none": nothing, "older": older, "newer": newer}[helper_has]
        )
        assert plant.worker().work_once()
    # Rules that came after the run was divided are not those of its file: their worker leaves its parts alone.
    assert len(written) == (0 if helper_has == "newer" else 1)
    lines = plant.content(run).decode().splitlines()
    assert sorted(int(line.partition(",")[2]) for line in lines) == OURS
    assert {line.partition(",")[0] for line in lines} == {f"2031-01-05T{clock}"}


def test_a_worker_of_another_configuration_leaves_the_parts_alone(plant: Plant) -> None:
    settings = plant.services.settings
    index = settings.indices["products"].model_copy(update={"columns": ["id"]})
    settings = settings.model_copy(update={"indices": {"products": index}})
    helper = Worker(dataclasses.replace(plant.services, settings=settings), name="helper")
    run = plant.run(export_format="csv")
    asked: list[bool] = []

    def help_out() -> None:
        before = len(plant.part_uploads())
        asked.extend([helper.work_once(), helper.work_once()])
        assert len(plant.part_uploads()) == before

    first = once(help_out)
    plant.storage.before = lambda what, name: first() if what == "upload" and "/parts-" in name else None
    assert plant.worker().work_once()
    assert asked == [True, False], "it looks at one part, and knows the plan by then"
    assert (plant.read(run).state, plant.read(run).rows) == ("done", len(OURS))


@pytest.mark.parametrize("moment", ["in a part", "before composing", "after composing", "before the manifest"])
def test_after_a_death_only_what_was_not_done_runs_again(plant: Plant, moment: str) -> None:
    run = plant.run()
    seen: list[str] = []

    def die(what: str, name: str) -> None:
        seen.append(what)
        deaths = {
            "in a part": what == "upload" and len(seen) == 3,
            "before composing": what == "compose",
            "before the manifest": what == "upload" and "/parts-" not in name,
        }
        if deaths.get(moment):
            raise KilledError

    def die_after(what: str, _name: str) -> None:
        if moment == "after composing":
            raise KilledError

    plant.storage.before, plant.storage.after = die, die_after
    with pytest.raises(KilledError):
        plant.worker("dead").work_once()
    done = len(plant.part_uploads())
    assert done == (2 if moment == "in a part" else 4)
    plant.storage.before = plant.storage.after = lambda _what, _name: None
    assert not plant.worker().work_once() or moment == "in a part", "the lease holds"
    plant.later()
    assert plant.worker().work_once()
    assert len(plant.part_uploads()) == 4
    assert plant.read(run).started_over == 0
    plant.whole_once(run)


def test_a_failure_that_passes_keeps_the_parts_that_are_done(plant: Plant) -> None:
    run, seen = plant.run(), list[str]()

    def fail(_what: str, name: str) -> None:
        seen.append(name)
        if len(seen) == 3:
            raise StorageUnavailableError

    plant.storage.before = fail
    assert plant.worker().work_once()
    assert (plant.read(run).state, plant.read(run).reason) == ("queued", "storage_unavailable")
    plant.later()
    assert plant.worker().work_once()
    assert len(plant.part_uploads()) == 4
    plant.whole_once(run)


def test_without_the_view_the_run_starts_over_and_says_so(plant: Plant) -> None:
    run, seen = plant.run(), list[str]()

    def die(_what: str, name: str) -> None:
        seen.append(name)
        if len(seen) == 3:
            raise KilledError

    plant.storage.before = die
    with pytest.raises(KilledError):
        plant.worker().work_once()
    plan = plant.write(lambda s: parts.open_plan(s, run))
    call(plant.url, "DELETE", "/_pit", json.dumps({"id": plan.handle["pit_id"]}).encode())
    plant.later()
    assert plant.worker().work_once()
    assert len(plant.part_uploads()) == 2 + 4
    assert plant.read(run).started_over == 1
    plant.whole_once(run)


@pytest.mark.parametrize("harm", ["gone", "another"])
def test_a_part_that_is_not_what_it_was_is_never_published(plant: Plant, harm: str) -> None:
    run = plant.run()

    def hurt(what: str, _name: str) -> None:
        if what != "compose":
            return
        victim = next(iter(plant.storage.list("exports/")))
        plant.storage.delete(victim.name, generation=victim.generation)
        if harm == "another":
            with plant.storage.real.upload(victim.name, content_type="x") as upload:
                upload.write(b"y" * victim.size)
                upload.commit()
        plant.storage.before = lambda _what, _name: None

    plant.storage.before = hurt
    assert plant.worker().work_once()
    assert (plant.read(run).state, plant.read(run).reason) == ("queued", "corrupt_upload")
    plant.later()
    assert plant.worker().work_once()
    assert plant.read(run).started_over == 1
    plant.whole_once(run)


def test_what_the_storage_puts_together_wrongly_is_never_published(plant: Plant) -> None:
    run = plant.run()
    compose = plant.storage.real.compose

    def wrongly(name: str, sources: Sequence[StoredObject], *, content_type: str) -> StoredObject:
        plant.storage.real.compose = compose  # type: ignore[method-assign]
        return compose(name, [sources[1], sources[0], *sources[2:]], content_type=content_type)

    plant.storage.real.compose = wrongly  # type: ignore[method-assign]
    assert plant.worker().work_once()
    assert (plant.read(run).state, plant.read(run).reason) == ("queued", "corrupt_upload")
    plant.later()
    assert plant.worker().work_once()
    plant.whole_once(run)


def test_a_helper_that_was_stopped_beyond_its_lease_publishes_nothing(plant: Plant) -> None:
    """It wakes up when its part was written by another, and the run is done."""
    run, helper = plant.run(), plant.worker("slow")
    asleep, awake = threading.Event(), threading.Event()
    thread = threading.Thread(target=helper.work_once, daemon=True)

    def hold(what: str, name: str) -> None:
        if what == "upload" and threading.current_thread() is thread:
            asleep.set()
            assert awake.wait(60)
        elif what == "upload" and "/parts-" in name and not asleep.is_set():
            thread.start()
            assert asleep.wait(60)
            plant.services.database.clock_offset += timedelta(seconds=61)

    helper._helper._services.settings.worker.__dict__["heartbeat_seconds"] = 30.0  # it does not beat while it sleeps
    plant.storage.before = hold
    assert plant.worker().work_once() in {True, LeaseLost}
    awake.set()
    thread.join(60)
    if plant.read(run).state != "done":
        plant.later()
        assert plant.worker().work_once()
    plant.whole_once(run)
