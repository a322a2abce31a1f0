"""Google Cloud Storage when it misbehaves: requests fail, answers and sessions are lost, rights are gone."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from datetime import timedelta

import google_crc32c
import pytest
import requests

from tasks_service.errors import CorruptUploadError, StorageError, StorageUnavailableError
from tasks_service.storage import StoredObject
from tasks_service.storage.gcs import GcsStorage
from tasks_service.storage.gcs_upload import GcsUpload
from tests.servers.gcs import Gcs
from tests.storages import CHUNK, HASTE, NAME, QUICK, Place, gcs_place, gcs_settings

CONTENT = bytes(range(256)) * (3 * CHUNK // 256) + b"the last bytes"


@pytest.fixture
def site(gcs: Gcs) -> Iterator[Place]:
    made = gcs_place(gcs)
    with made.closing:
        made.storage.stat(NAME)  # the token is fetched: what a test counts is its own
        gcs.faults.clear()
        yield made


@pytest.fixture
def hasty(site: Place) -> Iterator[GcsStorage]:
    storage = GcsStorage(gcs_settings(site), patience=HASTE)
    yield storage
    storage.close()


def put(storage: GcsStorage, content: bytes = CONTENT) -> StoredObject:
    with storage.upload(NAME, content_type="text/csv") as upload:
        for start in range(0, len(content), 100_000):
            upload.write(content[start : start + 100_000])
        return upload.commit()


def assert_whole(site: Place, stored: StoredObject) -> None:
    checksum = base64.b64encode(google_crc32c.Checksum(CONTENT).digest()).decode()
    assert (stored.size, stored.crc32c) == (len(CONTENT), checksum)
    assert site.storage.stat(NAME) == stored
    url = site.storage.sign(stored, file_name="x.csv", content_type="text/csv", lifetime=timedelta(hours=1)).url
    assert site.fetch(url).body == CONTENT


# -- failures that pass ----------------------------------------------------------------------------------------------

STEPS = ["upload.start", "upload.chunk", "object.get"]


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
@pytest.mark.parametrize("step", STEPS)
def test_an_error_that_passes_is_outlived(site: Place, gcs: Gcs, step: str, status: int) -> None:
    gcs.faults.fail(step, status=status, times=3)
    assert_whole(site, put(site.storage))


@pytest.mark.parametrize("skip", range(4))
def test_every_chunk_may_fail_and_then_the_question_too(site: Place, gcs: Gcs, skip: int) -> None:
    gcs.faults.fail("upload.chunk", skip=skip)
    gcs.faults.fail("upload.status", times=2)
    assert_whole(site, put(site.storage))
    assert gcs.faults.count("upload.status") == 3


@pytest.mark.parametrize("skip", range(4))
def test_every_answer_to_a_chunk_may_be_lost(site: Place, gcs: Gcs, skip: int) -> None:
    """The last of them is the answer to the commit: the object is there, and it is ours."""
    gcs.faults.lose_answer("upload.chunk", skip=skip)
    assert_whole(site, put(site.storage))
    assert gcs.faults.count("upload.chunk") == 4  # nothing was sent twice


@pytest.mark.parametrize("skip", range(4))
@pytest.mark.parametrize("after", [0, 1, 200_000])
def test_every_chunk_may_be_cut_off(site: Place, gcs: Gcs, skip: int, after: int) -> None:
    gcs.faults.reset("upload.chunk", after=after, skip=skip)
    assert_whole(site, put(site.storage))


def test_a_chunk_persisted_in_part_goes_on_from_there(site: Place, gcs: Gcs) -> None:
    storage = GcsStorage(gcs_settings(site, chunk_bytes=4 * CHUNK), patience=QUICK)
    gcs.faults.reset("upload.chunk", after=2 * CHUNK + 5)
    content = CONTENT * 2
    stored = put(storage, content)
    storage.close()
    assert (stored.size, gcs.faults.count("upload.chunk")) == (len(content), 3)
    url = site.storage.sign(stored, file_name="x.csv", content_type="text/csv", lifetime=timedelta(hours=1)).url
    assert site.fetch(url).body == content


def test_the_answer_to_the_start_may_be_lost(site: Place, gcs: Gcs) -> None:
    gcs.faults.lose_answer("upload.start")
    assert_whole(site, put(site.storage))


def test_a_precondition_failing_on_our_own_object_is_success(site: Place, gcs: Gcs) -> None:
    """The commit's answer is lost, and what is asked next meets the object we made ourselves."""
    gcs.faults.lose_answer("upload.chunk", skip=3)
    gcs.faults.fail("upload.status", status=412)
    assert_whole(site, put(site.storage))


@pytest.mark.parametrize("status", [404, 410])
def test_a_session_gone_after_the_commit_is_success(site: Place, gcs: Gcs, status: int) -> None:
    gcs.faults.lose_answer("upload.chunk", skip=3)
    gcs.faults.fail("upload.status", status=status)
    assert_whole(site, put(site.storage))


# -- failures that do not --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [408, 429, 500, 503])
@pytest.mark.parametrize("step", ["upload.*", "upload.start", "upload.chunk"])
def test_an_error_that_stays_leaves_nothing_and_says_try_again(
    site: Place, hasty: GcsStorage, gcs: Gcs, step: str, status: int
) -> None:
    gcs.faults.fail(step, status=status, times=100)
    gcs.faults.fail("upload.status", status=status, times=100)
    with pytest.raises(StorageUnavailableError) as caught:
        put(hasty)
    assert caught.value.retryable
    assert_nothing(site, gcs)


@pytest.mark.parametrize("skip", range(4))
@pytest.mark.parametrize("status", [404, 410])
def test_a_lost_session_makes_the_export_start_over(
    site: Place, hasty: GcsStorage, gcs: Gcs, skip: int, status: int
) -> None:
    gcs.faults.fail("upload.chunk", status=status, skip=skip)
    with pytest.raises(StorageUnavailableError, match="start over"):
        put(hasty)
    assert_nothing(site, gcs)


@pytest.mark.parametrize("step", ["upload.start", "upload.chunk", "object.get"])
@pytest.mark.parametrize("status", [400, 401, 403])
def test_a_refusal_is_final_and_in_our_words(site: Place, hasty: GcsStorage, gcs: Gcs, step: str, status: int) -> None:
    gcs.faults.fail(step, status=status, times=4 if status == 401 else 1, message="account secret@project.iam says no")
    with pytest.raises(StorageError) as caught:
        put(hasty)
    assert not caught.value.retryable
    assert "secret" not in caught.value.detail
    assert_nothing(site, gcs)


def test_an_unknown_bucket_is_named(site: Place) -> None:
    storage = GcsStorage(gcs_settings(site, bucket="bucket-of-nobody"), patience=HASTE)
    for call in (lambda: put(storage), storage.check, lambda: list(storage.list(""))):
        with pytest.raises(StorageError, match=r"bucket-of-nobody.*check gcs\.bucket"):
            call()
    storage.close()


@pytest.mark.parametrize("status", [400, 403])
def test_a_disabled_encryption_key_is_named(hasty: GcsStorage, gcs: Gcs, status: int) -> None:
    gcs.faults.fail("upload.start", status=status, message="Cloud KMS key projects/p/cryptoKeys/k is disabled")
    with pytest.raises(StorageError, match=r"CMEK.*disabled") as caught:
        put(hasty)
    assert "projects/p" not in caught.value.detail


def test_damaged_bytes_are_refused_by_the_storage(site: Place, gcs: Gcs, monkeypatch: pytest.MonkeyPatch) -> None:
    """The checksum goes with the last bytes; where it differs, Google refuses to finalise."""
    send = GcsUpload._request

    def damage(self: GcsUpload, method: str, url: str | None, data: bytes, headers: dict[str, str]) -> object:
        if headers.get("Content-Range", "").startswith("bytes 0-"):
            data = b"\xff" + data[1:]
        return send(self, method, url, data, headers)

    monkeypatch.setattr(GcsUpload, "_request", damage)
    with pytest.raises(CorruptUploadError) as caught:
        put(site.storage)
    assert caught.value.retryable
    assert_nothing(site, gcs)


def test_a_checksum_is_returned_as_the_storage_reports_it(site: Place, gcs: Gcs) -> None:
    """Whoever wrote the bytes compares; see export.py."""
    gcs.faults.misreport("object.get", {"crc32c": "AAAAAA==", "size": "7"})
    stored = put(site.storage)
    assert (stored.crc32c, stored.size) == ("AAAAAA==", 7)
    assert site.storage.delete(NAME, generation=stored.generation)
    assert_nothing(site, gcs)


def test_an_object_finalised_by_a_commit_that_failed_is_deleted(site: Place, hasty: GcsStorage, gcs: Gcs) -> None:
    """The bytes are all there, but the storage then cannot be asked what it holds."""
    gcs.faults.fail("object.get", times=2)
    with pytest.raises(StorageUnavailableError):
        put(hasty)
    assert_nothing(site, gcs)


def test_an_object_finalised_without_our_knowing_is_deleted(site: Place, hasty: GcsStorage, gcs: Gcs) -> None:
    """The commit's answer is lost and the storage then stays silent until we give up."""
    gcs.faults.lose_answer("upload.chunk", skip=3)
    gcs.faults.fail("upload.status", times=100)
    with pytest.raises(StorageUnavailableError):
        put(hasty)
    assert_nothing(site, gcs)


def test_somebody_elses_object_is_not_deleted_by_a_failing_commit(site: Place, gcs: Gcs) -> None:
    def lose() -> None:
        with site.storage.upload(NAME, content_type="text/csv") as late:
            late.write(b"mine")
            put(site.storage)
            late.commit()

    with pytest.raises(StorageError, match="exists already"):
        lose()
    found = site.storage.stat(NAME)
    assert found is not None
    assert_whole(site, found)


# -- stopping --------------------------------------------------------------------------------------------------------


def test_a_stopped_upload_cancels_its_session_at_its_own_address(site: Place, gcs: Gcs) -> None:
    addresses: list[str] = []

    def stop() -> None:
        with site.storage.upload(NAME, content_type="text/csv") as upload:
            upload.write(CONTENT)
            addresses.append(upload._session)
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        stop()
    token = site.storage._connection().credentials.token
    answer = requests.put(
        addresses[0],
        headers={"Authorization": f"Bearer {token}", "Content-Range": "bytes */*"},
        timeout=30,
    )
    assert answer.status_code == 404
    assert_nothing(site, gcs)


def test_an_interruption_while_the_last_bytes_are_on_their_way_leaves_nothing(
    site: Place, gcs: Gcs, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object is finalised, and the thread that asked for it never learns it."""
    send = GcsUpload._request

    def interrupt(self: GcsUpload, method: str, url: str | None, data: bytes, headers: dict[str, str]) -> object:
        answer = send(self, method, url, data, headers)
        if "X-Goog-Hash" in headers:
            assert site.storage.stat(NAME) is not None
            raise KeyboardInterrupt
        return answer

    monkeypatch.setattr(GcsUpload, "_request", interrupt)
    with pytest.raises(KeyboardInterrupt):
        put(site.storage)
    assert_nothing(site, gcs)


def test_a_storage_that_cannot_be_cleaned_does_not_hide_why_the_upload_stopped(
    site: Place, hasty: GcsStorage, gcs: Gcs
) -> None:
    def stop() -> None:
        with hasty.upload(NAME, content_type="text/csv") as upload:
            upload.write(CONTENT)
            gcs.faults.fail("*", status=403, times=1000)
            raise KeyError("the reason")

    with pytest.raises(KeyError, match="the reason"):
        stop()
    gcs.faults.clear()
    assert_nothing(site, gcs)


def test_patience_ends_when_nothing_moves_and_not_before(site: Place, gcs: Gcs) -> None:
    """Every chunk fails once more than a single round would bear, but each round makes progress."""
    storage = GcsStorage(gcs_settings(site), patience=HASTE)
    for skip in (0, 1, 2, 3):
        gcs.faults.fail("upload.chunk", skip=skip)
    assert_whole(site, put(storage))
    storage.close()


def assert_nothing(site: Place, gcs: Gcs) -> None:
    gcs.faults.clear()
    assert site.storage.stat(NAME) is None
    assert list(site.storage.list("")) == []


# -- objects put together --------------------------------------------------------------------------------------------


def halves(storage: GcsStorage) -> list[StoredObject]:
    found: list[StoredObject] = []
    for number, content in enumerate((CONTENT[:CHUNK], CONTENT[CHUNK:])):
        with storage.upload(f"parts/{number}-1.csv", content_type="text/csv") as upload:
            upload.write(content)
            found.append(upload.commit())
    return found


def test_an_answer_lost_after_composing_is_told_from_a_taken_name(gcs: Gcs, site: Place) -> None:
    assert isinstance(site.storage, GcsStorage)
    sources = halves(site.storage)
    gcs.faults.lose_answer("object.compose")
    assert_whole(site, site.storage.compose(NAME, sources, content_type="text/csv"))
    with pytest.raises(StorageError, match="exists already"):
        site.storage.compose(NAME, sources, content_type="text/csv")


@pytest.mark.parametrize("operation", ["object.compose", "object.download"])
def test_composing_and_reading_outlive_failures_that_pass(gcs: Gcs, site: Place, operation: str) -> None:
    assert isinstance(site.storage, GcsStorage)
    sources = halves(site.storage)
    gcs.faults.fail(operation, status=503, times=2)
    stored = site.storage.compose(NAME, sources, content_type="text/csv")
    assert b"".join(site.storage.read(stored)) == CONTENT
    assert_whole(site, stored)


def test_composing_gives_up_in_plain_words(gcs: Gcs, site: Place, hasty: GcsStorage) -> None:
    assert isinstance(site.storage, GcsStorage)
    sources = halves(site.storage)
    gcs.faults.fail("object.compose", status=503, times=100)
    with pytest.raises(StorageUnavailableError):
        hasty.compose(NAME, sources, content_type="text/csv")
    assert site.storage.stat(NAME) is None
