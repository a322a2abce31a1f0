"""An upload session against a scripted storage: answers the real one gives rarely, and some it never should."""

from __future__ import annotations

import base64
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import google_crc32c
import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st

from tasks_service.errors import ServiceError, StorageError, StorageUnavailableError
from tasks_service.storage import StoredObject
from tasks_service.storage.gcs_upload import Address, GcsUpload, Marked
from tasks_service.storage.patience import Patience

CHUNK = 1024
"""Smaller than Google takes; nothing here depends on it."""

SESSION = "https://storage.test/session"
MARK = "mark of the tests"


def impatient() -> Patience:
    return Patience(seconds=0, first=0, cap=0, sleep=lambda _: None)


@dataclass
class Answer:
    """An answer of requests, as far as an upload looks at it."""

    status_code: int
    headers: dict[str, str] = field(default_factory=dict)
    text: str = ""

    @property
    def ok(self) -> bool:
        return self.status_code < 400


def incomplete(persisted: int) -> Answer:
    return Answer(308, {"Range": f"bytes=0-{persisted - 1}"} if persisted else {})


@dataclass
class Request:
    method: str
    url: str
    body: bytes
    headers: dict[str, str]


class Script:
    """A transport, and the bucket behind it: answers what it was told, and keeps what it was asked."""

    def __init__(self, *answers: Answer | Exception | Callable[[Request], Answer]) -> None:
        self.answers = list(answers)
        self.asked: list[Request] = []
        self.closed = False
        self.found: Marked | None = None
        self.deleted: list[int | None] = []

    def request(
        self, method: str, url: str, data: bytes = b"", headers: dict[str, str] | None = None, **_: Any
    ) -> Answer:
        request = Request(method, url, data, headers or {})
        if method == "DELETE":
            return Answer(499)
        self.asked.append(request)
        answer = self.answers.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer(request) if callable(answer) else answer

    def close(self) -> None:
        self.closed = True

    def look(self, name: str, *, patience: Patience | None = None) -> Marked | None:
        return self.found

    def delete(self, name: str, *, generation: int | None, patience: Patience | None = None) -> bool:
        self.deleted.append(generation)
        return True


STARTED = Answer(200, {"Location": SESSION})


def begun(script: Script, patience: Patience | None = None, replaces: int = 0) -> GcsUpload:
    to = Address(
        endpoint="https://storage.test",
        bucket="bucket",
        section="gcs",
        name="a/b.csv",
        content_type="text/csv",
        mark=MARK,
        replaces=replaces,
        chunk_bytes=CHUNK,
        timeout=(1, 1),
        patience=patience or impatient(),
    )
    upload = GcsUpload(to, script, script)
    upload.begin()
    return upload


def stored(*, mark: str = MARK) -> Marked:
    return Marked(StoredObject("bucket", "a/b.csv", 7, 1, "x", datetime.now(UTC)), mark)


def test_the_start_asks_for_a_new_object_and_marks_it() -> None:
    script = Script(STARTED)
    begun(script)
    (asked,) = script.asked
    assert asked.method == "POST"
    assert asked.url == (
        "https://storage.test/upload/storage/v1/b/bucket/o?uploadType=resumable&ifGenerationMatch=0&name=a%2Fb.csv"
    )
    assert MARK.encode() in asked.body
    assert b'"contentType": "text/csv"' in asked.body
    assert b"contentEncoding" not in asked.body


def test_the_object_that_is_to_be_replaced_is_named_by_its_generation() -> None:
    script = Script(STARTED)
    begun(script, replaces=7)
    assert "ifGenerationMatch=7&" in script.asked[0].url


def test_the_last_bytes_wait_for_the_commit() -> None:
    """A whole number of chunks too: what could end an upload is never sent before it."""
    script = Script(STARTED, incomplete(CHUNK), Answer(200))
    upload = begun(script)
    upload.write(b"x" * 2 * CHUNK)
    assert [request.headers["Content-Range"] for request in script.asked[1:]] == [f"bytes 0-{CHUNK - 1}/*"]
    script.found = stored()
    upload.commit()
    last = script.asked[-1]
    assert last.headers["Content-Range"] == f"bytes {CHUNK}-{2 * CHUNK - 1}/{2 * CHUNK}"
    checksum = base64.b64encode(google_crc32c.Checksum(b"x" * 2 * CHUNK).digest()).decode()
    assert last.headers["X-Goog-Hash"] == f"crc32c={checksum}"
    assert "X-Goog-Hash" not in script.asked[1].headers


def test_an_empty_object_is_one_request_of_no_bytes() -> None:
    script = Script(STARTED, Answer(200))
    upload = begun(script)
    script.found = stored()
    upload.commit()
    assert (script.asked[-1].headers["Content-Range"], script.asked[-1].body) == ("bytes */0", b"")


def test_a_chunk_persisted_in_part_is_sent_from_there() -> None:
    script = Script(STARTED, incomplete(256), incomplete(1000), incomplete(CHUNK))
    begun(script).write(bytes(range(256)) * 4 + b"-")
    assert [request.headers["Content-Range"] for request in script.asked[1:]] == [
        "bytes 0-1023/*",
        "bytes 256-1023/*",
        "bytes 1000-1023/*",
    ]
    assert script.asked[3].body == bytes(range(1000 - 768, 256))


def test_all_persisted_but_not_finalised_is_finalised_by_a_request_of_no_bytes() -> None:
    script = Script(STARTED, requests.ConnectionError(), incomplete(10), Answer(200))
    upload = begun(script)
    script.found = stored()
    upload.write(b"x" * 10)
    upload.commit()
    assert [request.headers["Content-Range"] for request in script.asked[1:]] == [
        "bytes 0-9/10",
        "bytes */*",
        "bytes */10",
    ]
    assert "X-Goog-Hash" in script.asked[-1].headers


@pytest.mark.parametrize(
    "silence", [requests.ConnectionError(), requests.Timeout(), requests.exceptions.ChunkedEncodingError(), Answer(503)]
)
def test_after_silence_the_storage_is_asked_before_anything_is_sent_again(silence: Answer | Exception) -> None:
    script = Script(STARTED, silence, incomplete(CHUNK))
    begun(script).write(b"x" * (CHUNK + 1))
    assert [request.headers["Content-Range"] for request in script.asked[1:]] == [f"bytes 0-{CHUNK - 1}/*", "bytes */*"]


@pytest.mark.parametrize(
    "answer",
    [incomplete(CHUNK - 1), incomplete(0), incomplete(3 * CHUNK), Answer(308, {"Range": "nonsense"})],
    ids=["less than before", "nothing", "more than sent", "nonsense"],
)
def test_a_storage_that_lost_bytes_is_not_believed(answer: Answer) -> None:
    script = Script(STARTED, incomplete(CHUNK), answer)
    upload = begun(script)
    with pytest.raises(StorageUnavailableError, match="start over"):
        upload.write(b"x" * (2 * CHUNK + 1))
    with pytest.raises(StorageError, match="begin another"):
        upload.commit()


def test_a_storage_that_finalises_on_its_own_is_not_believed() -> None:
    script = Script(STARTED, Answer(200))
    with pytest.raises(StorageUnavailableError, match="start over"):
        begun(script).write(b"x" * (CHUNK + 1))


def test_a_storage_that_takes_nothing_is_given_up() -> None:
    script = Script(STARTED, *[incomplete(0)] * 10)
    with pytest.raises(StorageUnavailableError, match="does not answer"):
        begun(script).write(b"x" * (CHUNK + 1))


def test_patience_starts_anew_with_progress() -> None:
    """Ten times as many failures as one patience bears, each followed by some progress."""
    answers: list[Answer | Exception] = []
    for persisted in range(CHUNK // 16, CHUNK + 1, CHUNK // 16):
        answers += [Answer(503), incomplete(persisted)]
    script = Script(STARTED, *answers)
    begun(script).write(b"x" * (CHUNK + 1))
    assert script.answers == []


def test_a_start_without_a_session_is_refused() -> None:
    with pytest.raises(StorageError, match="HTTP 200"):
        begun(Script(Answer(200)))


def test_a_412_on_somebody_elses_object() -> None:
    script = Script(STARTED, Answer(412))
    upload = begun(script)
    script.found = stored(mark="another")
    upload.write(b"x")
    with pytest.raises(StorageError, match="exists already"):
        upload.commit()
    upload.end()
    assert script.deleted == []
    assert script.closed


def test_an_object_replaced_before_we_looked_is_not_ours() -> None:
    script = Script(STARTED, Answer(200))
    upload = begun(script)
    for found in (None, stored(mark="another")):
        script.found = found
        upload._broken = False
        script.answers = [Answer(200)]
        with pytest.raises(StorageUnavailableError, match="went while"):
            upload.commit()


def test_ending_without_a_commit_deletes_what_is_ours_and_nothing_else() -> None:
    script = Script(STARTED, requests.ConnectionError(), requests.ConnectionError())
    upload = begun(script)
    upload.write(b"x")
    with pytest.raises(StorageUnavailableError):
        upload.commit()
    script.found = stored()
    upload.end()
    assert script.deleted == [7]


def test_ending_before_the_commit_looks_for_nothing() -> None:
    """An object of that name cannot be ours then: its last bytes were never sent."""
    script = Script(STARTED)
    upload = begun(script)
    script.found = stored()
    upload.end()
    assert script.deleted == []


class Server:
    """A session by Google's rules: persists any part of what it is sent, loses answers, fails; never loses bytes."""

    def __init__(self, draw: st.DataObject) -> None:
        self.data = draw
        self.content = b""
        self.finalised = False
        self.troubles = 12

    def answer(self, request: Request) -> Answer:
        if request.method == "POST":
            return STARTED
        trouble = "none"
        if self.troubles:
            trouble = self.data.draw(st.sampled_from(["none", "fail", "part", "lost", "lost part"]))
            self.troubles -= trouble != "none"
        if trouble == "fail":
            return Answer(503)
        self._take(request, partly="part" in trouble)
        if "lost" in trouble:
            raise requests.ConnectionError
        return Answer(200) if self.finalised else incomplete(len(self.content))

    def _take(self, request: Request, *, partly: bool) -> None:
        span, total = request.headers["Content-Range"].removeprefix("bytes ").split("/")
        if span != "*" and not self.finalised:
            start = int(span.split("-")[0])
            assert start == len(self.content), "nothing is left out and nothing sent twice"
            upto = self.data.draw(st.integers(0, len(request.body) - 1)) if partly else len(request.body)
            self.content += request.body[:upto]
        if total != "*" and len(self.content) == int(total):
            self.finalised = True


@given(data=st.data(), pieces=st.lists(st.binary(max_size=3000), max_size=6))
def test_whatever_happens_on_the_way_the_bytes_arrive_once_and_in_order(
    data: st.DataObject, pieces: list[bytes]
) -> None:
    server = Server(data)
    script = Script(*[server.answer] * 1000)
    upload = begun(script, Patience(seconds=1000, first=0, cap=0, sleep=lambda _: None, clock=lambda: 0))
    for piece in pieces:
        upload.write(piece)
        assert not server.finalised
    script.found = stored()
    upload.commit()
    assert server.finalised
    assert server.content == b"".join(pieces)


def test_patience_doubles_its_pauses_up_to_a_cap_and_ends() -> None:
    pauses: list[float] = []
    now = [0.0]

    def sleep(seconds: float) -> None:
        pauses.append(seconds)
        now[0] += 1

    patience = Patience(seconds=50, first=0.5, cap=5, sleep=sleep, clock=lambda: now[0])
    assert list(patience.attempts()) == list(range(51))
    limits = [0.5, 1, 2, 4, *[5] * 46]
    assert all(0 <= pause <= limit for pause, limit in zip(pauses, limits, strict=True))
    assert max(pauses) > 2.5  # full jitter, not none


def test_patience_tries_at_least_twice() -> None:
    assert list(impatient().attempts()) == [0, 1]


def test_errors_are_the_services_own() -> None:
    for raised in (requests.ConnectionError(), requests.Timeout(), ConnectionResetError(), TimeoutError()):
        with pytest.raises(ServiceError) as caught:
            begun(Script(raised, raised))
        assert caught.value.retryable
