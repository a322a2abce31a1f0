r"""Half a character: an escape such as `\ud800` without its other half: lawful JSON that UTF-8 cannot hold.

Elasticsearch indexes such documents; DuckDB and msgspec refuse them. What lives here finds the escapes and puts the
replacement character in their place, length for length, so that offsets stay. Called by elasticsearch_pages.py to find
its way around a page, and by the formats that decode text. Raw documents are passed on as they are.
"""

from __future__ import annotations

import re

_ESCAPE = re.compile(
    rb"\\(?:u([dD][89abAB][0-9a-fA-F]{2})\\u([dD][c-fC-F][0-9a-fA-F]{2})|u([dD][89a-fA-F][0-9a-fA-F]{2})|.)",
    re.DOTALL,
)


def without_lone_surrogates(text: bytes) -> bytes:
    """Replace escapes of half a character by the escape of U+FFFD, which is as long."""
    return _ESCAPE.sub(lambda match: rb"\ufffd" if match[3] else match[0], text)
