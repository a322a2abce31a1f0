"""V4 links: every character as the client library writes them, every bit under the signature."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from urllib.parse import quote, urlsplit

import pytest
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from google.auth.credentials import Signing
from google.cloud.storage._signing import generate_signed_url_v4
from hypothesis import given
from hypothesis import strategies as st

from tasks_service.storage.gcs_links import Download, signed_url
from tasks_service.storage.names import attachment
from tests.servers.gcs_signatures import RefusedError, check

KEY = rsa.generate_private_key(public_exponent=65537, key_size=2048)
ACCOUNT = "exporter@tests.iam.gserviceaccount.com"
MOMENT = datetime(2026, 5, 26, 1, 59, 0, tzinfo=UTC)
HOUR = timedelta(hours=1)
DOWNLOAD = Download(
    "bucket", "exports/1764/1.csv", 1795394206960731, attachment("Prodüct 1.csv"), "text/csv; charset=utf-8"
)


def sign(message: bytes) -> bytes:
    return KEY.sign(message, padding.PKCS1v15(), hashes.SHA256())


class Account(Signing):
    """The same account, as the client library knows one."""

    signer_email = ACCOUNT
    signer = None

    def sign_bytes(self, message: bytes) -> bytes:
        return sign(message)


def ours(
    download: Download = DOWNLOAD, *, endpoint: str = "https://storage.googleapis.com", lifetime: timedelta = HOUR
) -> str:
    return signed_url(download, endpoint=endpoint, account=ACCOUNT, sign=sign, dated=MOMENT, lifetime=lifetime)


@given(
    name=st.from_regex(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,9}(/[A-Za-z0-9_=-][A-Za-z0-9._=-]{0,9}){0,3}", fullmatch=True),
    generation=st.integers(1, 2**63 - 1),
    file_name=st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    seconds=st.integers(1, 604800),
)
def test_every_character_is_as_the_client_library_writes_it(
    name: str, generation: int, file_name: str, seconds: int
) -> None:
    download = Download("bucket", name, generation, attachment(file_name), "text/csv; charset=utf-8")
    theirs = generate_signed_url_v4(
        Account(),
        f"/bucket/{quote(name, safe='/~')}",  # as Blob.generate_signed_url does
        seconds,
        response_type=download.content_type,
        response_disposition=download.disposition,
        generation=generation,
        _request_timestamp=MOMENT.strftime("%Y%m%dT%H%M%SZ"),
    )
    assert ours(download, lifetime=timedelta(seconds=seconds)) == theirs


def judged(url: str, *, now: datetime = MOMENT) -> dict[str, str]:
    parts = urlsplit(url)
    return check("GET", parts.path, parts.query, {"host": parts.netloc}, email=ACCOUNT, key=KEY.public_key(), now=now)


def test_the_signature_holds_under_the_public_key_and_pins_the_generation() -> None:
    said = judged(ours())
    assert said["generation"] == "1795394206960731"
    assert said["response-content-disposition"] == attachment("Prodüct 1.csv")
    assert said["response-content-type"] == "text/csv; charset=utf-8"
    assert said["X-Goog-Date"] == "20260526T015900Z"


def test_the_host_of_another_endpoint_is_signed() -> None:
    url = ours(endpoint="http://127.0.0.1:4443")
    assert url.startswith("http://127.0.0.1:4443/bucket/exports/1764/1.csv?")
    judged(url)
    with pytest.raises(RefusedError):
        judged(url.replace("127.0.0.1", "127.0.0.2"))


def test_every_bit_of_path_and_query_is_under_the_signature() -> None:
    """What may pass is another spelling of the same: a percent-encoded or hexadecimal digit in the other case."""
    url = ours()
    start = url.index("/bucket/")
    for position in range(start, len(url)):
        for bit in range(7):
            other = chr(ord(url[position]) ^ (1 << bit))
            altered = url[:position] + other + url[position + 1 :]
            try:
                judged(altered)
            except (RefusedError, ValueError):
                continue
            assert other.lower() == url[position].lower(), altered


@pytest.mark.parametrize("now", [MOMENT - timedelta(minutes=16), MOMENT + HOUR, MOMENT + timedelta(days=1)])
def test_it_is_good_for_its_time_only(now: datetime) -> None:
    judged(ours(), now=MOMENT + HOUR - timedelta(seconds=1))
    with pytest.raises(RefusedError):
        judged(ours(), now=now)


@pytest.mark.parametrize("lifetime", [timedelta(0), timedelta(seconds=-1), timedelta(days=7, seconds=1)])
def test_a_lifetime_google_refuses_is_not_signed(lifetime: timedelta) -> None:
    with pytest.raises(ValueError, match="7 days"):
        ours(lifetime=lifetime)
