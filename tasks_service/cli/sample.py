"""`tasks-service sample`: deterministic sample data, as document files or in an Elasticsearch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from tasks_service.cli.invocation import group, invocation, say
from tasks_service.config import ElasticsearchSettings

group = group("sample", "Deterministic sample data: six indices, two chains.")

Rows = Annotated[int, typer.Option(min=1, help="Documents of each index, both chains together.")]
Index = Annotated[list[str] | None, typer.Option(help="Only this index; repeat for several.")]
Seed = Annotated[int, typer.Option(help="Another seed, other documents.")]


@group.command()
def files(
    context: typer.Context,
    rows: Rows = 10_000,
    index: Index = None,
    seed: Seed = 0,
    directory: Annotated[Path | None, typer.Option(help="Where to; else files.directory of the settings.")] = None,
) -> None:
    """Write sample documents as Parquet, one folder an index. Sample files that lie there are replaced."""
    from tasks_service.sample import write_files

    target = directory or invocation(context).settings.files.directory
    made = write_files(target, _wanted(rows, index), seed=seed, progress=_progress())
    say(f"Wrote {_told(made)} to {target}.")


@group.command()
def elasticsearch(
    context: typer.Context,
    rows: Rows = 10_000,
    index: Index = None,
    seed: Seed = 0,
    url: Annotated[str | None, typer.Option(help="Which; else the first of elasticsearch.urls, with its key.")] = None,
    prefix: Annotated[str, typer.Option(help="Put before the names of the indices.")] = "",
) -> None:
    """Load sample documents into an Elasticsearch, with the mappings they need. Indices of these names are replaced."""
    from tasks_service.sample import load_elasticsearch

    settings = invocation(context).settings.elasticsearch
    made = load_elasticsearch(
        url or settings.urls[0],
        _wanted(rows, index),
        seed=seed,
        prefix=prefix,
        authorization=None if url else _authorization(settings),
        progress=_progress(),
    )
    say(f"Loaded {_told(made)}.")


def _wanted(rows: int, names: list[str] | None) -> dict[str, int]:
    from tasks_service.sample import INDICES

    for name in names or ():
        if name not in INDICES:
            raise typer.BadParameter(f"there is no sample index {name!r}; there are {', '.join(INDICES)}.")
    return dict.fromkeys(names or INDICES, rows)


def _authorization(settings: ElasticsearchSettings) -> str | None:
    from base64 import b64encode

    if settings.api_key is not None:
        return f"ApiKey {settings.api_key.get_secret_value()}"
    if settings.username is not None and settings.password is not None:
        pair = f"{settings.username}:{settings.password.get_secret_value()}"
        return f"Basic {b64encode(pair.encode()).decode()}"
    return None


def _progress() -> Callable[[str, int], None]:
    """Return a teller of progress: one line an index, when it is begun."""
    begun: set[str] = set()

    def tell(index: str, written: int) -> None:
        if index not in begun:
            begun.add(index)
            say(f"{index}: {written:,} documents and on ...")

    return tell


def _told(made: dict[str, int]) -> str:
    return ", ".join(f"{count:,} {index}" for index, count in made.items())
