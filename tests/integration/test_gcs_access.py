"""Google Cloud Storage as a process meets it: keys, endpoints, threads, the doctor, and links signed without a key."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks_service.config import GcsSettings
from tasks_service.errors import ServiceError, StorageError, StorageUnavailableError
from tasks_service.storage import StoredObject
from tasks_service.storage.gcs import GcsStorage
from tests.servers.gcs import Gcs
from tests.storages import HASTE, NAME, QUICK, Place, gcs_place, gcs_settings, get, put

CONTENT = b"the bytes of a file"


@pytest.fixture
def site(gcs: Gcs) -> Iterator[Place]:
    made = gcs_place(gcs)
    with made.closing:
        made.storage.stat(NAME)  # the token is fetched: what a test counts is its own
        gcs.faults.clear()
        yield made


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
    for call in (storage.check, lambda: put(storage, CONTENT)):
        with pytest.raises(StorageError, match=r"gcs\.credentials_file"):
            call()


def test_a_storage_that_is_not_there_is_unavailable(site: Place) -> None:
    storage = GcsStorage(gcs_settings(site, endpoint="http://127.0.0.1:1"), patience=HASTE)
    calls: list[Callable[[], object]] = [
        storage.check,
        lambda: put(storage, CONTENT),
        lambda: storage.stat(NAME),
        lambda: storage.delete(NAME, generation=1),
        lambda: list(storage.list("")),
    ]
    for call in calls:
        with pytest.raises(StorageUnavailableError, match="does not answer"):
            call()
    storage.close()


def test_an_endpoint_that_is_no_url_is_named(site: Place) -> None:
    storage = GcsStorage(gcs_settings(site, endpoint="storage.example.com"), patience=HASTE)
    with pytest.raises(ServiceError, match=r"gcs\.endpoint"):
        put(storage, CONTENT)
    storage.close()


def test_a_token_that_cannot_be_had_now_is_unavailable_and_a_refused_one_is_not(site: Place, gcs: Gcs) -> None:
    storage = GcsStorage(gcs_settings(site), patience=HASTE)
    gcs.faults.fail("token", status=403, times=20)
    with pytest.raises(StorageError, match=r"credentials"):
        storage.stat(NAME)
    storage.close()


def test_threads_share_a_storage_from_its_first_use(site: Place) -> None:
    storage = GcsStorage(gcs_settings(site), patience=QUICK)
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


def test_the_web_needs_no_right_to_write(site: Place, gcs: Gcs) -> None:
    gcs.faults.misreport("bucket.permissions", {"permissions": ["storage.objects.get"]}, times=2)
    site.storage.check(writing=False)
    with pytest.raises(StorageError, match=r"lacks storage\.objects\.create"):
        site.storage.check()
    gcs.faults.misreport("bucket.permissions", {"permissions": []})
    with pytest.raises(StorageError, match=r"lacks storage\.objects\.get on bucket"):
        site.storage.check(writing=False)


@pytest.mark.parametrize("status", [404, 405, 501])
def test_an_endpoint_that_knows_no_permissions_is_not_ill(site: Place, gcs: Gcs, status: int) -> None:
    gcs.faults.fail("bucket.permissions", status=status)
    site.storage.check()


def test_the_doctor_answers_at_once(site: Place, gcs: Gcs) -> None:
    gcs.faults.fail("bucket.permissions", times=1)
    with pytest.raises(StorageUnavailableError):
        site.storage.check()
    assert gcs.faults.count("bucket.permissions") == 1


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
    stored = put(site.storage, CONTENT)
    account = gcs.email if named else None
    storage = GcsStorage(gcs_settings(site, credentials_file=None, signing_account=account), patience=QUICK)
    storage.check()
    signed = storage.sign(stored, file_name="x.csv", content_type="text/csv", lifetime=timedelta(hours=1))
    assert gcs.faults.count("sign_blob") == 1
    assert get(signed.url).body == CONTENT
    gcs.clock.advance(3660)
    assert get(signed.url).status == 400
    storage.close()


@pytest.mark.usefixtures("machine")
def test_links_are_signed_over_one_connection_and_again_where_it_breaks(site: Place, gcs: Gcs) -> None:
    stored = put(site.storage, CONTENT)
    storage = GcsStorage(gcs_settings(site, credentials_file=None, signing_account=gcs.email), patience=QUICK)

    def sign() -> str:
        return storage.sign(stored, file_name="x.csv", content_type="text/csv", lifetime=timedelta(hours=1)).url

    assert get(sign()).body == get(sign()).body == CONTENT
    assert (gcs.faults.count("sign_blob"), gcs.faults.connections("sign_blob")) == (2, 1)
    gcs.faults.lose_answer("sign_blob")
    assert get(sign()).body == CONTENT
    assert (gcs.faults.count("sign_blob"), gcs.faults.connections("sign_blob")) == (4, 2)
    gcs.faults.lose_answer("sign_blob", times=2)
    with pytest.raises(StorageUnavailableError):
        sign()
    storage.close()


@pytest.mark.usefixtures("machine")
def test_a_refused_sign_blob_names_the_role(site: Place, gcs: Gcs) -> None:
    stored = put(site.storage, CONTENT)
    storage = GcsStorage(gcs_settings(site, credentials_file=None, signing_account="other@tests.test"), patience=QUICK)
    with pytest.raises(StorageError, match=r"other@tests\.test.*Service Account Token Creator"):
        storage.sign(stored, file_name="x.csv", content_type="text/csv", lifetime=timedelta(hours=1))
    storage.close()


def test_links_are_dated_back_and_end_when_they_say(site: Place, gcs: Gcs) -> None:
    moment = datetime(2026, 5, 26, 2, 0, 0, 987654, tzinfo=UTC)
    storage = GcsStorage(gcs_settings(site), now=lambda: moment)
    stored = StoredObject("b", "a/b.csv", 7, 1, "AAAAAA==", moment)
    signed = storage.sign(stored, file_name="x.csv", content_type="text/csv", lifetime=timedelta(hours=1))
    assert "X-Goog-Date=20260526T015900Z" in signed.url
    assert "X-Goog-Expires=3660" in signed.url
    assert "generation=7" in signed.url
    assert signed.expires_at == datetime(2026, 5, 26, 3, 0, 0, tzinfo=UTC)
    storage.close()
