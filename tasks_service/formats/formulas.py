"""What a spreadsheet takes for a formula when it opens a CSV file (OWASP, CSV injection).

What lives here is what such a cell is; the cells themselves are judged in SQL, by csv_query.py. Called by
csv_query.py, csv_encoder.py and csv_options.py.
"""

from __future__ import annotations

import re

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20")
"""First characters that make a spreadsheet read a cell as a formula, full-width ones too."""

NUMERIC = r"[+-]?([0-9]+([.][0-9]*)?|[.][0-9]+)([eE][+-]?[0-9]+)?"
"""Text that a spreadsheet reads as a number: it may start with a sign, and the guard leaves it alone."""

SEPARATORS = (",", ";", "\t", "|")
"""What spreadsheets of some locale split at; a guarded cell that holds one is quoted, so that no new cell starts."""

_NUMERIC = re.compile(NUMERIC)


def starts_formula(text: str) -> bool:
    """Tell whether a spreadsheet could take a cell for a formula."""
    return text.startswith(FORMULA_STARTS) and not _NUMERIC.fullmatch(text)
