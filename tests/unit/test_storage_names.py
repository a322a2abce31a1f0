"""Object names that stay in their place, and file names that stay in their header."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tasks_service.errors import StorageError
from tasks_service.storage.names import attachment, checked_name, checked_prefix


@pytest.mark.parametrize(
    "name", ["a", "a/b", "exports/1764/12345/7-1.csv.gz", "_a/-b/=c", "a..b", "x" * 200, "/".join(["x" * 99] * 9)]
)
def test_names_that_are_taken(name: str) -> None:
    assert checked_name(name) == name
    assert checked_prefix(name) == name


@pytest.mark.parametrize("prefix", ["", "a", "a/", "exports/1764/"])
def test_starts_of_names_that_are_taken(prefix: str) -> None:
    assert checked_prefix(prefix) == prefix


@pytest.mark.parametrize("prefix", ["/", "../", "a/../", "a//", "a@", ".", "a/.b", "x" * 901])
def test_starts_of_no_name_are_refused(prefix: str) -> None:
    with pytest.raises(StorageError, match="start of an object name"):
        checked_prefix(prefix)


@given(st.text(max_size=40))
def test_a_name_that_is_taken_climbs_nowhere(name: str) -> None:
    try:
        checked_name(name)
    except StorageError:
        return
    assert not {"", ".", ".."} & set(name.split("/"))
    assert not set(name) & set("@\\\0\n")


@pytest.mark.parametrize(
    ("file_name", "header"),
    [
        (
            "Product_Export-1.csv",
            "attachment; filename=\"Product_Export-1.csv\"; filename*=UTF-8''Product_Export-1.csv",
        ),
        ("a b.csv", "attachment; filename=\"a b.csv\"; filename*=UTF-8''a%20b.csv"),
        ("é.csv", "attachment; filename=\"e_.csv\"; filename*=UTF-8''%C3%A9.csv"),
        ("100%.csv", "attachment; filename=\"100_.csv\"; filename*=UTF-8''100%25.csv"),
        ('a"b\\c/d.csv', "attachment; filename=\"a_b_c_d.csv\"; filename*=UTF-8''a_b_c_d.csv"),
        ("a\r\nSet-Cookie: x", "attachment; filename=\"a__Set-Cookie: x\"; filename*=UTF-8''a__Set-Cookie%3A%20x"),
        ("\u202egnp.exe", "attachment; filename=\"_gnp.exe\"; filename*=UTF-8''_gnp.exe"),
        ("", "attachment; filename=\"download\"; filename*=UTF-8''download"),
    ],
)
def test_a_file_name_in_a_header(file_name: str, header: str) -> None:
    assert attachment(file_name) == header


@given(st.text())
def test_no_file_name_leaves_its_header(file_name: str) -> None:
    header = attachment(file_name)
    assert header.isascii()
    assert header.isprintable()
    plain, _, exact = header.removeprefix('attachment; filename="').partition("\"; filename*=UTF-8''")
    assert '"' not in plain
    assert len(unquote(exact)) == max(len(file_name), len("download") if not file_name else 0)
    assert not set(unquote(exact)) & set('/\\"\r\n\0')
