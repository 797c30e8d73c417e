"""`/api/docs`: the OpenAPI document as a page that needs no script and nothing from outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fastapi import APIRouter, Request
from fastapi.responses import HTMLResponse, Response

from node.auth import AnyCaller
from node.pages.render import render
from node.parts import parts_of

router = APIRouter(include_in_schema=False)


@dataclass(frozen=True, slots=True)
class Value:
    """A parameter or a field: its name, type in words, whether it must be there, what it means."""

    name: str
    type: str
    required: bool
    note: str


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one path."""

    method: str
    path: str
    summary: str
    parameters: tuple[Value, ...]
    body: tuple[Value, ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Shape:
    """A type of the API with its fields."""

    name: str
    note: str
    fields: tuple[Value, ...]


@router.get("/api/docs", response_class=HTMLResponse)
def api_docs(request: Request, caller: AnyCaller) -> Response:
    """Show every operation and every type of the API."""
    document = request.app.openapi()
    return render(
        "docs.html",
        caller=caller,
        version=parts_of(request).version,
        groups=operations(document),
        shapes=shapes(document),
    )


def operations(document: Mapping[str, Any]) -> dict[str, list[Operation]]:
    """Return the operations of an OpenAPI 3.1 document, by their first tag."""
    groups: dict[str, list[Operation]] = {}
    for path, methods in document["paths"].items():
        for method, operation in methods.items():
            body = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
            groups.setdefault(operation["tags"][0], []).append(
                Operation(
                    method=method.upper(),
                    path=path,
                    summary=operation.get("description", ""),
                    parameters=tuple(
                        Value(
                            parameter["name"],
                            _type(parameter["schema"]),
                            parameter.get("required", False),
                            parameter["in"],
                        )
                        for parameter in operation.get("parameters", ())
                    ),
                    body=_fields(_resolved(body.get("schema", {}), document)),
                    answer=_answer(operation["responses"]),
                )
            )
    return groups


def shapes(document: Mapping[str, Any]) -> list[Shape]:
    """Return the types of an OpenAPI 3.1 document, by name."""
    found = document.get("components", {}).get("schemas", {})
    return [
        Shape(name, schema.get("description", "").partition("\n")[0], _fields(schema))
        for name, schema in sorted(found.items())
        if "properties" in schema
    ]


def _answer(responses: Mapping[str, Any]) -> str:
    status = next(code for code in responses if code.startswith("2"))
    content = responses[status].get("content", {})
    if not content:
        return f"{status}, no content"
    media_type, described = next(iter(content.items()))
    schema = described.get("schema", {})
    if media_type == "application/json" and schema:
        return f"{status}, {_type(schema)}"
    return f"{status}, {media_type}"


def _fields(schema: Mapping[str, Any]) -> tuple[Value, ...]:
    required = set(schema.get("required", ()))
    return tuple(
        Value(name, _type(field), name in required, field.get("description", ""))
        for name, field in schema.get("properties", {}).items()
    )


def _resolved(schema: Mapping[str, Any], document: Mapping[str, Any]) -> Mapping[str, Any]:
    if "$ref" not in schema:
        return schema
    name = schema["$ref"].rsplit("/", 1)[-1]
    found: Mapping[str, Any] = document["components"]["schemas"][name]
    return found


def _type(schema: Mapping[str, Any]) -> str:
    """Return a JSON schema in a few words."""
    if "$ref" in schema:
        return str(schema["$ref"].rsplit("/", 1)[-1])
    if "anyOf" in schema:
        return " or ".join(_type(one) for one in schema["anyOf"])
    if "enum" in schema:
        return " | ".join(str(value) for value in schema["enum"])
    if "const" in schema:
        return str(schema["const"])
    kind = schema.get("type", "any")
    if kind == "array":
        return f"list of {_type(schema.get('items', {}))}"
    if schema.get("format"):
        return f"{kind} ({schema['format']})"
    return str(kind)
