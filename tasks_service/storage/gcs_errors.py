"""What Google's libraries raise, turned into the service's errors.

The words are ours: the backend's text, which may name accounts, projects and links, stays in the chained
cause. What lives here: which failure passes by itself, and what to do about the others. Called by the other
gcs modules.
"""

from __future__ import annotations

import http.client
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

from tasks_service.errors import ServiceError, StorageError, StorageUnavailableError, asked_seconds

SECTION = "gcs"
"""The section of the settings that names the bucket, unless told otherwise."""

PASSING_STATUSES = frozenset({408, 429, 500, 502, 503, 504})


@contextmanager
def translated(bucket: str, section: str = SECTION) -> Generator[None]:
    """Translate every vendor error raised inside; the service's own pass."""
    try:
        yield
    except ServiceError:
        raise
    except Exception as error:
        ours = translate(error, bucket, section)
        if ours is None:
            raise
        raise ours from error


def translate(error: Exception, bucket: str, section: str = SECTION) -> ServiceError | None:
    """Return the service's error for one of the libraries', or None for an error that is not theirs."""
    judges = (_transport_error, _authentication_error, _api_error)
    return next((ours for judge in judges if (ours := judge(error, bucket, section)) is not None), None)


def refused(
    status: int, text: str, bucket: str, section: str = SECTION, *, retry_after: str | None = None
) -> ServiceError:
    """Return the error of an HTTP status that is not a success. `text` is looked at, never passed on.

    `retry_after` is the header of that name.
    """
    if status in PASSING_STATUSES or status >= 500:  # noqa: PLR2004 -- the class of server errors
        return unavailable(asked_seconds(retry_after))
    if "kms" in text.lower():
        return StorageError(
            "The encryption key (CMEK) of the bucket cannot be used: it is disabled or destroyed, or the storage's "
            "service agent has no right to it. Enable the key and grant the agent Cloud KMS CryptoKey "
            "Encrypter/Decrypter."
        )
    explained = {
        401: f"Google Cloud Storage does not accept the credentials; check {section}.credentials_file, or the identity "
        "of the machine.",
        403: f"The service account may not do this in bucket {bucket}; grant it Storage Object User "
        "(roles/storage.objectUser) on the bucket.",
        404: f"The bucket {bucket} does not exist, or the service account may not see it; check {section}.bucket.",
    }
    return StorageError(explained.get(status, f"Google Cloud Storage refused the request (HTTP {status})."))


def unavailable(retry_after: float | None = None) -> StorageUnavailableError:
    """Return the error of a storage that does not answer, or asked to be left alone for so many seconds."""
    return StorageUnavailableError("Google Cloud Storage does not answer; it is tried again.", retry_after=retry_after)


def no_credentials(section: str = SECTION) -> StorageError:
    """Return the error of a machine without an identity, or with a key that cannot be read."""
    return StorageError(
        f"There are no usable Google credentials: set {section}.credentials_file to the JSON key of a service account, "
        "or run where the machine has an identity of its own."
    )


def _transport_error(error: Exception, bucket: str, section: str) -> ServiceError | None:
    del bucket
    import requests
    import urllib3

    if isinstance(
        error, (requests.exceptions.InvalidURL, requests.exceptions.InvalidSchema, requests.exceptions.MissingSchema)
    ):
        return StorageError(f"{section}.endpoint is not a URL; write it as https://storage.example.com.")
    passing = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, ConnectionError)
    return unavailable() if isinstance(error, (*passing, TimeoutError)) else None


def _authentication_error(error: Exception, bucket: str, section: str) -> ServiceError | None:
    from google.auth import exceptions

    if not isinstance(error, exceptions.GoogleAuthError):
        return None
    if isinstance(error, (exceptions.DefaultCredentialsError, exceptions.MalformedError)):
        return no_credentials(section)
    transport = isinstance(error, exceptions.TransportError) or isinstance(error.__cause__, exceptions.TransportError)
    untyped: Any = error
    return unavailable() if transport or untyped.retryable else refused(401, "", bucket, section)


def _api_error(error: Exception, bucket: str, section: str) -> ServiceError | None:
    from google.api_core import exceptions

    if isinstance(error, exceptions.RetryError):
        return unavailable()
    if isinstance(error, exceptions.GoogleAPICallError):
        untyped: Any = error
        asked = None if untyped.response is None else untyped.response.headers.get("Retry-After")
        return refused(int(error.code or 503), str(error), bucket, section, retry_after=asked)
    return None
