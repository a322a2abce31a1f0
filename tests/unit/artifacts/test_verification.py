"""`tasks-service verify`: what is whole is said to be, and every way a download can differ is named."""

from __future__ import annotations

import base64
import hashlib
import json
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from tests.command_line import Command, in_process

FIRST, SECOND = b"id\r\n1\r\n2\r\n", b"id\r\n3\r\n"


def said(name: str, content: bytes, **more: Any) -> dict[str, Any]:
    """What a manifest says of some bytes, worked out here and not by the service."""
    crc32c = base64.b64encode(google_crc32c.value(content).to_bytes(4, "big")).decode()
    return {
        "name": name,
        "bytes": len(content),
        "crc32c": crc32c,
        "sha256": hashlib.sha256(content).hexdigest(),
        **more,
    }


def manifest(directory: Path, files: dict[str, bytes], archive: Path | None = None) -> Path:
    rows = {name: content.count(b"\n") - 1 for name, content in files.items()}
    document = {
        "manifest_version": 1,
        "service": {"name": "tasks-service", "version": "0"},
        **dict.fromkeys(("task", "run", "chain"), 1),
        **dict.fromkeys(("index", "occurrence", "timezone", "snapshot_at", "format", "compression"), "-"),
        **dict.fromkeys(("split", "limit", "columns", "segment"), None),
        "options": {},
        "query": {},
        **dict.fromkeys(("rows", "documents"), sum(rows.values())),
        "bytes": sum(map(len, files.values())),
        "suspicious_cells": 0,
        "archive": archive and said(archive.name, archive.read_bytes(), kind="zip"),
        "files": [
            said(name, content, rows=rows[name], documents=rows[name], parts=[]) for name, content in files.items()
        ],
    }
    path = directory / "manifest.json"
    path.write_text(json.dumps(document))
    return path


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Iterator[Command]:
    with in_process(tmp_path, monkeypatch, capsys) as call:
        yield call


@pytest.fixture
def one(tmp_path: Path) -> Path:
    (tmp_path / "a.csv").write_bytes(FIRST)
    manifest(tmp_path, {"a.csv": FIRST})
    return tmp_path / "a.csv"


def test_a_whole_file_is_said_to_be_whole_whatever_it_is_called_now(one: Path, command: Command) -> None:
    one.rename("renamed.csv")
    ended = command("verify", "renamed.csv", "manifest.json")
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == f"ok       a.csv  2 rows, {len(FIRST)} bytes\nWhole: 2 rows, as the manifest says.\n"


@pytest.mark.parametrize(
    ("content", "difference"),
    [
        (FIRST[:-1], f"its size is {len(FIRST) - 1}, not {len(FIRST)} bytes"),
        (FIRST + b"3\r\n", f"its size is more than {len(FIRST)} bytes"),
        (b"", f"its size is 0, not {len(FIRST)} bytes"),
        (FIRST.replace(b"2", b"7"), "its crc32c is"),
        (FIRST.replace(b"2", b"7"), f"not {hashlib.sha256(FIRST).hexdigest()}"),
    ],
)
def test_a_file_that_differs_is_told_in_what(one: Path, command: Command, content: bytes, difference: str) -> None:
    one.write_bytes(content)
    ended = command("verify", "a.csv", "manifest.json")
    assert ended.code == 1
    assert ended.out.startswith("differs  a.csv: ")
    assert difference in ended.out


def test_a_program_reads_it_as_json(one: Path, command: Command) -> None:
    whole = {"name": "a.csv", "rows": 2, "bytes": len(FIRST), "differences": []}
    assert json.loads(command("verify", "a.csv", "manifest.json", "--json").out) == {"whole": True, "files": [whole]}
    one.write_bytes(b"")
    ended = command("verify", "a.csv", "manifest.json", "--json")
    assert (ended.code, json.loads(ended.out)["whole"]) == (1, False)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("a.csv", "nowhere.json"), "nowhere.json"),
        (("nowhere.csv", "manifest.json"), "nowhere.csv"),
        (("a.csv", "a.csv"), "not JSON"),
        (("a.csv",), "MANIFEST"),
    ],
)
def test_what_cannot_be_told_is_neither_whole_nor_different(
    one: Path, command: Command, arguments: tuple[str, ...], said: str
) -> None:
    ended = command("verify", *arguments)
    assert (ended.code, ended.out) == (2, "")
    assert said in ended.err


@pytest.fixture
def split(tmp_path: Path) -> Path:
    """Two numbered files in a folder, with something else."""
    folder = tmp_path / "files"
    folder.mkdir()
    (folder / "a-0001.csv").write_bytes(FIRST)
    (folder / "a-0002.csv").write_bytes(SECOND)
    (folder / "notes.txt").write_bytes(b"mine")
    manifest(tmp_path, {"a-0001.csv": FIRST, "a-0002.csv": SECOND})
    return folder


@pytest.mark.parametrize("given", [("files",), ("files/a-0002.csv", "files/a-0001.csv")])
def test_numbered_files_are_verified_together(split: Path, command: Command, given: tuple[str, ...]) -> None:
    ended = command("verify", *given, "manifest.json")
    assert ended.code == 0, ended
    assert [line.split()[:2] for line in ended.out.splitlines()[:2]] == [["ok", "a-0001.csv"], ["ok", "a-0002.csv"]]


def test_a_missing_a_foreign_and_a_swapped_file_are_named_each(split: Path, command: Command) -> None:
    (split / "a-0001.csv").write_bytes(SECOND)
    (split / "a-0002.csv").unlink()
    ended = command("verify", "files/a-0001.csv", "files/notes.txt", "manifest.json")
    assert ended.code == 1
    assert ended.out.splitlines() == [
        f"differs  a-0001.csv: its size is {len(SECOND)}, not {len(FIRST)} bytes",
        "differs  a-0002.csv: it is missing",
        "differs  notes.txt: the manifest has no file of this name",
        "DIFFERS from its manifest.",
    ]


@pytest.fixture
def archive(tmp_path: Path, split: Path) -> Path:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as zipped:
        for name in ("a-0001.csv", "a-0002.csv"):
            zipped.write(split / name, name)
    manifest(tmp_path, {"a-0001.csv": FIRST, "a-0002.csv": SECOND}, path)
    return path


@pytest.mark.parametrize("given", ["a.zip", "files"])
def test_an_archive_is_verified_with_its_members_and_unpacked(archive: Path, command: Command, given: str) -> None:
    ended = command("verify", given, "manifest.json")
    assert ended.code == 0, ended
    assert "a-0002.csv  1 rows" in ended.out
    assert ("a.zip" in ended.out) == (given == "a.zip")


def damaged(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    return lambda path: path.write_bytes(change(path.read_bytes())) and None


def without_a_member(path: Path) -> None:
    with zipfile.ZipFile(path, "w") as zipped:
        zipped.writestr("a-0001.csv", FIRST)
        zipped.writestr("other.csv", SECOND)


@pytest.mark.parametrize(
    ("harm", "difference"),
    [
        (damaged(lambda data: data[:-30]), "a.zip: its size"),
        (damaged(lambda data: data[:40] + b"\xff" * 3 + data[43:]), "a-0001.csv: "),
        (without_a_member, "a-0002.csv: it is missing from the archive"),
        (without_a_member, "other.csv: the manifest has no file"),
    ],
)
def test_an_archive_that_differs(
    archive: Path, command: Command, harm: Callable[[Path], None], difference: str
) -> None:
    harm(archive)
    ended = command("verify", "a.zip", "manifest.json")
    assert ended.code == 1
    assert difference in ended.out
