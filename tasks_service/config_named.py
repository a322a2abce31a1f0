"""The sections an operator gives names to: export indices (`[indices.NAME]`), destinations (`[destinations.NAME]`).

A part of config.py, which has every other setting and is where they are imported from.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr, field_validator, model_validator

Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9-]{0,63}$")]


class Section(BaseModel):
    """Base of every section: frozen, and no unknown key passes."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class IndexSettings(Section):
    """An export index: what a task's `export_index` may name."""

    file_prefix: str = Field(pattern=r"^[A-Za-z][A-Za-z0-9_]{0,63}$", description="Start of its file names.")
    source: str = Field(
        pattern=r"^[a-z0-9][a-z0-9._*-]*$", description="Index, alias, pattern or folder the documents are read from."
    )
    chain_field: str = Field("chain_id", description="Field that holds the chain; every export is filtered by it.")
    columns: list[str] = Field([], description="Columns of a CSV unless the task names its own; empty: every field.")
    dry_without: list[str] = Field(
        ["id", "created_date", "last_modified_date", "created_at", "updated_at"],
        description="Fields that `dry_data` leaves out, beside the chain's: names, dotted inside objects and lists.",
    )
    types: dict[str, Literal["keyword", "text", "date"]] = Field(
        {}, description="Types of text columns of document files, where the file cannot tell."
    )


def default_indices() -> dict[str, IndexSettings]:
    """Return the six indices that a configuration without any has."""
    prefixes = {
        "transactions": "Transaction",
        "users": "User",
        "vouchers": "Voucher",
        "wallet-ledger": "Wallet",
        "products": "Product",
        "product-variants": "ProductVariant",
    }
    return {
        name: IndexSettings.model_validate({"file_prefix": prefix, "source": name}) for name, prefix in prefixes.items()
    }


_PREFIX = re.compile(
    r"(?:[A-Za-z0-9_=-]|\{chain\})(?:[A-Za-z0-9._=-]|\{chain\})*(?:/(?:[A-Za-z0-9_=-]|\{chain\})(?:[A-Za-z0-9._=-]|\{chain\})*)*"
)


_OF_OTHER_KIND = {
    "gcs": frozenset({"region", "profile", "access_key_id", "secret_access_key"}),
    "s3": frozenset({"credentials_file"}),
}


class DestinationSettings(Section):
    """A customer's bucket: what a task's `destination` may name."""

    kind: Literal["gcs", "s3"] = Field(description="gcs (Google Cloud Storage) or s3 (Amazon S3, or what speaks it).")
    bucket: str = Field(pattern=r"^[a-z0-9][a-z0-9._-]{1,220}[a-z0-9]$", description="Bucket files are pushed to.")
    chains: list[int] = Field(min_length=1, description="Chains whose tasks may name it.")
    prefix: str = Field(
        "", description="Start of every object name; may hold {chain}, and must where several chains may name it."
    )
    endpoint: str | None = Field(None, description="Another API endpoint than Google's or Amazon's.")
    timeout_seconds: float = Field(60, gt=0, description="Longest wait for one call.")
    credentials_file: Path | None = Field(
        None, description="gcs: service-account key. Unset: the machine's own identity."
    )
    region: str | None = Field(None, description="s3: region of the bucket; unset: as the AWS configuration says.")
    profile: str | None = Field(None, description="s3: profile of the AWS configuration (a role to assume, and so on).")
    access_key_id: str | None = Field(
        None, description="s3: key, with secret_access_key. Unset: found as by every AWS tool."
    )
    secret_access_key: SecretStr | None = Field(None, description="s3: secret of access_key_id.")

    @field_validator("prefix")
    @classmethod
    def _an_object_prefix(cls, prefix: str) -> str:
        prefix = prefix.strip("/")
        if prefix and not _PREFIX.fullmatch(prefix):
            raise ValueError("prefix must be like exports/{chain}: letters, digits and . _ = - between slashes")
        return prefix

    @model_validator(mode="after")
    def _of_one_kind(self) -> DestinationSettings:
        given = {name for name in self.model_fields_set if getattr(self, name) is not None}
        if foreign := sorted(_OF_OTHER_KIND[self.kind] & given):
            raise ValueError(f"{', '.join(foreign)} must be left out where kind is {self.kind}")
        if (self.access_key_id is None) != (self.secret_access_key is None):
            raise ValueError("access_key_id and secret_access_key must be set together")
        if self.access_key_id is not None and self.profile is not None:
            raise ValueError("profile must be left out where access_key_id is set")
        return self

    @model_validator(mode="after")
    def _chains_apart(self) -> DestinationSettings:
        if len(set(self.chains)) > 1 and "{chain}" not in self.prefix:
            raise ValueError(
                "prefix must hold {chain} where several chains may name the destination: it keeps them apart"
            )
        return self


NAMED: dict[str, type[Section]] = {"indices": IndexSettings, "destinations": DestinationSettings}
"""The named sections, each with what one of its names is."""
