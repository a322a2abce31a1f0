"""Segments: rules over the fields of an index, and the queries that select exactly the rows they mean.

    compile_segment  JSON -> checked tree, or SegmentError with every fault
    to_elasticsearch, to_sql, evaluate  the tree as a query, as SQL, and its meaning on one document
    read_sort, sort_clauses, sort_sql  the order of rows, in either engine's words

Imports the standard library and pydantic only, does no I/O and knows nothing of tasks or HTTP. The service
calls what is listed in ``__all__`` and nothing else of this package.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import datetime
from zoneinfo import ZoneInfo

from segments.catalog import Catalog, Column, Field, FieldType
from segments.check import NO_OTHERS, check, check_all, doubtful, equals, operators_for
from segments.errors import Fault, SegmentError
from segments.evaluate import evaluate, resolved
from segments.explain import GroupExplained, RuleExplained, TogetherExplained, explain
from segments.links import linked, with_keys, with_parts
from segments.operators import OPERATORS
from segments.parse import is_relative, parse, parse_all
from segments.reading import read, read_segment
from segments.rules import Segment
from segments.sorting import SortKey, read_sort, sort_clauses, sort_sql, unsortable
from segments.times import Clock
from segments.to_elasticsearch import doubts, to_elasticsearch
from segments.to_sql import to_sql
from segments.tree import EVERYTHING, Linked, Scalar, Tree, all_of

__all__ = [
    "EVERYTHING",
    "OPERATORS",
    "Catalog",
    "Column",
    "Fault",
    "Field",
    "FieldType",
    "GroupExplained",
    "Linked",
    "RuleExplained",
    "Scalar",
    "Segment",
    "SegmentError",
    "SortKey",
    "TogetherExplained",
    "Tree",
    "all_of",
    "check",
    "compile_segment",
    "doubtful",
    "doubts",
    "equals",
    "evaluate",
    "explain",
    "is_relative",
    "linked",
    "operators_for",
    "parse",
    "read_segment",
    "read_sort",
    "resolved",
    "sort_clauses",
    "sort_sql",
    "to_elasticsearch",
    "to_sql",
    "unsortable",
    "with_keys",
    "with_parts",
]


_POSITION = re.compile(r"[0-9]{1,9}")  # a caller's own member may be a superscript, or a number without end


def compile_segment(
    raw: object, catalog: Catalog, others: Mapping[str, Catalog] = NO_OTHERS, *, now: datetime, zone: ZoneInfo
) -> Tree:
    """Decoded JSON to a checked tree: read, parsed and checked, with every fault at once.

    Args:
        raw: the segment as ``json.loads`` gave it.
        catalog: the fields of the index.
        others: the export indices that groups may be about, by name; only those that are named are looked up.
        now: the occurrence of the run, an aware datetime; relative operators are resolved against it, once.
        zone: where bare dates and operands without offset are read.

    Raises:
        SegmentError: everything that is wrong with it, in the order of the document.
    """
    segment, faults = read(raw)
    if segment is None:
        raise SegmentError(faults)
    tree, contradictions = parse_all(segment, Clock.at(now, zone))
    checked, unanswerable = check_all(tree, catalog, others)
    if faults or contradictions or unanswerable:
        raise SegmentError(sorted([*faults, *contradictions, *unanswerable], key=_place))
    return checked


def _place(fault: Fault) -> list[int]:
    """Where in the segment the fault's rule stands."""
    return [int(token) for token in fault.pointer.split("/") if _POSITION.fullmatch(token)]
