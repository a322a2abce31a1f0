"""`tasks-service indices`: what the source says of the configured indices, and index templates that make them exact.

What lives here: the words. The catalogues come from sources/, the templates and the advice from indices/.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tasks_service.cli.invocation import JsonOption, group, invocation, say, write, write_json, write_rows
from tasks_service.errors import ConfigurationError, NotFoundError, SourceError, SourceUnavailableError

if TYPE_CHECKING:
    from segments import Catalog, Field
    from tasks_service.app import Services
    from tasks_service.config import IndexSettings
    from tasks_service.sources.elasticsearch_templates import Templates

group = group("indices", "The export indices: their fields, and index templates that make every rule exact.")

_COLUMNS = ("name", "source", "fields", "columns", "refused", "counted_first", "note")
_FIELD_COLUMNS = ("field", "types", "stored_as", "nested_in", "operators", "note")
_APPLIED = ("name", "template", "patterns", "done")

Names = Annotated[list[str] | None, typer.Argument(help="Only these indices; else all that are configured.")]


@group.command("list")
def list_(context: typer.Context, as_json: JsonOption = False) -> None:
    """List the configured indices and what the source says of each.

    `refused` fields take no rule; of those `counted first` the index leaves some values out, so that the chain's are
    counted before a rule that would need them is answered.
    """
    services = invocation(context).services()
    rows = [_row(services, name, index) for name, index in services.settings.indices.items()]
    services.source.close()
    write_rows(rows, _COLUMNS, as_json=as_json)


@group.command()
def show(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The name of the index in the configuration.")],
    as_json: JsonOption = False,
) -> None:
    """Show the fields of one index, the operators each takes, what is refused and why, and what mapping would help."""
    services = invocation(context).services()
    catalog = services.source.catalog(_configured(services.settings.indices, [name])[name])
    services.source.close()
    fields = [_field(field) for field in catalog.fields]
    if as_json:
        write_json({"name": name, "fields": fields})
        return
    write_rows(map(_short, fields), _FIELD_COLUMNS, as_json=False)
    for line in (*_operators(fields), *_helped(fields)):
        write(line)


@group.command()
def apply(
    context: typer.Context,
    names: Names = None,
    pattern: Annotated[
        list[str] | None,
        typer.Option(help="Indices of these names rather than of the configured one; repeat for several."),
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be done, and do nothing.")] = False,
    as_json: JsonOption = False,
) -> None:
    """Put index templates into Elasticsearch under which every rule is exact.

    A template is for indices that are made later: those that are there stay as they are, and where their mapping
    differs it is said. Such an index answers alike after a reindex into a new one.
    """
    from tasks_service.sources.elasticsearch_templates import templates

    call = invocation(context)
    if call.settings.source.kind != "elasticsearch":
        raise ConfigurationError("Index templates are for Elasticsearch, and source.kind is files: nothing to apply.")
    if pattern and len(names or ()) != 1:
        raise typer.BadParameter("--pattern says which indices one index is read from: name that index.")
    wanted = _configured(call.settings.indices, names or list(call.settings.indices))
    services = call.services()
    with templates(call.settings.elasticsearch) as cluster:
        rows = [
            _applied(services, cluster, name, index, pattern or [index.source], dry_run=dry_run)
            for name, index in wanted.items()
        ]
    services.source.close()
    if as_json:
        write_json(rows)
        return
    write_rows(rows, _APPLIED, as_json=False)
    for row in rows:
        for note in row["notes"]:
            say(f"{row['name']}: {note}")


def _configured(indices: dict[str, IndexSettings], names: list[str]) -> dict[str, IndexSettings]:
    for name in names:
        if name not in indices:
            raise NotFoundError(f"There is no index {name} in the configuration; there are {', '.join(indices)}.")
    return {name: indices[name] for name in names}


# -- list and show -------------------------------------------------------------------------------------------------


def _row(services: Services, name: str, index: IndexSettings) -> dict[str, Any]:
    from tasks_service.indices.advice import doubt

    row: dict[str, Any] = {**dict.fromkeys(_COLUMNS), "name": name, "source": index.source}
    try:
        catalog = services.source.catalog(index)
    except SourceUnavailableError:
        raise
    except SourceError as error:
        return {**row, "note": error.detail}
    chain = catalog.get(index.chain_field)
    usable = chain is not None and chain.nested is None and not chain.refusal
    return {
        **row,
        "fields": len(catalog.fields),
        "columns": len(catalog.columns),
        "refused": sum(bool(field.refusal) for field in catalog.fields),
        "counted_first": sum(bool(doubt(field)) and not field.refusal for field in catalog.fields),
        "note": None if usable else f"no usable chain field {index.chain_field}: nothing can be exported",
    }


def _field(field: Field) -> dict[str, Any]:
    from segments import operators_for
    from tasks_service.indices.advice import doubt, helping

    strings = field.type in {"keyword", "text"}
    return {
        "field": field.name,
        "types": list(field.types),
        "stored_as": field.storage,
        "nested_in": field.nested,
        "operators": operators_for(field),
        "refused": field.refusal or (field.exact_refusal if strings and not field.exact else ""),
        "counted_first": "" if field.refusal else doubt(field),
        "mapping": helping(field),
    }


def _short(field: dict[str, Any]) -> dict[str, Any]:
    note = "refused" if not field["operators"] else "some refused" if field["refused"] else None
    return {
        **field,
        "operators": len(field["operators"]),
        "note": note or ("counted first" if field["counted_first"] else None),
    }


def _operators(fields: list[dict[str, Any]]) -> Iterator[str]:
    """The lists of operators, each once, with the fields' types that have it."""
    kinds: dict[str, list[str]] = {}
    for field in fields:
        if field["operators"]:
            types = " ".join(sorted(field["types"])) + (" without a keyword" if field["refused"] else "")
            kinds.setdefault(" ".join(field["operators"]), []).append(types)
    yield ""
    yield "Operators"
    for operators, types in kinds.items():
        yield f"  {', '.join(dict.fromkeys(types))}: {operators}"


def _helped(fields: list[dict[str, Any]]) -> Iterator[str]:
    """Every reason, and the mapping that would help."""
    # What is said of a field is not said again of its sub-fields.
    said = tuple(f"{field['field']}." for field in fields if field["counted_first"])
    told = [
        field
        for field in fields
        if field["refused"] or (field["counted_first"] and not field["field"].startswith(said))
    ]
    if not told:
        return
    yield ""
    yield "Not answered, or counted first"
    for field in told:
        yield f"  {field['field']}: {field['refused'] or field['counted_first']}"
        if field["mapping"]:
            yield f"    would help: {json.dumps(field['mapping'])}"


# -- apply ---------------------------------------------------------------------------------------------------------


def _applied(
    services: Services, cluster: Templates, name: str, index: IndexSettings, patterns: list[str], *, dry_run: bool
) -> dict[str, Any]:
    from tasks_service.indices import INDICES, templates

    row: dict[str, Any] = {"name": name, "template": None, "patterns": patterns, "notes": []}
    if name not in INDICES:
        return {
            **row,
            "done": "nothing",
            "notes": ["no template is shipped for it; `indices show` says what would help."],
        }
    template = templates.template_name(name)
    body = templates.body(name, patterns)
    before = cluster.get(template)
    same = before is not None and before.get("_meta", {}).get("fingerprint") == body["_meta"]["fingerprint"]
    if not same and not dry_run:
        cluster.put(template, body)
    done = "unchanged" if same else ("put" if before is None else "replaced") if not dry_run else "would be put"
    notes = [*_existing(services, cluster, index, patterns, body)]
    if before is not None or not dry_run:
        others = ", ".join(cluster.overlapping(template))
        notes += [f"{others}: also for these indices; the template of higher priority is used."] if others else []
    return {**row, "template": template, "done": done, "notes": notes}


def _existing(
    services: Services, cluster: Templates, index: IndexSettings, patterns: list[str], body: dict[str, Any]
) -> Iterator[str]:
    """Say what the indices that are there need; nothing is done to them."""
    from segments import Catalog
    from tasks_service.indices.advice import differences

    there = cluster.indices(index.source)
    if not there:
        return
    if there != [index.source] and patterns == [index.source] and "*" not in index.source:
        yield (
            f"{index.source} is an alias of {', '.join(there)}: no index of that name can be made. Say by --pattern "
            "which names indices behind it have."
        )
    wanted = Catalog.from_mapping(body["template"]["mappings"]["properties"], doubts_counted=True)
    try:
        found: Catalog = services.source.catalog(index)
    except SourceUnavailableError:
        raise
    except SourceError as error:
        yield error.detail
        return
    differing = differences(found, wanted)
    if differing:
        yield (
            f"{', '.join(there)}: fields that are mapped otherwise: {len(differing)}. A template changes no index that "
            "is there: reindex into a new one."
        )
    for one in differing:
        yield f"  {one.field} is {one.found}; the template makes it {one.wanted}."
