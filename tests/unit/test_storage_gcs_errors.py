"""Each failure of Google's libraries, in our words: which passes by itself, and what to do about the others."""

from __future__ import annotations

import http.client

import pytest
import requests
import urllib3
from google.api_core import exceptions as api
from google.auth import exceptions as auth

from tasks_service.errors import ServiceError, StorageError, StorageUnavailableError
from tasks_service.storage.gcs_errors import refused, translate, translated

SECRET = "account x@project.iam.gserviceaccount.com"


def lost_refresh() -> Exception:
    error = auth.RefreshError(SECRET)
    error.__cause__ = auth.TransportError(SECRET)
    return error


PASSING = [
    api.TooManyRequests(SECRET),
    api.InternalServerError(SECRET),
    api.BadGateway(SECRET),
    api.ServiceUnavailable(SECRET),
    api.GatewayTimeout(SECRET),
    api.RetryError(SECRET, cause=None),
    requests.ConnectionError(SECRET),
    requests.exceptions.SSLError(SECRET),
    requests.Timeout(SECRET),
    requests.exceptions.ChunkedEncodingError(SECRET),
    urllib3.exceptions.ProtocolError(SECRET),
    http.client.IncompleteRead(b""),
    ConnectionResetError(SECRET),
    BrokenPipeError(SECRET),
    TimeoutError(SECRET),
    auth.TransportError(SECRET),
    auth.RefreshError(SECRET, retryable=True),
    lost_refresh(),
]


@pytest.mark.parametrize("error", PASSING, ids=lambda error: type(error).__name__)
def test_what_passes_by_itself(error: Exception) -> None:
    ours = translate(error, "bucket")
    assert isinstance(ours, StorageUnavailableError)
    assert SECRET not in ours.detail


LASTING = [
    (api.BadRequest(SECRET), "HTTP 400"),
    (api.Unauthorized(SECRET), "gcs.credentials_file"),
    (api.Forbidden(SECRET), "roles/storage.objectUser"),
    (api.NotFound(SECRET), "gcs.bucket"),
    (api.PreconditionFailed(SECRET), "HTTP 412"),
    (api.Forbidden("Permission denied on Cloud KMS key " + SECRET), "CMEK"),
    (api.BadRequest("Cloud KMS key is disabled " + SECRET), "CMEK"),
    (auth.DefaultCredentialsError(SECRET), "gcs.credentials_file"),
    (auth.MalformedError(SECRET), "gcs.credentials_file"),
    (auth.RefreshError(SECRET), "credentials"),
    (requests.exceptions.MissingSchema(SECRET), "gcs.endpoint"),
    (requests.exceptions.InvalidURL(SECRET), "gcs.endpoint"),
]


@pytest.mark.parametrize(("error", "advice"), LASTING, ids=[type(error).__name__ for error, _ in LASTING])
def test_what_somebody_must_mend(error: Exception, advice: str) -> None:
    ours = translate(error, "bucket")
    assert isinstance(ours, StorageError)
    assert not ours.retryable
    assert advice in ours.detail
    assert SECRET not in ours.detail


@pytest.mark.parametrize("status", range(500, 512))
def test_every_error_of_the_server_passes(status: int) -> None:
    assert isinstance(refused(status, SECRET, "bucket"), StorageUnavailableError)


def test_an_error_of_our_own_making_is_not_dressed_up() -> None:
    assert translate(KeyError("x"), "bucket") is None
    with pytest.raises(KeyError), translated("bucket"):
        raise KeyError("x")


def test_the_services_errors_and_what_ends_an_attempt_pass_untouched() -> None:
    for error in (StorageError("mine"), KeyboardInterrupt()):
        with pytest.raises(type(error)) as caught, translated("bucket"):
            raise error
        assert caught.value is error


def test_the_cause_is_kept_for_the_log() -> None:
    with pytest.raises(ServiceError) as caught, translated("bucket"):
        raise api.Forbidden(SECRET)
    assert isinstance(caught.value.__cause__, api.Forbidden)


def test_what_the_storage_asks_for_is_passed_on() -> None:
    response = requests.Response()
    response.headers["Retry-After"] = "7"
    asked = translate(api.TooManyRequests(SECRET, response=response), "bucket")
    assert isinstance(asked, StorageUnavailableError)
    assert asked.retry_after == 7
    upload = refused(503, SECRET, "bucket", retry_after="30")
    assert isinstance(upload, StorageUnavailableError)
    assert upload.retry_after == 30
