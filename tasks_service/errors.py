"""Every error the service knows by name.

An error carries a stable ``code`` (a slug clients may switch on), the HTTP status it becomes, and whether trying
again can help. Adapters translate what their vendor library raises into one of these at their edge, with
``raise ... from exc``; the text of a backend never becomes the message. The runner reads ``retryable``; api/problems.py
turns the rest into ``application/problem+json``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import ClassVar

_LONGEST_NUMBER = 9


@dataclass(frozen=True)
class Fault:
    """One thing wrong with a request body: where (a JSON pointer), which kind (a slug), and what would be right."""

    pointer: str
    code: str
    detail: str


class ServiceError(Exception):
    """Something went wrong in the service."""

    code: ClassVar[str] = "internal_error"
    http_status: ClassVar[int] = 500
    retryable: ClassVar[bool] = False

    def __init__(self, detail: str | None = None, *, faults: Sequence[Fault] = ()) -> None:
        """Take a sentence for the user; without one, the first line of the class docstring serves."""
        self.detail = detail or (type(self).__doc__ or "").strip().splitlines()[0]
        self.faults = tuple(faults)
        super().__init__(self.detail)


class TransientError(ServiceError):
    """A part the service depends on did not answer; trying again can help.

    Attributes:
        retry_after: the seconds that part asked to be left alone for; None where it asked for nothing.
    """

    code = "unavailable"
    http_status = 503
    retryable = True

    def __init__(self, detail: str | None = None, *, retry_after: float | None = None) -> None:
        """Take a sentence for the user, and what the other side asked for."""
        super().__init__(detail)
        self.retry_after = retry_after


def asked_seconds(header: str | None) -> float | None:
    """Return the seconds a `Retry-After` header asks for; None without one, or where it is neither form of HTTP."""
    text = (header or "").strip()
    if text.isascii() and text.isdigit():
        return float(text[:_LONGEST_NUMBER])
    try:
        moment = parsedate_to_datetime(text)
    except ValueError:
        return None
    # HTTP's dates are in GMT, however they are written.
    return max(0.0, (moment.replace(tzinfo=moment.tzinfo or UTC) - datetime.now(UTC)).total_seconds())


# -- requests ---------------------------------------------------------------------------------------------------


class InvalidRequestError(ServiceError):
    """The request is not valid; `errors` names every fault."""

    code = "invalid_request"
    http_status = 422


class NotAuthenticatedError(ServiceError):
    """Send `Authorization: Bearer TOKEN_ID:TOKEN_SECRET` with a valid token."""

    code = "not_authenticated"
    http_status = 401


class ForbiddenError(ServiceError):
    """The token has no right to this."""

    code = "forbidden"
    http_status = 403


class NotFoundError(ServiceError):
    """There is nothing here."""

    code = "not_found"
    http_status = 404


class ConflictError(ServiceError):
    """The state of the task does not allow this now."""

    code = "conflict"
    http_status = 409


class GoneError(ServiceError):
    """The file has expired or was deleted; run the task again for a new one."""

    code = "gone"
    http_status = 410


class PreconditionFailedError(ServiceError):
    """It was changed since; read it again and repeat with its new ETag."""

    code = "precondition_failed"
    http_status = 412


class TooManyRequestsError(ServiceError):
    """Too much at once; wait `Retry-After` seconds."""

    code = "too_many_requests"
    http_status = 429


# -- configuration ----------------------------------------------------------------------------------------------


class ConfigurationError(ServiceError):
    """The configuration is not valid."""

    code = "invalid_configuration"


class SchemaVersionError(ConfigurationError):
    """The database's schema is not the one this version knows; run `tasks-service db upgrade`."""

    code = "schema_version"


# -- an export's ways to fail -----------------------------------------------------------------------------------


class SourceError(ServiceError):
    """The source refused the query."""

    code = "source_refused"
    http_status = 502


class UnfitDocumentError(ServiceError):
    """The format cannot hold a value of the documents as it is; the file was not published."""

    code = "unfit_document"
    http_status = 422


class LinkLimitError(ServiceError):
    """A group about another index selects more documents than it may; narrow its rules."""

    code = "link_limit"
    http_status = 422


class ZoneGoneError(ServiceError):
    """The time zone of the task was removed from the zone data, so nobody knows when its days begin."""

    code = "zone_gone"
    http_status = 409


class SourceUnavailableError(TransientError):
    """The source did not answer, or answered only in part."""

    code = "source_unavailable"


class SnapshotLostError(TransientError):
    """The source's snapshot expired or was lost in mid-read; the export starts over."""

    code = "snapshot_lost"


class IncompleteError(TransientError):
    """Fewer or more rows were read than the snapshot holds; the file was not published."""

    code = "incomplete"


class EmptyExportError(ServiceError):
    """No row matched, and the task asks for an error in that case (`on_empty: error`)."""

    code = "empty"


class StorageError(ServiceError):
    """The storage refused the file."""

    code = "storage_refused"
    http_status = 502


class StorageUnavailableError(TransientError):
    """The storage did not answer."""

    code = "storage_unavailable"


class CorruptUploadError(TransientError):
    """The storage reports another size or checksum than was written; the object was deleted."""

    code = "corrupt_upload"


class DatabaseUnavailableError(TransientError):
    """The database did not answer."""

    code = "database_unavailable"


# -- an attempt's ways to be ended from outside; none of them is a failure of the export ---------------------------


class StopAttempt(BaseException):
    """Base of what ends a running attempt from outside; derives from BaseException so that no handler swallows it."""


class Cancelled(StopAttempt):
    """Somebody asked for the run to be cancelled."""


class LeaseLost(StopAttempt):
    """Another worker owns the run now; nothing more may be written."""


class Interrupted(StopAttempt):
    """The worker is shutting down; the run goes back to the queue and burns no attempt."""
