from __future__ import annotations

import csv
import io
import json
import threading
from typing import Any

import pytest

from tasks_service.errors import SourceError
from tasks_service.formats.columns import FileColumn
from tasks_service.formats.csv_encoder import CsvEncoder
from tasks_service.formats.csv_options import CsvOptions
from tasks_service.formats.formulas import FORMULA_STARTS


def encoder(*names: str, **options: Any) -> CsvEncoder:
    return CsvEncoder([FileColumn(name, tuple(name.split("."))) for name in names], CsvOptions(**options))


def rows(documents: list[bytes], *names: str, **options: Any) -> bytes:
    return encoder(*names, **options).encode(documents).data


def test_a_file_is_a_header_and_rows_that_end_in_cr_lf() -> None:
    made = encoder("id", "name")
    assert made.joints.header == b"id,name\r\n"
    assert made.joints.empty == made.joints.header
    assert (made.joints.separator, made.joints.footer) == (b"", b"")
    encoded = made.encode([b'{"name":"Shirt","id":1}', b'{"id":2}'])
    assert (encoded.data, encoded.rows) == (b"1,Shirt\r\n2,\r\n", 2)


def test_null_is_nothing_and_an_empty_string_is_quoted() -> None:
    assert rows([b'{"a":null,"b":""}', b'{"b":null,"a":""}'], "a", "b") == b',""\r\n"",\r\n'


@pytest.mark.parametrize(
    ("value", "cell"),
    [
        (b"12345678901234567890123456789012345", b"12345678901234567890123456789012345"),
        (b"-9223372036854775808", b"-9223372036854775808"),
        (b"9007199254740993", b"9007199254740993"),
        (b"1.10", b"1.1"),
        (b"true", b"true"),
        (b'"\\u00e9\\ud83d\\ude00"', "é😀".encode()),
        (b'"say \\"hi\\", you"', b'"say ""hi"", you"'),
        (b'"two\\nlines"', b'"two\nlines"'),
        (b'"\\r"', b'"\r"'),
        (b'" padded "', b" padded "),
        (b"[]", b"[]"),
        (b'[1, "x", null, {"b": 1}]', b'"[1,""x"",null,{""b"":1}]"'),
        (b'{"b" : [1.0]}', b'"{""b"":[1.0]}"'),
    ],
)
def test_values_become_cells(value: bytes, cell: bytes) -> None:
    assert rows([b'{"a":' + value + b"}"], "a") == cell + b"\r\n"


def test_half_a_character_becomes_the_replacement_character() -> None:
    document = b'{"a":"x\\ud800y","b":"\\\\ud800","c":"\\ud83d\\ude00","d":"\\udc00\\ud800"}'
    assert rows([document], "a", "b", "c", "d").decode() == "x\ufffdy,\\ud800,😀,\ufffd\ufffd\r\n"


def test_documents_may_hold_line_breaks_between_their_tokens() -> None:
    assert rows([b'{\r\n "a": 1,\n "b": [1,\n2]\n}', b'{"a":2}'], "a", "b") == b'1,"[1,2]"\r\n2,\r\n'


def test_a_whole_object_is_one_cell_and_its_members_are_dotted_columns() -> None:
    documents = [b'{"owner":{"code":"S1","chain":{"id":7}}}']
    assert rows(documents, "owner", "owner.code", "owner.chain.id") == (
        b'"{""code"":""S1"",""chain"":{""id"":7}}",S1,7\r\n'
    )


@pytest.mark.parametrize(
    ("document", "cells"),
    [
        (b'{"a.b":1}', b"1,"),
        (b'{"a":{"b":1,"c":2}}', b"1,2"),
        (b'{"a.b":1,"a":{"c":2}}', b"1,2"),
        (b'{"a.b":1,"a":{"b":2}}', b'"[2,1]",'),
        (b'{"a.b":[1,2],"a":{"b":3}}', b'"[3,1,2]",'),
        (b'{"a":[{"b":1,"c":"x"},{"b":2}]}', b'"[1,2]","[""x""]"'),
        (b'{"a":[{"b":[1,2]},{"b":3}]}', b'"[1,2,3]",'),
        (b'{"a":[[{"b":1}]]}', b"[1],"),
        (b'{"a":[]}', b","),
        (b'{"a":null}', b","),
        (b'{"a":[null,{"b":null}]}', b"[null],"),
        (b'{"\\u0061.b":1}', b"1,"),
        (b'{"a\\u002eb":1}', b"1,"),
    ],
)
def test_a_field_is_found_however_its_document_spells_it(document: bytes, cells: bytes) -> None:
    regular = b'{"a":{"b":"x"}}'
    assert rows([regular, document], "a.b", "a.c") == b"x,\r\n" + cells + b"\r\n"


def test_a_member_with_a_dot_of_its_own_is_found_as_an_object_too() -> None:
    made = CsvEncoder([FileColumn("a.b", ("a.b",))], CsvOptions())
    assert made.encode([b'{"a.b":1}']).data == b"1\r\n"
    assert made.encode([b'{"a":{"b":2}}', b'{"a.b":3}']).data == b"2\r\n3\r\n"


@pytest.mark.parametrize("name", ['q"q', "it's", "a/b", "a~b", "~1", "a b", "é", "$", "*", "[0]", "0", "a\\b", "#"])
def test_any_member_name_can_be_a_column(name: str) -> None:
    member = name.replace("\\", "\\\\").replace('"', '\\"').encode()
    assert rows([b'{"' + member + b'":7,"other":1}'], name) == b"7\r\n"


@pytest.mark.parametrize("delimiter", [";", "\t", "|", "'", "a", "é", " "])
def test_the_delimiter_is_quoted_where_it_stands_in_a_cell(delimiter: str) -> None:
    made = encoder("x", f"y{delimiter}z", delimiter=delimiter)
    document = (
        f'{{"x":"1{delimiter.replace(chr(9), chr(92) + "t")}2","y{delimiter.replace(chr(9), chr(92) + "t")}z":3}}'
    )
    text = (made.joints.header + made.encode([document.encode()]).data).decode()
    assert list(csv.reader(io.StringIO(text, newline=""), delimiter=delimiter)) == [
        ["x", f"y{delimiter}z"],
        [f"1{delimiter}2", "3"],
    ]


def test_a_byte_order_mark_stands_first_when_asked_for() -> None:
    assert encoder("a", bom=True).joints.header == b"\xef\xbb\xbfa\r\n"


# -- formulas ------------------------------------------------------------------------------------------------------


def quoted(text: str) -> bytes:
    return ('"' + text.replace('"', '""') + '"').encode()


def json_text(text: str) -> bytes:
    return b'"' + "".join(f"\\u{ord(character):04x}" for character in text).encode() + b'"'


@pytest.mark.parametrize("start", FORMULA_STARTS)
def test_no_cell_can_start_a_formula_when_guarded(start: str) -> None:
    encoded = encoder("a", formula_guard="escape").encode([b'{"a":' + json_text(start + "1+1") + b"}"])
    assert encoded.data == quoted("'" + start + "1+1") + b"\r\n"
    assert encoded.suspicious_cells == 0


@pytest.mark.parametrize("start", FORMULA_STARTS)
def test_cells_that_could_start_a_formula_are_counted_when_not_guarded(start: str) -> None:
    text = json_text(start + "1+1")
    encoded = encoder("a", "b").encode([b'{"a":' + text + b',"b":' + text + b"}", b'{"a":"1","b":null}'])
    assert encoded.suspicious_cells == 2


@pytest.mark.parametrize("spelled", [b"\\u0011", b"\\u0011=", b"=\\u0011", b"\\u00e9"])
def test_counting_changes_no_cell_whatever_characters_it_holds(spelled: bytes) -> None:
    """Suspicious cells are counted by a control character, which a document may hold too."""
    text = json.loads(b'"' + spelled + b'"')
    made = encoder("a", "b").encode([b'{"a":"%s","b":"=1+1"}' % spelled, b'{"a":"x","b":"2"}'])
    assert made.data == f"{text},=1+1\r\nx,2\r\n".encode()
    assert made.suspicious_cells == 1 + text.startswith("=")


@pytest.mark.parametrize("start", FORMULA_STARTS)
def test_no_header_can_start_a_formula_when_guarded(start: str) -> None:
    column = FileColumn(start + "1+1", ("a",))
    guarded = CsvEncoder([column], CsvOptions(formula_guard="escape")).joints.header
    may_be_plain = start in "=+-@\uff1d\uff0b\uff0d\uff20"
    assert guarded == quoted("'" + start + "1+1") + b"\r\n" or (may_be_plain and guarded == f"'{start}1+1\r\n".encode())
    assert CsvEncoder([column], CsvOptions()).joints.header.strip(b'"').startswith(start.encode())


@pytest.mark.parametrize("text", ["-10.00", "+31", "-1e5", "+.5", "-0", "1", "-1.", "12-34", "a=b", "", " =1"])
def test_numeric_and_harmless_text_is_untouched(text: str) -> None:
    document = b'{"a":' + json_text(text) + b"}"
    assert rows([document], "a", formula_guard="escape") == rows([document], "a")
    assert encoder("a").encode([document]).suspicious_cells == 0


@pytest.mark.parametrize("text", ["+31 6", "-", "+", "-1-1", "--1", "+1+1", "-1e", "-Infinity", "@SUM(A1)", "=\u0338"])
def test_text_that_only_begins_like_a_number_is_guarded(text: str) -> None:
    assert rows([b'{"a":' + json_text(text) + b"}"], "a", formula_guard="escape") == quoted("'" + text) + b"\r\n"


def test_a_guarded_file_quotes_what_other_spreadsheets_split_at() -> None:
    assert rows([b'{"a":"x;=1","b":"x\\t=1","c":"x|=1","d":1}'], "a", "b", "c", "d", formula_guard="escape") == (
        b'"x;=1","x\t=1","x|=1",1\r\n'
    )


# -- size and threads ----------------------------------------------------------------------------------------------


def test_a_page_larger_than_a_chunk_gives_the_same_bytes_as_its_parts() -> None:
    documents = [b'{"id":%d,"text":"%s"}' % (number, b"x" * 100_000) for number in range(120)]
    made = encoder("id", "text")
    whole = made.encode(documents)
    assert whole.rows == 120
    assert whole.data == b"".join(made.encode([document]).data for document in documents)


def test_thousands_of_columns_are_written() -> None:
    names = [f"field_{number}" for number in range(3000)]
    document = b"{" + b",".join(b'"%s":%d' % (name.encode(), number) for number, name in enumerate(names)) + b"}"
    made = encoder(*names)
    assert (
        made.encode([document, b"{}"]).data == (",".join(map(str, range(3000))) + "\r\n" + "," * 2999 + "\r\n").encode()
    )


def test_wide_and_narrow_files_have_the_same_cells() -> None:
    documents = [b'{"a":{"b":1.10,"c":""},"d":[1,{"x":null}],"e":"=1","f":123456789012345678901}']
    names = ["a.b", "a.c", "d", "e", "f"]
    narrow = encoder(*names).encode(documents)
    wide = encoder(*names, *(f"no_{number}" for number in range(100))).encode(documents)
    assert wide.data == narrow.data[:-2] + b"," * 100 + b"\r\n"
    assert wide.suspicious_cells == narrow.suspicious_cells == 1


def test_several_threads_may_encode_at_once() -> None:
    made = encoder("id", "name")
    documents = {number: [b'{"id":%d,"name":"n%d"}' % (number, row) for row in range(500)] for number in range(8)}
    results: dict[int, bytes] = {}

    def work(number: int) -> None:
        for _ in range(5):
            results[number] = made.encode(documents[number]).data

    threads = [threading.Thread(target=work, args=(number,)) for number in documents]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {number: made.encode(page).data for number, page in documents.items()}


@pytest.mark.parametrize("document", [b'{"a":1', b"", b'{"a":1}{"a":2}', b"\xff", b'{"a":"\xff"}', b'{"a":"\x11"}'])
def test_what_is_not_json_is_refused_by_name(document: bytes) -> None:
    with pytest.raises(SourceError, match="not valid JSON"):
        encoder("a").encode([b'{"a":1}', document])
