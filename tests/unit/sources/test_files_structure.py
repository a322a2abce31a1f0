"""JSON lines of every shape and any number of files, within the memory limit as it is configured."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from segments import EVERYTHING
from tasks_service.config import FilesSettings, IndexSettings
from tasks_service.errors import SourceError
from tasks_service.sources.files import FilesSource
from tasks_service.sources.files_structure import merged


def index(**settings: Any) -> IndexSettings:
    return IndexSettings(source="things", file_prefix="Thing", **settings)


INDEX = index()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "things").mkdir()
    return tmp_path / "things"


def write(folder: Path, name: str, *documents: dict[str, Any]) -> None:
    (folder / name).write_text("".join(json.dumps({"chain_id": 1, **one}) + "\n" for one in documents))


def source(folder: Path, **settings: Any) -> FilesSource:
    return FilesSource(FilesSettings(directory=folder.parent, **settings), 0)


def columns(folder: Path, chosen: IndexSettings = INDEX) -> dict[str, str]:
    catalog = source(folder).catalog(chosen)
    return {one.name: one.type for one in catalog.fields if one.name != "chain_id"}


def exported(folder: Path, **settings: Any) -> list[bytes]:
    with source(folder, **settings).open(INDEX, EVERYTHING, chain=1, limit=None) as snapshot:
        return [one for pages in snapshot.partitions(2) for page in pages for one in page]


@pytest.mark.parametrize("threads", [1, 2, 16])
@pytest.mark.parametrize("files", [2, 4, 60])
def test_neither_files_nor_threads_need_more_memory_than_is_configured(folder: Path, files: int, threads: int) -> None:
    """DuckDB alone keeps 32 MiB for each file it detects and each thread that reads: four files were refused."""
    for number in range(files):
        write(folder, f"{number:02}.jsonl", *({"id": number * 100 + one, "name": "x" * 1000} for one in range(100)))
    found = exported(folder, threads=threads)
    assert sorted(json.loads(one)["id"] for one in found) == list(range(files * 100))


def test_documents_of_eight_megabytes_fit_beside_small_ones(folder: Path) -> None:
    sizes = [10, 5_000_000, 10, 8_000_000, 10]
    write(folder, "a.jsonl", *({"text": "x" * size} for size in sizes))
    write(folder, "b.jsonl", {"text": "late"})
    assert [len(json.loads(one)["text"]) for one in exported(folder)] == [*sizes, 4]


@pytest.mark.parametrize("seed", range(5))
def test_no_document_is_lost_between_buffers(folder: Path, seed: int) -> None:
    lengths = random.Random(seed)
    sizes = [lengths.choice([10, 900_000, 2_097_000 + lengths.randrange(200)]) for _ in range(30)]
    write(folder, "a.jsonl", *({"id": place, "text": "x" * size} for place, size in enumerate(sizes)))
    (folder / "a.jsonl").write_text((folder / "a.jsonl").read_text().rstrip())
    found = {one["id"]: len(one["text"]) for one in map(json.loads, exported(folder))}
    assert found == dict(enumerate(sizes))


@pytest.mark.parametrize("last", [True, False])
def test_a_document_beyond_the_bound_is_refused_not_cut(folder: Path, *, last: bool) -> None:
    write(folder, "a.jsonl", {"text": "x"}, {"text": "x" * 40_000_000}, *([] if last else [{"text": "x"}]))
    with pytest.raises(SourceError, match="greater than 16 MiB"):
        exported(folder)


def test_ten_thousand_columns_are_read(folder: Path) -> None:
    write(folder, "a.jsonl", *({f"column_{one}": f"{row} {one}" for one in range(10_000)} for row in range(5)))
    assert len(columns(folder)) == 10_000
    assert len(json.loads(exported(folder)[-1])) == 10_001


@pytest.mark.parametrize("document", ['  {"chain_id": 1, "x": "}"}\t', '{"chain_id": 1, "x": "\\u0001"}'])
@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n", "\n  \n"])
def test_blanks_around_a_document_are_not_of_it(folder: Path, document: str, end: str) -> None:
    (folder / "a.jsonl").write_text((document + end) * 3, newline="")
    assert exported(folder) == [document.strip().encode()] * 3


@pytest.mark.parametrize("line", ['{"chain_id": 1}\x01{"chain_id": 1}', '{"chain_id": 1}\x01'])
def test_a_control_character_within_a_line_is_refused_not_cut(folder: Path, line: str) -> None:
    (folder / "a.jsonl").write_text(f'{{"chain_id": 1}}\n{line}\n{{"chain_id": 1}}\n')
    with pytest.raises(SourceError, match=r"U\+0001"):
        exported(folder)


@pytest.mark.parametrize("line", ['{"chain_id":\r1}', '{"chain_id": 1', '{"chain_id": 1} {"chain_id": 1}'])
def test_a_line_that_is_not_one_document_is_refused(folder: Path, line: str) -> None:
    (folder / "a.jsonl").write_text(f'{{"chain_id": 1}}\n{line}\n', newline="")
    with pytest.raises(SourceError):
        exported(folder)


def test_what_one_file_lacks_another_has(folder: Path) -> None:
    write(folder, "a.jsonl", {"tags": [], "address": {}, "lines": [{}], "n": None, "late": "2026-01-01"})
    write(folder, "b.jsonl", {"tags": ["x"], "address": {"city": "Y"}, "lines": [{"sku": "s"}], "n": 1.5})
    assert columns(folder) == {
        "tags": "keyword",
        "address.city": "keyword",
        "lines.sku": "keyword",
        "n": "number",
        "late": "date",
    }


def test_one_text_that_is_no_date_makes_none_of_them_dates(folder: Path) -> None:
    rows = [{"at": "2026-01-01T10:00:00Z", "moments": ["2026-01-01"]} for _ in range(3000)]
    write(folder, "a.jsonl", *rows)
    assert columns(folder) == {"at": "date", "moments": "date"}
    write(folder, "b.jsonl", *rows, {"at": "tomorrow"}, {"moments": ["2026-01-01", "soon"]})
    assert columns(folder) == {"at": "keyword", "moments": "keyword"}


def test_a_pinned_text_is_not_asked_whether_it_is_a_date(folder: Path) -> None:
    write(folder, "a.jsonl", {"code": "2026-01-01"})
    assert columns(folder, index(types={"code": "keyword"})) == {"code": "keyword"}


def test_elements_that_are_not_all_objects_stay_json(folder: Path) -> None:
    write(folder, "a.jsonl", {"mixed": [1, {"sku": "s"}]}, {"mixed": [{"sku": "t"}]})
    assert "mixed.sku" not in columns(folder)
    assert len(exported(folder)) == 2


@pytest.mark.parametrize("inside", [False, True])
def test_members_that_differ_only_in_case_are_named(folder: Path, *, inside: bool) -> None:
    members = {"Name": 1, "name_1": 2, "name": 3}
    write(folder, "a.jsonl", {"deep": [members]} if inside else members)
    with pytest.raises(SourceError, match=r"differ only in case, 'Name' and 'name'; rename one"):
        columns(folder)


def test_documents_without_members_are_named(folder: Path) -> None:
    (folder / "a.jsonl").write_text("{}\n{}\n")
    with pytest.raises(SourceError, match="no members"):
        columns(folder)


@pytest.mark.parametrize("line", ["[1]", "1", "null", '"x"'])
def test_a_line_that_is_no_object_is_named(folder: Path, line: str) -> None:
    (folder / "a.jsonl").write_text(f'{{"chain_id": 1}}\n{line}\n')
    with pytest.raises(SourceError, match="not a JSON object"):
        columns(folder)


def test_more_structures_than_are_remembered_are_all_taken_in() -> None:
    """Sixteen members, each there or not, make 65,536 structures; the last one alone has another."""
    names = [f"m{bit}" for bit in range(16)]

    def structures() -> Iterator[str]:
        for number in range(1 << 16):
            yield json.dumps({name: "BOOLEAN" for bit, name in enumerate(names) if number >> bit & 1})
        yield json.dumps({"late": "BOOLEAN"})

    assert sorted(merged(structures()).members or {}) == sorted([*names, "late"])
