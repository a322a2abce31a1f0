"""A server that asks to be left alone is, within a call and after it. Its answers are made here, without a socket."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from elastic_transport import HttpHeaders

from tasks_service.config import ElasticsearchSettings
from tasks_service.errors import SourceUnavailableError
from tasks_service.sources.elasticsearch_calls import Call, Calls

CALL = Call("page", "POST", "/_search", attempts=3)


class Busy:
    """A cluster that answers 429 so often, and then a page."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, times: int, asks: str | None = None) -> None:
        self.times, self.pauses = times, list[float]()
        self.headers = HttpHeaders({} if asks is None else {"Retry-After": asks})
        self.calls = Calls(ElasticsearchSettings(), jitter=lambda: 0.0)
        transport = SimpleNamespace(perform_request=self._answer)
        monkeypatch.setattr(self.calls, "_connected", lambda: SimpleNamespace(transport=transport))

    def send(self) -> bytes:
        return self.calls.send(CALL, lambda _, body: body, lambda seconds: bool(self.pauses.append(seconds)))

    def _answer(self, *_: object, **__: object) -> tuple[Any, bytes]:
        self.times -= 1
        if self.times < 0:
            return SimpleNamespace(status=200, headers=HttpHeaders()), b"page"
        return SimpleNamespace(status=429, headers=self.headers), b"{}"


def test_a_call_waits_as_long_as_it_was_asked_to(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Busy(monkeypatch, times=2, asks="3")
    assert busy.send() == b"page"
    assert busy.pauses == [3.0, 3.0]


def test_what_is_asked_beyond_a_call_s_patience_is_the_next_attempt_s(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Busy(monkeypatch, times=3, asks="600")
    with pytest.raises(SourceUnavailableError) as caught:
        busy.send()
    assert caught.value.retry_after == 600
    assert busy.pauses == [8.0, 8.0]


def test_nothing_asked_nothing_waited_but_the_jitter(monkeypatch: pytest.MonkeyPatch) -> None:
    busy = Busy(monkeypatch, times=3)
    with pytest.raises(SourceUnavailableError) as caught:
        busy.send()
    assert caught.value.retry_after is None
    assert busy.pauses == [0.0, 0.0]
