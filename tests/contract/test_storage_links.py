"""What every storage promises of its links, asked of both adapters: the bytes, the name, the time, and unaltered."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote, urlsplit

import pytest

from tests.storages import KINDS, NAME, Place, link, noise, place, put

HOUR = timedelta(hours=1)


@pytest.fixture(params=KINDS, name="site")
def _site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with place(request, tmp_path) as site:
        yield site


@pytest.mark.parametrize(
    "file_name",
    [
        "Product_Export-12345.csv",
        "Product_Export-12345-20260526T020000Z.csv.gz",
        "Prodüct \"1\"; x=%41 'a'.csv",
        "报告.csv",
    ],
)
def test_a_link_downloads_the_bytes_under_the_name(site: Place, file_name: str) -> None:
    stored = put(site.storage, noise(70_000))
    signed = site.storage.sign(stored, file_name=file_name, content_type="text/csv", lifetime=HOUR)
    fetched = site.fetch(signed.url)
    assert fetched.status == 200
    assert fetched.body == noise(70_000)
    headers = {name.lower(): value for name, value in fetched.headers.items()}
    assert headers["content-type"] == "text/csv"
    assert headers["content-disposition"].startswith("attachment; filename=")
    exact = file_name.replace('"', "_")
    assert headers["content-disposition"].endswith(f"filename*=UTF-8''{quote(exact, safe='!#$&+-.^_`|~')}")
    assert "no-store" in headers["cache-control"]


def test_compressed_files_are_served_as_files(site: Place) -> None:
    stored = put(site.storage, b"\x1f\x8b not really", kind="application/gzip")
    signed = site.storage.sign(
        stored, file_name="Product_Export-1.csv.gz", content_type="application/gzip", lifetime=HOUR
    )
    fetched = site.fetch(signed.url)
    headers = {name.lower(): value for name, value in fetched.headers.items()}
    assert headers["content-type"] == "application/gzip"
    assert "content-encoding" not in headers
    assert fetched.body == b"\x1f\x8b not really"


def test_a_link_lives_as_long_as_it_says(site: Place) -> None:
    stored = put(site.storage, b"x")
    signed = site.storage.sign(stored, file_name="x.csv", content_type="text/csv", lifetime=HOUR)
    assert timedelta(minutes=59) < signed.expires_at - datetime.now(UTC) <= HOUR
    assert signed.expires_at.tzinfo is not None
    site.advance(3600 - 120)
    assert site.fetch(signed.url).status == 200
    site.advance(120)
    late = site.fetch(signed.url)
    assert late.status in {400, 403}  # Google answers 400 ExpiredToken, the service 403
    assert b"expired" in late.body
    site.advance(-600)
    assert site.fetch(signed.url).status == 200


def test_a_link_altered_anywhere_is_refused(site: Place) -> None:
    """One bit of every character, of the path and the query; every bit of it is tried in tests/unit."""
    stored = put(site.storage, b"the only content there is")
    url = link(site, stored)
    start = len(url) - len(urlsplit(url).path) - (len(urlsplit(url).query) + 1 if urlsplit(url).query else 0)
    served: list[str] = []
    for position in range(start + 1, len(url)):
        other = chr(ord(url[position]) ^ (1 << position % 5))
        if not other.isprintable() or other in " #\\?/%&+":
            continue
        if site.fetch(url[:position] + other + url[position + 1 :]).status < 400:
            served.append(f"{url[position]} -> {other} at {position}")
    assert served == []


def test_a_link_serves_one_generation_and_no_other(site: Place) -> None:
    first = put(site.storage, b"first")
    url = link(site, first)
    assert site.fetch(url).body == b"first"
    site.storage.delete(NAME, generation=first.generation)
    assert site.fetch(url).status in {404, 410}
    second = put(site.storage, b"second")
    assert site.fetch(url).status in {404, 410}
    assert site.fetch(link(site, second)).body == b"second"


def test_a_link_hides_itself_from_logs(site: Place) -> None:
    stored = put(site.storage, b"x")
    signed = site.storage.sign(stored, file_name="x.csv", content_type="text/csv", lifetime=HOUR)
    assert urlsplit(signed.url).netloc not in repr(signed)
