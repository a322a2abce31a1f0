from __future__ import annotations

import json

import pytest

from tasks_service.formats.json_encoder import JsonEncoder, JsonLinesEncoder

DOCUMENTS = [b'{"b":1.10,"a":123456789012345678901234567890}', b'{ "a": "x\\ny" }', b"{}"]


def test_json_lines_pass_documents_through_byte_for_byte() -> None:
    encoded = JsonLinesEncoder().encode(DOCUMENTS)
    assert encoded.data == b"\n".join(DOCUMENTS) + b"\n"
    assert encoded.rows == 3


def test_json_is_one_array_of_the_documents_byte_for_byte() -> None:
    made = JsonEncoder()
    pages = [made.encode(DOCUMENTS).data, made.encode(DOCUMENTS[:1]).data]
    whole = made.joints.header + made.joints.separator.join(pages) + made.joints.footer
    assert whole == b"[\n" + b",\n".join([*DOCUMENTS, DOCUMENTS[0]]) + b"\n]\n"
    assert len(json.loads(whole)) == 4


def test_an_empty_export_is_an_empty_array_or_nothing() -> None:
    assert JsonEncoder().joints.empty == b"[]\n"
    assert JsonLinesEncoder().joints.empty == b""


@pytest.mark.parametrize("document", [b'{\n"a":\n1}\n', b'{\r"a":1\r}', b'{\r\n"a":1\r}', b'{"a":[1,\n 2]}'])
def test_line_breaks_of_a_document_become_spaces(document: bytes) -> None:
    lines = JsonLinesEncoder().encode([b'{"a":0}', document]).data
    assert lines.count(b"\n") == 2
    assert b"\r" not in lines
    assert [json.loads(line) for line in lines.splitlines()] == [{"a": 0}, json.loads(document)]
    whole = JsonEncoder().joints.header + JsonEncoder().encode([document]).data + JsonEncoder().joints.footer
    assert whole.count(b"\n") == 3
    assert json.loads(whole) == [json.loads(document)]
