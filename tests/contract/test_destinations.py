"""What every destination promises, asked of each kind of bucket: whole or absent, checked, nobody else's touched.

The buckets are those of tests/destinations.py, real servers by the vendors' own libraries; what lies in them is
read past the adapters. What a run makes of it is tests/integration/test_pushes.py.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace

import google_crc32c
import pytest

from tasks_service.config import DestinationSettings
from tasks_service.destinations import Arrived, Delivery, Destination, DestinationChangedError
from tasks_service.destinations.registry import Destinations
from tasks_service.errors import CorruptUploadError
from tests.destinations import CHAIN, KINDS, NAME, Bucket, bucket_of
from tests.storages import checksum, noise

FILE = "from/exports/1/2/file.csv"
MEBIBYTE = 1024 * 1024
SMALL = b"id\n1\n2\n"
LARGE = noise(20 * MEBIBYTE + 7)
"""Of several parts or chunks at every kind, the last of them small."""


@dataclass(frozen=True)
class Site:
    """A bucket and the adapter before it."""

    bucket: Bucket
    destination: Destination

    def push(self, content: bytes, *, mark: str = "ours", replaces: Arrived | None = None) -> Arrived:
        with self.destination.put(
            FILE, content_type="text/csv", size=len(content), mark=mark, replaces=replaces
        ) as delivery:
            for start in range(0, len(content), MEBIBYTE):
                delivery.write(content[start : start + MEBIBYTE])
            return delivery.commit()

    def assert_holds(self, content: bytes, *, mark: str = "ours") -> None:
        """The bytes lie there, nothing else does, and the bucket reports their own checksum."""
        assert self.bucket.held() == {FILE: content}
        found = self.destination.look(FILE)
        assert found is not None
        assert (found.name, found.size, found.crc32c, found.mark) == (FILE, len(content), checksum(content), mark)
        assert self.bucket.unfinished() == []

    def assert_empty(self) -> None:
        assert self.bucket.held() == {}
        assert self.bucket.unfinished() == []


@pytest.fixture(params=KINDS)
def site(request: pytest.FixtureRequest) -> Iterator[Site]:
    bucket = bucket_of(request.param, request)
    registry = bucket.destinations()
    yield Site(bucket, registry.get(NAME, chain=CHAIN))
    registry.close()


SIZES = pytest.mark.parametrize("content", [b"", SMALL, LARGE], ids=["empty", "small", "large"])


@SIZES
def test_what_is_pushed_lies_there_whole_with_its_checksum(site: Site, content: bytes) -> None:
    there = site.push(content)
    assert there == site.destination.look(FILE)
    site.assert_holds(content)


@SIZES
def test_nothing_shows_before_it_is_committed_and_nothing_stays_without(site: Site, content: bytes) -> None:
    with (
        contextlib.suppress(KeyboardInterrupt),
        site.destination.put(FILE, content_type="x", size=len(content), mark="ours", replaces=None) as delivery,
    ):
        delivery.write(content)
        assert site.destination.look(FILE) is None
        assert site.bucket.held() == {}
        raise KeyboardInterrupt
    site.assert_empty()


@SIZES
def test_a_name_that_is_taken_is_not_overwritten_unseen(site: Site, content: bytes) -> None:
    site.bucket.plant(FILE, b"theirs")
    with pytest.raises(DestinationChangedError):
        site.push(content)
    assert site.bucket.held() == {FILE: b"theirs"}
    assert site.bucket.unfinished() == []


@SIZES
def test_what_was_seen_is_replaced(site: Site, content: bytes) -> None:
    site.push(b"the former", mark="former")
    site.push(content, replaces=site.destination.look(FILE))
    site.assert_holds(content)


@SIZES
def test_what_was_seen_and_is_another_by_now_is_not_replaced(site: Site, content: bytes) -> None:
    seen = site.push(b"seen", mark="former")
    site.push(b"another", mark="another", replaces=seen)
    with pytest.raises(DestinationChangedError):
        site.push(content, replaces=seen)
    site.assert_holds(b"another", mark="another")


def test_what_was_seen_and_is_gone_is_not_made_anew(site: Site) -> None:
    seen = site.push(b"seen")
    assert site.destination.delete(seen)
    with pytest.raises(DestinationChangedError):
        site.push(SMALL, replaces=seen)
    site.assert_empty()


def test_the_same_bytes_of_another_push_are_told_apart_where_objects_have_generations(site: Site) -> None:
    """Where they have only an ETag, bytes may take the place of the same bytes; docs/destinations.md says so."""
    seen = site.push(SMALL, mark="former")
    site.push(SMALL, mark="another", replaces=seen)
    if site.bucket.settings.kind == "gcs":
        with pytest.raises(DestinationChangedError):
            site.push(SMALL, replaces=seen)
        site.assert_holds(SMALL, mark="another")
    else:
        site.push(SMALL, replaces=seen)
        site.assert_holds(SMALL)


def test_only_the_object_that_is_named_is_deleted(site: Site) -> None:
    """Another push of the same bytes is another object."""
    seen = site.push(SMALL, mark="former")
    another = site.push(SMALL, mark="another", replaces=seen)
    assert not site.destination.delete(seen)
    site.assert_holds(SMALL, mark="another")
    assert site.destination.delete(another)
    assert not site.destination.delete(another)
    site.assert_empty()


@pytest.mark.parametrize("content", [SMALL, LARGE], ids=["small", "large"])
def test_bytes_that_are_damaged_on_their_way_are_refused(
    site: Site, content: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The checksum that is sent is of other bytes than arrive: a fault that no server makes by itself."""

    class OfOthers(google_crc32c.Checksum):
        def digest(self) -> bytes:
            return bytes(4)

    for module in ("destinations.s3", "storage.gcs_upload"):
        monkeypatch.setattr(f"tasks_service.{module}.google_crc32c", SimpleNamespace(Checksum=OfOthers))
    with pytest.raises(CorruptUploadError):
        site.push(content)
    site.assert_empty()


def test_leaving_one_push_ends_no_other_of_the_same_name(site: Site) -> None:
    """A worker that lost its run gives up while its successor is in mid-push."""

    def begin(mark: str) -> AbstractContextManager[Delivery]:
        return site.destination.put(FILE, content_type="x", size=len(LARGE), mark=mark, replaces=None)

    with begin("ours") as ours:
        ours.write(LARGE[: 9 * MEBIBYTE])
        with begin("lost") as lost:
            lost.write(LARGE[: 9 * MEBIBYTE])
        ours.write(LARGE[9 * MEBIBYTE :])
        ours.commit()
    site.assert_holds(LARGE)


def test_giving_up_by_an_id_ends_that_and_nothing_else(site: Site) -> None:
    begun: list[str] = []
    with site.destination.put(
        FILE, content_type="x", size=len(LARGE), mark="ours", replaces=None, begun=begun.append
    ) as ours:
        ours.write(LARGE)
        assert not site.destination.abort(FILE, "nobody-began-this")
        ours.commit()
    assert [site.destination.abort(FILE, upload) for upload in begun] == [False] * len(begun)
    site.assert_holds(LARGE)


def test_what_cannot_be_noted_is_not_left(site: Site) -> None:
    def refused(upload: str) -> None:
        raise KeyboardInterrupt(upload)

    if site.bucket.settings.kind == "gcs":
        pytest.skip("a session lapses by itself and is not noted")
    with (
        pytest.raises(KeyboardInterrupt),
        site.destination.put(FILE, content_type="x", size=len(LARGE), mark="ours", replaces=None, begun=refused),
    ):
        raise AssertionError
    site.assert_empty()


def test_a_process_that_is_killed_leaves_what_its_successor_makes_whole(site: Site, tmp_path: Path) -> None:
    """It dies in mid-push, with a part sent. What it noted is enough to give up what it began."""
    told = tmp_path / "settings.json"
    told.write_text(json.dumps(site.bucket.told))
    noted = tmp_path / "noted"
    command = [sys.executable, "-m", "tests.contract.test_destinations", str(told), str(noted)]
    died = subprocess.run(command, check=False, timeout=120)
    assert died.returncode == -signal.SIGKILL
    assert site.bucket.held() == {}
    begun = noted.read_text().split() if noted.exists() else []
    assert site.bucket.unfinished() == [FILE for _ in begun]
    assert len(begun) == (site.bucket.settings.kind == "s3")
    site.push(LARGE, mark="successor")
    assert all(site.destination.abort(FILE, upload) for upload in begun)
    site.assert_holds(LARGE, mark="successor")


def _push_and_die(settings: DestinationSettings, noted: Path) -> None:
    destination = Destinations({NAME: settings}).get(NAME, chain=CHAIN)
    with destination.put(
        FILE, content_type="x", size=len(LARGE), mark="killed", replaces=None, begun=noted.write_text
    ) as delivery:
        delivery.write(LARGE[: 9 * MEBIBYTE])
        os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    _push_and_die(DestinationSettings.model_validate_json(Path(sys.argv[1]).read_text()), Path(sys.argv[2]))
