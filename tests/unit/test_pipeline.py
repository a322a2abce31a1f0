"""Readers beside the exporting thread: everything once, bounded memory, and every way it can end."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import pytest

from tasks_service import pipeline
from tasks_service.errors import Cancelled, SourceUnavailableError
from tasks_service.formats import Encoded, JoiningWriter, Joints
from tasks_service.pipeline import encoded_chunks
from tasks_service.sources import Documents


class Lines:
    extension, content_type = "jsonl", "application/x-ndjson"
    joints = Joints()

    def encode(self, documents: Documents) -> Encoded:
        return Encoded(b"\n".join(documents) + b"\n", len(documents))

    def writer(self) -> JoiningWriter:
        return JoiningWriter(self.joints)


class Partition:
    """Pages of one partition, counting what was asked of it."""

    def __init__(
        self,
        pages: list[Documents],
        *,
        error: BaseException | None = None,
        gate: threading.Event | None = None,
    ) -> None:
        self.pages, self.error, self.gate = iter(pages), error, gate
        self.given = 0
        self.closed = threading.Event()

    def __iter__(self) -> Iterator[Documents]:
        return self

    def __next__(self) -> Documents:
        if self.gate is not None:
            self.gate.wait(30)
        page = next(self.pages, None)
        if page is None:
            if self.error is not None:
                raise self.error
            raise StopIteration
        self.given += 1
        return page

    def close(self) -> None:
        self.closed.set()


def pages(name: str, count: int, size: int = 10) -> list[Documents]:
    return [[f"{name}-{page}-{row}".encode() for row in range(size)] for page in range(count)]


def chunks(partitions: list[Partition], *, buffer_bytes: int = 1 << 20, check=lambda: None) -> list[Encoded]:  # noqa: ANN001
    with contextlib.closing(encoded_chunks(partitions, Lines(), buffer_bytes=buffer_bytes, check=check)) as found:
        return list(found)


def readers() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith("reader-")]


def test_every_page_of_every_partition_comes_once() -> None:
    partitions = [Partition(pages("a", 7)), Partition(pages("b", 5)), Partition([])]
    lines = sorted(line for chunk in chunks(partitions) for line in chunk.data.split())
    assert lines == sorted(row for name, n in (("a", 7), ("b", 5)) for page in pages(name, n) for row in page)
    assert all(partition.closed.is_set() for partition in partitions)
    assert readers() == []


def test_a_slow_consumer_holds_the_readers_back() -> None:
    """At most the buffer and one page in hand per reader are ahead of the consumer."""
    partition = Partition(pages("a", 200, size=100))
    page_bytes = len(Lines().encode(pages("a", 1, size=100)[0]).data)
    with contextlib.closing(
        encoded_chunks([partition], Lines(), buffer_bytes=4 * page_bytes, check=lambda: None)
    ) as found:
        for taken, _ in enumerate(found, start=1):
            assert partition.given - taken <= 6


def test_no_more_pages_are_encoded_at_once_than_there_are_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipeline, "_processors", lambda: 2)
    inside: list[int] = []
    most: list[int] = []
    meeting = threading.Barrier(2)

    class Counting(Lines):
        def encode(self, documents: Documents) -> Encoded:
            inside.append(1)
            most.append(len(inside))
            meeting.wait(30)  # two are inside together, so that they can be no fewer either
            inside.pop()
            return super().encode(documents)

    partitions = [Partition(pages(name, 4)) for name in "abcdef"]
    with contextlib.closing(encoded_chunks(partitions, Counting(), buffer_bytes=1 << 20, check=lambda: None)) as found:
        assert sum(chunk.rows for chunk in found) == 240
    assert max(most) == 2


def test_an_error_of_one_reader_surfaces_and_ends_the_others() -> None:
    never = threading.Event()
    slow = Partition(pages("a", 1000))
    with pytest.raises(SourceUnavailableError):
        chunks([slow, Partition(pages("b", 2), error=SourceUnavailableError())], buffer_bytes=64)
    assert slow.closed.is_set()
    assert not never.is_set()
    assert readers() == []


@pytest.mark.parametrize("error", [Cancelled(), KeyboardInterrupt(), MemoryError()])
def test_what_check_raises_ends_everything_also_while_the_source_is_silent(error: BaseException) -> None:
    gate = threading.Event()
    silent = Partition(pages("a", 10), gate=gate)
    asked = 0

    def check() -> None:
        nonlocal asked
        asked += 1
        if asked == 2:
            gate.set()  # so that the reader can end once it is told to
            raise error

    with pytest.raises(type(error)):
        chunks([silent], check=check)
    assert silent.closed.is_set()
    assert readers() == []


def test_a_consumer_that_leaves_ends_the_readers() -> None:
    partition = Partition(pages("a", 1000))
    found = encoded_chunks([partition], Lines(), buffer_bytes=128, check=lambda: None)
    next(found)
    found.close()
    assert partition.closed.is_set()
    assert partition.given < 1000
    assert readers() == []
