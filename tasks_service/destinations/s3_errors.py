"""What Amazon's libraries raise, turned into the service's errors.

The words are ours: the backend's text, which may name accounts and keys, stays in the chained cause. What lives here:
which failure passes by itself, and what to do about the others. Called by s3.py.
"""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from tasks_service.destinations import DestinationChangedError, DestinationError, DestinationUnavailableError
from tasks_service.errors import CorruptUploadError, ServiceError, asked_seconds

_PASSING = frozenset({408, 429})
_PASSING_CODES = frozenset({"RequestTimeout", "SlowDown", "Throttling", "ThrottlingException", "OperationAborted"})
_CHANGED = frozenset({"PreconditionFailed", "ConditionalRequestConflict", "412", "409"})
_LOST = frozenset({"NoSuchUpload"})
_CREDENTIALS = frozenset(
    {"InvalidAccessKeyId", "SignatureDoesNotMatch", "ExpiredToken", "InvalidToken", "TokenRefreshRequired", "401"}
)


class LostUploadError(DestinationUnavailableError):
    """The destination knows the upload no more; the push must start over."""


@dataclass(frozen=True)
class Told:
    """What errors name: the destination's name in the configuration, and its bucket."""

    name: str
    bucket: str

    @contextmanager
    def translated(self) -> Generator[None]:
        """Translate every vendor error raised inside; the service's own pass."""
        try:
            yield
        except ServiceError:
            raise
        except Exception as error:
            ours = self._translate(error)
            if ours is None:
                raise
            raise ours from error

    def _translate(self, error: Exception) -> ServiceError | None:
        """Return the service's error for one of the libraries', or None for an error that is not theirs."""
        import botocore.exceptions  # pyright: ignore[reportMissingTypeStubs] -- it has none

        exceptions: Any = botocore.exceptions
        if isinstance(error, exceptions.ClientError):
            return self._answered(error)
        passing = (exceptions.ConnectionError, exceptions.HTTPClientError, exceptions.IncompleteReadError)
        if isinstance(error, (*passing, exceptions.CredentialRetrievalError)):
            return self._unavailable()
        if isinstance(error, (exceptions.NoCredentialsError, exceptions.PartialCredentialsError)):
            return self._refused(
                f"there are no usable AWS credentials: set destinations.{self.name}.access_key_id and "
                "secret_access_key, or its profile, or run where the machine has an identity of its own."
            )
        if isinstance(error, (exceptions.BotoCoreError, ValueError)):
            return self._refused(
                "no request can be made to the bucket, for the AWS configuration has no such profile or no region, or "
                f"the endpoint is not a URL; check profile, region and endpoint in [destinations.{self.name}]."
            )
        return None

    def _answered(self, error: Any) -> ServiceError:  # noqa: ANN401 -- a vendor's error
        answer: dict[str, Any] = error.response
        code = str(answer.get("Error", {}).get("Code", ""))
        metadata: dict[str, Any] = answer.get("ResponseMetadata", {})
        status = int(metadata.get("HTTPStatusCode", 0))
        if code in _CHANGED:
            return DestinationChangedError()
        if code in _LOST:
            return LostUploadError(f"{self.name}: the bucket {self.bucket} has lost the upload; it starts over.")
        if code == "BadDigest":
            return CorruptUploadError("The bytes were damaged on their way to the destination, which refused them.")
        if status >= 500 or status in _PASSING or code in _PASSING_CODES:  # noqa: PLR2004 -- the class of server errors
            headers: dict[str, str] = metadata.get("HTTPHeaders", {})
            return self._unavailable(asked_seconds(headers.get("retry-after")))
        return self._refused(self._explained(code, status, error.operation_name))

    def _explained(self, code: str, status: int, operation: str) -> str:
        section = f"[destinations.{self.name}]"
        if code in _CREDENTIALS:
            return f"Amazon S3 does not accept the credentials for bucket {self.bucket}; check {section}."
        if code == "RequestTimeTooSkewed":
            return f"the clock of this host is wrong, and bucket {self.bucket} refuses what it signs; synchronise it."
        if code in {"AccessDenied", "403", "Forbidden", "AllAccessDisabled"} or status == 403:  # noqa: PLR2004 -- forbidden
            return (
                f"{operation} is refused in bucket {self.bucket}; grant the identity of {section} what "
                "docs/destinations.md lists (without s3:ListBucket a name that is free is answered so too)."
            )
        if code in {"NoSuchBucket", "404"}:
            return f"the bucket {self.bucket} does not exist; check bucket, region and endpoint in {section}."
        return f"bucket {self.bucket} refused {operation} ({code or status}); check region and endpoint in {section}."

    def _refused(self, detail: str) -> DestinationError:
        return DestinationError(f"{self.name}: {detail}")

    def _unavailable(self, retry_after: float | None = None) -> DestinationUnavailableError:
        detail = f"{self.name}: the bucket {self.bucket} does not answer; it is tried again."
        return DestinationUnavailableError(detail, retry_after=retry_after)
