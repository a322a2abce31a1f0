"""The HTTP contract of a task's target: which file to make of which index.

A part of schemas.py, which has the rest and tells how it is used. Columns and options are judged by formats/, with
every fault at once; here they are documented.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema


def _column(kind: str, value: dict[str, Any], header: dict[str, Any], *required: str) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": {kind: value, "header": header},
        "required": [kind, *required],
        "additionalProperties": False,
    }


_TEXT = {"type": "string", "minLength": 1}
_COLUMNS = [
    {"type": "string"},
    _column("field", {"type": "string"}, {"type": ["string", "null"]}),
    _column("constant", {"type": ["string", "number", "boolean", "null"]}, _TEXT, "header"),
    _column("template", {"type": "string"}, _TEXT, "header"),
]
_OPTIONS = {
    "delimiter": {"type": "string", "minLength": 1, "maxLength": 1, "default": ","},
    "quote": {"type": "string", "minLength": 1, "maxLength": 1, "default": '"'},
    "escape": {"type": "string", "minLength": 1, "maxLength": 1, "default": '"'},
    "quoting": {"enum": ["minimal", "all"], "default": "minimal"},
    "header": {"type": "boolean", "default": True},
    "line_ending": {"enum": ["crlf", "lf"], "default": "crlf"},
    "encoding": {"enum": ["utf-8", "utf-16", "iso-8859-1", "windows-1252"], "default": "utf-8"},
    "bom": {"type": "boolean", "default": False},
    "formula_guard": {"enum": ["off", "escape"], "default": "off"},
    "null": {"type": "string", "maxLength": 100, "default": ""},
    "timezone": {"type": "string"},
    "nested": {"enum": ["json", "flatten", "explode"], "default": "json"},
    "explode": {"type": "string"},
    "typed": {"type": "boolean", "default": True},
    "dates": {"enum": ["text", "excel"], "default": "text"},
}
_DESTINATION = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "path": {"type": "string", "minLength": 1, "maxLength": 400, "default": "{task}/{run}"},
        "overwrite": {"type": "boolean", "default": False},
    },
    "required": ["name"],
    "additionalProperties": False,
}
Destination = Annotated[Any, WithJsonSchema({"anyOf": [{"type": "string"}, _DESTINATION, {"type": "null"}]})]
Columns = Annotated[
    list[Any],
    WithJsonSchema({"type": "array", "minItems": 1, "items": {"anyOf": _COLUMNS}}),
]
_SORT_KEY = {
    "type": "object",
    "properties": {"field": {"type": "string"}, "order": {"enum": ["asc", "desc"], "default": "asc"}},
    "required": ["field"],
    "additionalProperties": False,
}
Sort = Annotated[
    list[Any],
    WithJsonSchema(
        {"type": "array", "minItems": 1, "maxItems": 10, "items": {"anyOf": [{"type": "string"}, _SORT_KEY]}}
    ),
]
Options = Annotated[
    dict[str, Any], WithJsonSchema({"type": "object", "properties": _OPTIONS, "additionalProperties": False})
]


class SplitTarget(BaseModel):
    """Where a file ends and the next begins: exactly one of the two."""

    model_config = ConfigDict(extra="forbid", strict=True)

    rows: int | None = Field(None, ge=1, le=2**63 - 1, description="So many rows a file, the last one fewer.")
    bytes: int | None = Field(
        None, ge=1, le=2**63 - 1, description="At most so many bytes a file, before compression, in whole rows."
    )


class Target(BaseModel):
    """What to export, and as what kind of file."""

    model_config = ConfigDict(extra="forbid", strict=True)

    action: Literal["export"] = Field(description="What to do: `export`.")
    export_index: str = Field(description="The index to export; `GET /export_indices` lists them.")
    export_format: str = Field(
        "csv", description="Format of the file: csv, json (one array), jsonl (a line a row), parquet, xlsx or xml."
    )
    format: str | None = Field(None, description="Another name of `export_format`.")
    columns: Columns | None = Field(
        None,
        description='Columns in order, each a field\'s name, `{"field", "header"}`, `{"constant", "header"}` (the same '
        'in every row) or `{"template": "{first_name} {last_name}", "header"}`; every field where absent.',
    )
    compression: str = Field("none", description="Compression of the file: none, gzip or zstd.")
    split: SplitTarget | None = Field(
        None, description="Several numbered files, `Product_Export-12345-0001.csv`, instead of one."
    )
    archive: Literal["zip"] | None = Field(None, description="One zip archive that holds the file, or all of them.")
    destination: Destination = Field(
        None,
        description="A destination of the chain, by its name, or as an object: the files are pushed there too, before "
        "the run is `done`. `path` may hold {chain}, {task}, {run}, {index}, {year}, {month}, {day}, {hour}, {minute}.",
    )
    options: Options | None = Field(
        None,
        description="How the file is written. csv: delimiter, quote, escape (before a quote inside quotes; the quote "
        "itself by default), quoting, header, line_ending, encoding, bom, formula_guard (`escape`: no cell starts a "
        "formula); xlsx: dates (`excel`: dates of a spreadsheet, in UTC or `timezone`, instead of texts); csv, xlsx: "
        "null (what stands where no value is; in csv never quoted, so that it is no text), timezone (an IANA zone "
        "in which instants of date fields are written, with their offset); parquet and xml: typed "
        "(`false`: every column is text). csv, parquet, xlsx and xml: nested: a nested list is a JSON cell, a list for "
        "each field of its elements (`flatten`), or has a row an element (`explode`; the option `explode` names the "
        "list where the index has several).",
    )
    on_empty: Literal["file", "skip", "error"] = Field(
        "file", description="What becomes of an export without rows: an empty file, no file, or an error."
    )
    sort: Sort | None = Field(
        None,
        description='Fields to sort the rows by, each a name or `{"field", "order"}` (asc or desc); rows without a '
        "value come last. In any order where absent.",
    )
    limit: int | None = Field(
        None,
        ge=1,
        le=2**63 - 1,
        description="Export at most so many documents (rows, but where lists are exploded); sorted, the first.",
    )
    dry_data: bool = Field(
        False,
        description="Leave out what only this system needs, so that another can take the rows in: ids, time stamps, "
        "and in json and jsonl empty values.",
    )
    retention_days: int | None = Field(None, ge=1, le=3650, description="How long the file is kept.")
