"""What a search answered, decoded and judged: pure functions of bytes, no I/O.

Elasticsearch answers 200 where shards failed, where time ran out, and even where a point-in-time id is none at all
(no hits, no shards). What lives here refuses each of these by name. Documents stay raw bytes: only the frame around
them is decoded. Called by elasticsearch.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from tasks_service.errors import SourceError
from tasks_service.sources import Documents
from tasks_service.sources.surrogates import without_lone_surrogates

SortValues = list[int | float | str | None]
_Value = int | float | bool | str


class PartialAnswerError(Exception):
    """A page that is not whole; asking for it again can help, because a page is a pure function of its request.

    `retry_after`: the seconds the server asked to be left alone for.
    """

    def __init__(self, reason: str, *, retry_after: float | None = None) -> None:
        super().__init__(reason)
        self.retry_after = retry_after


class _Shards(msgspec.Struct):
    total: int
    successful: int
    failed: int


class _Hit(msgspec.Struct, gc=False):
    source: msgspec.Raw | msgspec.UnsetType = msgspec.field(name="_source", default=msgspec.UNSET)
    sort: msgspec.Raw = msgspec.Raw(b"[]")


class _KeyHit(msgspec.Struct):
    fields: dict[str, list[_Value]] = {}
    sort: msgspec.Raw = msgspec.Raw(b"[]")


class _KeyHits(msgspec.Struct):
    hits: list[_KeyHit]


class _Total(msgspec.Struct):
    value: int
    relation: str


class _Hits(msgspec.Struct):
    hits: list[_Hit]
    total: _Total | None = None


class _Frame(msgspec.Struct, kw_only=True):
    timed_out: bool
    shards: _Shards = msgspec.field(name="_shards")
    terminated_early: bool = False
    pit_id: str = ""


class _Answer(_Frame, kw_only=True):
    hits: _Hits


class _KeysAnswer(_Frame, kw_only=True):
    hits: _KeyHits


@dataclass(frozen=True, slots=True)
class Page:
    """One page of one slice.

    Attributes:
        documents: raw JSON, as it was indexed.
        last: the sort values of the last hit, all of them: what the next page starts after.
        pit_id: the point-in-time id to use from now on.
        size: bytes of the answer.
    """

    documents: Documents
    last: SortValues | None
    pit_id: str
    size: int


@dataclass(frozen=True, slots=True)
class Counted:
    """The exact number of matching documents, and the shards that counted them."""

    total: int
    shards: int
    pit_id: str
    documents: Documents


@dataclass(frozen=True, slots=True)
class Keys:
    """One page of the values of one field: `rows` documents, and all their values."""

    rows: int
    keys: list[_Value]
    last: SortValues | None
    pit_id: str


_SOURCE = b'"_source":'

_decode_answer = msgspec.json.Decoder(_Answer).decode
_decode_keys = msgspec.json.Decoder(_KeysAnswer).decode
_decode_position = msgspec.json.Decoder(tuple[int, int]).decode
_decode_sort = msgspec.json.Decoder(SortValues).decode


def read_page(
    body: bytes, *, shards: int | None, size: int, after: SortValues | None, descending: Sequence[bool] = ()
) -> Page:
    """Decode a page and judge it.

    Args:
        body: what the server answered with status 200.
        shards: how many shards the point-in-time has; the page must come from all of them.
        size: how many hits were asked for.
        after: the sort values the page had to start after.
        descending: of each clause rows are sorted by, whether values descend; none for the index's own order.

    Raises:
        PartialAnswerError: the page is not whole.
        SourceError: a document has no `_source`.
    """
    answer = _decoded(body)
    _check_whole(answer, shards)
    hits = answer.hits.hits
    if len(hits) > size:
        raise PartialAnswerError("more hits than were asked for")
    last = _check_sorted(hits, after, descending) if descending else _check_order(hits, after)
    return Page(_sources(hits), last, answer.pit_id, len(body))


def read_count(body: bytes, *, shards: int | None) -> Counted:
    """Decode and judge a search that counted exactly. Raises as read_page does."""
    answer = _decoded(body)
    _check_whole(answer, shards)
    total = answer.hits.total
    if total is None or total.relation != "eq":
        raise PartialAnswerError("the count is not exact")
    return Counted(total.value, answer.shards.total, answer.pit_id, _sources(answer.hits.hits))


def read_keys(body: bytes, *, shards: int | None, size: int, after: SortValues | None) -> Keys:
    """Decode and judge a page of `docvalue_fields`. Raises PartialAnswerError."""
    try:
        answer = _decode_keys(body)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise PartialAnswerError("the answer is not a search's") from exc
    _check_whole(answer, shards)
    hits = answer.hits.hits
    if len(hits) > size:
        raise PartialAnswerError("more hits than were asked for")
    last = _check_order(hits, after)
    keys = [value for hit in hits for values in hit.fields.values() for value in values]
    return Keys(len(hits), keys, last, answer.pit_id)


def _decoded(body: bytes) -> _Answer:
    try:
        return _decode_answer(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        pass
    try:
        masked = without_lone_surrogates(body)
        answer = _decode_answer(masked)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise PartialAnswerError("the answer is not a search's") from exc
    return _unmasked(answer, masked, body)


def _unmasked(answer: _Answer, masked: bytes, body: bytes) -> _Answer:
    """Put the documents as they came in the place of those that were decoded; both lie at the same offsets."""
    end = 0
    for hit in answer.hits.hits:
        if isinstance(hit.source, msgspec.Raw):
            length = len(bytes(hit.source))
            # Behind one document the next such member is the next hit's: nothing but plain text lies between.
            start = masked.index(bytes(hit.source), masked.index(_SOURCE, end) + len(_SOURCE))
            end = start + length
            hit.source = msgspec.Raw(body[start:end])
    return answer


def _check_whole(answer: _Frame, shards: int | None) -> None:
    found = answer.shards
    if answer.timed_out:
        raise PartialAnswerError("the search ran out of time")
    if answer.terminated_early:
        raise PartialAnswerError("the search was ended early")
    if found.failed or found.successful != found.total:
        raise PartialAnswerError("shards failed")
    if found.total < 1 or (shards is not None and found.total != shards):
        raise PartialAnswerError("not every shard was asked")


def _check_order(hits: Sequence[_Hit | _KeyHit], after: SortValues | None) -> SortValues | None:
    """Return the sort values of the last hit; refuse a page that does not go on where the one before ended.

    Which order the hits between have is nobody's business: every one of them is written, and all are counted.
    """
    if not hits:
        return None
    try:
        first, last = _decode_position(hits[0].sort), _decode_position(hits[-1].sort)
    except msgspec.MsgspecError as exc:
        raise PartialAnswerError("the hits are not sorted as asked") from exc
    if last < first or (after is not None and first <= tuple(after)):
        raise PartialAnswerError("the hits are not sorted as asked")
    return list(last)


def _check_sorted(hits: Sequence[_Hit], after: SortValues | None, descending: Sequence[bool]) -> SortValues | None:
    """Return the sort values of the last hit; refuse a page of which any hit does not stand where it was asked to."""
    last = after
    try:
        for hit in hits:
            values = _decode_sort(hit.sort)
            if len(values) != len(descending) + 1 or (last is not None and not _precedes(last, values, descending)):
                raise PartialAnswerError("the hits are not sorted as asked")
            last = values
    except (msgspec.MsgspecError, TypeError, ValueError) as exc:
        raise PartialAnswerError("the hits are not sorted as asked") from exc
    return last if hits else None


def _precedes(earlier: SortValues, later: SortValues, descending: Sequence[bool]) -> bool:
    """Tell whether one hit stands before another; where all values are equal the places in the shards decide."""
    for one, other, down in zip(earlier, later, (*descending, False), strict=True):
        if one is None or other is None:
            if one is not other:
                return other is None  # what has no value stands last, whichever way the order goes
            continue
        left, right = _comparable(one, other)
        if left != right:
            return (left > right) == down
    return False


def _comparable(one: float | str, other: float | str) -> tuple[Any, Any]:
    """Return two sort values of one clause as what can be compared; infinite ones stand for no value, as texts."""
    if isinstance(one, str) and isinstance(other, str):
        return one, other
    if isinstance(one, int) and isinstance(other, int):
        return one, other
    return tuple((number, math.copysign(1, number)) for number in (float(one), float(other)))  # type: ignore[return-value]


def _sources(hits: list[_Hit]) -> Documents:
    try:
        return [bytes(hit.source) for hit in hits]  # type: ignore[arg-type]
    except TypeError as exc:
        raise SourceError("The index does not keep whole documents (`_source`), so it cannot be exported.") from exc


def error_types(body: bytes) -> set[str]:
    """Return the types of error that an answer names, at any depth; nothing of their texts."""
    try:
        answer: Any = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return set()
    found: set[str] = set()
    _collect_types(answer, found)
    return found


def _collect_types(value: Any, found: set[str]) -> None:  # noqa: ANN401 -- decoded JSON
    if isinstance(value, dict):
        kind: Any = value.get("type")  # pyright: ignore[reportUnknownVariableType, reportUnknownMemberType]
        if isinstance(kind, str):
            found.add(kind)
        for inner in value.values():  # pyright: ignore[reportUnknownVariableType]
            _collect_types(inner, found)
    elif isinstance(value, list):
        for inner in value:  # pyright: ignore[reportUnknownVariableType]
            _collect_types(inner, found)
