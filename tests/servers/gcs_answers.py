"""What the storage front answers, and the small conversions of bodies on the way."""

from __future__ import annotations

import http.client
import json
import re
from collections.abc import Iterator
from typing import IO, Any, NamedTuple
from xml.sax.saxutils import escape

PIECE = 64 * 1024


class Answer(NamedTuple):
    """What to answer: status, headers, body or a stream with its length."""

    status: int
    headers: dict[str, str]
    body: bytes = b""
    stream: IO[bytes] | http.client.HTTPResponse | None = None
    length: int = 0


def problem(status: int, message: str) -> Answer:
    """An error of the JSON API."""
    error = {"error": {"code": status, "message": message, "errors": [{"message": message}]}}
    return Answer(status, {"Content-Type": "application/json"}, json.dumps(error).encode())


def xml_problem(status: int, code: str, message: str) -> Answer:
    """An error of the XML API."""
    error = f"<Error><Code>{code}</Code><Message>{escape(message)}</Message></Error>"
    text = f"<?xml version='1.0' encoding='UTF-8'?>{error}"
    return Answer(status, {"Content-Type": "application/xml; charset=UTF-8"}, text.encode())


def success(body: dict[str, Any]) -> Answer:
    """A JSON answer."""
    return Answer(200, {"Content-Type": "application/json", "Metadata-Flavor": "Google"}, json.dumps(body).encode())


def pieces(answer: Answer, left: int) -> Iterator[bytes]:
    """The first ``left`` bytes of an answer's body; its stream is closed after."""
    if not answer.stream:
        yield answer.body[:left]
        return
    with answer.stream as stream:
        while left and (piece := stream.read(min(PIECE, left))):
            left -= len(piece)
            yield piece


def chunks(body: bytes | list[bytes | IO[bytes]]) -> Iterator[bytes]:
    """The bytes of a request\'s body that may be made of several parts."""
    for part in [body] if isinstance(body, bytes) else body:
        if isinstance(part, bytes):
            yield part
        else:
            while piece := part.read(PIECE):
                yield piece


def multipart_name(content_type: str, body: bytes) -> str:
    """The object's name in the first part of a multipart upload."""
    match = re.search(r'boundary="?([^";]+)', content_type)
    if not match:
        return ""
    first = body.split(b"--" + match[1].encode())[1]
    return str(json.loads(first.partition(b"\r\n\r\n")[2]).get("name", ""))
