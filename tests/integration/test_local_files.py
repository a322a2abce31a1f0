"""Local links over real HTTP: ranges, names, headers, and every way a link is refused."""

from __future__ import annotations

import http.client
import random
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from werkzeug.serving import make_server

from tasks_service.config import LocalSettings
from tasks_service.storage import StoredObject
from tasks_service.storage.local import LocalStorage
from tests.storages import web

CONTENT = random.Random(1).randbytes(300_000)
NAME = "exports/1764/1.csv"


@dataclass
class Site:
    storage: LocalStorage
    stored: StoredObject
    directory: Path
    port: int = 0
    ahead: timedelta = timedelta()

    def link(self, *, file_name: str = "Product_Export-1.csv", content_type: str = "text/csv; charset=utf-8") -> str:
        signed = self.storage.sign(
            self.stored, file_name=file_name, content_type=content_type, lifetime=timedelta(hours=1)
        )
        return urlsplit(signed.url).path

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, dict[str, str], bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        connection.request(method, path, headers={name.replace("_", "-"): value for name, value in headers.items()})
        with connection.getresponse() as answer:
            return answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    made: list[Site] = []
    storage = LocalStorage(
        LocalSettings(directory=tmp_path),
        public_url="http://files.test",
        secret_key=b"k",
        now=lambda: datetime.now(UTC) + made[0].ahead,
    )
    with storage.upload(NAME, content_type="text/csv") as upload:
        upload.write(CONTENT)
        stored = upload.commit()
    server = make_server("127.0.0.1", 0, web(storage), threaded=True)
    made.append(Site(storage, stored, tmp_path, server.port))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
    thread.start()
    yield made[0]
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_whole_file_with_its_headers(site: Site) -> None:
    status, headers, body = site.ask(site.link())
    assert (status, body) == (200, CONTENT)
    assert headers["content-length"] == "300000"
    assert headers["content-type"] == "text/csv; charset=utf-8"
    assert headers["content-disposition"] == (
        "attachment; filename=\"Product_Export-1.csv\"; filename*=UTF-8''Product_Export-1.csv"
    )
    assert headers["cache-control"] == "private, no-store"
    assert headers["referrer-policy"] == "no-referrer"
    assert headers["x-content-type-options"] == "nosniff"
    assert headers["accept-ranges"] == "bytes"
    assert headers["x-goog-hash"] == f"crc32c={site.stored.crc32c}"
    assert headers["etag"].startswith(f'"{site.stored.generation}')
    assert "content-encoding" not in headers
    assert "set-cookie" not in headers


def test_a_head_tells_the_same_and_sends_nothing(site: Site) -> None:
    _, whole, _ = site.ask(site.link())
    status, headers, body = site.ask(site.link(), "HEAD")
    assert (status, body) == (200, b"")
    assert {name: value for name, value in headers.items() if name != "date"} == {
        name: value for name, value in whole.items() if name != "date"
    }


@pytest.mark.parametrize(
    ("asked", "first", "last"),
    [
        ("bytes=0-0", 0, 0),
        ("bytes=0-99", 0, 99),
        ("bytes=100-", 100, 299_999),
        ("bytes=299999-", 299_999, 299_999),
        ("bytes=-1", 299_999, 299_999),
        ("bytes=-1000", 299_000, 299_999),
        ("bytes=-999999", 0, 299_999),
        ("bytes=10-999999", 10, 299_999),
        ("Bytes = 5-6", 5, 6),
    ],
)
def test_a_range(site: Site, asked: str, first: int, last: int) -> None:
    status, headers, body = site.ask(site.link(), Range=asked)
    assert status == 206
    assert headers["content-range"] == f"bytes {first}-{last}/300000"
    assert headers["content-length"] == str(last - first + 1)
    assert body == CONTENT[first : last + 1]
    assert headers["content-disposition"].startswith("attachment")
    assert headers["cache-control"] == "private, no-store"


@pytest.mark.parametrize("asked", ["bytes=300000-", "bytes=999999-", "bytes=-0"])
def test_a_range_beyond_the_end_is_refused(site: Site, asked: str) -> None:
    status, headers, body = site.ask(site.link(), Range=asked)
    assert status == 416
    assert headers["content-range"] == "bytes */300000"
    assert CONTENT[:10] not in body


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,5-6",
        "rows=0-1",
        "bytes=x",
        "bytes=",
        "0-1",
        "bytes=5-1",
        "bytes=-",
        "bytes=--1",
        f"bytes={'9' * 5000}-",
        "\xff",
    ],
)
def test_a_range_that_is_none_or_many_is_answered_with_the_whole(site: Site, asked: str) -> None:
    status, _, body = site.ask(site.link(), Range=asked)
    assert (status, body) == (200, CONTENT)


def test_a_broken_download_is_resumed(site: Site) -> None:
    link = site.link()
    _, headers, start = site.ask(link, Range="bytes=0-99999")
    status, _, rest = site.ask(link, Range="bytes=100000-", If_Range=headers["etag"])
    assert (status, start + rest) == (206, CONTENT)
    status, _, whole = site.ask(link, Range="bytes=100000-", If_Range='"another file"')
    assert (status, whole) == (200, CONTENT)


def test_what_is_known_already_is_not_sent_again(site: Site) -> None:
    _, headers, _ = site.ask(site.link())
    status, _, body = site.ask(site.link(), If_None_Match=headers["etag"])
    assert (status, body) == (304, b"")


def test_an_empty_file(site: Site) -> None:
    with site.storage.upload("empty.csv", content_type="text/csv") as upload:
        site.stored = upload.commit()
    status, headers, body = site.ask(site.link())
    assert (status, headers["content-length"], body) == (200, "0", b"")
    assert site.ask(site.link(), Range="bytes=0-")[0] in {200, 416}


def test_a_compressed_file_is_no_encoding(site: Site) -> None:
    link = site.link(file_name="Product_Export-1.csv.gz", content_type="application/gzip")
    _, headers, body = site.ask(link, Accept_Encoding="gzip")
    assert headers["content-type"] == "application/gzip"
    assert "content-encoding" not in headers
    assert body == CONTENT


@pytest.mark.parametrize("file_name", ["Prodüct 1.csv", "报告.csv", "100% & more?#.csv", "a;b=c.csv"])
def test_any_file_name_survives_its_link(site: Site, file_name: str) -> None:
    status, headers, body = site.ask(site.link(file_name=file_name))
    assert (status, body) == (200, CONTENT)
    assert headers["content-disposition"].isascii()


def test_an_expired_link_says_so(site: Site) -> None:
    link = site.link()
    site.ahead = timedelta(seconds=3599)
    assert site.ask(link)[0] == 200
    site.ahead = timedelta(seconds=3601)
    status, _, body = site.ask(link)
    assert status == 403
    assert b"expired" in body
    assert b"download_url" in body


def test_an_altered_link_says_so(site: Site) -> None:
    _, _, token, file_name = site.link().split("/")
    for path in (f"/files/{token[:-1]}/{file_name}", f"/files/x/{file_name}", f"/files/{token}/another.csv"):
        status, _, body = site.ask(path)
        assert status == 403
        assert b"altered" in body
    assert site.ask(f"/files/{token}")[0] == 404
    assert site.ask(f"/files/{token}/{file_name}/")[0] == 404
    assert site.ask(f"/files/{token}/../{file_name}")[0] in {403, 404}


def test_a_deleted_file_is_gone(site: Site) -> None:
    link = site.link()
    site.storage.delete(NAME, generation=site.stored.generation)
    status, _, body = site.ask(link)
    assert status == 410
    assert b"expired or was deleted" in body


def test_a_file_deleted_between_the_look_and_the_opening_is_gone(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    verify = site.storage.verify

    def delete_after(token: str, now: datetime | None = None) -> object:
        found = verify(token, now)
        site.storage.delete(NAME, generation=None)
        return found

    link = site.link()
    monkeypatch.setattr(site.storage, "verify", delete_after)
    assert site.ask(link)[0] == 410


def test_a_download_under_way_outlives_the_deletion(site: Site) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", site.port, timeout=60)
    connection.request("GET", site.link())
    with connection.getresponse() as answer:
        start = answer.read(10)
        site.storage.delete(NAME, generation=None)
        assert start + answer.read() == CONTENT
    connection.close()


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "PATCH"])
def test_a_link_only_reads(site: Site, method: str) -> None:
    status, _, body = site.ask(site.link(), method)
    assert status == 405
    assert CONTENT[:10] not in body
