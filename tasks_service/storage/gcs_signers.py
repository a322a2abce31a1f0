"""Who signs links: a service account's own key where there is one, and IAM's signBlob where there is none.

`compute_engine` and `identity_pool` credentials cannot sign by themselves; impersonated ones can. signBlob
needs the role Service Account Token Creator on the signing account, and its signatures hold for twelve hours.
Called by gcs.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from tasks_service.errors import StorageError
from tasks_service.storage import LINKS_AT_ONCE

CLOUD_PLATFORM = "https://www.googleapis.com/auth/cloud-platform"
READ_WRITE = "https://www.googleapis.com/auth/devstorage.read_write"

Sign = Callable[[bytes], bytes]


@dataclass(frozen=True)
class Signer:
    """A service account and the way to have bytes signed by it."""

    account: str
    sign: Sign


def choose_signer(credentials: Any, *, account: str | None, timeout: float) -> Signer:  # noqa: ANN401 -- a vendor's object
    """Return who signs.

    Args:
        credentials: of google-auth, any kind.
        account: the service account that shall sign by signBlob, or None for the credentials' own.
        timeout: seconds for each call.

    Raises:
        StorageError: the credentials name no service account, and no other is configured.
    """
    from google.auth.credentials import Signing

    if account is None and isinstance(credentials, Signing):
        key: Any = credentials  # the library's own types are unknown
        return Signer(str(key.signer_email), key.sign_bytes)
    account = account or _own_account(credentials, timeout)
    return Signer(account, _sign_blob(credentials, account, timeout))


def _own_account(credentials: Any, timeout: float) -> str:  # noqa: ANN401 -- a vendor's object
    """Return the e-mail address of the machine's service account; a machine learns it when it asks for a token."""
    if getattr(credentials, "service_account_email", None) == "default":
        credentials.refresh(_request(timeout))
    found = getattr(credentials, "service_account_email", None)
    if not found:
        raise StorageError(
            "These Google credentials cannot sign links and name no service account; set gcs.signing_account to one "
            "on which they have the role Service Account Token Creator."
        )
    return str(found)


def _sign_blob(credentials: Any, account: str, timeout: float) -> Sign:  # noqa: ANN401 -- a vendor's object
    from google.auth import iam

    # One for all links: each finds its connection open.
    signer: Any = iam.Signer(_request(timeout), credentials, account)

    def sign(message: bytes) -> bytes:
        from google.auth import exceptions

        try:
            return signer.sign(message)
        except exceptions.TransportError as error:
            if "signBlob API" not in str(error):
                raise  # the network, or retries that ran out
            raise StorageError(
                f"Links cannot be signed: IAM refused signBlob for {account}. The service's identity needs the role "
                "Service Account Token Creator on that account, and the IAM Credentials API must be enabled."
            ) from error

    return sign


def _request(timeout: float) -> Any:  # noqa: ANN401 -- a vendor's object
    from google.auth.transport import requests
    from requests import Session
    from requests.adapters import HTTPAdapter
    from urllib3.util import Retry

    session = Session()
    # A signature may be asked for twice: a connection that the other side closed meanwhile costs nothing else.
    again = Retry(total=1, status=0, allowed_methods=None)
    session.mount("https://", HTTPAdapter(pool_maxsize=LINKS_AT_ONCE, max_retries=again))
    session.mount("http://", HTTPAdapter(pool_maxsize=LINKS_AT_ONCE, max_retries=again))
    request: Any = requests.Request(session)

    def with_timeout(url: str, **arguments: Any) -> Any:  # noqa: ANN401 -- passed through
        return request(url, **{"timeout": timeout, **arguments})

    return with_timeout
