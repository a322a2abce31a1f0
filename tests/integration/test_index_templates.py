"""`tasks-service indices` at a real Elasticsearch: templates put, and what is made from them answers exactly."""

from __future__ import annotations

import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from segments import OPERATORS, Catalog, evaluate, operators_for
from tasks_service.config import IndexSettings
from tasks_service.errors import SourceError
from tasks_service.indices import INDICES, templates
from tasks_service.sample import documents
from tests.command_line import in_process
from tests.integration.mapped_indices import NOW, Cluster, cluster_at, compiled, rule, texts

ROWS = 60
Command = Callable[..., tuple[int, str, str]]


@pytest.fixture(scope="module")
def cluster(elasticsearch_url: str) -> Iterator[Cluster]:
    with cluster_at(elasticsearch_url) as made:
        yield made


@pytest.fixture
def command(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Command]:
    """The command line, configured for indices of the cluster's prefix under template names of their own."""
    sections = [f'[indices.{name}]\nfile_prefix = "X"\nsource = "{cluster.prefix}{name}"\n' for name in INDICES]
    sections.append(f'[indices.own]\nfile_prefix = "X"\nsource = "{cluster.prefix}own"\n')
    head = f'[source]\nkind = "elasticsearch"\n[elasticsearch]\nurls = ["{cluster.url}"]\n'
    (tmp_path / "config.toml").write_text(head + "\n".join(sections))
    own = uuid.uuid4().hex[:8]
    monkeypatch.setattr(templates, "template_name", lambda index: f"tests-{own}-{index}")

    with in_process(tmp_path, monkeypatch, capsys) as run:

        def call(*arguments: str) -> tuple[int, str, str]:
            ended = run("indices", *arguments)
            return ended.code, ended.out, ended.err

        yield call
    for one in cluster.call("GET", "/_index_template")["index_templates"]:
        if one["name"].startswith(f"tests-{own}-"):
            cluster.call("DELETE", f"/_index_template/{one['name']}")


def rows(answer: tuple[int, str, str]) -> list[dict[str, Any]]:
    code, out, err = answer
    assert code == 0, err
    return json.loads(out)


def test_templates_are_put_once_and_said_to_be_there(cluster: Cluster, command: Command) -> None:
    planned = rows(command("apply", "--dry-run", "--json"))
    assert {row["name"]: row["done"] for row in planned} == {**dict.fromkeys(INDICES, "would be put"), "own": "nothing"}
    assert {row["done"] for row in rows(command("apply", "users", "vouchers", "--json"))} == {"put"}
    code, out, err = command("apply", "users")
    assert (code, err) == (0, "")
    assert "unchanged" in out
    [row] = rows(command("apply", "users", "--pattern", f"{cluster.prefix}users-*", "--json"))
    assert (row["done"], row["patterns"]) == ("replaced", [f"{cluster.prefix}users-*"])


def test_nothing_is_put_by_a_dry_run(cluster: Cluster, command: Command) -> None:
    rows(command("apply", "products", "--dry-run", "--json"))
    cluster.call("PUT", f"/{cluster.prefix}products")
    cluster.made.append(f"{cluster.prefix}products")
    assert cluster.call("GET", f"/{cluster.prefix}products/_mapping")[f"{cluster.prefix}products"]["mappings"] == {}


def test_wrong_names_are_said(command: Command) -> None:
    code, _, err = command("apply", "nothing")
    assert code == 1
    assert "There is no index nothing" in err
    code, _, err = command("apply", "--pattern", "x")
    assert code == 2
    assert "name that index" in err


@pytest.mark.parametrize("name", INDICES)
def test_an_index_made_from_its_template_answers_every_operator_of_every_field_exactly(
    cluster: Cluster, command: Command, name: str
) -> None:
    [row] = rows(command("apply", name, "--pattern", f"{cluster.prefix}{name}-*", "--json"))
    assert row["done"] == "put"
    made = [json.loads(json.dumps(one)) for one in documents(name, ROWS, until=NOW)]
    for document in made:
        document["chain_id"] = 1
    index = cluster.make(f"{name}-1", made)
    catalog = cluster.source.catalog(index)
    rules = [one for field in catalog.fields for one in asked(field.name, field.types, catalog, made)]
    trees = [compiled(one, catalog) for one in rules]
    found: list[list[dict[str, Any]]] = []
    for first in range(0, len(trees), 100):
        found += cluster.select(index, trees[first : first + 100])
    for one, tree, selected in zip(rules, trees, found, strict=True):
        assert texts(selected) == texts([document for document in made if evaluate(tree, document)]), one
    assert len(rules) >= 4 * len(catalog.fields)


def asked(name: str, types: tuple[str, ...], catalog: Catalog, made: list[dict[str, Any]]) -> Iterator[dict[str, Any]]:
    """Each operator of a field once, with values that documents hold."""
    field = catalog.by_name[name]
    place = {"nested": True, "nesting_path": field.nested} if field.nested else {}
    held = list(values(made, field.path))[:3] or ["nothing"]
    words = [str(one)[1:4] or "a" for one in held]
    numbers = [one for one in held if isinstance(one, int | float)] or [0]
    dates = [one for one in held if isinstance(one, str) and one[:1].isdigit()] or ["2026-03-01"]
    operands: dict[str, Any] = {
        "list": held,
        "words": words,
        "number": numbers[0],
        "date": dates[0],
        "factor": "month",
        "amount": 2,
    }
    for operator in (OPERATORS[one] for one in operators_for(field)):
        kind = next(one for one in types if one in operator.types)
        scalar: Any = {"number": numbers[0], "boolean": True}.get(kind, str(held[0]))
        given = {one.member: scalar if one.kind == "scalar" else operands[one.kind] for one in operator.operands}
        if operator.operands and operator.operands[0].kind == "list" and kind == "number":
            given["value"] = numbers
        yield {**rule(name, kind, operator.name), **given, **place}


def values(held: Any, path: tuple[str, ...]) -> Iterator[Any]:
    if isinstance(held, list):
        for one in held:
            yield from values(one, path)
    elif not path:
        yield from [held] if held is not None else []
    elif isinstance(held, dict) and path[0] in held:
        yield from values(held[path[0]], path[1:])


def test_unknown_fields_are_taken_whatever_they_hold(cluster: Cluster, command: Command) -> None:
    rows(command("apply", "users", "--pattern", f"{cluster.prefix}unknown-*", "--json"))
    held: list[dict[str, Any]] = [
        {"word": "2026-03-01"},
        {"word": "語" * 40_000},
        {"word": "n/a"},
        {"amount": 5},
        {"amount": 5.7},
        {"amount": "five"},
        {"rate": 0.1},
        {"rate": 5},
        {"rate": "none"},
        {"flag": True},
        {"flag": "perhaps"},
    ]
    index = cluster.make("unknown-1", held)
    catalog = cluster.source.catalog(index)
    assert {name: catalog.by_name[name].storage for name in ("word", "amount", "rate", "flag")} == {
        "word": "keyword",
        "amount": "long",
        "rate": "double",
        "flag": "boolean",
    }
    assert cluster.exact(index, rule("word", "keyword", "is", "n/a"), held) == 1
    assert cluster.exact(index, rule("word", "keyword", "is_set"), held) == 3
    for one in (
        rule("word", "keyword", "contains", "n"),
        rule("amount", "number", "is", 5),
        rule("rate", "number", "is_less_than", 1),
        rule("flag", "boolean", "is_false"),
    ):
        with pytest.raises(SourceError, match="did not index"):
            cluster.exact(index, one, held)
    kept = [{"amount": 5}, {"amount": [2**53 + 1, None]}, {"rate": 0.1}, {"rate": 5}]
    exact = cluster.make("unknown-2", kept)
    assert cluster.exact(exact, rule("amount", "number", "is", 2**53 + 1), kept) == 1
    assert cluster.exact(exact, rule("rate", "number", "is_not", 0.1), kept) == 3


def test_an_index_that_is_there_stays_and_its_differences_are_said(cluster: Cluster, command: Command) -> None:
    held = {"name": "a", "description": "b", "stock": "5", "tags": ["x"]}
    index = cluster.make("vouchers", [held])
    before = cluster.call("GET", f"/{index.source}/_mapping")
    code, out, err = command("apply", "vouchers")
    assert code == 0
    assert "put" in out
    assert "fields that are mapped otherwise: 1." in err
    assert "reindex into a new one" in err
    assert "description is text, ignore_above 256; the template makes it text with a keyword." in err
    assert cluster.call("GET", f"/{index.source}/_mapping") == before


def test_an_alias_needs_the_names_behind_it(cluster: Cluster, command: Command) -> None:
    cluster.make("ledger-1", aliases={f"{cluster.prefix}wallet-ledger": {}})
    _, _, err = command("apply", "wallet-ledger", "--dry-run")
    assert f"{cluster.prefix}wallet-ledger is an alias of {cluster.prefix}ledger-1" in err
    assert "--pattern" in err


def test_a_template_of_the_same_priority_is_said(cluster: Cluster, command: Command) -> None:
    rows(command("apply", "users", "--pattern", f"{cluster.prefix}same-*", "--json"))
    code, out, err = command("apply", "products", "--pattern", f"{cluster.prefix}same-*")
    assert (code, out) == (1, "")
    assert "another template of the priority 200" in err


def test_list_and_show_say_what_the_source_says(cluster: Cluster, command: Command) -> None:
    cluster.make("own", [{"title": "a", "where": {"lat": 1.5}}], mappings={"properties": {"host": {"type": "ip"}}})
    found = {row["name"]: row for row in rows(command("list", "--json"))}
    own = found["own"]
    assert (own["fields"], own["refused"], own["counted_first"], own["note"]) == (5, 1, 2, None)
    assert found["transactions"]["note"] == "Elasticsearch has no such index, or it is closed."
    fields = {one["field"]: one for one in json.loads(command("show", "own", "--json")[1])["fields"]}
    assert fields["host"]["operators"] == []
    assert fields["host"]["mapping"] == {"type": "keyword"}
    assert fields["title"]["mapping"]["fields"]["keyword"]["ignore_above"] == 8191
    assert "contains" in fields["title"]["operators"]
    code, out, _ = command("show", "own")
    assert code == 0
    assert "host: rules cannot ask fields of the type ip" in out
    assert 'would help: {"type": "keyword"}' in out
    assert command("show", "nothing")[0] == 1


def test_files_have_no_templates(command: Command, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TASKS_SOURCE__KIND", "files")
    code, out, err = command("apply")
    assert (code, out) == (2, "")
    assert "source.kind is files" in err


def test_the_source_of_an_index_may_be_a_pattern() -> None:
    assert IndexSettings(file_prefix="X", source="users-*").source == "users-*"
