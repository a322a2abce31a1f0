"""The storage of the tests refuses what Google Cloud Storage refuses, and breaks where a test says so."""

from __future__ import annotations

import contextlib
import datetime as dt
import threading
import urllib.error
import urllib.request
import zlib
from collections.abc import Iterator
from email.message import Message
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from google.cloud.storage import Bucket, Client

    from tests.servers.gcs import Gcs

MIB = 1024 * 1024


@pytest.fixture
def client(gcs: Gcs) -> Iterator[Client]:
    from google.cloud import storage

    client = storage.Client.from_service_account_json(
        str(gcs.credentials_file), client_options={"api_endpoint": gcs.endpoint}
    )
    yield client
    client.close()


@pytest.fixture
def bucket(gcs: Gcs, client: Client) -> Bucket:
    return client.bucket(gcs.bucket())


def _fetch(url: str, **headers: str) -> tuple[int, bytes, Message]:
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 -- loopback
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:  # noqa: S310 -- loopback
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


@contextlib.contextmanager
def _writing(blob: Any, **options: Any) -> Iterator[Any]:
    """A writer that is dead afterwards: one whose ``close()`` failed would upload again when it is collected."""
    writer = blob.open("wb", **options)
    try:
        yield writer
    finally:
        if not writer.closed:
            writer.terminate()


def _upload(bucket: Bucket, name: str, content: bytes, **options: Any) -> Any:
    blob = bucket.blob(name, chunk_size=MIB)
    with _writing(blob, if_generation_match=0, content_type="text/csv", **options) as writer:
        writer.write(content)
        writer.close()
    blob.reload()
    return blob


CONTENT = bytes(range(256)) * (3 * MIB // 256) + b"the end"


def test_a_resumable_upload_arrives_whole(bucket: Bucket) -> None:
    blob = _upload(bucket, "tmp/1764/7/1/file ü.csv", CONTENT)
    assert blob.size == len(CONTENT)
    assert blob.content_type == "text/csv"
    assert blob.download_as_bytes() == CONTENT


def test_a_whole_upload_arrives_and_is_guarded(bucket: Bucket) -> None:
    from google.api_core.exceptions import PreconditionFailed

    bucket.blob("a").upload_from_string(b"one", if_generation_match=0)
    with pytest.raises(PreconditionFailed):
        bucket.blob("a").upload_from_string(b"two", if_generation_match=0)
    assert bucket.blob("a").download_as_bytes() == b"one"


def test_without_a_token_nothing_is_served(gcs: Gcs, bucket: Bucket) -> None:
    bucket.blob("a").upload_from_string(b"one")
    assert _fetch(f"{gcs.endpoint}/storage/v1/b/{bucket.name}/o/a")[0] == 401
    assert _fetch(f"{gcs.endpoint}/{bucket.name}/a")[0] == 403


def test_a_second_upload_of_the_name_is_refused(bucket: Bucket) -> None:
    from google.cloud.storage.exceptions import InvalidResponse

    _upload(bucket, "a", b"one")
    with pytest.raises(InvalidResponse, match="412"):
        _upload(bucket, "a", b"two")


def test_of_two_sessions_only_one_finishes(bucket: Bucket) -> None:
    from google.cloud.storage.exceptions import InvalidResponse

    with _writing(bucket.blob("a", chunk_size=MIB), if_generation_match=0) as first:
        first.write(CONTENT)  # the session is open, the object not there yet
        _upload(bucket, "a", b"other")
        with pytest.raises(InvalidResponse, match="412"):
            first.close()
    assert bucket.blob("a").download_as_bytes() == b"other"


@pytest.mark.parametrize("operations", ["upload.chunk", "upload.start"])
def test_a_passing_error_changes_nothing(gcs: Gcs, bucket: Bucket, operations: str) -> None:
    gcs.faults.fail(operations, times=2)
    assert _upload(bucket, "a", CONTENT).crc32c
    assert bucket.blob("a").download_as_bytes() == CONTENT


@pytest.mark.parametrize("after", [0, 1, 300_000, MIB - 1])
def test_a_broken_connection_loses_and_doubles_no_byte(gcs: Gcs, bucket: Bucket, after: int) -> None:
    gcs.faults.reset("upload.chunk", after=after, skip=1)
    _upload(bucket, "a", CONTENT)
    assert bucket.blob("a").download_as_bytes() == CONTENT


def test_an_answer_lost_after_a_chunk_doubles_no_byte(gcs: Gcs, bucket: Bucket) -> None:
    gcs.faults.lose_answer("upload.chunk", skip=1)
    _upload(bucket, "a", CONTENT)
    assert bucket.blob("a").download_as_bytes() == CONTENT


def test_an_answer_lost_after_the_last_chunk_is_answered_again(gcs: Gcs, bucket: Bucket) -> None:
    gcs.faults.lose_answer("upload.chunk", skip=3)
    _upload(bucket, "a", CONTENT)
    assert bucket.blob("a").download_as_bytes() == CONTENT


def test_a_declared_checksum_that_is_wrong_makes_no_object(gcs: Gcs, bucket: Bucket) -> None:
    from google.cloud.storage.exceptions import InvalidResponse

    blob = bucket.blob("a", chunk_size=MIB)
    blob.crc32c = "AAAAAA=="
    with _writing(blob) as writer:
        writer.write(CONTENT)
        with pytest.raises(InvalidResponse, match="400"):
            writer.close()
    assert not bucket.blob("a").exists()


def test_delete_pins_the_generation(bucket: Bucket) -> None:
    from google.api_core.exceptions import NotFound, PreconditionFailed

    blob = _upload(bucket, "a", b"one")
    with pytest.raises(PreconditionFailed):
        bucket.blob("a").delete(if_generation_match=blob.generation + 1)
    with pytest.raises(NotFound):
        bucket.blob("a", generation=blob.generation + 1).delete()
    bucket.blob("a").delete(if_generation_match=blob.generation)
    assert not blob.exists()


def test_compose_minds_its_preconditions(bucket: Bucket) -> None:
    from google.api_core.exceptions import PreconditionFailed

    parts = [_upload(bucket, name, name.encode()) for name in ("p1", "p2")]
    whole = bucket.blob("whole")
    with pytest.raises(PreconditionFailed):
        whole.compose(parts, if_source_generation_match=[parts[0].generation, 1])
    whole.compose(parts, if_generation_match=0, if_source_generation_match=[part.generation for part in parts])
    assert whole.download_as_bytes() == b"p1p2"
    with pytest.raises(PreconditionFailed):
        bucket.blob("whole").compose(parts, if_generation_match=0)


def _sign(gcs: Gcs, blob: Any, **options: Any) -> str:
    options = {"version": "v4", "expiration": dt.timedelta(hours=1), **options}
    return str(blob.generate_signed_url(api_access_endpoint=gcs.endpoint, **options))


def test_a_signed_link_gives_the_file_its_name_and_type(gcs: Gcs, bucket: Bucket) -> None:
    blob = _upload(bucket, "tmp/1764/7/1/Product_Export-7.csv", b"id\n1\n")
    url = _sign(
        gcs,
        blob,
        response_disposition='attachment; filename="Product_Export-7.csv"',
        generation=blob.generation,
    )
    status, body, headers = _fetch(url)
    assert (status, body) == (200, b"id\n1\n")
    assert headers["Content-Disposition"] == 'attachment; filename="Product_Export-7.csv"'
    assert headers["Content-Type"] == "text/csv"
    assert zlib.crc32(body)
    assert _fetch(url, Range="bytes=3-")[:2] == (206, b"1\n")


def test_a_signed_link_expires(gcs: Gcs, bucket: Bucket) -> None:
    url = _sign(gcs, _upload(bucket, "a", b"one"))
    gcs.clock.advance(3590)
    assert _fetch(url)[0] == 200
    gcs.clock.advance(20)
    status, body, _ = _fetch(url)
    assert status == 400
    assert b"ExpiredToken" in body


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("/a?", "/b?"),
        ("X-Goog-Expires=3600", "X-Goog-Expires=360000"),
        ("generation=", "generation=9"),
        ("=text", "=html"),
    ],
)
def test_a_signed_link_cannot_be_altered(gcs: Gcs, bucket: Bucket, old: str, new: str) -> None:
    blob = _upload(bucket, "a", b"one")
    _upload(bucket, "b", b"secret")
    url = _sign(gcs, blob, generation=blob.generation, response_type="text")
    assert old in url
    assert _fetch(url)[0] == 200
    status, body, _ = _fetch(url.replace(old, new))
    assert status == 403
    assert b"SignatureDoesNotMatch" in body


def test_a_signed_link_is_of_one_generation(gcs: Gcs, bucket: Bucket) -> None:
    blob = _upload(bucket, "a", b"one")
    url = _sign(gcs, blob, generation=blob.generation)
    blob.delete()
    assert _fetch(url)[0] == 404
    _upload(bucket, "a", b"two")
    assert _fetch(url)[0] == 404


def test_a_link_of_another_key_is_refused(gcs: Gcs, bucket: Bucket) -> None:
    from google.auth.crypt import RSASigner
    from google.oauth2.service_account import Credentials

    blob = _upload(bucket, "a", b"one")
    own = Credentials.from_service_account_file(str(gcs.credentials_file))
    from cryptography.hazmat.primitives.asymmetric import rsa

    stranger = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    forged = Credentials(RSASigner(stranger), own.service_account_email, gcs.endpoint)
    assert _fetch(_sign(gcs, blob, credentials=forged))[0] == 403


def test_a_download_may_break_off(gcs: Gcs, bucket: Bucket) -> None:
    url = _sign(gcs, _upload(bucket, "a", CONTENT))
    gcs.faults.reset("signed", after=MIB)
    with pytest.raises((ConnectionError, EOFError, OSError)):
        _fetch(url)
    assert _fetch(url)[1] == CONTENT


def test_an_upload_can_be_held_and_released(gcs: Gcs, bucket: Bucket) -> None:
    gate = gcs.faults.hold("upload.chunk", skip=2)
    thread = threading.Thread(target=_upload, args=(bucket, "a", CONTENT))
    thread.start()
    assert gate.reached.wait(30)
    assert not bucket.blob("a").exists()
    gate.release()
    thread.join(30)
    assert bucket.blob("a").download_as_bytes() == CONTENT
    assert gcs.faults.count("upload.chunk") == 4


def test_a_machine_without_a_key_signs_by_iam(gcs: Gcs, bucket: Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    import google.auth.iam
    import google.auth.transport.requests
    from google.auth import compute_engine
    from google.auth.compute_engine import _metadata

    monkeypatch.setattr(_metadata, "_METADATA_ROOT", f"{gcs.endpoint}/computeMetadata/v1/", raising=False)
    monkeypatch.setattr(
        google.auth.iam, "_IAM_SIGN_ENDPOINT", gcs.endpoint + "/v1/projects/-/serviceAccounts/{}:signBlob"
    )
    blob = _upload(bucket, "a", b"one")
    request = google.auth.transport.requests.Request()
    credentials = compute_engine.Credentials(universe_domain="googleapis.com")
    token = _fetch(
        f"{gcs.endpoint}/computeMetadata/v1/instance/service-accounts/default/token",
        **{"Metadata-Flavor": "Google"},
    )
    assert token[0] == 200
    credentials.token = "token-of-the-tests"
    signer = google.auth.iam.Signer(request, credentials, gcs.email)
    from google.oauth2.service_account import Credentials

    url = _sign(gcs, blob, credentials=Credentials(signer, gcs.email, gcs.endpoint))
    assert _fetch(url)[:2] == (200, b"one")


def test_a_checksum_sent_with_the_last_bytes_is_compared(gcs: Gcs, bucket: Bucket, client: Client) -> None:
    for sent, status in (("AAAAAA==", 400), ("yZRlqg==", 200)):  # the second is that of "hello world"
        start = f"{gcs.endpoint}/upload/storage/v1/b/{bucket.name}/o?uploadType=resumable&name={status}"
        session = client._http.post(start, data=b"{}").headers["Location"]
        headers = {"X-Goog-Hash": f"crc32c={sent}", "Content-Range": "bytes 0-10/11"}
        assert client._http.put(session, data=b"hello world", headers=headers).status_code == status
    assert [blob.name for blob in bucket.list_blobs()] == ["200"]
