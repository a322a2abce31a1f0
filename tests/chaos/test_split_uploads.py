"""Numbered files and archives under the faults of their storage: all of them, whole and verified, or none."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from tasks_service.artifacts.manifest import from_bytes
from tasks_service.artifacts.sealing import Exported
from tasks_service.artifacts.verification import verify
from tasks_service.errors import Cancelled, CorruptUploadError
from tests.chaos.test_uploads import PAGES, ROWS, Pages, clear, export
from tests.servers.gcs import Gcs
from tests.storages import KINDS, Place, gcs_place, place

LAYOUTS: dict[str, dict[str, Any]] = {
    "files": {"split": {"rows": 120}},
    "archive": {"split": {"rows": 120}, "archive": "zip"},
    "bytes": {"split": {"bytes": 200_000}, "compression": "gzip"},
}


@pytest.fixture(params=LAYOUTS, name="layout")
def _layout(request: pytest.FixtureRequest) -> dict[str, Any]:
    return LAYOUTS[request.param]


@pytest.fixture(params=KINDS, name="site")
def _site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with place(request, tmp_path) as site:
        yield site


@pytest.fixture(name="bucket")
def _bucket(gcs: Gcs) -> Iterator[Place]:
    made = gcs_place(gcs)
    with made.closing:
        yield made
    gcs.faults.clear()


def assert_whole(site: Place, exported: Exported, directory: Path) -> None:
    """Every object is in the storage, no other is, and the files are what their manifest says."""
    assert exported.artifact is not None
    assert sorted(one.name for one in site.storage.list("")) == sorted(one.name for one in exported.objects)
    paths: list[Path] = []
    for stored in exported.objects:
        paths.append(directory / stored.name.rpartition("/")[2])
        paths[-1].write_bytes(b"".join(site.storage.read(stored)))
    *files, manifest = paths
    said = from_bytes(manifest.read_bytes())
    verdicts = list(verify(files, said))
    assert [verdict.differences for verdict in verdicts] == [()] * len(verdicts)
    assert len(verdicts) == len(said.files) + (said.archive is not None)
    assert said.rows == sum(file.rows for file in said.files) == PAGES * ROWS
    assert clear(site) == len(paths)


@pytest.mark.parametrize("stop", [Cancelled, MemoryError])
def test_stopped_at_every_report_nothing_is_left(
    site: Place, layout: dict[str, Any], stop: type[BaseException], tmp_path: Path
) -> None:
    stopped = 0

    def stopping(number: int) -> Callable[[Any], None]:
        calls = iter(range(number))

        def report(_: Any) -> None:
            if next(calls, None) is None:
                raise stop

        return report

    while True:
        try:
            exported = export(site, Pages(), stopping(stopped), **layout)
        except stop:
            stopped += 1
            assert list(site.storage.list("")) == []
        else:
            break
    assert stopped > PAGES
    assert site.leftovers() == []
    assert_whole(site, exported, tmp_path)


def asked(bucket: Place, gcs: Gcs, layout: dict[str, Any], operation: str) -> int:
    """How many such requests an undisturbed export makes."""
    gcs.faults.clear()
    export(bucket, Pages(), **layout)
    count = gcs.faults.count(operation)
    clear(bucket)
    return count


def test_whichever_answer_is_lost_or_connection_reset_the_result_is_whole(
    bucket: Place, gcs: Gcs, layout: dict[str, Any], tmp_path: Path
) -> None:
    for skip in range(asked(bucket, gcs, layout, "upload.chunk")):
        for harm in (
            lambda: gcs.faults.lose_answer("upload.chunk", skip=skip),  # noqa: B023 -- called at once
            lambda: gcs.faults.reset("upload.chunk", after=1000, skip=skip),  # noqa: B023
        ):
            gcs.faults.clear()
            harm()
            assert_whole(bucket, export(bucket, Pages(), **layout), tmp_path)


def test_whichever_checksum_is_another_nothing_of_the_result_is_left(
    bucket: Place, gcs: Gcs, layout: dict[str, Any], tmp_path: Path
) -> None:
    corrupt = 0
    for skip in range(asked(bucket, gcs, layout, "object.get")):
        gcs.faults.clear()
        gcs.faults.misreport("object.get", {"crc32c": "AAAAAA=="}, skip=skip)
        try:
            exported = export(bucket, Pages(), **layout)
        except CorruptUploadError:
            corrupt += 1
            assert list(bucket.storage.list("")) == []
        else:
            assert_whole(bucket, exported, tmp_path)
    gcs.faults.clear()
    exported = export(bucket, Pages(), **layout)
    assert corrupt == len(exported.objects)
    assert_whole(bucket, exported, tmp_path)
