"""The JSON of a segment as pydantic models, and its limits.

The models are what the service stores, types against and publishes in its OpenAPI document. The full grammar,
with a fault for everything wrong at once, is ``reading``: it makes these models, and whatever it accepts
pydantic accepts too. What each operator needs is not repeated here but taken from ``operators``.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from segments.operators import FACTORS, OPERATORS, TYPE_WORDS

MAX_DEPTH = 5  # the segment itself is level 1
MAX_RULES = 200
MAX_LIST = 10_000
MAX_WORDS = 100
MAX_WORD = 128
DEFAULT_KEY = "id"  # of the documents a linked group speaks of
MAX_FAULTS = 1000  # a body of nothing but faults is not answered with a book

Join = Literal["all", "any"]


class _Strict(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)


class Rule(_Strict):
    """One condition on one field. An operand its operator does not need is absent (None here)."""

    field_name: str = Field(min_length=1, description="Full dotted path of the field.")
    field_type: str = Field(
        description="Must agree with the field or a sub-field; integer, long, float and double mean number.",
        json_schema_extra={"enum": list(TYPE_WORDS)},
    )
    operator: str = Field(
        description="What must hold; see the reference of operators.",
        json_schema_extra={"enum": list(OPERATORS)},
    )
    value: Any = Field(default=None, description="A scalar, or a list of scalars, as the operator needs.")
    start_date: str | None = Field(default=None, description="ISO 8601 date or date-time.")
    end_date: str | None = Field(default=None, description="ISO 8601 date or date-time.")
    time_factor: str | None = Field(
        default=None,
        description="Unit of time, singular or plural.",
        json_schema_extra={"examples": list(FACTORS)},
    )
    time_amount: Annotated[int, Field(ge=0)] | None = Field(default=None, description="How many units.")
    min: int | float | None = Field(default=None, description="Lower bound, included.")
    max: int | float | None = Field(default=None, description="Upper bound, included.")
    nested: bool = Field(default=False, description="True for fields of nested documents.")
    nesting_path: str | None = Field(default=None, description="Path of the nested document the field lies in.")


class Group(_Strict):
    """Rules and groups joined; ``negate`` turns the whole group into its complement.

    With ``index`` and ``link`` its rules speak of the documents of another index: the group holds where ``link`` equals
    the ``key`` of one of them, of the same chain, that matches.
    """

    join: Join
    rules: tuple[Rule | Group, ...] = Field(strict=False, min_length=1)
    negate: bool = False
    index: str | None = Field(default=None, min_length=1, description="Another export index the rules are about.")
    link: str | None = Field(default=None, min_length=1, description="Field here that holds the key of its documents.")
    key: str | None = Field(default=None, min_length=1, description="Field there that is the key; else `id`.")


class Segment(_Strict):
    """Chooses rows of one index of one chain. No rules joined by ``all``: every row of the chain."""

    entity: Literal["people"] = "people"
    index: str = Field(min_length=1, description="The export index it is about.")
    join: Join
    chain_id: int
    rules: tuple[Rule | Group, ...] = Field(strict=False)
    negate: bool = False
