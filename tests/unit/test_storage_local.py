"""The local directory, call by call: whatever fails, and wherever it is interrupted, the object is whole or absent."""

from __future__ import annotations

import base64
import errno
import fcntl
import os
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import google_crc32c
import pytest

from tasks_service.config import LocalSettings
from tasks_service.errors import ForbiddenError, GoneError, ServiceError, StorageError, StorageUnavailableError
from tasks_service.storage import StoredObject
from tasks_service.storage.local import LocalStorage

NAME = "exports/1764/1.csv"
CONTENT = b"the first bytes, and the last bytes"
CALLS = ["open", "write", "fsync", "rename", "mkdir", "pwrite", "flock"]


@pytest.fixture
def storage(tmp_path: Path) -> LocalStorage:
    return made(tmp_path)


def made(tmp_path: Path, **arguments: Any) -> LocalStorage:
    settings = LocalSettings(directory=tmp_path / "exports")
    return LocalStorage(settings, public_url="http://x.test", secret_key=b"k", **arguments)


def put(storage: LocalStorage, content: bytes = CONTENT, name: str = NAME) -> StoredObject:
    with storage.upload(name, content_type="text/csv") as upload:
        upload.write(content[:16])
        upload.write(content[16:])
        return upload.commit()


def read(tmp_path: Path, name: str = NAME) -> bytes:
    (path,) = (tmp_path / "exports" / "objects" / f"{name}@").iterdir()
    return path.read_bytes()


def uploads(tmp_path: Path) -> list[Path]:
    return list((tmp_path / "exports" / "uploads").iterdir())


class Calls:
    """Counts the system calls of an upload, and lets something happen before or after one of them."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.seen: list[str] = []
        self.strike: tuple[int, bool, BaseException] | None = None
        for name in CALLS:
            module = fcntl if name == "flock" else os
            monkeypatch.setattr(module, name, self._counted(name, getattr(module, name)))

    def _counted(self, name: str, real: Callable[..., Any]) -> Callable[..., Any]:
        def call(*arguments: Any, **named: Any) -> Any:
            number = len(self.seen)
            self.seen.append(name)
            struck = self.strike is not None and self.strike[0] == number
            if struck and not self.strike[1]:
                raise self.strike[2]
            try:
                return real(*arguments, **named)
            finally:
                if struck:
                    raise self.strike[2]

        return call


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch, storage: LocalStorage) -> Iterator[Calls]:
    """Before the first call is counted the directories exist, as in a storage that is in use."""
    storage.check()
    yield Calls(monkeypatch)
    monkeypatch.undo()


def strikes(calls: Calls, storage: LocalStorage) -> Iterator[tuple[int, bool]]:
    """Every call of a successful upload, struck before it does its work and after."""
    put(storage)
    storage.delete(NAME, generation=None)
    steps = list(calls.seen)
    assert {"open", "write", "fsync", "rename", "mkdir", "flock", "pwrite"} == set(steps)
    for number in range(len(steps)):
        for after in (False, True):
            calls.seen.clear()
            yield number, after
            assert len(calls.seen) > number, "the strike came"


def outcome(storage: LocalStorage) -> BaseException | None:
    try:
        put(storage)
    except BaseException as error:  # noqa: BLE001 -- every way to stop is judged by the test
        return error
    return None


STOPS = [
    KeyboardInterrupt(),
    SystemExit(),
    MemoryError(),
    OSError(errno.ENOSPC, "full", "/secret/path"),
    OSError(errno.EACCES, "no"),
]


@pytest.mark.parametrize("stop", STOPS, ids=repr)
def test_a_stop_at_every_call_leaves_nothing(
    calls: Calls, storage: LocalStorage, tmp_path: Path, stop: BaseException
) -> None:
    struck = 0
    for number, after in strikes(calls, storage):
        calls.strike = (number, after, stop)
        caught = outcome(storage)
        calls.strike = None
        if caught is None:  # a folder that was said not to be made was there all along
            assert (calls.seen[number], isinstance(stop, OSError)) == ("mkdir", True)
            assert read(tmp_path) == CONTENT
            storage.delete(NAME, generation=None)
        elif isinstance(stop, OSError):
            assert isinstance(caught, ServiceError)
            assert "/" not in caught.detail
            assert caught.retryable == (stop.errno == errno.ENOSPC)
        else:
            assert caught is stop
        assert storage.stat(NAME) is None
        assert uploads(tmp_path) == []
        struck += 1
    assert struck > 30
    put(storage)
    assert read(tmp_path) == CONTENT


def test_bytes_and_folders_are_durable_before_the_object_is_said_to_be(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    events: list[str] = []
    fsync, rename = os.fsync, os.rename

    def note_sync(descriptor: int) -> None:
        events.append(f"sync {Path(f'/proc/self/fd/{descriptor}').readlink().name}")
        fsync(descriptor)

    def note_rename(source: Path, target: Path, **named: Any) -> None:
        events.append(f"rename to {Path(target).name}")
        rename(source, target, **named)

    monkeypatch.setattr(os, "fsync", note_sync)
    monkeypatch.setattr(os, "rename", note_rename)
    with storage.upload(NAME, content_type="text/csv") as upload:
        upload.write(CONTENT)
        folder = uploads(tmp_path)[0].name
        stored = upload.commit()
    content = read_name(tmp_path)
    assert content.startswith(str(stored.generation))
    assert events == [
        "sync data",
        f"rename to {content}",
        f"sync {folder}",
        "sync objects",
        "sync exports",
        "rename to 1.csv@",
        "sync 1764",
    ]


def read_name(tmp_path: Path) -> str:
    (path,) = (tmp_path / "exports" / "objects" / f"{NAME}@").iterdir()
    return path.name


def test_short_writes_are_continued(storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, bytes(data)[:3]))
    stored = put(storage)
    assert read(tmp_path) == CONTENT
    assert stored.crc32c == base64.b64encode(google_crc32c.Checksum(CONTENT).digest()).decode()


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE])
def test_a_full_disk_passes_and_says_so(storage: LocalStorage, monkeypatch: pytest.MonkeyPatch, code: int) -> None:
    def fail(_descriptor: int, _data: bytes) -> int:
        raise OSError(code, "x")

    monkeypatch.setattr(os, "write", fail)
    with pytest.raises(StorageUnavailableError, match=os.strerror(code)) as caught:
        put(storage)
    assert caught.value.retryable


def test_half_a_piece_is_never_committed(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A caller that swallows the error of a write cannot make an object of what came before."""
    with storage.upload(NAME, content_type="text/csv") as upload:
        upload.write(b"whole")
        with monkeypatch.context() as patch:
            patch.setattr(os, "write", lambda _descriptor, _data: 1 // 0)
            with pytest.raises(ZeroDivisionError):
                upload.write(b"half")
        with pytest.raises(StorageError, match="begin another"):
            upload.write(b"more")
        with pytest.raises(StorageError, match="begin another"):
            upload.commit()
    assert storage.stat(NAME) is None
    assert uploads(tmp_path) == []


def test_a_directory_that_cannot_be_is_named_by_its_setting(tmp_path: Path) -> None:
    (tmp_path / "exports").write_text("a file")
    storage = made(tmp_path)
    for call in (storage.check, lambda: put(storage)):
        with pytest.raises(StorageError, match=r"local\.directory") as caught:
            call()
        assert str(tmp_path) not in caught.value.detail


def test_nothing_is_made_before_the_first_use(tmp_path: Path) -> None:
    storage = made(tmp_path)
    assert storage.stat(NAME) is None
    assert list(storage.list("")) == []
    assert storage.delete(NAME, generation=None) is False
    assert not (tmp_path / "exports").exists()


# -- generations -----------------------------------------------------------------------------------------------------


def test_generations_grow_though_the_clock_goes_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    generations = []
    for moment in (2_000_000_000_000, 2_000_000_000_000, 1_000_000_000_000, 3_000_000_000_000):
        monkeypatch.setattr(time, "time_ns", lambda moment=moment: moment)
        storage = made(tmp_path)  # a restart
        generations.append(put(storage).generation)
        storage.delete(NAME, generation=generations[-1])
    assert generations == [2_000_000_000, 2_000_000_001, 2_000_000_002, 3_000_000_000]


def test_the_time_of_an_object_is_its_generation(storage: LocalStorage) -> None:
    before = datetime.now(UTC)
    stored = put(storage)
    assert before - timedelta(milliseconds=1) <= stored.created_at <= datetime.now(UTC)
    assert stored.created_at == datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=stored.generation)


# -- folders ---------------------------------------------------------------------------------------------------------


def test_deleting_leaves_no_empty_folders(storage: LocalStorage, tmp_path: Path) -> None:
    put(storage, name="a/b/c/1.csv")
    put(storage, name="a/2.csv")
    storage.delete("a/b/c/1.csv", generation=None)
    objects = tmp_path / "exports" / "objects"
    assert sorted(path.relative_to(objects).as_posix() for path in objects.rglob("*@")) == ["a/2.csv@"]
    assert not (objects / "a" / "b").exists()
    storage.delete("a/2.csv", generation=None)
    assert list(objects.iterdir()) == []


def test_a_folder_pruned_in_the_middle_of_a_commit_is_made_again(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A deletion beside the commit removes the folder between its making and the rename, twice."""
    rename = os.rename
    left = [2]

    def race(source: Path, target: Path, **named: Any) -> None:
        if Path(target).name.endswith("@") and left[0]:
            left[0] -= 1
            Path(target).parent.rmdir()
            Path(target).parent.parent.rmdir()
        rename(source, target, **named)

    monkeypatch.setattr(os, "rename", race)
    put(storage)
    assert left == [0]
    assert read(tmp_path) == CONTENT


def test_what_others_put_into_the_directory_is_no_object(storage: LocalStorage, tmp_path: Path) -> None:
    stored = put(storage)
    objects = tmp_path / "exports" / "objects"
    (objects / "exports" / "README").write_text("hello")
    (objects / "exports" / "1764" / "1.csv@" / ".swp").write_text("hello")
    (objects / "exports" / "1764" / "1.csv@" / "12.nothex!!").write_text("hello")
    (objects / "exports" / "empty.csv@").mkdir()
    assert list(storage.list("")) == [stored]
    assert storage.stat(NAME) == stored
    assert storage.stat("exports/empty.csv") is None
    put(storage, name="exports/empty.csv")  # an empty folder is no object, and does not stand in the way


# -- what killed uploads leave ---------------------------------------------------------------------------------------


def test_only_the_dead_are_swept(storage: LocalStorage, tmp_path: Path) -> None:
    with storage.upload(NAME, content_type="text/csv") as living:
        living.write(CONTENT)
        for name, file in [
            ("killed-in-mid-write", "data"),
            ("killed-before-the-rename", "12.00000000"),
            ("killed-at-once", ""),
        ]:
            folder = tmp_path / "exports" / "uploads" / name
            folder.mkdir()
            if file:
                (folder / file).write_bytes(b"part")
        assert made(tmp_path).sweep_uploads() == 3
        assert len(uploads(tmp_path)) == 1
        living.commit()
    assert read(tmp_path) == CONTENT
    assert storage.sweep_uploads() == 0


def test_a_process_sweeps_at_its_first_use(storage: LocalStorage, tmp_path: Path) -> None:
    storage.check()
    (tmp_path / "exports" / "uploads" / "killed").mkdir()
    put(storage)
    assert len(uploads(tmp_path)) == 1
    put(made(tmp_path), name="another.csv")
    assert uploads(tmp_path) == []


def test_an_upload_begins_and_ends_beside_sweeps(storage: LocalStorage, tmp_path: Path, calls: Calls) -> None:
    """A sweep wherever it fits between two calls of an upload finds nothing to sweep."""
    other = made(tmp_path)
    other.check()
    put(storage)
    storage.delete(NAME, generation=None)
    steps = len(calls.seen)
    real = {name: getattr(os, name) for name in ("open", "mkdir", "fsync", "write")}
    assert steps
    swept: list[int] = []
    for name, call in real.items():

        def beside(*arguments: Any, call: Callable[..., Any] = call, **named: Any) -> Any:
            result = call(*arguments, **named)
            if not swept or swept[-1] != -1:
                swept.append(-1)
                if _is_free(tmp_path):
                    swept[-1] = other.sweep_uploads()
                else:
                    swept.pop()
            return result

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(os, name, beside)
            put(storage)
        assert read(tmp_path) == CONTENT
        storage.delete(NAME, generation=None)
    assert swept
    assert set(swept) == {0}


def _is_free(tmp_path: Path) -> bool:
    """Whether the tree's lock could be had: a sweep would wait for it otherwise, and the test with it."""
    with (tmp_path / "exports" / "lock").open("rb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


# -- links -----------------------------------------------------------------------------------------------------------


def test_a_link_is_judged_by_the_clock_it_is_given(tmp_path: Path) -> None:
    moment = datetime(2026, 5, 26, 12, 0, 0, 900_000, tzinfo=UTC)
    storage = made(tmp_path, now=lambda: moment)
    stored = put(storage)
    signed = storage.sign(stored, file_name="x y.csv", content_type="text/csv", lifetime=timedelta(hours=1))
    assert signed.expires_at == datetime(2026, 5, 26, 13, 0, 0, tzinfo=UTC)
    assert signed.url.startswith("http://x.test/files/")
    assert signed.url.endswith("/x%20y.csv")
    token = signed.url.split("/")[-2]
    served = storage.verify(token)
    assert (served.stored, served.file_name, served.content_type) == (stored, "x y.csv", "text/csv")
    assert served.path.read_bytes() == CONTENT
    storage.verify(token, signed.expires_at - timedelta(seconds=1))
    with pytest.raises(ForbiddenError, match="expired"):
        storage.verify(token, signed.expires_at)
    storage.delete(NAME, generation=None)
    with pytest.raises(GoneError):
        storage.verify(token)


def test_a_link_of_another_key_is_refused(tmp_path: Path, storage: LocalStorage) -> None:
    stored = put(storage)
    other = LocalStorage(LocalSettings(directory=tmp_path / "exports"), public_url="http://x.test", secret_key=b"other")
    url = other.sign(stored, file_name="x.csv", content_type="text/csv", lifetime=timedelta(hours=1)).url
    with pytest.raises(ForbiddenError, match="altered"):
        storage.verify(url.split("/")[-2])


def test_a_process_that_stopped_while_it_held_the_lock_is_not_waited_for(
    storage: LocalStorage, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    put(storage, name="exports/1764/first.csv")
    monkeypatch.setattr("tasks_service.storage.local_tree.LOCK_SECONDS", 0.02)
    with (tmp_path / "exports" / "lock").open("rb") as stopped:
        fcntl.flock(stopped, fcntl.LOCK_EX)
        with pytest.raises(StorageUnavailableError):
            put(storage)
    assert put(storage).size == len(CONTENT)
