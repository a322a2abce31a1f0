"""The OpenAPI document is valid, complete, and says what the application does."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator
from openapi_spec_validator import validate

from tests.unit.api.conftest import Contract, World, task_body

COMMITTED = Path(__file__).parents[2] / "openapi.json"


@pytest.fixture
def document(world: World) -> dict[str, Any]:
    return world.app.test_client().get("/openapi.json").get_json()


def test_the_document_is_valid(document: dict[str, Any]) -> None:
    validate(document)


def test_every_route_of_the_application_is_documented_and_no_other(world: World, document: dict[str, Any]) -> None:
    answered = {
        (method, re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule))
        for rule in world.app.url_map.iter_rules()
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    documented = {(method.upper(), path) for path, methods in document["paths"].items() for method in methods}
    # Links are handed out, not made by callers; the stylesheet is a part of the page.
    assert answered - documented == {("GET", "/files/{token}/{file_name}"), ("GET", "/docs/reference.css")}
    assert documented - answered == set()


def test_no_component_is_unused(document: dict[str, Any]) -> None:
    text = json.dumps(document)
    unused = [name for name in document["components"]["schemas"] if f'"#/components/schemas/{name}"' not in text]
    assert unused == []


def test_every_operation_says_what_it_is_and_how_it_fails(document: dict[str, Any]) -> None:
    names = [operation["operationId"] for methods in document["paths"].values() for operation in methods.values()]
    assert len(names) == len(set(names))
    for methods in document["paths"].values():
        for operation in methods.values():
            assert operation["summary"]
            if operation.get("security") != []:
                assert {"401", "403", "500", "503"} <= operation["responses"].keys()


def test_the_examples_are_what_their_schemas_ask_for(contract: Contract, document: dict[str, Any]) -> None:
    shown = 0
    for methods in document["paths"].values():
        for operation in methods.values():
            content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            if "example" in content:
                shown += 1
                schema = content["schema"] | {"components": document["components"]}
                Draft202012Validator(schema).validate(content["example"])
    assert shown >= 4


def test_the_partners_bodies_are_what_the_schema_asks_for(document: dict[str, Any]) -> None:
    schema = {"$ref": "#/components/schemas/TaskCreate", "components": document["components"]}
    Draft202012Validator(schema).validate(task_body())
    for broken in ({"chain": "1764"}, {"nonsense": 1}, {"trigger": {"segment": {"rules": 1}}}):
        assert list(Draft202012Validator(schema).iter_errors(task_body(**broken))), broken


def test_the_committed_document_is_the_one_that_is_served(document: dict[str, Any]) -> None:
    """A change of the contract is seen in review. Run `python -m tests.contract.write_openapi` after a wanted one."""
    served = document | {"servers": [], "info": document["info"] | {"version": ""}}
    assert json.loads(COMMITTED.read_text()) == served
