"""Google Cloud Storage when it misbehaves: requests fail, answers and sessions are lost, rights are gone."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import google_crc32c
import pytest
import requests

from tasks_service.config import GcsSettings
from tasks_service.errors import CorruptUploadError, ServiceError, StorageError, StorageUnavailableError
from tasks_service.storage import StoredObject
from tasks_service.storage.gcs import GcsStorage
from tasks_service.storage.gcs_upload import GcsUpload
from tasks_service.storage.patience import Patience
from tests.servers.gcs import Gcs
from tests.storages import CHUNK, QUICK, Place, gcs_place, get

NAME = "exports/1764/12345/run-7/1.csv"
CONTENT = bytes(range(256)) * (3 * CHUNK // 256) + b"the last bytes"
HASTE = Patience(seconds=0, first=0.001, cap=0.001)
"""One repetition, and no more."""


@pytest.fixture
def site(gcs: Gcs) -> Iterator[Place]:
    made = gcs_place(gcs)
    with made.closing:
        made.storage.stat(NAME)  # the token is fetched: what a test counts is its own
        gcs.faults.clear()
        yield made


@pytest.fixture
def hasty(site: Place) -> Iterator[GcsStorage]:
    storage = GcsStorage(settings(site), patience=HASTE)
    yield storage
    storage.close()


def settings(site: Place, **changes: object) -> GcsSettings:
    told = json.loads(site.description)
    del told["kind"]
    return GcsSettings.model_validate(told | changes)


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
    storage = GcsStorage(settings(site, chunk_bytes=4 * CHUNK), patience=QUICK)
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
    storage = GcsStorage(settings(site, bucket="bucket-of-nobody"), patience=HASTE)
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
    storage = GcsStorage(settings(site), patience=HASTE)
    for skip in (0, 1, 2, 3):
        gcs.faults.fail("upload.chunk", skip=skip)
    assert_whole(site, put(storage))
    storage.close()


# -- a process, its threads, its doctor ------------------------------------------------------------------------------


def test_nothing_is_connected_before_the_first_use(tmp_path: Path) -> None:
    storage = GcsStorage(
        GcsSettings(bucket="b", credentials_file=tmp_path / "missing.json", endpoint="http://127.0.0.1:1")
    )
    with pytest.raises(StorageError, match=r"gcs\.credentials_file"):
        storage.stat("a")
    storage.close()


@pytest.mark.parametrize("text", ["", "not json", "{}", '{"type": "service_account", "private_key": "x"}'])
def test_a_key_that_cannot_be_read_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "key.json"
    path.write_text(text)
    storage = GcsStorage(GcsSettings(bucket="b", credentials_file=path, endpoint="http://127.0.0.1:1"))
    for call in (storage.check, lambda: put(storage)):
        with pytest.raises(StorageError, match=r"gcs\.credentials_file"):
            call()


def test_a_storage_that_is_not_there_is_unavailable(site: Place) -> None:
    storage = GcsStorage(settings(site, endpoint="http://127.0.0.1:1"), patience=HASTE)
    calls: list[Callable[[], object]] = [
        storage.check,
        lambda: put(storage),
        lambda: storage.stat(NAME),
        lambda: storage.delete(NAME, generation=1),
        lambda: list(storage.list("")),
    ]
    for call in calls:
        with pytest.raises(StorageUnavailableError, match="does not answer"):
            call()
    storage.close()


def test_an_endpoint_that_is_no_url_is_named(site: Place) -> None:
    storage = GcsStorage(settings(site, endpoint="storage.example.com"), patience=HASTE)
    with pytest.raises(ServiceError, match=r"gcs\.endpoint"):
        put(storage)
    storage.close()


def test_a_token_that_cannot_be_had_now_is_unavailable_and_a_refused_one_is_not(site: Place, gcs: Gcs) -> None:
    storage = GcsStorage(settings(site), patience=HASTE)
    gcs.faults.fail("token", status=403, times=20)
    with pytest.raises(StorageError, match=r"credentials"):
        storage.stat(NAME)
    storage.close()


def test_threads_share_a_storage_from_its_first_use(site: Place) -> None:
    storage = GcsStorage(settings(site), patience=QUICK)
    start = threading.Barrier(8)
    seen: list[object] = []

    def use() -> None:
        start.wait(30)
        seen.append(storage.stat(NAME))

    threads = [threading.Thread(target=use) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert seen == [None] * 8
    storage.close()


def test_the_doctor_names_the_missing_rights(site: Place, gcs: Gcs) -> None:
    gcs.faults.misreport("bucket.permissions", {"permissions": ["storage.objects.get", "storage.objects.list"]})
    with pytest.raises(StorageError, match=r"lacks storage\.objects\.create, storage\.objects\.delete on bucket"):
        site.storage.check()
    site.storage.check()


@pytest.mark.parametrize("status", [404, 405, 501])
def test_an_endpoint_that_knows_no_permissions_is_not_ill(site: Place, gcs: Gcs, status: int) -> None:
    gcs.faults.fail("bucket.permissions", status=status)
    site.storage.check()


def test_the_doctor_answers_at_once(site: Place, gcs: Gcs) -> None:
    gcs.faults.fail("object.list", times=1)
    with pytest.raises(StorageUnavailableError):
        site.storage.check()
    assert gcs.faults.count("object.list") == 1


# -- links without a key ---------------------------------------------------------------------------------------------


@pytest.fixture
def machine(gcs: Gcs, monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with an identity of its own, and no key: the metadata server and IAM are the front's."""
    from google.auth import iam
    from google.auth.compute_engine import _metadata

    monkeypatch.setattr(_metadata, "_GCE_METADATA_HOST", gcs.endpoint.removeprefix("http://"))
    address = f"{gcs.endpoint}/v1/projects/-/serviceAccounts/{{}}:signBlob"
    monkeypatch.setattr(iam, "_IAM_SIGN_ENDPOINT", address)
    monkeypatch.setattr("google.auth.default", _machine_credentials)


def _machine_credentials(scopes: list[str]) -> tuple[object, None]:
    from google.auth import compute_engine

    return compute_engine.Credentials(scopes=scopes, universe_domain="googleapis.com"), None


@pytest.mark.usefixtures("machine")
@pytest.mark.parametrize("named", [True, False])
def test_without_a_key_links_are_signed_by_sign_blob(site: Place, gcs: Gcs, named: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    stored = put(site.storage)
    account = gcs.email if named else None
    storage = GcsStorage(settings(site, credentials_file=None, signing_account=account), patience=QUICK)
    storage.check()
    signed = storage.sign(stored, file_name="x.csv", content_type="text/csv", lifetime=timedelta(hours=1))
    assert gcs.faults.count("sign_blob") == 1
    assert get(signed.url).body == CONTENT
    gcs.clock.advance(3660)
    assert get(signed.url).status == 400
    storage.close()


@pytest.mark.usefixtures("machine")
def test_a_refused_sign_blob_names_the_role(site: Place, gcs: Gcs) -> None:
    stored = put(site.storage)
    storage = GcsStorage(settings(site, credentials_file=None, signing_account="other@tests.test"), patience=QUICK)
    with pytest.raises(StorageError, match=r"other@tests\.test.*Service Account Token Creator"):
        storage.sign(stored, file_name="x.csv", content_type="text/csv", lifetime=timedelta(hours=1))
    storage.close()


def test_links_are_dated_back_and_end_when_they_say(site: Place, gcs: Gcs) -> None:
    moment = datetime(2026, 5, 26, 2, 0, 0, 987654, tzinfo=UTC)
    storage = GcsStorage(settings(site), now=lambda: moment)
    stored = StoredObject("b", "a/b.csv", 7, 1, "AAAAAA==", moment)
    signed = storage.sign(stored, file_name="x.csv", content_type="text/csv", lifetime=timedelta(hours=1))
    assert "X-Goog-Date=20260526T015900Z" in signed.url
    assert "X-Goog-Expires=3660" in signed.url
    assert "generation=7" in signed.url
    assert signed.expires_at == datetime(2026, 5, 26, 3, 0, 0, tzinfo=UTC)
    storage.close()


def assert_nothing(site: Place, gcs: Gcs) -> None:
    gcs.faults.clear()
    assert site.storage.stat(NAME) is None
    assert list(site.storage.list("")) == []
