from __future__ import annotations

import sys
import unicodedata

import pytest

from segments.folding import alike, fold, folding_table

# Statuses S that Unicode 15.1 gave to characters that older case mappings leave alone.
LATE = {0xFB05: 0xFB06, 0x1FD3: 0x0390, 0x1FE3: 0x03B0}


# Letters that Unicode 15 and 16 gave a capital, of which an older interpreter knows nothing.
YOUNG = {0x1C89, 0xA7CB, 0xA7CC, 0xA7DA, 0xA7DC, *range(0x10D50, 0x10D66)}


def test_the_table_is_what_the_interpreter_knows_about_case() -> None:
    """A full folding to one character is C; where it grows, S is the simple lower case of the character."""
    differing = {
        code
        for code in range(sys.maxunicode + 1)
        if not 0xD800 <= code <= 0xDFFF and folding_table().get(code, code) != LATE.get(code, _derived(chr(code)))
    }
    assert differing == (set() if unicodedata.unidata_version >= "16" else YOUNG)


def _derived(character: str) -> int:
    folded = character.casefold()
    if len(folded) > 1:
        folded = character.lower()
    return ord(folded if len(folded) == 1 else character)


def test_no_fold_chains_and_lengths_stay() -> None:
    table = folding_table()
    assert not set(table.values()) & set(table)
    assert len(table) == 1484
    assert len(fold("".join(map(chr, table)))) == len(table)


@pytest.mark.parametrize(
    ("character", "family"),
    [
        ("k", "Kk\u212a"),
        ("\u212a", "Kk\u212a"),
        ("ς", "Σς\u03c3"),
        ("s", "Ss\u017f"),
        ("å", "Åå\u212b"),
        ("ß", "ßẞ"),
        ("i", "Ii"),
        ("\u0131", "\u0131"),
        ("İ", "İ"),
        ("𐐀", "𐐀𐐨"),
        ("5", "5"),
        ("ﬅ", "ﬅﬆ"),
    ],
)
def test_alike(character: str, family: str) -> None:
    assert alike(character) == "".join(sorted(family))
