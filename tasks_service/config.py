"""Settings: one TOML file and `TASKS_*` environment variables become one frozen object.

What lives here: every setting with its default and the line that describes it, and `every_setting`, the list
that the loader's errors, config.example.toml and the tests of the documentation are made from. What does not:
sections with names of the operator's (config_named.py), reading files and variables (config_loading.py), writing
them (config_example.py), and anything that acts on a setting. Called by everyone.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import Field, SecretStr, field_validator, model_validator
from pydantic.fields import FieldInfo

from tasks_service.config_named import NAMED, DestinationSettings, IndexSettings, Name, Section, default_indices

__all__ = ["DestinationSettings", "IndexSettings", "Section", "default_indices"]


class ServiceSettings(Section):
    """What concerns every process."""

    public_url: str = Field("http://127.0.0.1:8080", description="Base of the links the service hands out.")
    secret_key: SecretStr | None = Field(
        None,
        description="Signs cursors and local download links. Unset: made once and kept in "
        "state_directory/secret.key; set it when processes on several hosts must agree.",
    )
    state_directory: Path = Field(Path("var"), description="Where the service keeps what it makes for itself.")
    log_format: Literal["console", "json"] = Field(
        "console", description="Log lines for people, or one JSON object each."
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Least severe level logged.")

    @field_validator("public_url")
    @classmethod
    def _an_address(cls, url: str) -> str:
        if not re.fullmatch(r"https?://[^/\s?#@]+(/[^\s?#]*)?", url):
            raise ValueError("service.public_url must be like https://exports.example.com")
        return url.rstrip("/")


class WebSettings(Section):
    """The HTTP server."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(8080, ge=0, le=65535, description="Port to listen on.")
    workers: int = Field(1, ge=1, le=64, description="gunicorn worker processes.")
    threads: int = Field(8, ge=1, le=256, description="Threads of each gunicorn worker.")
    max_body_bytes: int = Field(1024 * 1024, ge=1024, description="Largest request body; more is answered 413.")
    graceful_timeout_seconds: int = Field(20, ge=1, description="How long a stopping server finishes its requests.")


class VitalsSettings(Section):
    """What each scheduler and worker process tells whoever watches it, over HTTP (/healthz)."""

    host: str = Field("127.0.0.1", description="Address to listen on.")
    port: int = Field(
        0,
        ge=0,
        le=65535,
        description="Port to listen on; 0: none. `serve` gives it to the scheduler, and the ones after it to workers.",
    )


class DatabaseSettings(Section):
    """Where tasks and runs are kept."""

    url: SecretStr = Field(
        SecretStr("sqlite:///var/tasks.db"),
        description="sqlite:///PATH, or postgresql+psycopg://USER:PASSWORD@HOST/NAME.",
    )
    pool_size: int = Field(10, ge=1, description="Connections each process keeps (PostgreSQL).")

    @field_validator("url")
    @classmethod
    def _known_database(cls, url: SecretStr) -> SecretStr:
        if not url.get_secret_value().startswith(("sqlite:///", "postgresql+psycopg://")):
            raise ValueError("database.url must start with sqlite:/// or postgresql+psycopg://")
        return url


class FilesSettings(Section):
    """Documents in files, read by DuckDB."""

    directory: Path = Field(
        Path("var/documents"),
        description="One folder an index, named as its `source`, of .parquet, .jsonl, .ndjson or .csv files.",
    )
    memory_limit: str = Field(
        "192MB", description="DuckDB's memory limit in each process; Parquet files take two thirds of it."
    )
    threads: int = Field(2, ge=1, description="DuckDB's threads in each process.")
    temp_directory: Path | None = Field(
        None, description="Where sorting puts what memory_limit cannot hold; absent: the system's temporary folder."
    )


class ElasticsearchSettings(Section):
    """Documents in Elasticsearch 8 or 9."""

    urls: list[str] = Field(["http://127.0.0.1:9200"], min_length=1, description="Nodes of one cluster.")
    api_key: SecretStr | None = Field(None, description="API key (base64 of id:key), read access to the indices.")
    username: str | None = Field(None, description="User for basic authentication, with password.")
    password: SecretStr | None = Field(None, description="Password of username.")
    ca_certs: Path | None = Field(None, description="Certificate authority of the cluster.")
    request_timeout_seconds: float = Field(60, gt=0, description="Longest wait for one page.")
    keep_alive_seconds: int = Field(300, ge=30, le=86400, description="How long a point-in-time lives between pages.")
    page_bytes: int = Field(4 * 1024 * 1024, ge=64 * 1024, description="Wanted size of a page; its rows adapt to it.")
    slices: int = Field(4, ge=1, le=64, description="Slices read in parallel by one export.")
    refresh: bool = Field(True, description="Refresh an index before its snapshot, where the user is permitted to.")

    @model_validator(mode="after")
    def _whole_credentials(self) -> ElasticsearchSettings:
        if (self.username is None) != (self.password is None):
            raise ValueError("elasticsearch.username and elasticsearch.password must be set together")
        if self.username is not None and self.api_key is not None:
            raise ValueError("elasticsearch.api_key must be unset where elasticsearch.username is set")
        return self


class SourceSettings(Section):
    """Where documents are read."""

    kind: Literal["files", "elasticsearch"] = Field("files", description="files (DuckDB) or elasticsearch.")
    catalog_seconds: float = Field(30, ge=0, description="How long a catalogue is believed before it is read again.")


class LocalSettings(Section):
    """Results in a local directory."""

    directory: Path = Field(Path("var/exports"), description="Where files are kept.")


class GcsSettings(Section):
    """Results in Google Cloud Storage."""

    bucket: str | None = Field(None, description="Bucket of the results.")
    credentials_file: Path | None = Field(
        None,
        description="Service-account key. Unset: the machine's own identity, and links signed by signBlob.",
    )
    signing_account: str | None = Field(
        None, description="Service account that signs links by signBlob; unset: the machine's own."
    )
    endpoint: str | None = Field(None, description="Another API endpoint than Google's (a private endpoint, a test).")
    chunk_bytes: int = Field(4 * 1024 * 1024, multiple_of=256 * 1024, ge=256 * 1024, description="Upload chunk.")
    timeout_seconds: float = Field(60, gt=0, description="Longest wait for one call.")


class StorageSettings(Section):
    """Where results are written."""

    kind: Literal["local", "gcs"] = Field("local", description="local (a directory) or gcs.")
    prefix: str = Field("exports", pattern=r"^[a-z0-9][a-z0-9/_-]*$", description="Start of every object name.")
    link_seconds: int = Field(
        3600, ge=1, le=43200, description="Lifetime of a download link (signBlob's keys: 12 h at most)."
    )
    retention_days: int = Field(
        30, ge=1, le=3650, description="How long a file is kept unless its task says otherwise."
    )


class SchedulerSettings(Section):
    """The clock."""

    poll_interval_seconds: float = Field(1.0, gt=0, le=60, description="How often other processes' changes are seen.")
    batch: int = Field(500, ge=1, le=10000, description="Due tasks claimed in one transaction.")
    catch_up_days: int = Field(7, ge=1, description="How far back `misfire: run_all` goes.")
    catch_up_runs: int = Field(100, ge=1, description="How many missed occurrences `misfire: run_all` runs at most.")


class WorkerSettings(Section):
    """Workers and their leases."""

    processes: int = Field(1, ge=1, le=256, description="Worker processes `serve` starts.")
    poll_interval_seconds: float = Field(0.5, gt=0, le=60, description="How often an idle worker looks for a run.")
    lease_seconds: float = Field(60, gt=0, description="How long a claim holds without a heartbeat.")
    heartbeat_seconds: float = Field(10, gt=0, description="How often a claim is renewed.")
    stall_timeout_seconds: float = Field(600, gt=0, description="An attempt without progress for so long is ended.")
    grace_seconds: float = Field(
        25, ge=0, description="How long a stopping worker finishes its run before handing it back."
    )
    buffer_bytes: int = Field(32 * 1024 * 1024, ge=1024 * 1024, description="Encoded bytes waiting for the upload.")
    part_rows: int = Field(
        500_000,
        ge=0,
        description="A longer export is divided into parts of about so many documents, for all workers; 0: never.",
    )
    max_attempts: int = Field(5, ge=1, description="Attempts of a run that fails for a transient reason.")
    max_claims: int = Field(20, ge=1, description="Workers a run may end before it is given up.")
    retry_base_seconds: float = Field(5, gt=0, description="First retry's longest delay; doubled for each further one.")
    retry_cap_seconds: float = Field(300, gt=0, description="Longest delay before a retry.")

    @model_validator(mode="after")
    def _beats_fit_the_lease(self) -> WorkerSettings:
        if self.heartbeat_seconds * 2 > self.lease_seconds:
            raise ValueError("heartbeat_seconds must be at most half of lease_seconds")
        return self


class ExecutorSettings(Section):
    """What wakes workers."""

    kind: Literal["table", "procrastinate"] = Field(
        "table",
        description="table (workers poll the run table), or procrastinate (messages through PostgreSQL wake them).",
    )
    safety_poll_seconds: float = Field(
        30, ge=1, le=600, description="How often a worker looks that no message wakes (procrastinate); table: unused."
    )
    rescue_interval_seconds: float = Field(
        5, gt=0, le=60, description="How often schedulers offer again what no message woke for; table: unused."
    )


class LimitSettings(Section):
    """What one chain may have at once."""

    running_per_chain: int = Field(10, ge=1, description="Runs of one chain going at a time; the others queue.")
    queued_per_chain: int = Field(1000, ge=1, description="Queued runs of one chain; above, new ones are answered 429.")
    backfill_occurrences: int = Field(
        10_000, ge=1, le=100_000, description="Occurrences one backfill may have; more are to be asked for in parts."
    )
    files_per_run: int = Field(100, ge=1, le=9999, description="Files a run may be split into (`target.split`).")
    linked_documents: int = Field(
        100_000, ge=1, le=1_000_000, description="Documents of another index that one group of a segment may select."
    )


_SHORTEST_TOKEN = 32


class MetricsSettings(Section):
    """Who may read /metrics: it names chains and how busy they are."""

    access: Literal["token", "open"] = Field(
        "token", description="By token (metrics.token, or an operator's with tasks:read) or open (to all who reach it)."
    )
    token: SecretStr | None = Field(
        None, description="Bearer token of the scraper; it needs no database, an operator's does."
    )

    @field_validator("token")
    @classmethod
    def _must_be_long(cls, token: SecretStr | None) -> SecretStr | None:
        if token is not None and len(token.get_secret_value()) < _SHORTEST_TOKEN:
            raise ValueError(
                f"metrics.token must have {_SHORTEST_TOKEN} characters or more; `openssl rand -hex 32` makes one"
            )
        return token


class Settings(Section):
    """Every setting of the service."""

    service: ServiceSettings = ServiceSettings.model_validate({})
    vitals: VitalsSettings = VitalsSettings.model_validate({})
    web: WebSettings = WebSettings.model_validate({})
    database: DatabaseSettings = DatabaseSettings.model_validate({})
    source: SourceSettings = SourceSettings.model_validate({})
    files: FilesSettings = FilesSettings.model_validate({})
    elasticsearch: ElasticsearchSettings = ElasticsearchSettings.model_validate({})
    storage: StorageSettings = StorageSettings.model_validate({})
    local: LocalSettings = LocalSettings.model_validate({})
    gcs: GcsSettings = GcsSettings.model_validate({})
    scheduler: SchedulerSettings = SchedulerSettings.model_validate({})
    worker: WorkerSettings = WorkerSettings.model_validate({})
    executor: ExecutorSettings = ExecutorSettings.model_validate({})
    limits: LimitSettings = LimitSettings.model_validate({})
    metrics: MetricsSettings = MetricsSettings.model_validate({})
    indices: dict[Name, IndexSettings] = Field(default_factory=default_indices)
    destinations: dict[Name, DestinationSettings] = Field(default_factory=dict[str, DestinationSettings])

    @field_validator("indices")
    @classmethod
    def _some_index(cls, indices: dict[str, IndexSettings]) -> dict[str, IndexSettings]:
        if not indices:
            raise ValueError("at least one index must be configured, e.g. [indices.products]")
        return indices

    @model_validator(mode="after")
    def _bucket_for_gcs(self) -> Settings:
        if self.storage.kind == "gcs" and not self.gcs.bucket:
            raise ValueError("gcs.bucket must be set where storage.kind is gcs")
        return self

    @model_validator(mode="after")
    def _postgresql_for_messages(self) -> Settings:
        if self.executor.kind == "procrastinate" and not self.database.url.get_secret_value().startswith("postgresql"):
            raise ValueError(
                "executor.kind = procrastinate needs PostgreSQL: set database.url to "
                "postgresql+psycopg://USER:PASSWORD@HOST/NAME, or leave executor.kind at table"
            )
        return self

    @property
    def idle_poll_seconds(self) -> float:
        """How often a worker that nothing wakes looks for a run."""
        return self.worker.poll_interval_seconds if self.executor.kind == "table" else self.executor.safety_poll_seconds


@dataclass(frozen=True)
class Setting:
    """One setting: the path to its key (one of an index starts `indices`, its name), and its field."""

    path: tuple[str, ...]
    field: FieldInfo

    @property
    def key(self) -> str:
        """Its name as the documentation and the errors write it: `web.port`."""
        return ".".join(self.path)

    @property
    def variable(self) -> str:
        """Its environment variable: `TASKS_WEB__PORT`. No hyphens in these, no underscores in index names."""
        return "TASKS_" + "__".join(part.upper().replace("-", "_") for part in self.path)

    @property
    def secret(self) -> bool:
        """Whether its value is never shown, and may come from a file."""
        return SecretStr in (self.field.annotation, *get_args(self.field.annotation))

    @property
    def default(self) -> Any:  # noqa: ANN401 -- of the setting's own type
        """Its default; `PydanticUndefined` where it must be set."""
        return self.field.get_default(call_default_factory=True)


def every_setting(names: Mapping[str, Iterable[str]] = {}) -> Iterator[Setting]:
    """Yield the settings in the order of this module, those of named sections once for each of the given names.

    `names` is, for example, {"indices": ["products"]}.
    """
    for section, field in Settings.model_fields.items():
        if section in NAMED:
            yield from (
                Setting((section, name, key), of_name)
                for name in names.get(section, ())
                for key, of_name in NAMED[section].model_fields.items()
            )
        elif isinstance(field.default, Section):
            yield from (
                Setting((section, name), of_section) for name, of_section in type(field.default).model_fields.items()
            )
