"""The HTTP contract of /segments: what callers send and what is answered.

A part of schemas.py, which has the rest and tells how it is used. What a segment may hold is the package `segments`.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import ConfigDict, Field

from tasks_service.schemas import MAX_ID, Answer, Author, DateTime, PageQuery, Request, SegmentDocument, SegmentId

NAME_LENGTH = 200
_ZONE = "IANA time zone."
_NOW = "The moment relative rules are measured from; now where absent."
_ONE: dict[str, Any] = {"oneOf": [{"required": ["segment"]}, {"required": ["segment_id"]}]}


class SegmentSave(Request):
    """A segment to be saved, and what to call it."""

    name: str = Field(
        min_length=1,
        max_length=NAME_LENGTH,
        pattern=r"^\S(.*\S)?$",
        description="Unique among the chain's segments; it neither starts nor ends with a blank.",
    )
    segment: SegmentDocument = Field(description="The segment; its `chain_id` is the chain it belongs to.")


class Preview(Request):
    """A segment with the zone and the moment its relative rules are measured from."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra=_ONE)

    segment: SegmentDocument | None = Field(None, description="The segment.")
    segment_id: SegmentId | None = Field(None, description="A saved segment, instead of `segment`.")
    timezone: str = Field("UTC", description=_ZONE)
    now: DateTime | None = Field(None, description=_NOW)


class Explain(Preview):
    """A segment, and a document that it selects or leaves out."""

    id: int | str = Field(description="The document: the value of its field `id`.")


class SegmentListQuery(PageQuery):
    """Which saved segments to list."""

    chain: int | None = Field(None, ge=0, le=MAX_ID, description="Segments of this chain.")
    index: str | None = Field(None, description="Segments of this export index.")
    name: str | None = Field(None, description="The segment of exactly this name.")


class SavedSegment(Answer):
    """A saved segment as its newest version has it."""

    id: int
    chain: int
    name: str
    version: int
    segment: SegmentDocument
    created_by: Author
    created_date: DateTime
    last_modified: DateTime


class SavedSegmentPage(Answer):
    """A page of saved segments, newest first."""

    results: list[SavedSegment]
    next: str | None
    previous: str | None


class SegmentVersion(Answer):
    """A version of a saved segment; versions never change."""

    id: int = Field(description="The segment's id.")
    version: int
    name: str
    segment: SegmentDocument
    created_by: Author = Field(description="Whose client made this version.")
    created_date: DateTime


class SegmentVersionPage(Answer):
    """A page of a segment's versions, newest first."""

    results: list[SegmentVersion]
    next: str | None
    previous: str | None


class RuleExplained(Answer):
    """A rule's verdict on a document."""

    pointer: str = Field(description="JSON pointer from the segment to the rule.")
    field_name: str
    operator: str
    matched: bool = Field(description="Whether the rule, by itself, selects the document.")
    values: list[Any] = Field(description="The first values of the field; long texts are cut.")
    fitting: list[Any] = Field(description="Those of them that the operator, or the one it negates, asks for.")
    count: int = Field(description="How many values there are.")
    why: str


class RulesTogether(Answer):
    """The verdict on rules of one group that speak of the same nested document."""

    pointers: list[str]
    nesting_path: str
    matched: bool
    why: str


class GroupExplained(Answer):
    """A group's verdict on a document, and those of what it is made of."""

    pointer: str = Field(description="JSON pointer from the segment to the group; empty for the segment itself.")
    join: Literal["all", "any"]
    negate: bool
    index: str | None = Field(description="The other index its rules are about; those are not taken apart.")
    matched: bool = Field(description="Whether the group, by itself, selects the document.")
    why: str
    rules: list[RuleExplained | GroupExplained]
    together: list[RulesTogether] = Field(description="Its rules about the same nested document, if several.")


class Explanation(Answer):
    """Why a segment selects a document, or leaves it out."""

    matches: bool
    explanation: GroupExplained


class PreviewAnswer(Answer):
    """What a segment selects."""

    count: int
    sample: list[dict[str, Any]]
    query: dict[str, Any]
