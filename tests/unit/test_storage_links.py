"""Local links: what a token holds, every way to alter it, and what a log may show."""

from __future__ import annotations

import base64
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_service.errors import ForbiddenError
from tasks_service.storage.links import Link, LinkSigner, redact_path

NOW = datetime(2026, 5, 26, 12, 0, tzinfo=UTC)
LINK = Link("exports/1764/1.csv", 7, "Prodüct_Export-1.csv", "text/csv", int((NOW + timedelta(hours=1)).timestamp()))
SIGNER = LinkSigner(b"the service's secret key")


def test_a_token_says_what_was_signed_and_is_safe_in_a_path() -> None:
    token = SIGNER.token(LINK)
    assert SIGNER.read(token, NOW) == LINK
    assert set(token) <= set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_")


@given(
    st.builds(
        Link,
        name=st.text(max_size=100),
        generation=st.integers(0, 2**63),
        file_name=st.text(st.characters(exclude_categories=["Cs"]), max_size=100),
        content_type=st.text(st.characters(exclude_categories=["Cs"]), max_size=50),
        expires=st.integers(int(NOW.timestamp()) + 1, 2**33),
    ).filter(lambda link: link.name.isascii())
)
def test_every_link_comes_back(link: Link) -> None:
    assert SIGNER.read(SIGNER.token(link), NOW) == link


def test_every_bit_of_every_byte_counts() -> None:
    raw = bytearray(base64.urlsafe_b64decode(SIGNER.token(LINK) + "=="))
    for position in range(len(raw)):
        for bit in range(8):
            raw[position] ^= 1 << bit
            token = base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
            with pytest.raises(ForbiddenError, match="altered"):
                SIGNER.read(token, NOW)
            raw[position] ^= 1 << bit


def test_every_other_character_anywhere_is_refused() -> None:
    """Also where base64 would decode to the same bytes: the unused bits of the last character."""
    token = SIGNER.token(LINK)
    for position in range(len(token)):
        for other in "ABCDwxyz0189-_+/=.~ %\x00é":
            if other != token[position]:
                with pytest.raises(ForbiddenError, match="altered"):
                    SIGNER.read(token[:position] + other + token[position + 1 :], NOW)


@given(st.text(max_size=300))
def test_anything_else_is_refused_and_never_a_crash(token: str) -> None:
    with pytest.raises(ForbiddenError, match="altered"):
        SIGNER.read(token, NOW)


@pytest.mark.parametrize(
    "token", ["", "A", "AA", "AAAA" * 2000, SIGNER.token(LINK)[:-1], SIGNER.token(LINK) + "A", SIGNER.token(LINK) + "="]
)
def test_cut_and_lengthened_tokens_are_refused(token: str) -> None:
    with pytest.raises(ForbiddenError, match="altered"):
        SIGNER.read(token, NOW)


def test_another_key_is_refused() -> None:
    with pytest.raises(ForbiddenError, match="altered"):
        LinkSigner(b"another key").read(SIGNER.token(LINK), NOW)


@pytest.mark.parametrize("late", [timedelta(0), timedelta(seconds=1), timedelta(days=400)])
def test_a_link_ends_at_its_second_and_says_how_to_get_another(late: timedelta) -> None:
    end = datetime.fromtimestamp(LINK.expires, UTC)
    assert SIGNER.read(SIGNER.token(LINK), end - timedelta(milliseconds=1)) == LINK
    with pytest.raises(ForbiddenError, match=r"expired.*download_url"):
        SIGNER.read(SIGNER.token(LINK), end + late)


def test_an_altered_link_is_altered_before_it_is_expired() -> None:
    """Whoever guesses learns nothing of what a token says."""
    with pytest.raises(ForbiddenError, match="altered"):
        SIGNER.read(SIGNER.token(LINK)[:-4], NOW + timedelta(days=1))


TOKEN = SIGNER.token(LINK)


@pytest.mark.parametrize(
    ("path", "shown"),
    [
        (f"/files/{TOKEN}/Product_Export-1.csv", "/files/[link]/Product_Export-1.csv"),
        (f"/files/{TOKEN}", "/files/[link]"),
        (f"/files/{TOKEN}?x=1", "/files/[link]?x=1"),
        (f"//files//{TOKEN}/x.csv", "//files//[link]/x.csv"),
        (f"/FILES/{TOKEN}/x.csv", "/FILES/[link]/x.csv"),
        (f"/base/files/{TOKEN}/x.csv", "/base/files/[link]/x.csv"),
        (f"https://exports.example.com/files/{TOKEN}/x.csv", "https://exports.example.com/files/[link]/x.csv"),
        (f"/%66iles/{TOKEN}/x.csv", "/files/[link]/x.csv"),
        (f"/files%2F{TOKEN}%2Fx.csv", "/files/[link]/x.csv"),
        (f"GET /files/{TOKEN}/x.csv HTTP/1.1", "GET /files/[link]/x.csv HTTP/1.1"),
        ("/tasks/12345/download_url", "/tasks/12345/download_url"),
        ("/tasks?x=%20", "/tasks?x=%20"),
        ("/", "/"),
        ("", ""),
    ],
)
def test_a_log_shows_no_token(path: str, shown: str) -> None:
    assert redact_path(path) == shown
