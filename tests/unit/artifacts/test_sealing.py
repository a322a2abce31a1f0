"""What lies beside every file: a manifest that tells all of it, made only where nothing is missing."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from lxml import etree

from tasks_service import __version__
from tasks_service.artifacts import ArtifactFile, FilePart, Result, Written
from tasks_service.artifacts.manifest import Manifest, NotAManifestError, from_bytes, to_bytes
from tasks_service.artifacts.sealing import Exported, seal
from tasks_service.artifacts.writing import Committed, stored_object, taking_back
from tasks_service.config import LocalSettings
from tasks_service.errors import CorruptUploadError, IncompleteError, StorageUnavailableError
from tasks_service.order import ExportOrder
from tasks_service.storage import StoredObject, Upload
from tasks_service.storage.local import LocalStorage
from tests.orders import order_of
from tests.unit.artifacts.views import View

ROWS = b"id,name\r\n1,Lamp\r\n2,=1+1\r\n"
SEGMENT = {"index": "products", "chain_id": 1764, "join": "all", "rules": []}
ORDER = replace(
    order_of({"export_format": "csv", "columns": ["id", {"field": "name", "header": "Name"}], "limit": 10}),
    segment=SEGMENT,
    saved_segment=(7, 3),
    file_name="Product_Export-1.csv",
)


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return LocalStorage(LocalSettings(directory=tmp_path), public_url="http://x", secret_key=b"x" * 32)


def written(committed: Committed, parts: tuple[FilePart, ...] = ()) -> Result:
    """A file that lies whole in the storage, however it came to."""
    with stored_object(committed, ORDER.folder, ORDER.file_name, "text/csv") as opened:
        opened.write(ROWS)
        file = opened.commit()
    return Result([ArtifactFile(file.name, file.content_type, 2, 2, 1, file.written, file.stored, parts)])


def sealed(
    storage: LocalStorage, view: View, parts: tuple[FilePart, ...] = (), *, order: ExportOrder = ORDER
) -> Exported:
    with taking_back(storage) as committed:
        return seal(order, view, written(committed, parts), committed)


def test_the_manifest_of_an_xml_file_has_its_schema(storage: LocalStorage, tmp_path: Path) -> None:
    target = {**ORDER.target, "export_format": "xml"}
    sealed(storage, View(2), order=replace(ORDER, target=target))
    [path] = [path for path in tmp_path.rglob("*") if path.is_file() and b"manifest_version" in path.read_bytes()]
    manifest = from_bytes(path.read_bytes())
    schema = etree.XMLSchema(etree.fromstring((manifest.xml_schema or "").encode()))
    schema.assertValid(etree.fromstring("<rows><row><id>1</id><Name>Lamp</Name></row></rows>"))
    assert to_bytes(manifest) == path.read_bytes()


def test_the_manifest_tells_everything_of_the_file(storage: LocalStorage, tmp_path: Path) -> None:
    part = FilePart(2, Written(len(ROWS), "AAAAAA==", "0" * 64))
    exported = sealed(storage, View(2), (part,))
    assert exported.artifact is not None
    assert [one.name for one in exported.objects] == [
        f"{ORDER.folder}/Product_Export-1.csv",
        f"{ORDER.folder}/Product_Export-1.csv.manifest.json",
    ]
    [path] = [path for path in tmp_path.rglob("*") if path.is_file() and b"manifest_version" in path.read_bytes()]
    data = path.read_bytes()
    assert hashlib.sha256(data).hexdigest() == exported.artifact["manifest"]["sha256"]
    crc32c = exported.artifact["crc32c"]
    sha256 = hashlib.sha256(ROWS).hexdigest()
    assert json.loads(data) == {
        "manifest_version": 1,
        "service": {"name": "tasks-service", "version": __version__},
        "task": 1,
        "run": 1,
        "chain": 1764,
        "index": "products",
        "occurrence": "2026-05-26T00:00:00.000000Z",
        "timezone": "UTC",
        "snapshot_at": "2026-05-26T12:00:00.123456Z",
        "format": "csv",
        "options": {},
        "compression": "none",
        "split": None,
        "limit": 10,
        "dry_data": False,
        "columns": [
            {"name": "id", "field": "id", "type": "number"},
            {"name": "Name", "field": "name", "type": "keyword"},
        ],
        "segment": {"id": 7, "version": 3, "rules": SEGMENT},
        "query": View(2).query,
        "rows": 2,
        "documents": 2,
        "bytes": len(ROWS),
        "suspicious_cells": 1,
        "archive": None,
        "files": [
            {
                "name": "Product_Export-1.csv",
                "rows": 2,
                "documents": 2,
                "bytes": len(ROWS),
                "crc32c": crc32c,
                "sha256": sha256,
                "parts": [{"rows": 2, "bytes": len(ROWS), "crc32c": "AAAAAA==", "sha256": "0" * 64}],
            }
        ],
    }
    assert to_bytes(from_bytes(data)) == data
    assert (exported.artifact["rows"], exported.artifact["sha256"]) == (2, sha256)
    assert exported.artifact["object"] == exported.objects[0].name


@pytest.mark.parametrize("total", [1, 3])
def test_a_result_that_is_not_the_whole_view_is_no_result(storage: LocalStorage, total: int) -> None:
    with pytest.raises(IncompleteError):
        sealed(storage, View(total=total))
    assert list(storage.list("")) == []


@pytest.mark.parametrize("failure", [StorageUnavailableError, CorruptUploadError, KeyboardInterrupt, SystemExit])
def test_a_manifest_that_cannot_be_put_there_takes_its_file_with_it(
    storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, failure: type[BaseException]
) -> None:
    upload = storage.upload

    class Failing:
        def __init__(self, real: Upload) -> None:
            self.write = real.write
            self._commit = real.commit

        def commit(self) -> StoredObject:
            stored = self._commit()
            assert len(list(storage.list(""))) == 2
            if failure is CorruptUploadError:
                return replace(stored, crc32c="AAAAAA==")
            raise failure

    @contextmanager
    def failing(name: str, *, content_type: str) -> Iterator[Upload]:
        with upload(name, content_type=content_type) as real:
            yield Failing(real) if name.endswith(".manifest.json") else real

    monkeypatch.setattr(storage, "upload", failing)
    with pytest.raises(failure):
        sealed(storage, View(2))
    left = [one.name for one in storage.list("")]
    # Whether the manifest is there nobody knows where its commit ended so; the sweeper looks into the whole folder.
    assert left == ([] if failure is CorruptUploadError else [f"{ORDER.object_name}.manifest.json"])


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "not JSON"),
        (b"[" * 100_000, "not JSON"),
        (b"[]", "no `manifest_version`"),
        (b'{"manifest_version": 2}', "this version of the service reads 1"),
        (b'{"manifest_version": 1, "rows": "many"}', "/rows"),
    ],
)
def test_what_is_no_manifest_is_told_so(data: bytes, said: str) -> None:
    with pytest.raises(NotAManifestError, match=said):
        from_bytes(data)


def test_members_of_later_versions_are_passed_over(storage: LocalStorage, tmp_path: Path) -> None:
    sealed(storage, View(2))
    [path] = [path for path in tmp_path.rglob("*") if path.is_file() and b"manifest_version" in path.read_bytes()]
    manifest = from_bytes(path.read_bytes())
    later = json.loads(path.read_bytes()) | {"colour": "blue"}
    assert from_bytes(json.dumps(later).encode()) == manifest
    assert isinstance(manifest, Manifest)
