"""The manifest beside every result: what was asked, what was found, and how to know that the files are whole.

What lives here: its shape (docs/files.md shows one) and reading it. It holds no link and no place in the storage, so
that it may be passed on with the files. `manifest_version` changes when a reader of the former would misunderstand;
members may be added without that. Called by sealing.py, which makes one, and by verification.py, which holds files
against it.
"""

from __future__ import annotations

import json
from typing import Any, Literal, cast

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
)
from pydantic.config import JsonDict

from tasks_service.errors import InvalidRequestError

CONTENT_TYPE = "application/json"
LARGEST = 64 * 1024 * 1024
"""Bytes of a manifest at most: far more than one of the most files and columns has."""

_NUMBER = Field(ge=0)
_CRC32C = Field(description="CRC-32C of the bytes, big-endian, in base64, as Google Cloud Storage writes it.")
_SHA256 = Field(pattern="^[0-9a-f]{64}$", description="SHA-256 of the bytes, in hexadecimal.")
_INSTANT: JsonDict = {"format": "date-time"}


class _Part(BaseModel):
    """Base of the manifest and its parts: members of later versions are passed over."""

    model_config = ConfigDict(extra="ignore", frozen=True)


class ManifestColumn(_Part):
    """A column of the files."""

    name: str = Field(description="Its header.")
    field: str | None = Field(description="The field its cells are from; null for constants and templates.")
    type: str | None = Field(description="The field's type in the catalogue; null for an object taken whole.")
    constant: str | int | float | bool | None = Field(None, description="What is in every cell.")
    template: str | None = Field(None, description="The text in which the fields of its cells stand.")

    @model_serializer(mode="wrap")
    def _serialised(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Most columns are fields; only the others say what they are instead."""
        return {name: value for name, value in handler(self).items() if name in self.model_fields_set}


class ManifestPart(_Part):
    """A stretch of a file that one worker wrote; the parts follow one another without a gap."""

    rows: int = _NUMBER
    bytes: int = _NUMBER
    crc32c: str = _CRC32C
    sha256: str = _SHA256


class ManifestFile(_Part):
    """One file of rows: what is downloaded, or a member of the archive that is downloaded."""

    name: str
    rows: int = _NUMBER
    documents: int = Field(ge=0, description="Documents behind the rows; another number only where lists are exploded.")
    bytes: int = _NUMBER
    crc32c: str = _CRC32C
    sha256: str = _SHA256
    parts: list[ManifestPart] = Field(description="What it was put together from; none where it was written in one go.")


class ManifestArchive(_Part):
    """The archive around the files."""

    name: str
    kind: Literal["zip"]
    bytes: int = _NUMBER
    crc32c: str = _CRC32C
    sha256: str = _SHA256


class ManifestSegment(_Part):
    """Which rows were asked for. `id` and `version` name a saved segment."""

    id: int | None
    version: int | None
    rules: dict[str, Any] = Field(description="The segment itself.")


class ManifestService(_Part):
    """What wrote it."""

    name: str
    version: str


class Manifest(_Part):
    """The manifest of one result."""

    manifest_version: Literal[1]
    service: ManifestService
    task: int
    run: int
    chain: int
    index: str
    occurrence: str = Field(description="The moment relative rules are measured from.", json_schema_extra=_INSTANT)
    timezone: str
    snapshot_at: str = Field(
        description="The instant of the frozen view all rows were read from.", json_schema_extra=_INSTANT
    )
    format: str
    options: dict[str, Any] = Field(description="The format's options as the task gave them; others are the defaults.")
    compression: str = Field(description="Of each file, also inside an archive: none, gzip or zstd.")
    split: dict[str, int] | None = Field(description='What ends a file: {"rows": N} or {"bytes": N}.')
    limit: int | None = Field(description="The most documents the task wanted.")
    dry_data: bool = Field(False, description="Whether ids, time stamps and empty values were left out.")
    columns: list[ManifestColumn] | None = Field(description="In order; null where the format holds whole documents.")
    xml_schema: str | None = Field(
        None, description="The XML Schema (XSD 1.0) that every file satisfies; absent where the format is not xml."
    )
    segment: ManifestSegment | None = Field(description="Null where every row of the chain was asked for.")
    query: dict[str, Any] = Field(description="What the segment was compiled to, the chain's filter included.")
    rows: int = _NUMBER
    documents: int = Field(ge=0, description="The exact total of the snapshot.")
    bytes: int = Field(ge=0, description="Of all files together.")
    suspicious_cells: int = Field(ge=0, description="Cells a spreadsheet could take for a formula.")
    archive: ManifestArchive | None
    files: list[ManifestFile] = Field(min_length=1)

    @model_serializer(mode="wrap")
    def _serialised(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Only files of xml have a schema."""
        return {name: value for name, value in handler(self).items() if name != "xml_schema" or value is not None}


class NotAManifestError(InvalidRequestError):
    """This is not a manifest."""

    code = "not_a_manifest"


def to_bytes(manifest: Manifest) -> bytes:
    """Write a manifest: UTF-8, the same bytes for the same manifest."""
    return (json.dumps(manifest.model_dump(mode="json"), indent=2, ensure_ascii=False) + "\n").encode()


def from_bytes(data: bytes) -> Manifest:
    """Read a manifest. Raises NotAManifestError, which says what is wrong with it."""
    try:
        document: Any = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise NotAManifestError("The manifest is not JSON; was it downloaded whole?") from error
    version = cast("dict[str, Any]", document).get("manifest_version") if isinstance(document, dict) else None
    if version != 1:
        raise NotAManifestError(
            f"The manifest says manifest_version {version!r}; this version of the service reads 1."
            if version is not None
            else "This JSON is not a manifest: it has no `manifest_version`."
        )
    try:
        return Manifest.model_validate(document)
    except ValidationError as error:
        faults = [f"/{'/'.join(map(str, one['loc']))}: {one['msg']}" for one in error.errors()]
        raise NotAManifestError("The manifest is not whole: " + "; ".join(faults)) from error


def schema() -> dict[str, Any]:
    """Return the JSON Schema (2020-12) of a manifest."""
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "Manifest of an export",
        **{name: value for name, value in Manifest.model_json_schema().items() if name != "title"},
    }
