"""What every storage promises, asked of both adapters: the whole object or none, one generation, links that hold."""

from __future__ import annotations

import gc
import random
import threading
from collections.abc import Callable, Generator, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from tasks_service.errors import Cancelled, CorruptUploadError, Interrupted, LeaseLost, StorageError
from tasks_service.storage import MOST_SOURCES, StoredObject
from tests.storages import CHUNK, KINDS, NAME, Place, checksum, link, noise, place, put


@pytest.fixture(params=KINDS, name="site")
def _site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    with place(request, tmp_path) as site:
        yield site


# -- an object becomes whole -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "size",
    [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK, 3 * CHUNK + 17],
    ids=["nothing", "a byte", "chunk less one", "a chunk", "chunk and one", "chunks", "chunks and some"],
)
def test_a_commit_makes_the_whole_object_visible(site: Place, size: int) -> None:
    content = noise(size)
    before = datetime.now(UTC)
    stored = put(site.storage, content)
    assert (stored.name, stored.size, stored.crc32c) == (NAME, size, checksum(content))
    assert stored.generation > 0
    assert before - timedelta(minutes=1) < stored.created_at < datetime.now(UTC) + timedelta(minutes=1)
    assert site.storage.stat(NAME) == stored
    assert site.again().stat(NAME) == stored
    assert list(site.storage.list("")) == [stored]
    assert site.fetch(link(site, stored)).body == content


def test_nothing_is_visible_before_the_commit(site: Place) -> None:
    with site.storage.upload(NAME, content_type="text/csv") as upload:
        for _ in range(4):
            upload.write(noise(CHUNK))
            assert site.again().stat(NAME) is None
            assert list(site.again().list("")) == []
        upload.commit()
    assert site.storage.stat(NAME) is not None


def test_a_big_object_of_pieces_of_every_size(site: Place) -> None:
    content = noise(20 * 1024 * 1024)
    cuts = random.Random(4)
    with site.storage.upload(NAME, content_type="text/csv") as upload:
        start = 0
        while start < len(content):
            size = cuts.choice([0, 1, 7, 1000, CHUNK - 1, CHUNK, CHUNK + 1, 1_000_000, 3_000_000])
            upload.write(content[start : start + size])
            start += size
        stored = upload.commit()
    assert (stored.size, stored.crc32c) == (len(content), checksum(content))
    assert site.fetch(link(site, stored)).body == content


# -- or nothing: the ways to stop ------------------------------------------------------------------------------------


class Silent(BaseException):
    """An exception that no `except Exception` sees."""


STOPS = [
    RuntimeError,
    MemoryError,
    KeyboardInterrupt,
    SystemExit,
    GeneratorExit,
    Cancelled,
    LeaseLost,
    Interrupted,
    Silent,
]


@pytest.mark.parametrize("chunks", [0, 1, 3])
@pytest.mark.parametrize("stop", STOPS)
def test_an_exception_leaves_no_object(site: Place, stop: type[BaseException], chunks: int) -> None:
    def export() -> None:
        with site.storage.upload(NAME, content_type="text/csv") as upload:
            for _ in range(chunks):
                upload.write(noise(CHUNK + 5))
            raise stop

    with pytest.raises(stop):
        export()
    assert_nothing(site)
    put(site.storage, b"the next attempt")


def test_leaving_without_a_commit_leaves_no_object(site: Place) -> None:
    with site.storage.upload(NAME, content_type="text/csv") as upload:
        upload.write(noise(2 * CHUNK + 5))
    assert_nothing(site)


def test_a_closed_generator_leaves_no_object(site: Place) -> None:
    def export() -> Generator[None]:
        with site.storage.upload(NAME, content_type="text/csv") as upload:
            upload.write(noise(2 * CHUNK + 5))
            yield
            upload.commit()

    running = export()
    next(running)
    running.close()
    assert_nothing(site)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")  # of the sockets that are collected too
def test_garbage_collection_leaves_no_object(site: Place) -> None:
    def forget() -> None:
        opened = site.storage.upload(NAME, content_type="text/csv")
        upload = opened.__enter__()
        upload.write(noise(2 * CHUNK + 5))
        knot: list[object] = [opened, upload]
        knot.append(knot)

    forget()
    gc.collect()
    assert_nothing(site)


def test_an_upload_that_failed_cannot_be_committed(site: Place) -> None:
    with site.storage.upload(NAME, content_type="text/csv") as upload:
        upload.write(b"some")
        with pytest.raises(TypeError):
            upload.write("text")  # type: ignore[arg-type]
        with pytest.raises(StorageError, match="begin another"):
            upload.commit()
    assert_nothing(site)


def test_an_upload_that_ended_takes_nothing_more(site: Place) -> None:
    with site.storage.upload(NAME, content_type="text/csv") as upload:
        stored = upload.commit()
        with pytest.raises(StorageError, match="begin another"):
            upload.write(b"more")
        with pytest.raises(StorageError, match="begin another"):
            upload.commit()
    with pytest.raises(StorageError, match="begin another"):
        upload.write(b"more")
    assert site.storage.stat(NAME) == stored


def test_an_exception_after_the_commit_leaves_the_object_to_its_owner(site: Place) -> None:
    def commit_and_fail() -> None:
        with site.storage.upload(NAME, content_type="text/csv") as upload:
            upload.commit()
            raise RuntimeError

    with pytest.raises(RuntimeError):
        commit_and_fail()
    assert site.storage.stat(NAME) is not None


# -- a name is written once ------------------------------------------------------------------------------------------


def test_an_object_is_never_overwritten(site: Place) -> None:
    first = put(site.storage, b"first")
    with pytest.raises(StorageError, match="exists already"):
        put(site.storage, b"second")
    assert site.storage.stat(NAME) == first
    assert site.fetch(link(site, first)).body == b"first"
    assert site.leftovers() == []


@pytest.mark.parametrize("first_wins", [True, False])
def test_of_two_uploads_to_one_name_the_first_to_commit_wins(site: Place, first_wins: bool) -> None:  # noqa: FBT001 -- a parameter of the test
    contents = [noise(CHUNK + 1), noise(2 * CHUNK + 2)]
    winner = 0 if first_wins else 1
    stored: StoredObject | None = None

    def both() -> None:
        nonlocal stored
        with (
            site.storage.upload(NAME, content_type="text/csv") as first,
            site.again().upload(NAME, content_type="text/csv") as second,
        ):
            uploads = [first, second]
            for upload, content in zip(uploads, contents, strict=True):
                upload.write(content)
            stored = uploads[winner].commit()
            uploads[1 - winner].commit()

    with pytest.raises(StorageError, match="exists already"):
        both()
    assert stored is not None
    assert site.storage.stat(NAME) == stored
    assert site.fetch(link(site, stored)).body == contents[winner]
    assert site.leftovers() == []


def test_of_many_uploads_at_once_exactly_one_wins(site: Place) -> None:
    contents = [noise(1000 + number) for number in range(8)]
    start = threading.Barrier(len(contents))
    won: list[tuple[StoredObject, bytes]] = []
    lost: list[StorageError] = []

    def compete(content: bytes) -> None:
        start.wait(60)
        try:
            won.append((put(site.storage, content), content))
        except StorageError as error:
            lost.append(error)

    in_threads(*[lambda content=content: compete(content) for content in contents])
    assert (len(won), len(lost)) == (1, len(contents) - 1)
    stored, content = won[0]
    assert site.storage.stat(NAME) == stored
    assert site.fetch(link(site, stored)).body == content


def test_uploads_to_many_names_go_side_by_side(site: Place) -> None:
    names = [f"exports/{chain}/{run}.csv" for chain in (1, 2) for run in range(4)]
    in_threads(*[lambda name=name: put(site.storage, name.encode() * 50_000, name) for name in names])
    found = {stored.name: stored for stored in site.storage.list("exports/")}
    assert sorted(found) == sorted(names)
    assert all(found[name].crc32c == checksum(name.encode() * 50_000) for name in names)


# -- one generation of it --------------------------------------------------------------------------------------------


def test_a_generation_is_deleted_once(site: Place) -> None:
    stored = put(site.storage, b"x")
    assert site.storage.delete(NAME, generation=stored.generation + 1) is False
    assert site.storage.delete(NAME, generation=stored.generation - 1) is False
    assert site.storage.stat(NAME) == stored
    assert site.storage.delete(NAME, generation=stored.generation) is True
    assert site.storage.delete(NAME, generation=stored.generation) is False
    assert_nothing(site)


def test_whichever_generation_is_live_can_be_deleted(site: Place) -> None:
    put(site.storage, b"x")
    assert site.storage.delete(NAME, generation=None) is True
    assert site.storage.delete(NAME, generation=None) is False
    assert_nothing(site)


def test_generations_of_a_name_grow(site: Place) -> None:
    generations: list[int] = []
    for _ in range(3):
        stored = put(site.again(), b"the same bytes")
        generations.append(stored.generation)
        assert site.storage.delete(NAME, generation=stored.generation)
    assert generations == sorted(set(generations))


def test_a_late_deletion_does_not_hit_the_next_generation(site: Place) -> None:
    old = put(site.storage, b"old")
    site.storage.delete(NAME, generation=old.generation)
    new = put(site.storage, b"new")
    assert site.storage.delete(NAME, generation=old.generation) is False
    assert site.storage.stat(NAME) == new


def test_what_is_not_there(site: Place) -> None:
    assert site.storage.stat(NAME) is None
    assert site.storage.delete(NAME, generation=1) is False
    assert list(site.storage.list("exports/")) == []


# -- names -----------------------------------------------------------------------------------------------------------


def test_a_listing_goes_by_the_start_of_the_name(site: Place) -> None:
    names = ["a/b/1.csv", "a/b/12.csv", "a/b", "a/bc/1.csv", "b/1.csv", "ab.csv"]
    for name in names:
        put(site.storage, name.encode(), name)
    for prefix in ["", "a", "a/", "a/b", "a/b/", "a/b/1", "a/b/1.csv", "b/", "c", "a/b/1.csv/"]:
        listed = [stored.name for stored in site.storage.list(prefix)]
        assert sorted(listed) == sorted(name for name in names if name.startswith(prefix)), prefix


def test_a_name_may_be_the_folder_of_another(site: Place) -> None:
    inner = put(site.storage, b"inner", "a/b.csv")
    outer = put(site.storage, b"outer", "a")
    assert site.fetch(link(site, inner)).body == b"inner"
    assert site.fetch(link(site, outer)).body == b"outer"
    assert site.storage.delete("a", generation=outer.generation)
    assert site.storage.stat("a/b.csv") == inner


BAD_NAMES = [
    "",
    "/a",
    "a/",
    "a//b",
    "../a",
    "a/../b",
    "a/..",
    ".",
    "a/./b",
    ".hidden",
    "a\\b",
    "a\0",
    "a\n",
    "a@",
    "ä",
    "a b",
    "x" * 901,
]


@pytest.mark.parametrize("name", BAD_NAMES, ids=repr)
def test_names_that_could_leave_their_place_are_refused(site: Place, name: str) -> None:
    calls: list[Callable[[], object]] = [
        lambda: put(site.storage, b"x", name),
        lambda: site.storage.stat(name),
        lambda: site.storage.delete(name, generation=None),
    ]
    for call in calls:
        with pytest.raises(StorageError, match="segments of letters"):
            call()
    assert list(site.storage.list("")) == []


# -- doctor ----------------------------------------------------------------------------------------------------------


def test_a_working_storage_is_found_to_work(site: Place) -> None:
    site.storage.check(writing=False)
    site.storage.check()
    site.storage.check(writing=False)
    assert_nothing(site)


def assert_nothing(site: Place) -> None:
    assert site.again().stat(NAME) is None
    assert list(site.again().list("")) == []
    assert site.leftovers() == []


def in_threads(*calls: Callable[[], object]) -> None:
    failures: list[BaseException] = []

    def guarded(call: Callable[[], object]) -> None:
        try:
            call()
        except BaseException as error:  # noqa: BLE001 -- raised again below
            failures.append(error)

    threads = [threading.Thread(target=guarded, args=(call,)) for call in calls]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert not any(thread.is_alive() for thread in threads)
    if failures:
        raise failures[0]


def test_listing_while_objects_come_and_go(site: Place) -> None:
    """A listing beside uploads and deletions names objects that were whole, and never fails."""
    stop = threading.Event()
    sizes: set[int] = set()

    def look() -> None:
        while not stop.is_set():
            sizes.update(stored.size for stored in site.storage.list("exports/"))

    def churn() -> None:
        try:
            for number in range(25):
                stored = put(site.storage, b"x" * 300_000, f"exports/{number % 3}/{number}.csv")
                assert site.storage.delete(stored.name, generation=stored.generation)
        finally:
            stop.set()

    in_threads(look, churn)
    assert sizes <= {300_000}


# -- objects put together --------------------------------------------------------------------------------------------

PARTS = "exports/1764/12345/run-7/parts-a"


def parts(site: Place, count: int = 3) -> tuple[list[StoredObject], bytes]:
    contents = [noise(CHUNK + 1000 * number) for number in range(count)]
    return [put(site.storage, one, name=f"{PARTS}/{n}-1.csv") for n, one in enumerate(contents)], b"".join(contents)


@pytest.mark.parametrize("count", [1, 2, MOST_SOURCES])
def test_objects_are_put_together_in_order(site: Place, count: int) -> None:
    sources, content = parts(site, count)
    stored = site.storage.compose(NAME, sources, content_type="text/csv")
    assert (stored.name, stored.size, stored.crc32c) == (NAME, len(content), checksum(content))
    assert site.again().stat(NAME) == stored
    assert b"".join(site.again().read(stored)) == content
    assert site.fetch(link(site, stored)).body == content
    assert len(list(site.storage.list(PARTS))) == count, "the sources stay"


def test_a_taken_name_is_not_composed_over(site: Place) -> None:
    sources, _ = parts(site)
    taken = put(site.storage, b"somebody else's")
    with pytest.raises(StorageError, match="exists already"):
        site.storage.compose(NAME, sources, content_type="text/csv")
    assert site.storage.stat(NAME) == taken


@pytest.mark.parametrize("harm", ["deleted", "replaced"])
def test_what_is_not_the_generation_it_was_is_not_put_together_nor_read(site: Place, harm: str) -> None:
    sources, _ = parts(site)
    site.storage.delete(sources[1].name, generation=sources[1].generation)
    if harm == "replaced":
        put(site.storage, b"another", name=sources[1].name)
    with pytest.raises(CorruptUploadError, match="not there any more"):
        site.storage.compose(NAME, sources, content_type="text/csv")
    assert site.storage.stat(NAME) is None
    with pytest.raises(CorruptUploadError, match="not there any more"):
        b"".join(site.storage.read(sources[1]))


def test_an_empty_object_is_read_as_nothing(site: Place) -> None:
    assert b"".join(site.storage.read(put(site.storage, b""))) == b""
