from __future__ import annotations

import itertools
import json
import os
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import duckdb
import pytest

from segments import EVERYTHING, compile_segment
from tasks_service.config import FilesSettings, IndexSettings
from tasks_service.errors import SnapshotLostError, SourceError
from tasks_service.sources.files import FilesSource
from tasks_service.sources.files_folder import open_folder
from tasks_service.sources.files_relation import fit_memory

NOW = datetime(2026, 5, 26, tzinfo=UTC)
Write = Callable[..., None]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "things").mkdir()
    return tmp_path / "things"


def source(folder: Path, **settings: Any) -> FilesSource:
    return FilesSource(FilesSettings(directory=folder.parent, **settings), 0)


def index(**settings: Any) -> IndexSettings:
    return IndexSettings(file_prefix="Thing", source="things", **settings)


def parquet(path: Path, query: str) -> None:
    made = path.with_name(".made")
    with duckdb.connect() as connection:
        connection.execute(f"COPY ({query}) TO '{made}' (FORMAT parquet)")
    made.replace(path)


def documents(made: FilesSource, chosen: IndexSettings | None = None, chain: int = 1, **rule: Any) -> list[bytes]:
    chosen = chosen or index()
    tree = EVERYTHING
    if rule:
        segment = {"entity": "people", "index": "things", "join": "all", "chain_id": chain, "rules": [rule]}
        tree = compile_segment(segment, made.catalog(chosen), now=NOW, zone=ZoneInfo("UTC"))
    with made.open(chosen, tree, chain=chain, limit=None) as snapshot:
        found = [one for pages in snapshot.partitions(2) for page in pages for one in page]
        assert snapshot.total == len(found)
    return found


def types(made: FilesSource, chosen: IndexSettings | None = None) -> dict[str, str]:
    return {field.name: field.type for field in made.catalog(chosen or index()).fields}


# -- Parquet -------------------------------------------------------------------------------------------------------


def test_our_own_parquet_gives_its_raw_documents(folder: Path) -> None:
    raw = '{ "chain_id" : 1, "n": 1.10, "x": "é\\u00e9" }'
    parquet(folder / "a.parquet", f"SELECT 1 AS chain_id, 1.1::DOUBLE AS n, '{raw}' AS _raw")
    made = source(folder)
    assert documents(made) == [raw.encode()]
    assert types(made) == {"chain_id": "number", "n": "number"}


def test_rows_without_their_raw_document_are_refused(folder: Path) -> None:
    parquet(folder / "a.parquet", "SELECT 1 AS chain_id, '{}' AS _raw")
    parquet(folder / "b.parquet", "SELECT 1 AS chain_id")
    with pytest.raises(SourceError, match="_raw"):
        source(folder).catalog(index())


def test_documents_are_made_of_the_rows_of_other_parquet(folder: Path) -> None:
    parquet(
        folder / "a.parquet",
        "SELECT 1 AS chain_id, 12345678901234567890.10::DECIMAL(38,2) AS price, 0.1::FLOAT AS f, 'nan'::DOUBLE AS nan, "
        "TIMESTAMP '2026-05-26 12:00:00' AS at, TIMESTAMPTZ '2026-05-26 12:00:00.5+02' AS zoned, "
        "DATE '2026-05-26' AS day, 18446744073709551615::UBIGINT AS huge, NULL::VARCHAR AS gone, "
        "[{'a b': TIMESTAMP '2026-05-26 12:00:00', 'f': 0.1::FLOAT}] AS list, "
        "{'deep': {'t': [DATE '2026-05-26']}} AS s, "
        "true AS yes, BLOB '\\xAA' AS bytes, 'q\"\né' AS text",
    )
    (document,) = documents(source(folder))
    assert json.loads(document) == {
        "chain_id": 1,
        "price": 12345678901234567890.10,
        "f": 0.1,
        "nan": None,
        "at": "2026-05-26T12:00:00Z",
        "zoned": "2026-05-26T10:00:00.5Z",
        "day": "2026-05-26",
        "huge": 18446744073709551615,
        "gone": None,
        "list": [{"a b": "2026-05-26T12:00:00Z", "f": 0.1}],
        "s": {"deep": {"t": ["2026-05-26"]}},
        "yes": True,
        "bytes": "qg==",
        "text": 'q"\né',
    }
    assert b'"price":12345678901234567890.10,' in document
    assert b'"huge":18446744073709551615,' in document


def test_several_files_are_one_index_whatever_their_columns(folder: Path) -> None:
    parquet(folder / "a.parquet", "SELECT 1 AS chain_id, 'x' AS a")
    parquet(folder / "b.parquet", "SELECT 'y' AS b, 1 AS chain_id")
    found = [json.loads(one) for one in documents(source(folder))]
    assert sorted(found, key=str) == sorted(
        [{"chain_id": 1, "a": "x", "b": None}, {"chain_id": 1, "a": None, "b": "y"}], key=str
    )


# -- JSON lines ----------------------------------------------------------------------------------------------------

LINES = [
    b'{"chain_id":1, "id": 9007199254740993, "at":"2026-05-26T12:00:00+02:00","o":{"x":1},"l":[1,2],"n":[{"q":1}]}',
    b'{"chain_id":2,"id":1}',
    b'{"chain_id":1,"id":2,"at":null,"o":{"y":"z"},"l":[],"n":[{"q":2},{"w":"t"}],"b.c":true}',
    b'{"chain_id":1,"id":3,"at":"2026-05-26T10:00:01.5Z","mixed":"1"}',
    b'{"chain_id":1,"id":4,"mixed":1}',
]


@pytest.mark.parametrize("end", [b"\n", b"\r\n", b""])
@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.JSONL"])
def test_json_lines_are_passed_through(folder: Path, name: str, end: bytes) -> None:
    (folder / name).write_bytes((end or b"\n").join(LINES) + end)
    assert sorted(documents(source(folder))) == sorted([*LINES[:1], *LINES[2:]])


def test_json_lines_are_typed_over_every_line(folder: Path) -> None:
    filler = b'{"chain_id":1,"id":1}\n' * 60_000  # more than any sample
    (folder / "a.jsonl").write_bytes(filler + b"\n".join(LINES))
    found = types(source(folder))
    assert found["id"] == "number"
    assert found["at"] == "date"
    assert found["o.y"] == "keyword"
    assert found["l"] == "number"
    assert found["n.w"] == "keyword"
    assert found["b.c"] == "boolean"
    assert found["mixed"] == "other"  # kept and exported; no rule can ask it


@pytest.mark.parametrize(
    ("rule", "ids"),
    [
        ({"field_name": "id", "field_type": "number", "operator": "is", "value": 9007199254740993}, [9007199254740993]),
        (
            {
                "field_name": "at",
                "field_type": "date",
                "operator": "is_after_date",
                "start_date": "2026-05-26T10:00:00Z",
            },
            [3],
        ),
        (
            {"field_name": "at", "field_type": "date", "operator": "is_date", "value": "2026-05-26"},
            [3, 9007199254740993],
        ),
        ({"field_name": "l", "field_type": "number", "operator": "is", "value": 2}, [9007199254740993]),
        ({"field_name": "b.c", "field_type": "boolean", "operator": "is_true"}, [2]),
        (
            {
                "field_name": "n.w",
                "field_type": "keyword",
                "operator": "is",
                "value": "t",
                "nested": True,
                "nesting_path": "n",
            },
            [2],
        ),
    ],
)
def test_json_lines_are_filtered_by_their_types(folder: Path, rule: dict[str, Any], ids: list[int]) -> None:
    (folder / "a.jsonl").write_bytes(b"\n".join(LINES))
    assert sorted(json.loads(one)["id"] for one in documents(source(folder), **rule)) == ids


@pytest.mark.parametrize("text", ["2026-05-26 10:00:00", "26/05/2026", "2026-05-26T10:00:00 Europe"])
def test_texts_that_only_look_like_dates_stay_texts(folder: Path, text: str) -> None:
    (folder / "a.jsonl").write_text(json.dumps({"chain_id": 1, "at": text}) + "\n")
    assert types(source(folder))["at"] == "keyword"


@pytest.mark.parametrize(
    "content",
    [
        b'{"chain_id":1}\n{"chain_id":1\n{"chain_id":1}\n',
        b'{"chain_id":1}\n[1]\n',
        b'{"chain_id":1}\n"x"\n',
        b"x\n",
        b"",
    ],
)
def test_broken_json_lines_are_refused(folder: Path, content: bytes) -> None:
    (folder / "a.jsonl").write_bytes(content)
    with pytest.raises(SourceError):
        documents(source(folder))


def test_members_that_differ_only_in_case_are_refused(folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"chain_id":1,"a":1,"A":2}\n')
    with pytest.raises(SourceError, match="only in case"):
        source(folder).catalog(index())
    (folder / "a.jsonl").write_text('{"chain_id":1,"a":1,"A_1":2}\n')
    assert set(types(source(folder))) == {"chain_id", "a", "A_1"}


def test_a_member_called_as_our_own_columns_is_no_trouble(folder: Path) -> None:
    line = b'{"chain_id":1,"_document":"x","json":"y","typed":{"t":1},"_raw":"z"}'
    (folder / "a.jsonl").write_bytes(line)
    assert documents(source(folder)) == [line]
    assert documents(source(folder), field_name="typed.t", field_type="number", operator="is", value=1) == [line]


# -- CSV -----------------------------------------------------------------------------------------------------------


def test_rows_of_csv_become_documents(folder: Path) -> None:
    (folder / "a.csv").write_bytes(
        b'\xef\xbb\xbfchain_id,code,n,big,yes,day,text,"a,b"\r\n'
        b'1,007,1.5,123456789012345678901,true,2026-05-26,"say ""hi""\r\nyou",\r\n'
        b'1,12,-2,1,false,2026-05-27T10:00:00Z,"",x\r\n2,1,,,,,,\r\n'
    )
    made = source(folder)
    assert [json.loads(one) for one in documents(made)] == [
        {"chain_id": 1, "code": "007", "n": 1.5, "big": 123456789012345678901, "yes": True, "day": "2026-05-26",
         "text": 'say "hi"\r\nyou', "a,b": None},
        {"chain_id": 1, "code": "12", "n": -2, "big": 1, "yes": False, "day": "2026-05-27T10:00:00Z",
         "text": "", "a,b": "x"},
    ]  # fmt: skip
    assert types(made) == {
        "chain_id": "number", "code": "keyword", "n": "number", "big": "number", "yes": "boolean", "day": "date",
        "text": "keyword", "a,b": "keyword",
    }  # fmt: skip


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_csv_of_other_delimiters_is_read(folder: Path, delimiter: str) -> None:
    (folder / "a.csv").write_text(f"chain_id{delimiter}b\n1{delimiter}x\n")
    assert documents(source(folder)) == [b'{"chain_id":1,"b":"x"}']


@pytest.mark.parametrize(
    "content",
    [b"chain_id,b\n1\n", b"chain_id,b\n1,2,3\n", b'chain_id,b\n1,"x\n', b"chain_id,chain_id\n1,2\n",
     b"chain_id,\n1,2\n", b"chain_id,b\n1,\xff\n", b"\xff\xfe\n", b""],
)  # fmt: skip
def test_broken_csv_is_refused(folder: Path, content: bytes) -> None:
    (folder / "a.csv").write_bytes(content)
    with pytest.raises(SourceError):
        documents(source(folder))


def test_csv_files_with_different_headers_are_refused(folder: Path) -> None:
    (folder / "a.csv").write_text("chain_id,b\n1,x\n")
    (folder / "b.csv").write_text("chain_id,c\n1,x\n")
    with pytest.raises(SourceError, match="different headers"):
        source(folder).catalog(index())


def test_a_pinned_column_of_csv_stays_text(folder: Path) -> None:
    (folder / "a.csv").write_text("chain_id,code\n1,12\n")
    assert documents(source(folder), index(types={"code": "keyword"})) == [b'{"chain_id":1,"code":"12"}']


# -- the folder ----------------------------------------------------------------------------------------------------


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="no folder 'things'"):
        source(tmp_path / "things").catalog(index())


def test_a_folder_without_documents_is_named(folder: Path) -> None:
    for name in ("notes.txt", ".hidden.parquet", "_temporary.csv", "a.parquet.tmp"):
        (folder / name).write_text("x")
    (folder / "folder.csv").mkdir()
    with pytest.raises(SourceError, match=r"no \.parquet"):
        source(folder).catalog(index())


def test_files_of_several_kinds_are_refused(folder: Path) -> None:
    (folder / "a.csv").write_text("chain_id\n1\n")
    (folder / "b.jsonl").write_text('{"chain_id":1}\n')
    with pytest.raises(SourceError, match="several kinds"):
        source(folder).catalog(index())


@pytest.mark.parametrize(
    "content", [b"PAR1", b"not parquet at all, but long enough to look at", b"PAR1" + bytes(50) + b"PAR1"]
)
def test_a_damaged_file_is_an_error_without_the_readers_text(folder: Path, content: bytes) -> None:
    (folder / "a.parquet").write_bytes(content)
    with pytest.raises(SourceError, match="damaged") as caught:
        source(folder).catalog(index())
    assert "parquet file" not in str(caught.value).lower()
    assert str(folder) not in str(caught.value)


def test_damage_in_the_middle_of_a_file_is_an_error_and_never_fewer_rows(folder: Path) -> None:
    path = folder / "a.parquet"
    parquet(path, "SELECT 1 AS chain_id, md5(i::VARCHAR) AS _raw FROM range(200000) t(i)")
    content = bytearray(path.read_bytes())
    middle = len(content) // 2
    content[middle : middle + 4096] = os.urandom(4096)
    path.write_bytes(content)
    with pytest.raises(SourceError):
        documents(source(folder))


def big(folder: Path, rows: int = 60_000) -> None:
    raw = "'{\"id\":' || i || '}'"
    parquet(folder / "a.parquet", f"SELECT 1 AS chain_id, {raw} AS _raw FROM range({rows}) t(i)")  # noqa: S608


def test_a_run_reads_the_version_it_started_on(folder: Path) -> None:
    big(folder)
    made = source(folder)
    with made.open(index(), EVERYTHING, chain=1, limit=None) as snapshot:
        pages = snapshot.partitions(1)[0]
        first = next(pages)
        parquet(folder / "a.parquet", "SELECT 1 AS chain_id, 'new' AS _raw")
        rest = list(itertools.chain.from_iterable(pages))
        assert len(first) + len(rest) == snapshot.total == 60_000
    assert documents(made) == [b"new"]


def test_a_run_reads_on_when_its_file_is_removed(folder: Path) -> None:
    big(folder)
    with source(folder).open(index(), EVERYTHING, chain=1, limit=None) as snapshot:
        pages = snapshot.partitions(1)[0]
        first = next(pages)
        (folder / "a.parquet").unlink()
        assert len(first) + sum(map(len, pages)) == 60_000


@pytest.mark.parametrize("write", ["grow", "truncate", "rewrite"])
def test_a_file_written_in_place_is_a_lost_snapshot(folder: Path, write: str) -> None:
    path = folder / "a.jsonl"
    path.write_bytes(b"".join(b'{"chain_id":1,"id":%d}\n' % number for number in range(200_000)))
    with source(folder).open(index(), EVERYTHING, chain=1, limit=None) as snapshot:
        pages = snapshot.partitions(1)[0]
        next(pages)
        if write == "grow":
            with path.open("ab") as file:
                file.write(b'{"chain_id":1,"id":-1}\n')
        elif write == "truncate":
            os.truncate(path, 1000)
        else:
            os.utime(path, ns=(0, 0))
        with pytest.raises(SnapshotLostError, match="rename"):
            list(pages)


def test_fields_that_changed_since_the_segment_was_compiled_start_the_run_over(folder: Path) -> None:
    (folder / "a.jsonl").write_text('{"chain_id":1,"a":1}\n')
    made = source(folder)
    made.catalog(index())
    (folder / "b").write_text('{"chain_id":1,"a":"x"}\n')
    (folder / "b").replace(folder / "a.jsonl")
    with pytest.raises(SnapshotLostError), made.open(index(), EVERYTHING, chain=1, limit=None):
        pass
    assert documents(made) == [b'{"chain_id":1,"a":"x"}']


def test_every_reader_gets_its_own_pages(folder: Path) -> None:
    big(folder)
    with source(folder).open(index(), EVERYTHING, chain=1, limit=None) as snapshot:
        found: list[bytes] = []
        threads = [
            threading.Thread(target=lambda pages=pages: found.extend(itertools.chain.from_iterable(pages)))
            for pages in snapshot.partitions(4)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert len(found) == len(set(found)) == 60_000


def test_pages_are_bounded_by_bytes(folder: Path) -> None:
    parquet(folder / "a.parquet", "SELECT 1 AS chain_id, repeat('x', 100000) AS _raw FROM range(2000)")
    with source(folder).open(index(), EVERYTHING, chain=1, limit=None) as snapshot:
        sizes = [sum(map(len, page)) for page in snapshot.partitions(1)[0]]
    assert sum(sizes) == 200_000_000
    assert max(sizes[1:]) <= 4 * 1024 * 1024


def open_files() -> list[str]:
    return [os.path.realpath(one) for one in Path("/dev/fd").iterdir()]


def test_nothing_stays_open_after_a_snapshot(folder: Path) -> None:
    big(folder)
    path = os.path.realpath(folder / "a.parquet")
    with source(folder).open(index(), EVERYTHING, chain=1, limit=None) as snapshot:
        next(snapshot.partitions(1)[0])
        assert path in open_files()
    assert path not in open_files()


def test_a_file_that_vanishes_while_the_folder_is_opened_is_looked_for_again(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "a.csv").write_text("chain_id\n1\n")
    (folder / "b.csv").write_text("chain_id\n2\n")
    opening = os.open
    vanished: list[str] = []

    def vanish(path: Any, *rest: Any, **more: Any) -> int:
        if str(path).endswith("b.csv") and not vanished:
            vanished.append(str(path))
            (folder / "b.csv").unlink()
        return opening(path, *rest, **more)

    monkeypatch.setattr(os, "open", vanish)
    opened = open_folder(folder.parent, "things")
    assert [one.name for one in opened.identities] == ["a.csv"]
    opened.close()


def test_memory_that_does_not_suffice_is_named(folder: Path) -> None:
    parquet(folder / "a.parquet", "SELECT 1 AS chain_id, repeat('x', 3000000) AS _raw FROM range(60)")
    with pytest.raises(SourceError, match=r"files\.memory_limit"):
        documents(source(folder, memory_limit="1MB"))


@pytest.mark.parametrize(("thread_bytes", "limit", "threads"), [(0, "122.0 MiB", 4), (64 << 20, "183.1 MiB", 2)])
def test_parquet_takes_a_part_of_the_memory_and_other_files_fewer_threads(
    thread_bytes: int, limit: str, threads: int
) -> None:
    with duckdb.connect(config={"memory_limit": "192MB", "threads": 4}) as connection:
        fit_memory(connection, thread_bytes)
        settings = connection.execute("SELECT current_setting('memory_limit'), current_setting('threads')").fetchone()
        assert settings == (limit, threads)


@pytest.mark.parametrize("rows", [5, 9000])
def test_a_few_documents_of_very_many_need_no_more_memory_than_all(folder: Path, rows: int) -> None:
    """Row groups are decompressed as a whole, a thread each: two of these do not fit together."""
    raw = "'{\"id\":' || i || ',\"x\":\"' || repeat('y', 500) || '\"}'"
    parquet(folder / "a.parquet", f"SELECT 1 AS chain_id, i AS id, {raw} AS _raw FROM range(250000) t(i)")  # noqa: S608
    made = source(folder)
    with made.open(index(), EVERYTHING, chain=1, limit=rows) as snapshot:
        found = [one for pages in snapshot.partitions(2) for page in pages for one in page]
        assert (snapshot.total, len(found)) == (rows, rows)
    sample = made.sample(index(), EVERYTHING, chain=1, rows=rows)
    assert (sample.count, len(sample.documents)) == (250_000, rows)


def test_a_catalogue_is_read_again_when_it_is_no_longer_believed(folder: Path) -> None:
    now = [0.0]
    made = FilesSource(FilesSettings(directory=folder.parent), 30, clock=lambda: now[0])
    (folder / "a.jsonl").write_text('{"a":1}\n')
    assert [column.name for column in made.catalog(index()).columns] == ["a"]
    (folder / "new").write_text('{"a":1,"b":2}\n')
    (folder / "new").replace(folder / "a.jsonl")
    assert [column.name for column in made.catalog(index()).columns] == ["a"]
    now[0] = 31.0
    assert [column.name for column in made.catalog(index()).columns] == ["a", "b"]
