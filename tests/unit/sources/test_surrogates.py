from __future__ import annotations

import json
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from tasks_service.sources.surrogates import without_lone_surrogates

UNITS = st.lists(st.sampled_from([0xD800, 0xDBFF, 0xDC00, 0xDFFF, 0x61, 0x5C, 0x22, 0xE9]))


def escaped(units: list[int]) -> bytes:
    plain = {0x5C: b"\\\\", 0x22: b'\\"', 0x61: b"a"}
    return b'"' + b"".join(plain.get(unit, b"\\u%04x" % unit) for unit in units) + b'"'


@given(UNITS)
def test_whole_characters_stay_and_halves_are_replaced(units: list[int]) -> None:
    text = escaped(units)
    made = without_lone_surrogates(text)
    assert len(made) == len(text)
    value: Any = json.loads(text)
    replaced = "".join("\ufffd" if "\ud800" <= one <= "\udfff" else one for one in value)
    assert json.loads(made) == replaced
