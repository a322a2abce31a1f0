"""The option `null`: a text that stands where a value is null or missing.

What lives here is what any format asks of that text; what a CSV asks beside is csv_options.py's. Called by
csv_options.py and xlsx_options.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tasks_service.errors import Fault

NULL_OPTION: Final = "null"
LONGEST: Final = 100
"""Characters of the text at most: it may stand in every cell."""

_POINTER = "/target/options/null"


def null_faults(options: Mapping[str, Any]) -> list[Fault]:
    """Return what is wrong with the option by itself."""
    text = options.get(NULL_OPTION, "")
    if isinstance(text, str) and len(text) <= LONGEST and text.isprintable():
        return []
    detail = (
        f'null is a text of at most {LONGEST} characters that can be printed, e.g. "NULL"; a line break, a tab or '
        "another control character is none of them."
    )
    return [Fault(_POINTER, "invalid_option", detail)]
