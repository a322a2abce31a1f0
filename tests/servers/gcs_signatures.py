"""V4 signed links, judged as Google Cloud Storage judges them: signature, date, expiry, scope.

Source: the public description of the V4 signing process (canonical request, string to sign). The emulator
checks none of this.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import re
from collections.abc import Mapping
from urllib.parse import parse_qsl, quote

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa

ALGORITHM = "GOOG4-RSA-SHA256"
LONGEST_SECONDS = 7 * 24 * 3600
SKEW = dt.timedelta(minutes=15)


class RefusedError(Exception):
    """The link is not accepted: HTTP status, the code of the XML answer, a message."""

    def __init__(self, status: int, code: str, message: str) -> None:
        super().__init__(message)
        self.status = status
        self.code = code


def check(
    method: str,
    path: str,
    query: str,
    headers: Mapping[str, str],
    *,
    email: str,
    key: rsa.RSAPublicKey,
    now: dt.datetime,
) -> dict[str, str]:
    """Judge a signed request; returns its query parameters.

    Args:
        method: of the request.
        path: as sent, percent-encoded.
        query: as sent, without the question mark.
        headers: names in lower case.
        email: the only account whose signature counts.
        key: its public key.
        now: the storage's time.

    Raises:
        RefusedError: with the status and code Google answers.
    """
    pairs = parse_qsl(query, keep_blank_values=True)
    found = dict(pairs)
    if len(found) != len(pairs):
        raise RefusedError(400, "InvalidQueryParameterValue", "a parameter occurs twice")
    if found.get("X-Goog-Algorithm") != ALGORITHM or "X-Goog-Signature" not in found:
        raise RefusedError(403, "AccessDenied", "anonymous callers have no access")
    signed_at, expires = _times(found)
    scope = f"{signed_at:%Y%m%d}/auto/storage/goog4_request"
    if found.get("X-Goog-Credential") != f"{email}/{scope}":
        raise RefusedError(403, "SignatureDoesNotMatch", "the credential is not of this account and day")
    canonical = _canonical(method, path, pairs, headers, found.get("X-Goog-SignedHeaders", ""))
    digest = hashlib.sha256(canonical.encode()).hexdigest()
    signed = "\n".join([ALGORITHM, found["X-Goog-Date"], scope, digest])
    try:
        signature = bytes.fromhex(found["X-Goog-Signature"])
        key.verify(signature, signed.encode(), padding.PKCS1v15(), hashes.SHA256())
    except (ValueError, InvalidSignature) as error:
        raise RefusedError(403, "SignatureDoesNotMatch", "the signature is of another request") from error
    if now < signed_at - SKEW:
        raise RefusedError(403, "AccessDenied", "the link is not valid yet")
    if now >= signed_at + expires:
        raise RefusedError(400, "ExpiredToken", "the link has expired")
    return found


def _times(found: Mapping[str, str]) -> tuple[dt.datetime, dt.timedelta]:
    try:
        signed_at = dt.datetime.strptime(f"{found.get('X-Goog-Date', '')}+0000", "%Y%m%dT%H%M%SZ%z")
    except ValueError as error:
        raise RefusedError(400, "AuthenticationQueryParametersError", "X-Goog-Date is not a date") from error
    lifetime = found.get("X-Goog-Expires", "")
    if not re.fullmatch(r"\d{1,6}", lifetime) or not 0 < int(lifetime) <= LONGEST_SECONDS:
        raise RefusedError(400, "AuthenticationQueryParametersError", "X-Goog-Expires is not 1 to 604800")
    return signed_at, dt.timedelta(seconds=int(lifetime))


def _canonical(
    method: str, path: str, pairs: list[tuple[str, str]], headers: Mapping[str, str], signed_headers: str
) -> str:
    names = signed_headers.split(";")
    if "host" not in names or names != sorted(names):
        raise RefusedError(400, "AuthenticationQueryParametersError", "X-Goog-SignedHeaders lacks host")
    query = "&".join(
        f"{name}={value}"
        for name, value in sorted(
            (quote(name, safe="-_.~"), quote(value, safe="-_.~")) for name, value in pairs if name != "X-Goog-Signature"
        )
    )
    lines = [f"{name}:{' '.join(headers.get(name, '').split())}" for name in names]
    payload = headers.get("x-goog-content-sha256", "UNSIGNED-PAYLOAD")
    return "\n".join([method, path, query, *lines, "", signed_headers, payload])
