"""V4 signed URLs: the canonical request and the string to sign, as Google's public description lays them down.

Pure: no key, no clock and no vendor library here; gcs_signers.py signs. The client library's own signer takes
the date from the host's clock alone; here the date is given, so that a link may be dated a minute back and
its end tested. A test compares every character with the client library's answer. Called by gcs.py.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

ALGORITHM = "GOOG4-RSA-SHA256"
LONGEST = timedelta(days=7)

DATED_BACK = timedelta(minutes=1)
"""A link dated by a host whose clock runs ahead is not valid yet; every link is dated so much back, and lives as much
longer, so that it ends when it is said to end."""


@dataclass(frozen=True)
class Download:
    """What a link gives: one generation of one object, saved under a name, as a type."""

    bucket: str
    name: str
    generation: int
    disposition: str
    content_type: str


def signed_url(
    download: Download,
    *,
    endpoint: str,
    account: str,
    sign: Callable[[bytes], bytes],
    dated: datetime,
    lifetime: timedelta,
) -> str:
    """Return a GET link.

    Args:
        download: what it gives.
        endpoint: scheme and host it is fetched from; the host is signed too.
        account: e-mail address of the service account that signs.
        sign: RSA-SHA256 (PKCS #1 v1.5) of the bytes it is given, by that account.
        dated: X-Goog-Date; the link is valid from then on.
        lifetime: from `dated`; at most seven days.

    Raises:
        ValueError: the lifetime is not between a second and seven days.
    """
    if not timedelta(seconds=1) <= lifetime <= LONGEST:
        raise ValueError(f"a signed link lives from 1 second to 7 days, not {lifetime}")
    date = dated.astimezone(UTC).strftime("%Y%m%dT%H%M%SZ")
    scope = f"{date[:8]}/auto/storage/goog4_request"
    query = _query(
        {
            "X-Goog-Algorithm": ALGORITHM,
            "X-Goog-Credential": f"{account}/{scope}",
            "X-Goog-Date": date,
            "X-Goog-Expires": str(int(lifetime.total_seconds())),
            "X-Goog-SignedHeaders": "host",
            "generation": str(download.generation),
            "response-content-disposition": download.disposition,
            "response-content-type": download.content_type,
        }
    )
    resource = f"/{download.bucket}/{quote(download.name, safe='/~')}"
    host = urlsplit(endpoint).netloc
    canonical = "\n".join(["GET", resource, query, f"host:{host}", "", "host", "UNSIGNED-PAYLOAD"])
    digest = hashlib.sha256(canonical.encode("ascii")).hexdigest()
    signature = sign(f"{ALGORITHM}\n{date}\n{scope}\n{digest}".encode("ascii"))
    return f"{endpoint}{resource}?{query}&X-Goog-Signature={signature.hex()}"


def _query(parameters: dict[str, str]) -> str:
    return "&".join(sorted(f"{quote(name, safe='~')}={quote(value, safe='~')}" for name, value in parameters.items()))
