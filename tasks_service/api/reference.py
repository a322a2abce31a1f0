"""The OpenAPI document as a page for people: what the template of /docs shows, computed from the document alone.

What lives here: flattening schemas into rows and writing curl lines. What does not: any knowledge of the API that the
document and the table of operators do not have, so that the page cannot disagree with them. Called by
api/open_routes.py, once.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any

from segments import OPERATORS

Schema = Mapping[str, Any]
_REF = "#/components/schemas/"
_DEEPEST = 4


def page(document: Schema) -> dict[str, Any]:
    """Return what the template shows: the sections with their operations, and the problems that are answered."""
    schemas: Schema = document["components"]["schemas"]
    sections: dict[str, list[dict[str, Any]]] = {tag["name"]: [] for tag in document["tags"]}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            server = document["servers"][0]["url"]
            shown = _operation(method.upper(), path, _with_responses(operation, document), schemas, server)
            sections[operation["tags"][0]].append(shown)
    return {
        "title": document["info"]["title"],
        "version": document["info"]["version"],
        "description": document["info"]["description"].strip().split("\n\n"),
        "sections": [{"name": name, "operations": found} for name, found in sections.items() if found],
        "rule": list(_rows(schemas["Rule"], schemas, "", 0)) if "Rule" in schemas else [],
        "operators": [
            {
                "name": operator.name,
                "types": ", ".join(operator.types),
                "operands": ", ".join(one.member for one in operator.operands) or "none",
                "meaning": operator.meaning,
            }
            for operator in OPERATORS.values()
        ],
        "problem": list(_rows(schemas["Problem"], schemas, "", 0)),
        "codes": _codes(document),
    }


def _with_responses(operation: Schema, document: Schema) -> Schema:
    """Return an operation with the responses it shares with others written out."""
    shared: Schema = document["components"]["responses"]
    responses = {
        status: shared[answer["$ref"].rsplit("/", 1)[1]] if "$ref" in answer else answer
        for status, answer in operation["responses"].items()
    }
    return {**operation, "responses": responses}


def _operation(method: str, path: str, operation: Schema, schemas: Schema, server: str) -> dict[str, Any]:
    content: Schema = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
    body: Schema = content.get("schema", {})
    answers = [
        {"status": status, "description": answer["description"], "rows": _answer_rows(answer, schemas)}
        for status, answer in operation["responses"].items()
        if status < "400"
    ]
    return {
        "id": operation["operationId"],
        "method": method,
        "path": path,
        "summary": operation["summary"],
        "description": operation.get("description", ""),
        "parameters": [_parameter(one) for one in operation.get("parameters", ())],
        "body": list(_rows((body.get("anyOf") or [body])[0], schemas, "", 0)) if body else [],
        "curl": _curl(method, path, operation, content.get("example"), server),
        "answers": answers,
        "errors": [
            {"status": status, "codes": list(answer.get("x-codes", {}).items())}
            for status, answer in operation["responses"].items()
            if status >= "400" and "x-codes" in answer
        ],
    }


def _parameter(parameter: Schema) -> dict[str, Any]:
    schema = parameter["schema"]
    return {
        "name": parameter["name"],
        "in": parameter["in"],
        "type": _type(schema, {}),
        "default": schema.get("default"),
        "description": parameter.get("description", ""),
    }


def _answer_rows(answer: Schema, schemas: Schema) -> list[dict[str, Any]]:
    schema = answer.get("content", {}).get("application/json", {}).get("schema")
    return list(_rows(schema, schemas, "", 0)) if schema else []


def _rows(schema: Schema, schemas: Schema, prefix: str, depth: int) -> Iterator[dict[str, Any]]:
    """Yield a row for every member of an object, its own members after it, `target.columns`."""
    resolved = _resolved(schema, schemas)
    required = resolved.get("required", ())
    for name, member in resolved.get("properties", {}).items():
        inner = _resolved(member, schemas)
        yield {
            "name": prefix + name,
            "type": _type(member, schemas),
            "required": name in required,
            "default": member.get("default"),
            "description": member.get("description") or inner.get("description", ""),
        }
        items: Any = inner.get("items")
        if depth < _DEEPEST and not _is_recursive(member):
            yield from _rows(inner, schemas, f"{prefix}{name}.", depth + 1)
            if items and not _is_recursive(items):
                yield from _rows(items, schemas, f"{prefix}{name}[].", depth + 1)


def _is_recursive(schema: Schema) -> bool:
    """Rules hold groups that hold rules: they have a section of their own."""
    return any(f'{_REF}{name}"' in json.dumps(schema) for name in ("Rule", "Group"))


def _resolved(schema: Schema, schemas: Schema) -> Schema:
    """Return the schema itself, without references and without null."""
    if "$ref" in schema:
        return _resolved(schemas[schema["$ref"].removeprefix(_REF)], schemas)
    others = [one for one in schema.get("anyOf", ()) if one.get("type") != "null"]
    return _resolved(others[0], schemas) if len(others) == 1 else schema


def _type(schema: Schema, schemas: Schema) -> str:
    if "anyOf" in schema:
        return " or ".join(dict.fromkeys(_type(one, schemas) for one in schema["anyOf"]))
    if "$ref" in schema:
        return "object"
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    if schema.get("type") == "array":
        return f"list of {_type(schema.get('items', {}), schemas)}"
    kind: str | list[str] = schema.get("format") or schema.get("type", "any value")
    return " or ".join(kind) if isinstance(kind, list) else kind


def _curl(method: str, path: str, operation: Schema, example: Any, server: str) -> str:  # noqa: ANN401 -- JSON
    address = re.sub(r"\{(\w+)\}", lambda found: "products" if found[1] == "name" else "12345", path)
    lines = [f"curl{'' if method == 'GET' else f' -X {method}'} '{server}{address}'"]
    if operation.get("security") != []:
        lines.append("-H 'Authorization: Bearer TOKEN_ID:TOKEN_SECRET'")
    if example is not None:
        lines.append("-H 'Content-Type: application/json'")
        lines.append(f"-d '{json.dumps(example, indent=2)}'")
    return " \\\n  ".join(lines)


def _codes(document: Schema) -> list[dict[str, str]]:
    """Return every problem code the routes document, with its status and its sentence."""
    found = {
        code: {"code": code, "status": status, "detail": sentence}
        for status, codes in document["x-codes"].items()
        for code, sentence in codes.items()
    }
    for methods in document["paths"].values():
        for operation in methods.values():
            for status, answer in _with_responses(operation, document)["responses"].items():
                for code, sentence in answer.get("x-codes", {}).items():
                    found.setdefault(code, {"code": code, "status": status, "detail": sentence})
    return sorted(found.values(), key=lambda one: (one["status"], one["code"]))
