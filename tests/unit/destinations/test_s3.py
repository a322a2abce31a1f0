"""What the push to S3 decides without a bucket: sizes of parts, words for errors."""

from __future__ import annotations

import base64

import botocore.exceptions
import google_crc32c
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_service.destinations import DestinationChangedError, DestinationError, DestinationUnavailableError
from tasks_service.destinations.s3 import crc32c_of, part_bytes
from tasks_service.destinations.s3_errors import LostUploadError, Told
from tasks_service.errors import CorruptUploadError, ServiceError

MEBIBYTE = 1024 * 1024
LARGEST = 5 * 1024**4


@given(st.integers(1, LARGEST))
def test_an_object_of_any_size_has_no_more_parts_than_s3_takes(size: int) -> None:
    part = part_bytes(size)
    assert part >= 8 * MEBIBYTE
    assert part % MEBIBYTE == 0
    assert -(-size // part) <= 10_000


def test_parts_grow_only_where_they_must() -> None:
    assert part_bytes(78 * 1024**3) == 8 * MEBIBYTE
    assert part_bytes(79 * 1024**3) == 9 * MEBIBYTE


def test_a_checksum_is_written_as_s3_writes_it() -> None:
    assert crc32c_of(b"123456789") == base64.b64encode((0xE3069283).to_bytes(4, "big")).decode()
    assert int.from_bytes(base64.b64decode(crc32c_of(b"abc")), "big") == google_crc32c.value(b"abc")


def answered(code: str, status: int, **headers: str) -> botocore.exceptions.ClientError:
    metadata = {"HTTPStatusCode": status, "HTTPHeaders": headers}
    return botocore.exceptions.ClientError(
        {"Error": {"Code": code, "Message": "of account 1234"}, "ResponseMetadata": metadata},  # type: ignore[arg-type]
        "PutObject",
    )


def translated(error: Exception) -> ServiceError:
    with pytest.raises(ServiceError) as caught, Told("acme", "acme-exports").translated():
        raise error
    assert caught.value.__cause__ is error
    assert "1234" not in caught.value.detail
    return caught.value


@pytest.mark.parametrize(
    ("code", "status", "kind", "said"),
    [
        ("AccessDenied", 403, DestinationError, "PutObject is refused in bucket acme-exports; grant"),
        ("403", 403, DestinationError, "s3:ListBucket"),
        ("NoSuchBucket", 404, DestinationError, "the bucket acme-exports does not exist"),
        ("InvalidAccessKeyId", 403, DestinationError, "does not accept the credentials"),
        ("SignatureDoesNotMatch", 403, DestinationError, "does not accept the credentials"),
        ("ExpiredToken", 400, DestinationError, "does not accept the credentials"),
        ("RequestTimeTooSkewed", 403, DestinationError, "the clock of this host is wrong"),
        ("KMS.DisabledException", 400, DestinationError, "refused PutObject (KMS.DisabledException)"),
        ("PreconditionFailed", 412, DestinationChangedError, "at the same time"),
        ("ConditionalRequestConflict", 409, DestinationChangedError, "at the same time"),
        ("NoSuchUpload", 404, LostUploadError, "has lost the upload"),
        ("BadDigest", 400, CorruptUploadError, "damaged"),
        ("SlowDown", 503, DestinationUnavailableError, "does not answer"),
        ("InternalError", 500, DestinationUnavailableError, "does not answer"),
        ("RequestTimeout", 400, DestinationUnavailableError, "does not answer"),
        ("OperationAborted", 409, DestinationUnavailableError, "does not answer"),
        ("429", 429, DestinationUnavailableError, "does not answer"),
    ],
)
def test_an_answer_becomes_our_error(code: str, status: int, kind: type[ServiceError], said: str) -> None:
    found = translated(answered(code, status))
    assert type(found) is kind
    assert said in found.detail


def test_what_the_bucket_asks_to_be_left_alone_for_is_passed_on() -> None:
    found = translated(answered("SlowDown", 503, **{"retry-after": "7"}))
    assert isinstance(found, DestinationUnavailableError)
    assert found.retry_after == 7


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (botocore.exceptions.EndpointConnectionError(endpoint_url="x"), DestinationUnavailableError),
        (botocore.exceptions.ConnectTimeoutError(endpoint_url="x"), DestinationUnavailableError),
        (botocore.exceptions.ReadTimeoutError(endpoint_url="x"), DestinationUnavailableError),
        (botocore.exceptions.ConnectionClosedError(endpoint_url="x"), DestinationUnavailableError),
        (botocore.exceptions.CredentialRetrievalError(provider="x", error_msg="y"), DestinationUnavailableError),
        (botocore.exceptions.NoCredentialsError(), DestinationError),
        (botocore.exceptions.ProfileNotFound(profile="x"), DestinationError),
        (botocore.exceptions.NoRegionError(), DestinationError),
        (ValueError("Invalid endpoint: x"), DestinationError),
    ],
)
def test_no_answer_becomes_our_error(error: Exception, kind: type[ServiceError]) -> None:
    assert type(translated(error)) is kind


def test_errors_of_others_pass() -> None:
    with pytest.raises(ZeroDivisionError), Told("acme", "acme-exports").translated():
        raise ZeroDivisionError
