"""The HTTP contract: every body and every query as pydantic models. No tables, no rules about time or fields.

Requests are validated against these models (strictly: no text is taken for a number, no unknown member passes);
answers are built as plain documents in api/shapes.py, and the tests hold each of them against its model here. The
OpenAPI document is generated from this module by api/openapi.py. What a trigger means is schedule.py's, what a
segment means is the package `segments`, which columns there are is formats/; they are asked by api/definitions.py.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, WithJsonSchema

from tasks_service.target_schemas import Target

MAX_ID = 2**63 - 1
PAGE = 100
"""Entries of a page at most."""

# Checked by api/definitions.py, with every fault at once; here they are documented. api/openapi.py resolves `x-model`.
SegmentDocument = Annotated[dict[str, Any], WithJsonSchema({"x-model": "Segment"})]
# An integer, or its digits as a text.
SegmentId = Annotated[
    int | str,
    WithJsonSchema(
        {
            "anyOf": [
                {"type": "integer", "minimum": 1, "maximum": MAX_ID},
                {"type": "string", "pattern": "^[1-9][0-9]{0,18}$"},
            ]
        }
    ),
]
DateTime = Annotated[str, WithJsonSchema({"type": "string", "format": "date-time"})]


class Request(BaseModel):
    """Base of what callers send: strict, and no unknown member passes."""

    model_config = ConfigDict(extra="forbid", strict=True)


class Answer(BaseModel):
    """Base of what is answered."""

    model_config = ConfigDict(extra="forbid")


# -- requests ---------------------------------------------------------------------------------------------------


class Trigger(Request):
    """When to export, and which rows: exactly one of `once` and `cron`, and at most one segment."""

    once: DateTime | None = Field(
        None, description="The moment to run, ISO 8601; past or now runs at once. Without offset: in `timezone`."
    )
    cron: str | None = Field(None, description="Five fields (minute hour day month weekday) or a macro like @daily.")
    timezone: str | None = Field(None, description="IANA time zone; UTC where absent.")
    start_at: DateTime | None = Field(None, description="With `cron`: no occurrence before this moment.")
    end_at: DateTime | None = Field(None, description="With `cron`: no occurrence after this moment.")
    jitter: int | None = Field(None, ge=0, le=3600, description="With `cron`: start up to so many seconds later.")
    misfire: Literal["skip", "run_once", "run_all"] | None = Field(
        None, description="With `cron`: what becomes of occurrences that were missed."
    )
    overlap: Literal["skip", "buffer_one", "buffer_all", "allow", "cancel_other"] | None = Field(
        None, description="With `cron`: what becomes of an occurrence that is due while a run is going."
    )
    pause_after_failures: int | None = Field(
        None, ge=1, le=1000, description="With `cron`: pause the task after so many failed runs in a row."
    )
    segment: SegmentDocument | None = Field(None, description="Rules that choose rows; every row where absent.")
    segment_id: SegmentId | None = Field(
        None, description="A saved segment of the task's chain and index; each run uses its newest version."
    )


class TaskCreate(Request):
    """A new task."""

    chain: int = Field(ge=0, le=MAX_ID, description="The chain whose rows are exported.")
    desc: str | None = Field(None, max_length=1000, description="What the task is for, in your words.")
    target: Target = Field(description="What to export.")
    trigger: Trigger = Field(description="When, and which rows.")
    debug: str | bool | None = Field(None, description="Taken for compatibility; has no effect.")


def _without_default(schema: dict[str, Any]) -> None:
    schema.pop("default", None)


_ABSENT: Any = None
"""The default of members that may be left out but not be null."""


class TaskEdit(Request):
    """Changes of a task. Each member that is given replaces the stored one as a whole."""

    model_config = ConfigDict(extra="forbid", strict=True, json_schema_extra={"minProperties": 1})

    desc: str | None = Field(None, max_length=1000, description="The new description.")
    target: Target = Field(_ABSENT, description="The new target, whole.", json_schema_extra=_without_default)
    trigger: Trigger = Field(_ABSENT, description="The new trigger, whole.", json_schema_extra=_without_default)


class Note(Request):
    """Why somebody paused or resumed a task."""

    note: str | None = Field(None, max_length=1000, description="Shown with the task and in its log.")


class Nothing(Request):
    """No body, or an empty object."""


# -- queries ----------------------------------------------------------------------------------------------------


class PageQuery(Request):
    """Which page of a list."""

    limit: int = Field(25, ge=1, le=PAGE, description="Entries of a page.")
    cursor: str | None = Field(None, max_length=1024, description="From `next` or `previous` of another page.")


class TaskListQuery(PageQuery):
    """Which tasks to list."""

    chain: int | None = Field(None, ge=0, le=MAX_ID, description="Tasks of this chain.")
    state: Literal["READY", "INPROGRESS", "DONE", "ERROR"] | None = Field(None, description="Tasks in this state.")
    export_index: str | None = Field(None, description="Tasks that export this index.")
    created_after: DateTime | None = Field(None, description="Created at this moment or later.")
    created_before: DateTime | None = Field(None, description="Created before this moment.")


class LogQuery(Request):
    """Which log entries to show with a task, newest first."""

    log_limit: int = Field(10, ge=0, le=PAGE, description="Log entries shown.")
    offset: int = Field(0, ge=0, le=1_000_000, description="Log entries left out, from the newest on.")


# -- answers ----------------------------------------------------------------------------------------------------


class State(Answer):
    """Where a task stands."""

    code: Literal["READY", "INPROGRESS", "DONE", "ERROR"]
    reason: str | None = Field(description="Why, as a slug, where there is something to say.")
    last_run_date: DateTime | None
    last_modified: DateTime
    created_date: DateTime
    next_run_date: DateTime | None


class Author(Answer):
    """Who created a task."""

    type: Literal["client", "operator"]
    id: str
    name: str


class Paused(Answer):
    """Since when a task is paused."""

    since: DateTime
    note: str | None
    reason: str | None = Field(
        description="Null where somebody paused it, else a slug: failures, client_removed, scope_lost, invalid_trigger."
    )


class LogEntry(Answer):
    """Something that happened to a task."""

    time: DateTime
    level: str
    event: str
    message: str
    run: int | None


class ResultFile(Answer):
    """One of the numbered files of a run."""

    file_name: str
    records_count: int
    bytes: int
    sha256: str
    crc32c: str


class PushedFile(Answer):
    """An object in the customer's own bucket."""

    file_name: str
    uri: str
    bytes: int
    crc32c: str = Field(description="As the destination reports it.")


class Pushed(Answer):
    """Where the files were pushed to before they were published. They are not deleted with the task or the result."""

    name: str = Field(description="The destination, as `target.destination` names it.")
    uri: str = Field(description="The folder they lie in.")
    pushed_at: DateTime
    files: list[PushedFile] = Field(description="The file, the numbered files or the archive.")
    manifest: PushedFile


class Result(Answer):
    """The file of the run that made the task DONE."""

    run: int
    file_name: str
    format: str
    compression: str
    records_count: int = Field(description="Rows of the file.")
    documents_count: int = Field(description="Documents in it; fewer than rows where a list has a row an element.")
    bytes: int
    sha256: str | None = Field(description="Null where there are several files; each has its own.")
    crc32c: str | None = Field(description="Base64 of the big-endian checksum; null as `sha256`.")
    archive: Literal["zip"] | None
    files: list[ResultFile] | None = Field(description="The numbered files, also of an archive; null where not split.")
    suspicious_cells: int = Field(description="Cells a spreadsheet could take for a formula.")
    snapshot_at: DateTime
    expires_at: DateTime | None
    destination: Pushed | None = Field(description="Null where the task names no destination.")


class ListedTask(Answer):
    """A task without its log."""

    id: int
    chain: int
    desc: str | None
    created_by: Author
    state: State
    paused: Paused | None
    target: dict[str, Any]
    trigger: dict[str, Any]
    debug: None
    version: int
    result: Result | None


class Task(ListedTask):
    """A task with its newest log entries."""

    logs: list[LogEntry]


class TaskCreated(Task):
    """A task as it was just created or edited, with what its trigger means."""

    next_run_dates: list[DateTime] = Field(description="The next five moments it will run.")


class AttemptShown(Answer):
    """One try of a run by one worker."""

    number: int
    started_at: DateTime
    ended_at: DateTime | None
    outcome: str | None = Field(description="Null while it goes.")
    code: str | None
    detail: str | None


class Progress(Answer):
    """How far a run is."""

    rows: int
    total: int | None = Field(description="Exact; null before the rows were counted.")
    bytes: int
    updated_at: DateTime | None
    started_over: int = Field(description="How often finished parts were given up: their snapshot was gone.")


class SegmentUsed(Answer):
    """The saved segment a run uses, and which of its versions: the newest when the run was made."""

    id: int
    version: int


class Run(Answer):
    """One carrying-out of a task."""

    id: int
    task: int
    kind: Literal["schedule", "manual", "backfill", "retry"]
    state: Literal["queued", "running", "done", "failed", "cancelled"]
    reason: str | None
    detail: str | None
    occurrence: DateTime
    repeats: int | None = Field(description="The run this one repeats.")
    backfill: int | None = Field(description="The backfill it belongs to.")
    created_date: DateTime
    started_date: DateTime | None
    finished_date: DateTime | None
    cancel_requested: bool
    segment: SegmentUsed | None = Field(description="Null where the task has its own segment, or none.")
    attempts: list[AttemptShown]
    events: list[LogEntry]
    progress: Progress
    query: dict[str, Any] | None = Field(description="The compiled query, once there is one.")
    artifact: Result | None


class Link(Answer):
    """A link to what is to be downloaded. Fetch it promptly: it lives for about an hour."""

    url: str
    expires_at: DateTime
    file_name: str
    bytes: int
    sha256: str


class FileLink(Link):
    """A link to one of several files."""

    records_count: int


class Download(Answer):
    """A link to a file, or to each of several. Fetch promptly: a link lives for about an hour."""

    url: str | None = Field(description="Null where there are several files: their links are in `files`.")
    expires_at: DateTime
    file_name: str
    bytes: int
    records_count: int
    sha256: str | None
    files: list[FileLink] | None = Field(description="Each numbered file; null where one link leads to everything.")


class TaskPage(Answer):
    """A page of tasks, newest first."""

    results: list[ListedTask]
    next: str | None
    previous: str | None


class RunPage(Answer):
    """A page of runs, newest first."""

    results: list[Run]
    next: str | None
    previous: str | None


class IndexField(Answer):
    """A field rules may ask."""

    name: str
    type: str
    operators: list[str]
    nested: str | None = Field(description="Path of the nested document it lies in.")


class ExportIndex(Answer):
    """An index that can be exported."""

    name: str
    file_prefix: str
    formats: list[str]
    fields: list[IndexField]


class ExportIndexPage(Answer):
    """All indices that can be exported."""

    results: list[ExportIndex]
    next: None
    previous: None
